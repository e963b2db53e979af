"""The batch types that loaders make and models and the training loop take."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

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

    @property
    def nbytes(self) -> int:
        """Bytes of the states, which are what is read."""
        return self.state.nbytes

    def __len__(self) -> int:
        return self.state.shape[0]

    def to(self, device: str) -> "Batch":
        """Return the batch on ``device``, copied while the caller goes on where the memory is pinned."""
        parts = (
            t.to(device, non_blocking=t.is_pinned()) for t in (self.state, self.background, self.forcing)
        )
        return Batch(*parts)


@dataclass(frozen=True)
class Instances:
    """Several instances of one equation, on one grid, in physical units.

    Attributes:
        state: initial state, shape (batch, field, *grid); of a steady equation without fields.
        inputs: fields that are given, shape (batch, input, *grid).
        parameters: numbers that differ between instances, each of shape (batch,).
        solution: the solution where it is known, shape (batch, time, field, *grid), NaN outside the domain.
    """

    state: Tensor
    inputs: Tensor
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    solution: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the fields."""
        return self.state.nbytes + self.inputs.nbytes + (0 if self.solution is None else self.solution.nbytes)

    def __len__(self) -> int:
        return self.state.shape[0]

    def to(self, device: str) -> "Instances":
        """Return them on ``device``."""
        numbers = {name: t.to(device) for name, t in self.parameters.items()}
        solution = None if self.solution is None else self.solution.to(device)
        return replace(
            self,
            state=self.state.to(device),
            inputs=self.inputs.to(device),
            parameters=numbers,
            solution=solution,
        )
