"""Writing of results into views."""

from typing import Any

import torch
from torch import Tensor


def write(op: Any, a: Tensor, b: Tensor, out: Tensor) -> None:
    """Write ``op(a, b)`` to ``out``, a view of any strides.

    This takes one pass, or a copy under a compiler, which does not support a strided ``out=``.
    """
    if torch.compiler.is_compiling():
        out.copy_(op(a, b))
    else:
        op(a, b, out=out)
