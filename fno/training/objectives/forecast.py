"""What a forecast model is trained for: rollouts that stay close to the truth, and if asked as balanced as it
is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...batch import Batch
from ...losses.data import area_weighted_mse
from ...models.stepper import Stepper
from ...physics.balances import Balances
from ..loop import Loss


@dataclass(frozen=True)
class BalanceTerms:
    """Balances that a forecast should keep as well as the truth does.

    A balance holds in no analysis exactly, least of all on a few levels; what is left of it in the truth is
    therefore no error. The term is the mean square of the difference between what is left in forecast and
    truth, in units of how that changes over a step in the truth.

    Attributes:
        balances: which.
        weights: weight of each.
        warmup: share of the training over which the weights rise from zero.
    """

    balances: Balances
    weights: Mapping[str, float] = field(default_factory=dict)
    warmup: float = 0.2


class ForecastObjective:
    """The error of rollouts.

    It is the mean over the steps and the channels of the area-weighted square error, in units of the tendency
    scale; that of step k is divided by k, about as fast as errors grow, so that no step outweighs the others.
    See ``BalanceTerms`` for what may be added.

    Args:
        stepper: model.
        weights: area weight of each point, zero under the mask, shape (channel, H, W).
        noise: Gaussian noise on the input anomalies, in anomaly standard deviations.
        physics: balances to keep.
    """

    def __init__(
        self, stepper: Stepper, weights: Tensor, noise: float = 0.0, physics: BalanceTerms | None = None
    ) -> None:
        self.stepper, self.weights, self.noise, self.physics = (
            stepper,
            weights.to(stepper.static.device),
            noise,
            physics,
        )
        self.ratio = (stepper.anomaly_std / stepper.tendency_std).flatten().square()

    def loss(self, batch: Batch, share: float, generator: torch.Generator) -> Loss:
        """Return the loss of a batch."""
        steps = list(self._rollout(batch, self.noise, generator))
        errors = (
            torch.stack(
                [area_weighted_mse(prediction, truth, self.weights) for _, prediction, truth in steps]
            )
            * self.ratio
        )
        total = (errors.mean(dim=1) / torch.arange(1, len(errors) + 1, device=errors.device)).mean()
        if self.physics is None:
            return Loss(total, {})
        terms, ramp = {"data": total}, min(1.0, share / self.physics.warmup) if self.physics.warmup else 1.0
        for name, (square, scale) in self._unbalanced(batch, steps).items():
            total = total + ramp * self.physics.weights[name] * square / scale
            terms[name] = square.sqrt()
        return Loss(total, terms)

    def errors(self, batch: Batch) -> Tensor:
        """Return the mean square error of each step and channel, in anomaly scales."""
        return torch.stack(
            [
                area_weighted_mse(prediction, truth, self.weights)
                for _, prediction, truth in self._rollout(batch)
            ]
        )

    @torch.no_grad()
    def balance_errors(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean square difference of what is left of each balance in forecast and truth, over the
        steps of a batch.
        """
        return {
            name: square for name, (square, _) in self._unbalanced(batch, list(self._rollout(batch))).items()
        }

    def _unbalanced(
        self, batch: Batch, steps: list[tuple[int, Tensor, Tensor]]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Return for each balance the mean square difference between forecast and truth, and of the truth
        from step to step.
        """
        if self.physics is None:
            return {}
        residuals = self.physics.balances.residuals
        sums: dict[str, tuple[Any, Any]] = {}
        before = residuals(batch.state[:, self.stepper.window - 1])
        for t, prediction, _ in steps:
            made = residuals(self.stepper.state(prediction, batch.background[:, t]))
            true = residuals(batch.state[:, t])
            for name in true:
                square, change = (
                    (a - b[name]).square().mean() for a, b in ((made[name], true), (before[name], true))
                )
                s, c = sums.get(name, (0.0, 0.0))
                sums[name] = (s + square / len(steps), c + change / len(steps))
            before = true
        return {name: (square, change.clamp_min(1e-30)) for name, (square, change) in sums.items()}

    def _rollout(
        self, batch: Batch, noise: float = 0.0, generator: torch.Generator | None = None
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the time, the predicted and the true anomaly of each step."""
        stepper, w = self.stepper, self.stepper.window
        anomaly = stepper.anomaly(batch.state, batch.background)
        window, times = anomaly[:, :w], range(w, anomaly.shape[1])
        if noise:
            window = window + noise * torch.randn(window.shape, generator=generator).to(window) * stepper.mask
        drivers = ((batch.background[:, t - 1 : t + 1], batch.forcing[:, t - 1 : t + 1]) for t in times)
        for t, prediction in zip(times, stepper.rollout(window, drivers), strict=True):
            yield t, prediction, anomaly[:, t]
