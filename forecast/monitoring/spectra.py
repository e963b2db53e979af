"""Power spectra of fields, drawn for a forecast and the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ...fno.grids import Grid
from ...fno.losses.base import LossDomain
from ...fno.losses.spectral import PlaneSpectrum, SphereSpectrum

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_ROWS = 512  # above which tables of spherical harmonics take too much memory


@dataclass(frozen=True)
class PowerSpectrum:
    """Power by scale.

    Attributes:
        label: what the scale is, such as ``degree``.
        power: power of each scale from 0, in squared units of the field, shape (field, scale). Its sum is the
            area-weighted mean square, as far as the scales are resolved.
    """

    label: str
    power: NDArray[np.float64]


def power_spectrum(fields: NDArray[np.floating], grid: Grid) -> PowerSpectrum:
    """Return the power of fields by scale.

    On a global grid scales are degrees l of spherical harmonics, with the power sum_m |a_lm|^2 / 4 pi; on
    large global grids and on others that are periodic in x alone, wavenumbers along the rows, averaged over
    the rows; on other grids, isotropic wavenumbers of a Fourier or cosine series.

    Args:
        fields: fields, shape (field, H, W); missing values count as the mean of the others.
        grid: their grid.
    """
    count = len(fields)
    missing = ~np.isfinite(fields)
    means = np.nanmean(np.where(missing.all(axis=(1, 2), keepdims=True), 0, fields), axis=(1, 2))
    values = torch.from_numpy(np.where(missing, means[:, None, None], fields).astype(np.float64))
    area = torch.from_numpy(np.array(grid.area_weights, dtype=np.float64))[:, None]
    if (grid.sphere is None or len(area) > _MOST_ROWS) and grid.periodic[1] and not grid.periodic[0]:
        return PowerSpectrum("zonal wavenumber", _zonal(values, area).numpy())
    weights = area.expand(count, *grid.shape)
    domain = LossDomain(grid, weights, torch.ones(count, dtype=torch.float64))
    if grid.sphere is not None and len(area) <= _MOST_ROWS:
        power = SphereSpectrum(domain, grid.sphere).powers(values[None], values[None])[0]
        return PowerSpectrum("degree", power[0].numpy())
    power = PlaneSpectrum(domain).powers(values[None], values[None])[0]
    return PowerSpectrum("isotropic wavenumber, in multiples of the lowest", power[0].numpy())


def _zonal(values: torch.Tensor, area: torch.Tensor) -> torch.Tensor:
    """Return the power by wavenumber along the rows, averaged over the rows by area."""
    columns = values.shape[-1]
    squares = torch.fft.rfft(values, dim=-1).abs().square() / columns**2
    squares[..., 1 : (columns + 1) // 2] *= 2  # negative wavenumbers
    power: torch.Tensor = (squares * area / area.sum()).sum(dim=1)
    return power


def draw_spectra(
    forecast: NDArray[np.floating],
    truth: NDArray[np.floating],
    names: Sequence[str],
    *,
    grid: Grid,
    title: str = "",
) -> "Figure":
    """Return a figure of the power spectra of forecast and truth, a panel for each field.

    Args:
        forecast: fields, shape (field, H, W).
        truth: fields, same shape.
        names: name of each field with its units.
        grid: their grid.
        title: title of the figure.
    """
    from matplotlib.figure import Figure

    spectra = {"truth": power_spectrum(truth, grid), "forecast": power_spectrum(forecast, grid)}
    styles = {"truth": "k-", "forecast": "C0-"}
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(max(5.0, 4.2 * columns), 3.4 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for number, (panel, name) in enumerate(zip(panels.flat, names, strict=False)):
        for label, spectrum in spectra.items():
            power = spectrum.power[number, 1:]
            scales = np.arange(1, len(power) + 1)
            visible = power > 0
            panel.plot(scales[visible], power[visible], styles[label], label=label)
        panel.set(title=name, xscale="log", yscale="log")
        panel.set_xlabel(spectra["truth"].label)
        panel.set_ylabel("power")
        panel.grid(alpha=0.3, which="both")
    for panel in panels.flat[len(names) :]:
        panel.remove()
    panels[0, 0].legend(fontsize="small")
    figure.suptitle(title)
    return figure
