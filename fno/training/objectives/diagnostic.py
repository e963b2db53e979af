"""The objective of a network that diagnoses variables from the forecast of a frozen model."""

import torch
from torch import Tensor, nn

from ...batch import Batch
from ...losses.data import area_weighted_mse
from ...models.stepper import Stepper
from ...models.stepper_states import forecast_states
from ..protocols import Loss


class DiagnosticObjective:
    """Area-weighted mean square error of transformed targets, averaged over steps and channels.

    The targets are the last channels of the forcing of a batch, which the forecast model does not receive.

    Args:
        network: maps normalised states, shape (batch, channel, H, W), to targets.
        stepper: forecast model; its weights do not change.
        weights: area weight of each point, zero under the mask of a target, shape (target, H, W).
    """

    def __init__(self, network: nn.Module, stepper: Stepper, weights: Tensor) -> None:
        self.network = network
        self.stepper = stepper.eval()
        self.weights = weights.to(stepper.static.device)

    def loss(self, batch: Batch, share: float, generator: torch.Generator) -> Loss:
        """Return the loss of a batch; arguments as for ``Objective``."""
        return Loss(self.errors(batch).mean(), {})

    def errors(self, batch: Batch) -> Tensor:
        """Return the mean square error of the transformed targets, shape (step, target)."""
        targets = len(self.weights)
        known = batch.forcing.shape[2] - targets
        return torch.stack(
            [
                area_weighted_mse(self.network(state), batch.forcing[:, t, known:], self.weights)
                for t, state in forecast_states(self.stepper, batch, known)
            ]
        )
