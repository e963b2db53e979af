"""Batches of training samples, as loaders return them and models and the training loop receive them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Consecutive states of several samples, in physical units.

    Attributes:
        state: fields, shape (batch, time, channel, H, W); NaN outside the mask of a channel.
        background: seasonal and diurnal cycle at the same times, same shape.
        forcing: fields known in advance (insolation, season), shape (batch, time, forcing, H, W).
    """

    state: Tensor
    background: Tensor
    forcing: Tensor

    @property
    def nbytes(self) -> int:
        """Size of the states, which are read from the store [bytes]."""
        return self.state.nbytes

    def __len__(self) -> int:
        return self.state.shape[0]

    def first(self, count: int) -> "Batch":
        """Return the first ``count`` samples."""
        return Batch(self.state[:count], self.background[:count], self.forcing[:count])

    def to(self, device: str) -> "Batch":
        """Return the batch on ``device``; pinned memory is copied asynchronously."""
        parts = (
            t.to(device, non_blocking=t.is_pinned()) for t in (self.state, self.background, self.forcing)
        )
        return Batch(*parts)

    def part(self, index: int, count: int) -> "Batch":
        """Return every ``count``-th sample from number ``index`` on."""
        every = slice(index, None, count)
        return Batch(self.state[every], self.background[every], self.forcing[every])


@dataclass(frozen=True)
class Instances:
    """Instances of one equation on one grid, in physical units.

    Attributes:
        state: initial state, shape (batch, field, *grid); without fields for a steady equation.
        inputs: input fields, such as a permeability, shape (batch, input, *grid).
        parameters: coefficients that differ between instances, each of shape (batch,).
        solution: solution, if known, shape (batch, time, field, *grid), NaN outside the domain.
    """

    state: Tensor
    inputs: Tensor
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    solution: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Size of the fields [bytes]."""
        return self.state.nbytes + self.inputs.nbytes + (0 if self.solution is None else self.solution.nbytes)

    def __len__(self) -> int:
        return self.state.shape[0]

    def to(self, device: str) -> "Instances":
        """Return the instances on ``device``."""
        parameters = {name: t.to(device) for name, t in self.parameters.items()}
        solution = None if self.solution is None else self.solution.to(device)
        return replace(
            self,
            state=self.state.to(device),
            inputs=self.inputs.to(device),
            parameters=parameters,
            solution=solution,
        )

    def part(self, index: int, count: int) -> "Instances":
        """Return every ``count``-th instance from number ``index`` on."""
        every = slice(index, None, count)
        return Instances(
            state=self.state[every],
            inputs=self.inputs[every],
            parameters={name: t[every] for name, t in self.parameters.items()},
            solution=None if self.solution is None else self.solution[every],
        )
