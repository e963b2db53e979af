"""Truncated Fourier transforms of fields in latitude bands.

Each process transforms its rows along the longitudes and keeps the retained columns m. An all-to-all divides
these among the processes and joins the rows, which are then transformed along the latitudes; the inverse goes
back in the opposite order. The coefficients are those of ``fno.transforms.fourier``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..precision import at_least_single
from ..transforms.fourier import analyse, kept_modes, synthesise
from .bands import Bands
from .collectives import shares


def own_columns(columns: int, bands: Bands) -> slice:
    """Return the columns of coefficients that this process has.

    Args:
        columns: number of retained columns.
        bands: latitude bands of the field.
    """
    sizes = shares(columns, bands.count)
    start = sum(sizes[: bands.index])
    return slice(start, start + sizes[bands.index])


def to_modes(x: Tensor, n_modes: Sequence[int], bands: Bands) -> Tensor:
    """Return this process's columns of the retained Fourier coefficients of a real field.

    Args:
        x: band of the field, shape (batch, rows, longitude, channel).
        n_modes: modes along both dimensions, counted as in neuraloperator.
        bands: latitude bands of the field.

    Returns:
        Coefficients, shape (batch, 2, K_1, own columns, channel).

    Raises:
        ModesError: the grid cannot resolve the modes.
        InputError: another number of rows than that of the band.
    """
    latitudes, longitudes = kept_modes(n_modes, (bands.rows, x.shape[2]))
    f = to_columns(at_least_single(x), shares(len(longitudes), bands.count), bands)
    z = torch.complex(f[:, :, 0], f[:, :, 1])
    if z.numel():  # FFT libraries reject tensors without elements, of a process without columns
        z = torch.fft.fft(z, dim=1, norm="forward")
    first = -latitudes.start
    z = torch.cat([z.narrow(1, bands.rows - first, first), z.narrow(1, 0, latitudes.stop)], dim=1)
    return torch.stack([z.real, z.imag], dim=1)


def from_modes(z: Tensor, n_modes: Sequence[int], size: Sequence[int], *, bands: Bands) -> Tensor:
    """Return the band of the real field with these Fourier coefficients: the inverse of ``to_modes``.

    Args:
        z: coefficients, shape (batch, 2, K_1, own columns, channel).
        n_modes: as for ``to_modes``.
        size: rows and columns of the whole grid; the rows can be others than those of the bands.
        bands: latitude bands of a field.

    Raises:
        ModesError: the grid cannot resolve the modes.
    """
    rows, columns = size
    latitudes, longitudes = kept_modes(n_modes, (rows, columns))
    y = torch.complex(z[:, 0], z[:, 1])
    first = -latitudes.start
    gap = y.new_zeros(y.shape[0], rows - len(latitudes), *y.shape[2:])
    y = torch.cat([y.narrow(1, first, latitudes.stop), gap, y.narrow(1, 0, first)], dim=1)
    if y.numel():
        y = torch.fft.ifft(y, dim=1, norm="forward")
    f = torch.stack([y.real, y.imag], dim=2)
    return from_columns(f, shares(len(longitudes), bands.count), columns, bands=bands.of_rows(rows))


def to_columns(x: Tensor, sizes: Sequence[int], bands: Bands) -> Tensor:
    """Transform along the longitudes, and exchange the first coefficients for all rows of a part of them.

    Args:
        x: band of a field, shape (batch, rows, longitude, channel).
        sizes: number of coefficients that each process receives.
        bands: latitude bands of the field.

    Returns:
        Coefficients of all rows as real pairs, shape (batch, all rows, 2, own columns, channel).
    """
    bands.check(x, 1)
    f = analyse(x.flatten(0, 1), (range(sum(sizes)),)).unflatten(0, x.shape[:2])
    return bands.join(f, rows=1, divide=3, sizes=sizes)


def from_columns(f: Tensor, sizes: Sequence[int], longitudes: int, *, bands: Bands) -> Tensor:
    """Return the band of a field from the coefficients of all rows: the inverse of ``to_columns``.

    Args:
        f: coefficients, shape (batch, all rows, 2, own columns, channel).
        sizes: number of coefficients that each process has.
        longitudes: number of longitudes.
        bands: latitude bands of the field.

    Returns:
        Shape (batch, rows, longitude, channel).
    """
    band = bands.divide(f, rows=1, join=3, sizes=sizes)
    x = synthesise(band.flatten(0, 1), (range(sum(sizes)),), (longitudes,))
    field: Tensor = x.unflatten(0, band.shape[:2])
    return field
