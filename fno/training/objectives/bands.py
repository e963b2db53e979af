"""The objective of a forecast model on latitude bands."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...batch import Batch
from ...models.stepper import Stepper
from ...parallel.bands import Bands
from .forecast import ForecastObjective, Step


def banded_mse(prediction: Tensor, target: Tensor, weights: Tensor, *, bands: Bands) -> Tensor:
    """Return ``area_weighted_mse`` over the whole grid, on every process.

    Args:
        prediction: band of the prediction, shape (batch, channel, rows, W).
        target: same shape.
        weights: band of the area weights, divided by their sum over the grid, shape (channel, rows, W).
        bands: latitude bands of the fields.
    """
    error = (prediction - target).square() * weights
    return bands.total(error.sum(dim=(0, 2, 3))) / len(prediction)


class BandForecastObjective(ForecastObjective):
    """``ForecastObjective`` with the mean square error and without balances on latitude bands.

    The loss is that of the whole grid.

    Args:
        stepper: forecast model, divided by ``divide_latitudes``.
        weights: area weights of the whole grid, zero under the mask, shape (channel, H, W).
        noise: as for ``ForecastObjective``.
        noise_spectrum: as for ``ForecastObjective``.
        bands: latitude bands of the fields.
        channel_weights: as for ``ForecastObjective``.
        pushforward: as for ``ForecastObjective``.
    """

    def __init__(
        self,
        stepper: Stepper,
        weights: Tensor,
        noise: float = 0.0,
        *,
        bands: Bands,
        noise_spectrum: str = "white",
        channel_weights: Tensor | None = None,
        pushforward: bool = False,
    ) -> None:
        own = bands.take(weights / weights.sum(dim=(1, 2), keepdim=True), 1)
        super().__init__(
            stepper,
            own,
            noise,
            noise_spectrum=noise_spectrum,
            channel_weights=channel_weights,
            pushforward=pushforward,
        )
        self.bands = bands
        self.ratio = (stepper.anomaly_std / stepper.tendency_std).flatten().square()

    def errors(self, batch: Batch) -> Tensor:
        """Return the mean square error in units of the anomaly scale, shape (step, channel)."""
        steps = self._rollout(batch, self._window(batch))
        return torch.stack([banded_mse(p, truth, self.weights, bands=self.bands) for _, p, truth in steps])

    def _errors(self, members: Sequence[Step], lead: float) -> Tensor:
        _, prediction, truth = members[0]
        errors = self.ratio * banded_mse(prediction, truth, self.weights, bands=self.bands)
        return errors if self.channel_weights is None else errors * self.channel_weights
