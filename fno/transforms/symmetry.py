"""Half sums that combine wavenumbers k and -k, which share one cosine and one sine product.

For pairs (re, im) along a dimension of n points, with C and S the cosine and sine sums for k >= 0,

    X(+k) = (C re + S im) + i (C im - S re),    X(-k) = (C re - S im) + i (C im + S re),

so half the rows are multiplied. ``unfold`` computes the right-hand sides, ``fold`` is its adjoint, by which
the inverse transform is ``re = C^T cr + S^T sr``, ``im = C^T ci + S^T si``.
"""

import torch
from torch import Tensor

from .inplace import write


def unfold(g: Tensor, minus: int, plus: int) -> Tensor:
    """Combine cosine and sine sums to wavenumbers ``-minus ... plus - 1``.

    Args:
        g: sums, shape (outer, 2 for cosine and sine, k, 2 for re and im, inner), k from 0.
        minus: number of negative wavenumbers.
        plus: number of other wavenumbers.

    Returns:
        Coefficients, shape (outer, 2, minus + plus, inner).
    """
    c, s = g[:, 0], g[:, 1]
    z = g.new_empty(g.shape[0], 2, minus + plus, g.shape[-1])
    write(torch.add, c[:, :plus, 0], s[:, :plus, 1], z[:, 0, minus:])
    write(torch.sub, c[:, :plus, 1], s[:, :plus, 0], z[:, 1, minus:])
    if minus:
        c, s = g[:, :, 1 : minus + 1].flip(2).unbind(1)
        write(torch.sub, c[:, :, 0], s[:, :, 1], z[:, 0, :minus])
        write(torch.add, c[:, :, 1], s[:, :, 0], z[:, 1, :minus])
    return z


def fold(z: Tensor, minus: int, plus: int) -> Tensor:
    """Apply the adjoint of ``unfold``, except for the sine sums of k = 0, whose sine is zero.

    Args:
        z: coefficients, shape (outer, 2, minus + plus, inner).
        minus: number of negative wavenumbers.
        plus: number of other wavenumbers.

    Returns:
        Sums, shape (outer, 2 for cosine and sine, k, 2 for re and im, inner).
    """
    both = min(minus, plus - 1)
    rows = max(minus + 1, plus)
    g = z.new_empty(z.shape[0], 2, rows, 2, z.shape[-1])
    c, s = g[:, 0], g[:, 1]
    p, m = z[:, :, minus:], z[:, :, :minus].flip(2)
    if both:
        a, b = p[:, :, 1 : both + 1], m[:, :, :both]
        write(torch.add, a, b, c[:, 1 : both + 1].transpose(1, 2))
        write(torch.sub, b[:, 1], a[:, 1], s[:, 1 : both + 1, 0])
        write(torch.sub, a[:, 0], b[:, 0], s[:, 1 : both + 1, 1])
    # Wavenumbers without a partner of opposite sign.
    _copy_unpaired(p[:, :, :1], 1, c[:, :1], s[:, :1])
    if plus - 1 > both:
        _copy_unpaired(p[:, :, both + 1 :], 1, c[:, both + 1 :], s[:, both + 1 :])
    elif minus > both:
        _copy_unpaired(m[:, :, both:], -1, c[:, both + 1 :], s[:, both + 1 :])
    return g


def _copy_unpaired(z: Tensor, sign: int, c: Tensor, s: Tensor) -> None:
    """Write the sums of wavenumbers of one sign to ``c`` and ``s``."""
    c.copy_(z.transpose(1, 2))
    s[:, :, 0] = -sign * z[:, 1]
    s[:, :, 1] = sign * z[:, 0]
