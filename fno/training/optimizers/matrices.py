"""Parameters as stacks of matrices over channels, for optimizers that treat matrices as such."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...layers.factorized import CPWeight, TuckerWeight
from ...layers.local import FiniteDifference
from ...layers.mixer import AFNO2D
from ...layers.spectral import SpectralConv
from ...layers.spherical import SphericalConv
from ...layers.spherical_local import SphericalDifference


@dataclass(frozen=True)
class MatrixLayout:
    """How a parameter is a stack of matrices.

    The last two axes are the rows and columns of a matrix, and those before them form the stack: the modes of
    a spectral weight, each with a complex matrix over channels, or the blocks of a mixer.

    Attributes:
        pair: axis of the real and imaginary parts of complex matrices; None for real ones.
        flat: the matrix has the first axis as rows and all others as columns, as the kernel of a convolution.

    Example:
        >>> import torch
        >>> MatrixLayout(pair=-2).matrices(torch.zeros(8, 5, 16, 2, 32)).shape
        torch.Size([40, 16, 32])
    """

    pair: int | None = None
    flat: bool = False

    def matrices(self, tensor: Tensor) -> Tensor:
        """Return the matrices, shape (count, rows, columns), real or complex.

        Args:
            tensor: tensor of the shape of the parameter.
        """
        if self.flat:
            return tensor.flatten(1)[None]
        if self.pair is not None:
            tensor = torch.view_as_complex(tensor.movedim(self.pair, -1).contiguous())
        return tensor.reshape(-1, *tensor.shape[-2:])

    def tensor(self, matrices: Tensor, shape: torch.Size) -> Tensor:
        """Return the tensor of a parameter: the inverse of ``matrices``.

        Args:
            matrices: real or complex matrices, shape (count, rows, columns).
            shape: shape of the parameter.
        """
        if self.pair is None:
            return matrices.reshape(shape)
        pair = self.pair % len(shape)
        others = (*shape[:pair], *shape[pair + 1 :], 2)
        return torch.view_as_real(matrices.resolve_conj()).reshape(others).movedim(-1, pair)

    def shape(self, parameter: Tensor) -> tuple[int, int, int]:
        """Return the number of matrices, their rows and their columns.

        Args:
            parameter: the parameter, or a tensor of its shape.
        """
        sizes = list(parameter.shape)
        if self.flat:
            return 1, sizes[0], math.prod(sizes[1:])
        if self.pair is not None:
            sizes.pop(self.pair)
        return math.prod(sizes[:-2]), sizes[-2], sizes[-1]


def matrix_layouts(model: nn.Module) -> dict[nn.Parameter, MatrixLayout]:
    """Return the parameters of a model that are matrices over channels, in the order of the model.

    These are the weights of dense layers, convolutions, spectral and spherical convolutions (one matrix for
    each mode or degree), Fourier mixers and finite differences. Not among them are biases, gates, norms,
    embeddings, factors along the modes of ``cp`` weights, matrices of one row or column, the last layer of a
    network (``output_layer``), for which Jordan et al. 2024 advise a method without matrices, and weights of
    modules of other kinds.

    Args:
        model: model to train.
    """
    last = {
        p
        for module in model.modules()
        if isinstance(layer := getattr(module, "output_layer", None), nn.Module)
        for p in layer.parameters()
    }
    layouts: dict[Tensor, MatrixLayout] = {
        p: layout for module in model.modules() for p, layout in _layouts_of(module)
    }
    return {
        p: layouts[p]
        for p in model.parameters()
        if p in layouts and p not in last and min(layouts[p].shape(p)[1:]) > 1
    }


def _layouts_of(module: nn.Module) -> Iterator[tuple[Tensor, MatrixLayout]]:
    """Yield the own parameters of a module that are matrices, with their layouts."""
    if isinstance(module, nn.modules.conv._ConvNd):
        if module.groups == 1:
            yield module.weight, MatrixLayout(flat=True)
    elif isinstance(module, nn.Linear):
        yield module.weight, MatrixLayout()
    elif isinstance(module, SphericalConv):
        yield module.weight, MatrixLayout(pair=None if module.equivariant else -2)
    elif isinstance(module, SpectralConv):
        if isinstance(module.weight, nn.Parameter):
            yield module.weight, MatrixLayout(pair=-2)
    elif isinstance(module, AFNO2D):
        yield module.w1, MatrixLayout(pair=0)
        yield module.w2, MatrixLayout(pair=0)
    elif isinstance(module, FiniteDifference | SphericalDifference):
        yield module.matrices, MatrixLayout()
        if isinstance(module, SphericalDifference):
            yield module.projection, MatrixLayout()
    elif isinstance(module, CPWeight | TuckerWeight):
        yield module.inward, MatrixLayout(pair=-2)
        yield module.outward, MatrixLayout(pair=-2)
        if isinstance(module, TuckerWeight):
            yield module.core, MatrixLayout(pair=-2)
            for factor in module.along:
                yield factor, MatrixLayout(pair=0)
