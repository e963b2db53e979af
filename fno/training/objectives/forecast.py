"""The objective of a forecast model: the error of its forecasts, optionally with physical balances."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...batch import Batch
from ...grids import Box
from ...losses.base import DataLoss, LossDomain
from ...losses.data import area_weighted_mse
from ...losses.pointwise import MeanSquareError
from ...models.stepper import Stepper
from ...physics.balances import Balances
from ...random import NOISES, integers
from ..diagnosis import FieldLabels
from ..protocols import Loss

Step = tuple[int, Tensor, Tensor]
"""Time index, predicted and true anomaly of a step of a rollout."""


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

        mean_{k,c} w_c L_{k,c} / k^(d/2)

    with a data loss L of degree d, by default the area-weighted mean square error in units of the standard
    deviation of tendencies (d = 2). Errors grow about as the root of k, so no step outweighs the others.
    Terms of ``BalanceTerms`` may be added.

    Args:
        stepper: forecast model.
        weights: area weight of each point, zero under the mask, shape (channel, H, W).
        noise: standard deviation of Gaussian noise on the input anomalies, in units of theirs.
        noise_spectrum: name of its spectrum in ``fno.random.NOISES``.
        physics: balances to add to the loss.
        data_loss: data loss, on the device of the stepper. An ensemble loss compares its members, which
            differ by the noise input of the stepper.
        channel_weights: weight w_c of each channel, shape (channel,); one by default.
        pushforward: train on the last step of each rollout alone, with no gradient through those before.
        lead_times: lead times, of which one is drawn for each sample instead of a rollout.

    Attributes:
        labels: names of channels and points, for messages; None if unknown.
        average: mean of a statistic of the true states over the processes that share a batch.
    """

    labels: FieldLabels | None = None

    def __init__(
        self,
        stepper: Stepper,
        weights: Tensor,
        noise: float = 0.0,
        *,
        noise_spectrum: str = "white",
        physics: BalanceTerms | None = None,
        data_loss: DataLoss | None = None,
        channel_weights: Tensor | None = None,
        pushforward: bool = False,
        lead_times: Sequence[int] = (),
    ) -> None:
        self.stepper = stepper
        self.weights = weights.to(stepper.static.device)
        self.noise = noise
        self.noise_spectrum = noise_spectrum
        self.physics = physics
        self.data_loss = data_loss or _default_loss(stepper, self.weights)
        self.channel_weights = None if channel_weights is None else channel_weights.to(self.weights)
        self.pushforward = pushforward
        self.lead_times = tuple(lead_times)
        self.average: Callable[[Tensor], Tensor] = _unchanged

    def loss(self, batch: Batch, share: float, generator: torch.Generator) -> Loss:
        """Return the loss of a batch; arguments as for ``Objective``."""
        if self.lead_times:
            return Loss(self._pair_loss(batch, generator), {})
        members = [self._training_steps(batch, generator) for _ in range(self.data_loss.members)]
        leads = [t - self.stepper.window + 1 for t, _, _ in members[0]]
        errors = torch.stack(
            [
                self._errors(same_step, k)
                for k, same_step in zip(leads, zip(*members, strict=True), strict=True)
            ]
        )
        growth = torch.tensor([k ** (self.data_loss.degree / 2) for k in leads], device=errors.device)
        total = (errors.mean(dim=1) / growth).mean()
        if self.physics is None:
            return Loss(total, {})
        terms = {"data": total}
        ramp = min(1.0, share / self.physics.warmup) if self.physics.warmup else 1.0
        for name, (square, scale) in self._mean_differences(batch, members).items():
            total = total + ramp * self.physics.weights[name] * square / scale
            terms[name] = square.sqrt()
        return Loss(total, terms)

    def errors(self, batch: Batch) -> Tensor:
        """Return the mean square error in units of the anomaly scale, shape (step, channel)."""
        steps = self._rollout(batch, self._window(batch))
        return torch.stack([area_weighted_mse(p, truth, self.weights) for _, p, truth in steps])

    @torch.no_grad()
    def forecast(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the forecast of the last state of each sample and the true one, in physical units.

        Both have the shape (batch, channel, H, W), and are NaN outside the mask of a channel.
        """
        *_, (t, prediction, _) = self._rollout(batch, self._window(batch))
        inside = self.stepper.mask
        states = self.stepper.state(prediction, batch.background[:, t]), batch.state[:, t]
        first, second = (torch.where(inside, state, torch.nan) for state in states)
        return first, second

    @torch.no_grad()
    def balance_errors(self, batch: Batch) -> dict[str, Tensor]:
        """Return for each balance the mean square difference of its residual in forecast and truth."""
        steps = list(self._rollout(batch, self._window(batch)))
        return {name: square for name, (square, _) in self._balance_differences(batch, steps).items()}

    def _errors(self, members: Sequence[Step], lead: float) -> Tensor:
        """Return the weighted loss of each channel at one step, given that of each member."""
        predictions = [prediction for _, prediction, _ in members]
        prediction = torch.stack(predictions) if self.data_loss.ensemble else predictions[0]
        errors = self.data_loss(prediction, members[0][2], lead)
        return errors if self.channel_weights is None else errors * self.channel_weights

    def _mean_differences(
        self, batch: Batch, members: Sequence[Sequence[Step]]
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Return what ``_balance_differences`` does, averaged over the members."""
        differences = [self._balance_differences(batch, steps) for steps in members]
        if len(differences) == 1:
            return differences[0]
        return {
            name: (torch.stack([d[name][0] for d in differences]).mean(), scale)
            for name, (_, scale) in differences[0].items()
        }

    def _balance_differences(self, batch: Batch, steps: Sequence[Step]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return for each balance two mean squares of differences of its residual: of the forecast from the
        truth, and of the truth from the truth one step earlier.
        """
        if self.physics is None:
            return {}
        residuals = self.physics.balances.residuals
        sums: dict[str, tuple[Any, Any]] = {}
        previous = residuals(batch.state[:, steps[0][0] - 1])
        for t, prediction, _ in steps:
            forecast = residuals(self.stepper.state(prediction, batch.background[:, t]))
            truth = residuals(batch.state[:, t])
            for name in truth:
                square = (forecast[name] - truth[name]).square().mean()
                change = (previous[name] - truth[name]).square().mean()
                total_square, total_change = sums.get(name, (0.0, 0.0))
                sums[name] = (total_square + square / len(steps), total_change + change / len(steps))
            previous = truth
        return {
            name: (square, self.average(change).clamp_min(1e-30)) for name, (square, change) in sums.items()
        }

    def _window(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """Return the anomalies of the input window, with noise from the generator if there is one."""
        states = slice(self.stepper.window)
        window = self.stepper.anomaly(batch.state[:, states], batch.background[:, states])
        if self.noise and generator is not None:
            noise = NOISES[self.noise_spectrum](window.shape, generator).to(window)
            window = window + self.noise * noise * self.stepper.mask
        return window

    def _training_steps(self, batch: Batch, generator: torch.Generator) -> list[Step]:
        """Return the steps of a rollout to train on."""
        window = self._window(batch, generator)
        unrolled = batch.state.shape[1] - self.stepper.window - 1 if self.pushforward else 0
        if unrolled:
            with torch.no_grad():
                steps = list(self._rollout(batch, window, generator, count=unrolled))
            torch.clear_autocast_cache()  # casts of weights that were cached without a gradient
            states = [window, *(prediction[:, None] for _, prediction, _ in steps)]
            window = torch.cat(states, dim=1)[:, -self.stepper.window :]
        return list(self._rollout(batch, window, generator, start=unrolled))

    def _rollout(
        self,
        batch: Batch,
        window: Tensor,
        generator: torch.Generator | None = None,
        *,
        start: int = 0,
        count: int | None = None,
    ) -> Iterator[Step]:
        """Yield the time index, the predicted and the true anomaly of each step.

        Args:
            batch: samples.
            window: input anomalies of step ``start``.
            generator: source of the noise input of the network.
            start: number of the first step, from 0.
            count: number of steps; all of the batch by default.
        """
        stepper = self.stepper
        times = range(stepper.window + start, batch.state.shape[1])[:count]
        drivers = ((batch.background[:, t - 1 : t + 1], batch.forcing[:, t - 1 : t + 1]) for t in times)
        predictions = stepper.rollout(window, drivers, noise=partial(stepper.noise, generator=generator))
        for t, prediction in zip(times, predictions, strict=True):
            yield t, prediction, stepper.anomaly(batch.state[:, t], batch.background[:, t])

    def _pair_loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the loss of pairs of times with a random lead time for each sample.

        Errors are divided by the root of the lead time, by which they are expected to be larger.
        """
        stepper = self.stepper
        now = stepper.window - 1
        possible = torch.tensor([k for k in self.lead_times if now + k < batch.state.shape[1]])
        lead = possible[integers(len(possible), len(batch), generator)]
        lead = lead.to(batch.state.device)
        sample = torch.arange(len(batch), device=lead.device)
        background, forcing = (
            torch.stack([field[:, now], field[sample, now + lead]], dim=1)
            for field in (batch.background, batch.forcing)
        )
        growth = lead.to(background.dtype).sqrt()[:, None, None, None]
        truth = stepper.anomaly(batch.state[sample, now + lead], background[:, 1]) / growth
        members = []
        for _ in range(self.data_loss.members):
            window = self._window(batch, generator)
            noise = stepper.noise(window, generator)
            prediction = stepper(window, background, forcing, noise=noise, lead=lead)
            members.append((now, prediction / growth, truth))
        return self._errors(members, 1).mean()


def _default_loss(stepper: Stepper, weights: Tensor) -> DataLoss:
    """Return the mean square error in units of the standard deviation of tendencies."""
    rows, columns = weights.shape[-2:]
    grid = Box(("y", "x"), (rows, columns), (rows - 1.0, columns - 1.0), (False, False))
    scale = (stepper.anomaly_std / stepper.tendency_std).flatten()
    return MeanSquareError(LossDomain(grid, weights, scale))


def _unchanged(x: Tensor) -> Tensor:
    return x
