"""Writing of results into views."""

from typing import Any

import torch
from torch import Tensor


def write(op: Any, a: Tensor, b: Tensor, out: Tensor) -> None:
    """Write ``op(a, b)`` to ``out``.

    This takes one pass, or a copy under a compiler, which does not support a strided ``out=``.

    Args:
        op: elementwise function with an argument ``out``, such as ``torch.add``.
        a: first operand.
        b: second operand.
        out: view to write to, with any strides.
    """
    if torch.compiler.is_compiling():
        out.copy_(op(a, b))
    else:
        op(a, b, out=out)
