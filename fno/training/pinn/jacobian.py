"""The Jacobian of rows that a coordinate network computes from one point each.

Row i depends on point i alone, so the gradient of the sum of all rows with respect to the output of a layer
contains the gradient of each row. Its outer product with the input of the layer is the gradient of the row
with respect to the weights of the layer, and one backward pass yields the whole Jacobian.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def row_jacobian(rows: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the gradient of each row with respect to the parameters.

    Args:
        rows: shape (row,); row i must be computed from point i alone.
        layers: output and input of each layer, as recorded in a ``Jet``.

    Returns:
        Shape (row, parameter), with weight and bias of each layer in turn.
    """
    gradients = torch.autograd.grad(rows.sum(), [z for z, _ in layers])
    parts = []
    for g, (_, y) in zip(gradients, layers, strict=True):
        parts += [torch.bmm(g.permute(1, 2, 0), y.detach().permute(1, 0, 2)).flatten(1), g[0]]
    return torch.cat(parts, dim=1)
