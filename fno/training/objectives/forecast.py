"""The objective of a forecast model: the error of its rollouts, optionally with physical balances."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...batch import Batch
from ...losses.data import area_weighted_mse
from ...models.stepper import Stepper
from ...physics.balances import Balances
from ..protocols import Loss


@dataclass(frozen=True)
class BalanceTerms:
    """Balances of the atmosphere that a forecast should satisfy as well as the truth does.

    No analysis satisfies a balance exactly, least of all on a few levels, so the residual of the truth is no
    error. The term of a balance with residual r is

        mean (r(forecast) - r(truth))^2 / mean (r(truth at t) - r(truth at t - 1))^2

    Attributes:
        balances: balances to evaluate.
        weights: weight of each balance by name.
        warmup: fraction of the training over which the weights rise linearly from zero.
    """

    balances: Balances
    weights: Mapping[str, float] = field(default_factory=dict)
    warmup: float = 0.2


class ForecastObjective:
    """The error of rollouts, averaged over steps k and channels c:

        mean_{k,c} MSE_{k,c} / (k tendency_std_c^2)

    with the area-weighted mean square error MSE. Errors grow about linearly with k, so no step outweighs the
    others. Terms of ``BalanceTerms`` may be added.

    Args:
        stepper: forecast model.
        weights: area weight of each point, zero under the mask, shape (channel, H, W).
        noise: standard deviation of Gaussian noise on the input anomalies, in units of theirs.
        physics: balances to add to the loss.
    """

    def __init__(
        self, stepper: Stepper, weights: Tensor, noise: float = 0.0, *, physics: BalanceTerms | None = None
    ) -> None:
        self.stepper = stepper
        self.weights = weights.to(stepper.static.device)
        self.noise = noise
        self.physics = physics
        self.ratio = (stepper.anomaly_std / stepper.tendency_std).flatten().square()

    def loss(self, batch: Batch, share: float, generator: torch.Generator) -> Loss:
        """Return the loss of a batch; arguments as for ``Objective``."""
        steps = list(self._rollout(batch, self.noise, generator))
        errors = self._squared_errors(steps) * self.ratio
        total = (errors.mean(dim=1) / torch.arange(1, len(errors) + 1, device=errors.device)).mean()
        if self.physics is None:
            return Loss(total, {})
        terms = {"data": total}
        ramp = min(1.0, share / self.physics.warmup) if self.physics.warmup else 1.0
        for name, (square, scale) in self._balance_differences(batch, steps).items():
            total = total + ramp * self.physics.weights[name] * square / scale
            terms[name] = square.sqrt()
        return Loss(total, terms)

    def errors(self, batch: Batch) -> Tensor:
        """Return the mean square error in units of the anomaly scale, shape (step, channel)."""
        return self._squared_errors(self._rollout(batch))

    @torch.no_grad()
    def balance_errors(self, batch: Batch) -> dict[str, Tensor]:
        """Return for each balance the mean square difference of its residual in forecast and truth."""
        differences = self._balance_differences(batch, list(self._rollout(batch)))
        return {name: square for name, (square, _) in differences.items()}

    def _squared_errors(self, steps: Iterable[tuple[int, Tensor, Tensor]]) -> Tensor:
        return torch.stack([area_weighted_mse(p, truth, self.weights) for _, p, truth in steps])

    def _balance_differences(
        self, batch: Batch, steps: list[tuple[int, Tensor, Tensor]]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Return for each balance two mean squares of differences of its residual: of the forecast from the
        truth, and of the truth from the truth one step earlier.
        """
        if self.physics is None:
            return {}
        residuals = self.physics.balances.residuals
        sums: dict[str, tuple[Any, Any]] = {}
        previous = residuals(batch.state[:, self.stepper.window - 1])
        for t, prediction, _ in steps:
            forecast = residuals(self.stepper.state(prediction, batch.background[:, t]))
            truth = residuals(batch.state[:, t])
            for name in truth:
                square = (forecast[name] - truth[name]).square().mean()
                change = (previous[name] - truth[name]).square().mean()
                total_square, total_change = sums.get(name, (0.0, 0.0))
                sums[name] = (total_square + square / len(steps), total_change + change / len(steps))
            previous = truth
        return {name: (square, change.clamp_min(1e-30)) for name, (square, change) in sums.items()}

    def _rollout(
        self, batch: Batch, noise: float = 0.0, generator: torch.Generator | None = None
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the time index, the predicted and the true anomaly of each step."""
        stepper = self.stepper
        anomaly = stepper.anomaly(batch.state, batch.background)
        window = anomaly[:, : stepper.window]
        times = range(stepper.window, anomaly.shape[1])
        if noise:
            window = window + noise * torch.randn(window.shape, generator=generator).to(window) * stepper.mask
        drivers = ((batch.background[:, t - 1 : t + 1], batch.forcing[:, t - 1 : t + 1]) for t in times)
        for t, prediction in zip(times, stepper.rollout(window, drivers), strict=True):
            yield t, prediction, anomaly[:, t]
