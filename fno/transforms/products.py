"""Products of float32 matrices by oneDNN on CPUs.

PyTorch multiplies float32 matrices with MKL, whose kernels use the full width of the vector registers on the
processors of one vendor only. oneDNN, which PyTorch includes too, does so on all: a large product takes half
the time on the others. PyTorch exposes it through an operator for dense layers, which these functions use. It
costs a few microseconds more per call, so small products and batches of small ones stay with MKL, as do
compiled and exported graphs, other precisions and other devices.
"""

import torch
from torch import Tensor

_AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
_WORTHWHILE = 1e6
"""Number of multiplications from which a product is faster by oneDNN."""
_BATCHED = 1e7
"""The same for a product whose results are copied into a batch."""


def pays(multiplications: int, like: Tensor, least: float = _WORTHWHILE) -> bool:
    """Return whether a matrix product is faster by oneDNN.

    Args:
        multiplications: number of multiplications of the product.
        like: tensor of the dtype and on the device of the product.
        least: number of multiplications from which oneDNN is faster.
    """
    if torch.compiler.is_compiling() or not _AVAILABLE:
        return False
    return like.dtype == torch.float32 and like.device.type == "cpu" and multiplications >= least


def rows_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x weight^T + bias`` by oneDNN, shape (rows, out). Not differentiable.

    Args:
        x: shape (rows, in).
        weight: shape (out, in).
        bias: shape (out,).
    """
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a b`` for two matrices. Not differentiable if computed by oneDNN."""
    return rows_product(a, b.T) if pays(a.shape[0] * b.numel(), a) else a @ b


def batched_product(a: Tensor, x: Tensor) -> Tensor:
    """Return the products of one matrix with each of a batch, shapes (m, n) and (batch, n, inner).

    Not differentiable if computed by oneDNN.
    """
    batch = x.shape[0]
    if x.shape[2] == 1:
        return product(x[:, :, 0], a.T)[:, :, None]
    each = a.shape[0] * x.shape[1] * x.shape[2]
    if batch == 1 and pays(each, x):
        return rows_product(a, x[0].T)[None]
    if pays(each, x, _BATCHED) and batch:
        return torch.stack([rows_product(a, one) for one in x.transpose(1, 2).unbind()])
    return torch.bmm(a.expand(batch, -1, -1), x)
