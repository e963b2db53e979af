"""Weights of a trained network for one with other input and output channels.

Channels that both have keep their weights. The weights of new inputs are zero, so that the old outputs do not
change; those of new outputs are zero, so that new outputs are zero. Which tensors depend on the channels
follows from their shapes in networks with one channel more.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import WeightsError
from ..weights.blueprint import compare

Build = Callable[[int, int], nn.Module]
"""Function of the numbers of input and output channels that returns the network."""


@dataclass(frozen=True)
class ChannelOrigin:
    """Position in the old network of each channel of the new one.

    Attributes:
        old: number of channels of the old network.
        positions: for each new channel the old position; None for a channel that the old network lacks.
    """

    old: int
    positions: Sequence[int | None]

    @property
    def new(self) -> int:
        """Number of channels of the new network."""
        return len(self.positions)

    @classmethod
    def match(cls, old: Sequence[object], new: Sequence[object]) -> "ChannelOrigin":
        """Return the origin of channels that are identified by keys.

        >>> ChannelOrigin.match(["t", "u"], ["u", "sst", "t"]).positions
        [1, None, 0]
        """
        return cls(len(old), [old.index(key) if key in old else None for key in new])


def transfer_weights(
    build: Build, weights: Mapping[str, Tensor], *, inputs: ChannelOrigin, outputs: ChannelOrigin, source: str
) -> dict[str, Tensor]:
    """Return the weights of a network with other channels.

    Along a dimension of a tensor that contains the output channels several times, as in the head of an AFNO,
    the channels must vary fastest.

    Args:
        build: returns the network for any numbers of channels.
        weights: tensors of the old network by name.
        inputs: origin of the input channels.
        outputs: origin of the output channels.
        source: name of the old network, for errors.

    Raises:
        WeightsError: the weights are not those of the network that ``build`` returns, or its shapes do not
            depend on the channels as described.
    """
    with torch.device("meta"):
        base = build(inputs.old, outputs.old)
        wider = [build(inputs.old + 1, outputs.old), build(inputs.old, outputs.old + 1)]
    compare(base, weights, source)
    shapes = {name: tuple(t.shape) for name, t in base.state_dict().items()}
    grown = [{name: tuple(t.shape) for name, t in model.state_dict().items()} for model in wider]
    result = {}
    for name, weight in weights.items():
        new = weight
        for origin, other in zip((inputs, outputs), grown, strict=True):
            if name not in other or len(other[name]) != len(shapes[name]):
                raise WeightsError(f"{source}: {name} depends on the channels in a way that is not supported")
            for dim, (size, more) in enumerate(zip(shapes[name], other[name], strict=True)):
                if more != size:
                    index = _index(size, more - size, origin, where=f"{source}: {name}")
                    new = _selected(new, dim, index)
        result[name] = new.contiguous()
    return result


def _index(size: int, step: int, origin: ChannelOrigin, *, where: str) -> list[int | None]:
    """Return the old index of each new index along a dimension.

    Args:
        size: old size, ``step`` times the number of channels plus entries that do not depend on them, which
            come last, such as coordinates.
        step: number of entries of each channel.
        origin: origin of the channels.
        where: tensor, for errors.
    """
    more = size - step * origin.old
    if step < 1 or more < 0 or (step > 1 and more):
        raise WeightsError(f"{where} of size {size} does not contain {origin.old} channels {step} times")
    copies = [
        None if position is None else copy * origin.old + position
        for copy in range(step)
        for position in origin.positions
    ]
    return [*copies, *range(step * origin.old, size)]


def _selected(tensor: Tensor, dim: int, index: Sequence[int | None]) -> Tensor:
    """Return entries along a dimension, zero where the index is None."""
    chosen = torch.tensor([0 if i is None else i for i in index], device=tensor.device)
    known = torch.tensor([i is not None for i in index], device=tensor.device)
    shape = [1] * tensor.ndim
    shape[dim] = len(index)
    selected = tensor.index_select(dim, chosen)
    return torch.where(known.reshape(shape), selected, torch.zeros_like(selected))
