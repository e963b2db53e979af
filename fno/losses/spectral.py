"""The spectral loss: errors of the amplitude and of the coherence of each scale.

A mean square error rewards smooth forecasts, since a displaced feature counts twice, where it is and where
it should be. Split by scales, the two parts of the error can be weighted such that the right amplitude is
optimal (Subich et al. 2025, "Fixing the double penalty in data-driven weather forecasting",
arXiv:2501.19374).
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..grids import Grid, LatLon, SphereGrid
from ..precision import without_autocast
from ..transforms.sht import InverseRealSHT, RealSHT
from .base import DataLoss, LossDomain
from .data import area_weighted_mse

_RATIO = 1e-10  # of a power to the larger one, squared, below which the coherence counts less
_POWER = 1e-12  # of normalised anomalies, below which a scale counts as empty


class Spectral(DataLoss):
    """The adjusted mean square error, summed over scales l (Subich et al. 2025, arXiv:2501.19374).

        sum_l (sqrt P_l - sqrt T_l)^2 + 2 max(P_l, T_l) (1 - C_l),    C_l = X_l / sqrt(P_l T_l)

    with the power P_l of the forecast, T_l of the truth and their cross spectrum X_l, averaged over the
    samples. The mean square error has the factor sqrt(P_l T_l) in place of the maximum. On a global grid l is
    the degree of spherical harmonics, and errors of scales that the transform does not resolve count by their
    mean square; on other grids l is the isotropic wavenumber of a Fourier series, with cosines along axes
    that are not periodic (Denis et al. 2002, doi:10.1175/1520-0493(2002)130<1812:SDOTDA>2.0.CO;2). Values
    outside the mask of a channel are zero.

    Args:
        domain: grid, weights and scales.
    """

    def __init__(self, domain: LossDomain) -> None:
        super().__init__(domain)
        sphere = domain.grid.sphere
        spectrum = SphereSpectrum(domain, sphere) if sphere is not None else PlaneSpectrum(domain)
        self.spectrum: Spectrum = spectrum

    def __call__(self, prediction: Tensor, target: Tensor, lead: float = 1) -> Tensor:
        """Return the loss of each channel; arguments as for ``DataLoss``."""
        loss: Tensor = without_autocast(self._adjusted, prediction, target)
        return loss * self.domain.scale.square()

    def _adjusted(self, prediction: Tensor, target: Tensor) -> Tensor:
        target = target.to(prediction.dtype)
        power, truth, cross = self.spectrum.powers(prediction, target)
        larger = torch.maximum(power, truth)
        amplitude = ((power + _POWER).sqrt() - (truth + _POWER).sqrt()).square()
        coherence = cross * (power * truth + _RATIO * larger.square() + _POWER**2).rsqrt()
        adjusted = (amplitude + 2 * larger * (1 - coherence)).sum(dim=-1).mean(dim=0)
        return adjusted + self.spectrum.unresolved(prediction - target)


class Spectrum(ABC):
    """Power by scale, normalised such that its sum is the area-weighted mean square."""

    @abstractmethod
    def powers(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the power of two fields and their cross spectrum, each of shape (batch, channel, scale).

        Args:
            first: fields, shape (batch, channel, H, W).
            second: fields, same shape.
        """

    def unresolved(self, error: Tensor) -> Tensor:
        """Return the mean square of the part of an error without a scale, shape (channel,)."""
        return error.new_zeros(error.shape[1])


class SphereSpectrum(Spectrum):
    """Power by degree of spherical harmonics, up to the largest that the quadrature integrates exactly.

    Args:
        domain: grid, weights and scales.
        sphere: quadrature of the grid.
    """

    def __init__(self, domain: LossDomain, sphere: SphereGrid) -> None:
        rows, columns = domain.grid.shape
        lmax = min(rows if sphere == "legendre-gauss" else (rows + 1) // 2, columns // 2 + 1)
        self.analyse = RealSHT(rows, columns, lmax, mmax=lmax, grid=sphere)
        self.synthesise = InverseRealSHT(rows, columns, lmax, mmax=lmax, grid=sphere)
        self.weights = domain.weights
        area = torch.from_numpy(domain.grid.area_weights.copy()).to(domain.weights)[:, None]
        self.share = domain.weights.sum(dim=(1, 2)) / (area.sum() * columns)  # of the sphere, in each mask

    def powers(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return power and cross spectrum; arguments as for ``Spectrum``."""
        mask = self.weights > 0
        a, b = (torch.view_as_real(self.analyse(torch.where(mask, x, 0.0))) for x in (first, second))
        pairs = ((a * a), (b * b), (a * b))
        p, t, x = (self._by_degree(product.sum(dim=-1)) for product in pairs)
        return p, t, x

    def unresolved(self, error: Tensor) -> Tensor:
        """Return the mean square of the part of an error beyond the last degree; as for ``Spectrum``."""
        error = torch.where(self.weights > 0, error, 0.0)
        smooth = self.synthesise(self.analyse(error))
        return area_weighted_mse(error, smooth, self.weights)

    def _by_degree(self, squares: Tensor) -> Tensor:
        """Sum over orders m and -m, shape (batch, channel, degree)."""
        total = 2 * squares.sum(dim=-1) - squares[..., 0]
        return total / (4 * math.pi * self.share[:, None])


class PlaneSpectrum(Spectrum):
    """Power by isotropic wavenumber, in bins as wide as the larger of the lowest wavenumbers of both axes.

    Distances along a parallel are those of the middle latitude.

    Args:
        domain: grid, weights and scales.
    """

    def __init__(self, domain: LossDomain) -> None:
        grid = domain.grid
        weights = domain.weights
        bases = [_basis(n, periodic) for n, periodic in zip(grid.shape, grid.periodic, strict=True)]
        self.rows, self.columns = (basis.to(weights) for basis, _ in bases)
        cycles = [k / length for (_, k), length in zip(bases, _extents(grid), strict=True)]
        width = max(float(k[k > 0].min()) for k in cycles)
        scale = torch.sqrt(cycles[0][:, None] ** 2 + cycles[1] ** 2)
        number = (scale / width).round().long().flatten()
        order = torch.argsort(number, stable=True)
        self.order = order.to(weights.device)
        self.lengths = torch.bincount(number).to(weights.device)
        self.root = (weights / weights.sum(dim=(1, 2), keepdim=True)).sqrt()

    def powers(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return power and cross spectrum; arguments as for ``Spectrum``."""
        a = self._coefficients(first)
        b = self._coefficients(second)
        p, t, x = (self._by_scale(product) for product in (a * a, b * b, a * b))
        return p, t, x

    def _coefficients(self, x: Tensor) -> Tensor:
        root = self.root.to(x.dtype)
        return self.rows.to(x.dtype) @ (x * root) @ self.columns.to(x.dtype).T

    def _by_scale(self, products: Tensor) -> Tensor:
        batch, channels = products.shape[:2]
        modes = products.reshape(batch * channels, -1).T[self.order]
        sums = torch.segment_reduce(modes, "sum", lengths=self.lengths, axis=0, unsafe=True)
        return sums.T.reshape(batch, channels, -1)


def _basis(points: int, periodic: bool) -> tuple[Tensor, Tensor]:
    """Return an orthonormal basis, shape (mode, point), and the cycles per length of each mode.

    Cosines with half periods (DCT-II), or on a periodic axis cosines and sines.
    """
    i = torch.arange(points, dtype=torch.float64)
    modes = i.clone()
    if not periodic:
        basis = torch.cos(torch.pi * modes[:, None] * (i + 0.5) / points)
        cycles = modes / 2
    else:
        cycles = torch.div(modes + 1, 2, rounding_mode="floor")
        phase = 2 * torch.pi * cycles[:, None] * i / points
        basis = torch.where((modes % 2 == 1)[:, None] | (cycles == 0)[:, None], phase.cos(), phase.sin())
    return basis / basis.norm(dim=1, keepdim=True), cycles


def _extents(grid: Grid) -> tuple[float, float]:
    """Return the length of both axes, in the same unit."""
    height, width = (n * spacing for n, spacing in zip(grid.shape, grid.spacing, strict=True))
    if isinstance(grid, LatLon):
        width *= max(0.05, math.cos(math.radians(float(grid.latitude.mean()))))
    return height, width
