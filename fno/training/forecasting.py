"""What a forecast model is trained for: rollouts that stay close to the truth."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..batch import Batch
from ..losses import area_weighted_mse
from ..models.stepper import Stepper
from .loop import Loss


class Forecasting:
    """The error of rollouts.

    It is the mean over the steps and the channels of the area-weighted square error, in units of the tendency scale; that of step k is
    divided by k, about as fast as errors grow, so that no step outweighs the others.

    Args:
        stepper: model.
        weights: area weight of each point, zero under the mask, shape (channel, H, W).
        noise: Gaussian noise on the input anomalies, in anomaly standard deviations.
    """

    def __init__(self, stepper: Stepper, weights: Tensor, noise: float = 0.0) -> None:
        self.stepper, self.weights, self.noise = stepper, weights.to(stepper.static.device), noise
        self.ratio = (stepper.anomaly_std / stepper.tendency_std).flatten().square()

    def loss(self, batch: Batch, share: float, generator: torch.Generator) -> Loss:
        """Return the loss of a batch."""
        errors = torch.stack(list(self._steps(batch, self.noise, generator))) * self.ratio
        data = (errors.mean(dim=1) / torch.arange(1, len(errors) + 1, device=errors.device)).mean()
        return Loss(data, {})

    def errors(self, batch: Batch) -> Tensor:
        """Return the mean square error of each step and channel, in anomaly scales."""
        return torch.stack(list(self._steps(batch)))

    def _steps(self, batch: Batch, noise: float = 0.0, generator: torch.Generator | None = None) -> Iterator[Tensor]:
        stepper, w = self.stepper, self.stepper.window
        anomaly = stepper.anomaly(batch.state, batch.background)
        window, times = anomaly[:, :w], range(w, anomaly.shape[1])
        if noise:
            window = window + noise * torch.randn(window.shape, generator=generator).to(window) * stepper.mask
        drivers = ((batch.background[:, t - 1 : t + 1], batch.forcing[:, t - 1 : t + 1]) for t in times)
        for t, prediction in zip(times, stepper.rollout(window, drivers), strict=True):
            yield area_weighted_mse(prediction, anomaly[:, t], self.weights)
