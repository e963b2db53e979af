"""Writing results where they are wanted."""

from typing import Any

import torch
from torch import Tensor


def write(op: Any, a: Tensor, b: Tensor, out: Tensor) -> None:
    """Write ``op(a, b)`` to ``out``, a view of any strides: in one pass, or by a copy where a compiler wants
    no strided ``out=``.
    """
    if torch.compiler.is_compiling():
        out.copy_(op(a, b))
    else:
        op(a, b, out=out)
