"""Truncated real Fourier transforms in two dimensions, by FFT or by matrix product, behind one interface.

For a real field ``x`` of shape (batch, H, W, channel) both methods return the same kept coefficients

    X[k, l] = 1/(H W) sum_{i,j} x[i, j] exp(-2 pi sqrt(-1) (k i / H + l j / W)),

with ``k`` in [-(n // 2), (n - 1) // 2] for ``n`` modes along the rows and ``l`` in [0, n // 2] along the columns, the
count that neuraloperator uses. The factor 1/(H W) (``norm="forward"``) makes a coefficient independent of resolution.
Complex numbers are kept as real pairs, shape (batch, 2, K, L, channel).

A matrix product that computes only the kept modes beats an FFT that computes all of them while few are kept;
``choose_method`` draws the line.
"""

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

Method = Literal["auto", "dft", "fft"]

# Share of kept modes along W, kept / W, above which the FFT is the faster of the two (a rule of thumb for CPUs).
_CROSSOVER = ((64, 0.27), (128, 0.14), (256, 0.07), (512, 0.05))


def kept_modes(n_modes: tuple[int, int], size: tuple[int, int]) -> tuple[range, range]:
    """Return the wave numbers kept along rows and columns.

    Args:
        n_modes: modes asked for along (H, W); a real field needs only ``n // 2 + 1`` of them along W.
        size: grid points (H, W). Modes that the grid cannot hold are left out.

    Raises:
        ValueError: a count is below one.
    """
    if min(*n_modes, *size) < 1:
        raise ValueError(f"n_modes {tuple(n_modes)} and grid {tuple(size)} must be at least 1 along each dimension")
    rows = min(n_modes[0], size[0])
    columns = min(n_modes[1] // 2, size[1] // 2) + 1
    return range(-(rows // 2), rows - rows // 2), range(columns)


def choose_method(n_modes: tuple[int, int], size: tuple[int, int]) -> Literal["dft", "fft"]:
    """Return the method expected to be faster on this grid."""
    share = len(kept_modes(n_modes, size)[1]) / size[1]
    limit = next((limit for width, limit in _CROSSOVER if size[1] <= width), 0.02)
    return "dft" if share <= limit else "fft"


@lru_cache(maxsize=64)
def _matrices(n_modes: tuple[int, int], size: tuple[int, int], inverse: bool, device: str) -> tuple[Tensor, Tensor]:
    """Real matrices of the truncated transform along W and along H.

    Forward: W matrix (2 L, W), H matrix (2 K, 2 H) on the pairs that the first product leaves, so that neither
    product needs a copy. Inverse: W matrix (W, 2 L), H matrix (2 H, 2 K).
    """
    (h, w), (rows, columns) = size, kept_modes(n_modes, size)

    def angle(modes: range, n: int) -> Tensor:
        return 2 * torch.pi * (torch.outer(torch.tensor(list(modes)), torch.arange(n)) % n).to(torch.float64) / n

    a, b = angle(columns, w), angle(rows, h)
    if inverse:
        # A real field holds each column mode twice (l and -l), except l = 0 and the Nyquist mode.
        twice = torch.tensor([1.0 if l == 0 or 2 * l == w else 2.0 for l in columns], dtype=torch.float64)[:, None]
        along_w = torch.cat([twice * a.cos(), -twice * a.sin()]).T
        c, s = b.cos().T, b.sin().T
        along_h = torch.stack([torch.cat([c, -s], 1), torch.cat([s, c], 1)], 1).reshape(2 * h, -1)
    else:
        along_w = torch.cat([a.cos(), -a.sin()]) / w
        c, s = b.cos() / h, b.sin() / h
        along_h = torch.cat([torch.stack([c, s], -1), torch.stack([-s, c], -1)]).reshape(2 * len(rows), 2 * h)
    return (along_w.to(torch.float32).contiguous().to(device), along_h.to(torch.float32).contiguous().to(device))


def to_modes(x: Tensor, n_modes: tuple[int, int], method: Method = "auto") -> Tensor:
    """Return the kept Fourier coefficients of a real field.

    Args:
        x: field, shape (batch, H, W, channel). Half precision is transformed in float32; float64 stays.
        n_modes: modes along (H, W), counted as in neuraloperator.
        method: ``dft``, ``fft``, or ``auto`` for the faster.

    Returns:
        Coefficients, shape (batch, 2, K, L, channel), real part first.

    Raises:
        ValueError: unknown method.
    """
    batch, h, w, channels = x.shape
    x = x if x.dtype == torch.float64 else x.float()
    rows, columns = kept_modes(n_modes, (h, w))
    if _resolve(method, n_modes, (h, w), x) == "dft":
        along_w, along_h = _matrices(tuple(n_modes), (h, w), False, str(x.device))
        z = torch.matmul(along_w, x.reshape(batch * h, w, channels))
        z = torch.matmul(along_h, z.reshape(batch, 2 * h, len(columns) * channels))
        return z.reshape(batch, 2, len(rows), len(columns), channels)
    z = torch.fft.fft(torch.fft.rfft(x, dim=2, norm="forward")[:, :, : len(columns)], dim=1, norm="forward")
    z = z[:, torch.tensor([k % h for k in rows], device=x.device)]
    return torch.stack([z.real, z.imag], dim=1)


def from_modes(z: Tensor, n_modes: tuple[int, int], size: tuple[int, int], method: Method = "auto") -> Tensor:
    """Return the real field that has the given coefficients: the inverse of ``to_modes`` on the kept modes.

    Args:
        z: coefficients, shape (batch, 2, K, L, channel).
        n_modes: as given to ``to_modes``.
        size: grid points (H, W) of the field to make; its modes must be those that ``z`` holds.
        method: ``dft``, ``fft``, or ``auto`` for the faster.

    Returns:
        Field, shape (batch, H, W, channel).

    Raises:
        ValueError: ``z`` holds other modes than this grid keeps, or the method is unknown.
    """
    batch, _, k, l, channels = z.shape
    (h, w), (rows, columns) = size, kept_modes(n_modes, size)
    if (k, l) != (len(rows), len(columns)):
        raise ValueError(f"coefficients hold {(k, l)} modes, but {n_modes} modes on a {size} grid are {(len(rows), len(columns))}")
    if _resolve(method, n_modes, size, z) == "dft":
        along_w, along_h = _matrices(tuple(n_modes), size, True, str(z.device))
        y = torch.matmul(along_h, z.reshape(batch, 2 * k, l * channels))
        return torch.matmul(along_w, y.reshape(batch * h, 2 * l, channels)).reshape(batch, h, w, channels)
    full = torch.zeros(batch, h, l, channels, dtype=torch.promote_types(z.dtype, torch.complex64), device=z.device)
    index = torch.tensor([m % h for m in rows], device=z.device)
    full = full.index_copy(1, index, torch.complex(z[:, 0], z[:, 1]))
    field: Tensor = torch.fft.irfft(torch.fft.ifft(full, dim=1, norm="forward"), n=w, dim=2, norm="forward")
    return field


def _resolve(method: Method, n_modes: tuple[int, int], size: tuple[int, int], x: Tensor) -> Literal["dft", "fft"]:
    if method not in ("auto", "dft", "fft"):
        raise ValueError(f"unknown transform method {method!r}; use 'auto', 'dft' or 'fft'")
    if x.dtype == torch.float64:  # the matrices are float32
        return "fft"
    return choose_method(n_modes, size) if method == "auto" else method
