"""Local branch of a spherical layer: differences over a fixed distance, with learned channel mixing."""

from functools import lru_cache
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import InputError
from ..grids import SphereGrid
from ..precision import full_precision
from ..quadrature import colatitudes
from ..transforms.dft import static
from ..transforms.fourier import analyse, synthesise
from ..transforms.tables import table, table_builder

_GRIDS = get_args(SphereGrid)
_BLOCK = 128  # rows whose meridional differences are one matrix product
SMALLEST_REFERENCE = 4


class SphericalDifference(nn.Module):
    """Learned combination of first and second differences towards east and south.

        y = sum_d A_d (u(+d) - u(-d)) / 2 + B_d (u(+d) - 2 u + u(-d)),    u = P x

    for d = east, south, with a matrix P to fewer channels, between points at the distance h = pi /
    ``reference`` on the unit sphere: along the parallel, where the chord is that of h (opposite points of
    parallels shorter than that), and along the meridian, which continues over the poles. A convolution by
    degrees is isotropic up to a turn of phase, so it cannot form the northward gradient that advection needs;
    these differences, the directional part of the local kernels of Liu-Schiaffini et al. 2024
    (arXiv:2402.16845), can.

    The distance is the same on every grid. Values between the points of a row are those of its trigonometric
    interpolation, and those between rows of cubic interpolation; on evenly spaced grids of ``reference`` rows
    without poles, all values along meridians are those of points.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        reference: number of latitudes whose spacing is h, usually those of the training grid.
        channels: channels of u; a quarter of ``in_channels`` by default.
        grid: kind of grid, see ``fno.grids.sphere_nodes``.

    Raises:
        ValueError: a reference below four rows.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        reference: int,
        channels: int | None = None,
        grid: SphereGrid = "equiangular",
    ) -> None:
        super().__init__()
        if reference < SMALLEST_REFERENCE:
            raise ValueError(f"reference must be at least {SMALLEST_REFERENCE} rows, got {reference}")
        self.reference = reference
        self.grid = grid
        width = channels or max(1, in_channels // 4)
        self.projection = nn.Parameter(in_channels**-0.5 * torch.randn(in_channels, width))
        self.matrices = nn.Parameter(0.1 / (4 * width) ** 0.5 * torch.randn(4, width, out_channels))

    def extra_repr(self) -> str:
        """Return channels, reference and grid."""
        inward, width = self.projection.shape
        sizes = f"{inward}, {self.matrices.shape[-1]}, channels={width}"
        return f"{sizes}, reference={self.reference}, grid={self.grid}"

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``x``, shape (batch, in_channels, latitude, longitude), in at least float32.

        Raises:
            InputError: ``x`` is complex, or has another rank or number of channels.
        """
        channels = len(self.projection)
        if x.ndim != 4 or x.shape[1] != channels:
            raise InputError(
                f"expected a tensor of shape (batch, {channels}, latitude, longitude), got {tuple(x.shape)}"
            )
        return full_precision(self._combine, x, self.matrices)

    def _combine(self, x: Tensor) -> Tensor:
        narrow = torch.matmul(x.movedim(1, -1), self.projection.to(x.dtype))
        differences = torch.cat(self.differences(narrow), dim=-1)
        y: Tensor = torch.matmul(differences, self.matrices.flatten(0, 1).to(x.dtype))
        return y.movedim(-1, 1)

    def differences(self, x: Tensor) -> list[Tensor]:
        """Return first and second differences to the east, then to the south.

        Args:
            x: fields, shape (batch, latitude, longitude, channel).
        """
        rows, columns = static(x.shape[1:3])
        batch, channels = len(x), x.shape[-1]
        modes = (range(columns // 2 + 1),)
        z = analyse(x.flatten(0, 1), modes).unflatten(0, (batch, rows))
        sine, cosine = table("zonal_difference", [rows, columns, *self._key], x)
        turned = torch.stack([-z[:, :, 1], z[:, :, 0]], dim=2)
        east = torch.cat([turned * sine[:, None, :, None], z * cosine[:, None, :, None]], dim=-1)
        first, second = self._rows(east, modes, columns).split(channels, dim=-1)
        matrices = table("meridional_difference", [rows, *self._key], x)
        margin = (matrices.shape[-1] - rows) // 2
        skip = int(self.grid == "equiangular")  # the row of a pole is its own mirror image
        beyond = [z[:, skip : skip + margin], z[:, rows - skip - margin : rows - skip]]
        outer = torch.cat([part.flip(1) for part in beyond], dim=1)
        sign = 1 - 2 * (torch.arange(len(modes[0]), device=x.device) % 2).to(z.dtype)
        north, south = self._rows(outer * sign[:, None], modes, columns).split(margin, dim=1)
        extended = torch.cat([north, x, south], dim=1)
        return [first, second, *self._meridional(extended, matrices)]

    def _rows(self, z: Tensor, modes: tuple[range, ...], columns: int) -> Tensor:
        """Return the rows with these coefficients, shape (batch, row, longitude, channel)."""
        x: Tensor = synthesise(z.flatten(0, 1), modes, (columns,)).unflatten(0, z.shape[:2])
        return x

    def _meridional(self, extended: Tensor, matrices: Tensor) -> list[Tensor]:
        rows = matrices.shape[1]
        span = matrices.shape[2] - rows
        parts = []
        for start in range(0, rows, _BLOCK):
            stop = min(start + _BLOCK, rows)
            part = extended[:, start : stop + span].flatten(2)
            weights = matrices[:, start:stop, start : stop + span].flatten(0, 1)
            parts.append(torch.matmul(weights, part).unflatten(1, (2, stop - start)))
        joined = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
        return [joined[:, i].unflatten(-1, extended.shape[2:]) for i in (0, 1)]

    @property
    def _key(self) -> tuple[int, int]:
        return _GRIDS.index(self.grid), self.reference


@lru_cache(maxsize=64)
def margin_rows(nlat: int, grid_number: int, reference: int) -> int:
    """Return the number of rows beyond each pole, and on each side of a row, that differences reach.

    Args:
        nlat: number of latitudes.
        grid_number: position of the grid among the values of ``SphereGrid``.
        reference: number of latitudes whose spacing is the distance.
    """
    smallest = float(np.diff(colatitudes(nlat, _GRIDS[grid_number])).min())
    return min(int(np.ceil(np.pi / reference / smallest - 1e-9)) + 2, nlat - 1)


@table_builder
def zonal_difference(nlat: int, nlon: int, grid_number: int, reference: int) -> NDArray[np.float64]:
    """Return the factors of wavenumbers, of ``i`` and of 1, shape (2, nlat, nlon // 2 + 1).

    Args:
        nlat: number of latitudes.
        nlon: number of longitudes.
        grid_number: position of the grid among the values of ``SphereGrid``.
        reference: number of latitudes whose spacing is the distance.
    """
    half_chord = np.sin(np.pi / reference / 2)
    radius = np.sin(colatitudes(nlat, _GRIDS[grid_number]))
    angle = 2 * np.arcsin(np.minimum(1, half_chord / np.maximum(radius, 1e-12)))
    phase = angle[:, None] * np.arange(nlon // 2 + 1)
    return np.stack([np.sin(phase), 2 * np.cos(phase) - 2])


@table_builder
def meridional_difference(nlat: int, grid_number: int, reference: int) -> NDArray[np.float64]:
    """Return the first and second differences along meridians that continue over the poles.

    Args:
        nlat: number of latitudes.
        grid_number: position of the grid among the values of ``SphereGrid``.
        reference: number of latitudes whose spacing is the distance.

    Returns:
        Weights of the rows, with ``margin_rows`` more at each end, shape (2, nlat, nlat + 2 margin).
    """
    theta = colatitudes(nlat, _GRIDS[grid_number])
    margin = margin_rows(nlat, grid_number, reference)
    skip = int(theta[0] == 0)
    north = -theta[skip : skip + margin][::-1]
    south = 2 * np.pi - theta[nlat - skip - margin : nlat - skip][::-1]
    nodes = np.concatenate([north, theta, south])
    matrices = np.zeros((2, nlat, len(nodes)))
    for i in range(nlat):
        for sign in (-1, 1):
            target = theta[i] + sign * np.pi / reference
            first = int(np.clip(np.searchsorted(nodes, target) - 2, 0, len(nodes) - 4))
            near = nodes[first : first + 4]
            for j in range(4):
                others = np.delete(near, j)
                weight = np.prod((target - others) / (near[j] - others))
                matrices[:, i, first + j] += [0.5 * sign * weight, weight]
        matrices[1, i, margin + i] -= 2
    return matrices
