"""Settings of the training of physics-informed networks."""

from dataclasses import dataclass, field
from typing import Literal

from ...errors import SettingError
from ...losses.weighting import Kind
from ..checks import check_finite, check_loggers_differ, check_range
from .collocation import Sampling


@dataclass(frozen=True)
class PinnSettings:
    """Settings of the training of a physics-informed network.

    Args:
        optimizer: ``gauss_newton`` (with damping), or ``adam_lbfgs``, which is more common.
        windows: number of windows of time, which are trained in turn.
        points: number of collocation points per window.
        initial_points: number of points of the initial state.
        boundary_points: number of times at which boundary values are imposed, if x is not periodic.
        sampling: distribution of the collocation points, see ``draw_points``.
        resample_every: iterations between new draws of the collocation points; 0 keeps them. L-BFGS draws
            between steps of 20 iterations, so there it is rounded up to a multiple of 20.
        curriculum: coefficients of the equation that start from another value and reach their own in
            ``curriculum_stages`` equal steps, each trained with all iterations (Krishnapriyan et al. 2021).
        curriculum_stages: number of stages.
        iterations: largest number of Gauss-Newton steps per window and stage.
        tolerance: root of the loss below which a window is finished.
        adam_steps: Adam steps per window and stage.
        lbfgs_steps: L-BFGS iterations after them, in steps of at most 20 that end early on convergence.
        learning_rate: learning rate of Adam.
        seed: seed of all random numbers.
        loggers: where the terms of the loss and held-out residuals are recorded, besides ``log.jsonl``:
            ``tensorboard``, ``wandb``, ``mlflow``, or another registered one. None by default.
        log_every: number of iterations between two records of the loggers.

    Raises:
        SettingError: a setting is out of its range.
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
    loggers: tuple[str, ...] = ()
    log_every: int = 10

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
            log_every=(1, 10**9),
        )
        check_finite(self)
        check_loggers_differ(self.loggers)
        if self.tolerance < 0:
            raise SettingError(f"tolerance must not be negative, got {self.tolerance}")
        if self.learning_rate <= 0:
            raise SettingError(f"learning_rate must be positive, got {self.learning_rate}")


@dataclass(frozen=True)
class PinnLoss:
    """Weights of the terms of the loss against the residual, in which time is measured in windows.

    Args:
        initial: weight of the initial state.
        boundary: weight of the boundary values, if x is not periodic.
        weighting: adaptation of the weights during training, see ``fno.losses.weighting``.
        reweigh_every: iterations between adaptations, where a step of 20 L-BFGS iterations counts as one.

    Raises:
        SettingError: a weight or a number of iterations is not positive.
    """

    initial: float = 10.0
    boundary: float = 10.0
    weighting: Kind = "fixed"
    reweigh_every: int = 10

    def __post_init__(self) -> None:
        check_finite(self)
        for name in ("initial", "boundary", "reweigh_every"):
            if getattr(self, name) <= 0:
                raise SettingError(f"{name} must be positive, got {getattr(self, name)}")
