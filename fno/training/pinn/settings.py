"""Settings of the training of physics-informed networks."""

from dataclasses import dataclass, field
from typing import Literal

from ...losses.weighting import Kind
from ..settings import check_finite, check_range
from .collocation import Sampling


@dataclass(frozen=True)
class PinnSettings:
    """How to train.

    Args:
        optimizer: ``gauss_newton`` with damping, or the customary ``adam_lbfgs``.
        windows: parts of time, trained one after the other.
        points: points of a window where the equation is asked to hold.
        initial_points: points of the initial state.
        boundary_points: times at which the ends are asked to hold, where x does not wrap.
        sampling: how points are drawn, see ``draw_points``.
        resample_every: iterations after which they are drawn anew; 0 keeps them.
        curriculum: parameters of the equation that start from another value and come to their own in
            ``curriculum_stages`` equal steps, each stage with all iterations (Krishnapriyan et al. 2021).
        curriculum_stages: number of stages.
        iterations: most Gauss-Newton steps of a window.
        tolerance: a window is done once the root of the loss is below this.
        adam_steps: steps of Adam in a window.
        lbfgs_steps: steps of L-BFGS after them.
        learning_rate: of Adam.
        seed: seed of everything random.

    Raises:
        ValueError: a setting out of its range.
    """

    optimizer: Literal["gauss_newton", "adam_lbfgs"] = "gauss_newton"
    windows: int = 10
    points: int = 1000
    initial_points: int = 128
    boundary_points: int = 64
    sampling: Sampling = "uniform"
    resample_every: int = 5
    curriculum: dict[str, float] = field(default_factory=dict)
    curriculum_stages: int = 1
    iterations: int = 40
    tolerance: float = 1e-6
    adam_steps: int = 1000
    lbfgs_steps: int = 1000
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        check_range(
            self,
            windows=(1, 10**4),
            points=(1, 10**6),
            initial_points=(1, 10**6),
            boundary_points=(1, 10**6),
            iterations=(1, 10**7),
            curriculum_stages=(1, 10**4),
            adam_steps=(0, 10**8),
            lbfgs_steps=(0, 10**8),
            resample_every=(0, 10**8),
            seed=(0, 2**63 - 1),
        )
        check_finite(self)
        if min(self.resample_every, self.adam_steps, self.lbfgs_steps, self.tolerance) < 0:
            raise ValueError(
                "train.resample_every, train.adam_steps, train.lbfgs_steps and train.tolerance must not be negative"
            )
        if self.learning_rate <= 0:
            raise ValueError(f"train.learning_rate must be positive, got {self.learning_rate}")


@dataclass(frozen=True)
class PinnLoss:
    """How much the terms of the loss count against the equation, which is measured over the length of a
    window.

    Args:
        initial: weight of the initial state.
        boundary: weight of the ends, where x does not wrap.
        weighting: how the weights change in training, see ``fno.losses.weighting``.
        reweigh_every: iterations after which they do.

    Raises:
        ValueError: a weight or a count that is not positive.
    """

    initial: float = 10.0
    boundary: float = 10.0
    weighting: Kind = "fixed"
    reweigh_every: int = 10

    def __post_init__(self) -> None:
        check_finite(self)
        for name in ("initial", "boundary", "reweigh_every"):
            if getattr(self, name) <= 0:
                raise ValueError(f"loss.{name} must be positive, got {getattr(self, name)}")
