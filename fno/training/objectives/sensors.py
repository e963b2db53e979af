"""Sensors at points of a periodic box, and the values of a solution there."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .operator import interpolate_in_time


@dataclass(frozen=True)
class Sensors:
    """Readings of fields at points of a periodic box.

    Attributes:
        positions: coordinates in units of the box, in [0, 1), shape (sensor, dimension).
        times: increasing times after the initial state, in the time unit of the equation, shape (time,).
        readings: measured values, NaN where missing, shape (field, sensor, time).
        noise: standard deviation of a reading, a number or a tensor that broadcasts to the shape of the
            readings.

    Raises:
        ValueError: shapes do not match, times do not increase, positions lie outside of the box, the noise is
            not positive, or all readings are missing.
    """

    positions: Tensor
    times: Tensor
    readings: Tensor
    noise: float | Tensor

    def __post_init__(self) -> None:
        shape = (len(self.positions), len(self.times))
        if self.positions.ndim != 2 or self.readings.ndim != 3 or self.readings.shape[1:] != shape:
            raise ValueError(
                f"readings of shape {tuple(self.readings.shape)} do not match positions of shape "
                f"{tuple(self.positions.shape)} and {len(self.times)} times"
            )
        if not ((self.positions >= 0) & (self.positions < 1)).all():
            raise ValueError(
                f"positions must be in [0, 1), got {self.positions.min()} to {self.positions.max()}"
            )
        if not (self.times.diff() > 0).all() or (self.times < 0).any():
            raise ValueError(f"times must increase from 0 or later, got {self.times.tolist()[:5]}")
        if not (torch.as_tensor(self.noise) > 0).all():
            raise ValueError(f"the noise must be positive, got {self.noise}")
        if not self.known.any():
            raise ValueError("all readings are missing")

    @property
    def known(self) -> Tensor:
        """Readings that are not missing, as a mask of shape (field, sensor, time)."""
        return torch.isfinite(self.readings)

    def observe(self, windows: Iterable[Tensor], length: float) -> Tensor:
        """Return the solution at the sensors, by polynomials in time and trigonometric ones in space.

        Args:
            windows: solution at the start and the nodes of consecutive windows, each of shape (batch, node,
                field, *grid).
            length: length of a window, in the unit of the times.

        Returns:
            Shape (batch, field, sensor, time).

        Raises:
            ValueError: the windows end before the last reading, or have another number of dimensions.
        """
        shares = self.times / length
        parts = []
        count = 0
        for w, u in enumerate(windows):
            after = shares > (w - 1e-9 if w == 0 else w + 1e-9)
            inside = after & (shares <= w + 1 + 1e-9)
            count += int(inside.sum())
            parts.append(self._at_positions(interpolate_in_time(u, (shares[inside] - w).clamp(min=0))))
        if count < len(shares):
            raise ValueError(
                f"the solution ends at {len(parts) * length:g}, before the last reading at {self.times[-1]:g}"
            )
        return torch.cat(parts, dim=1).movedim(1, -1)

    def _at_positions(self, field: Tensor) -> Tensor:
        """Return fields at the sensors, shape (batch, time, field, sensor)."""
        grid = field.shape[3:]
        if len(grid) != self.positions.shape[1]:
            raise ValueError(
                f"positions have {self.positions.shape[1]} dimensions, but the solution has {len(grid)}"
            )
        kernels = [
            periodic_kernel(x, n).to(field) for x, n in zip(self.positions.unbind(1), grid, strict=True)
        ]
        values = torch.einsum("...j,sj->...s", field, kernels[-1])
        for kernel in reversed(kernels[:-1]):
            values = torch.einsum("...js,sj->...s", values, kernel)
        return values


def periodic_kernel(positions: Tensor, points: int) -> Tensor:
    """Return the matrix of trigonometric interpolation from a periodic grid, shape (position, point):

        D(x, j) = 1/n sum_k w_k cos(2 pi k (x - j/n)),    w_0 = 1, w_k = 2, and w_{n/2} = 1 for even n

    Args:
        positions: coordinates in units of the period, shape (position,).
        points: number of grid points n.
    """
    k = torch.arange(points // 2 + 1, dtype=torch.float64)
    weights = torch.where((k == 0) | (2 * k == points), 1.0, 2.0).double()
    offset = positions.double()[:, None] - torch.arange(points, dtype=torch.float64) / points
    return torch.cos(2 * math.pi * offset[..., None] * k) @ weights / points
