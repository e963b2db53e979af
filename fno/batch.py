"""The batch type that loaders make and models and the training loop take."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Consecutive states of several samples, in physical units.

    Attributes:
        state: fields, shape (batch, time, channel, H, W); NaN under the channel's mask.
        background: seasonal and diurnal cycle at the same times, same shape.
        forcing: fields known in advance (insolation, calendar), shape (batch, time, forcing, H, W).
    """

    state: Tensor
    background: Tensor
    forcing: Tensor

    def __len__(self) -> int:
        return self.state.shape[0]

    def to(self, device: str) -> "Batch":
        """Return the batch on ``device``."""
        return Batch(self.state.to(device), self.background.to(device), self.forcing.to(device))
