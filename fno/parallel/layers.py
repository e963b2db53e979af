"""Layers on latitude bands, with the parameters of the layers that they replace.

``divide_latitudes`` changes the class of layers in place, so a model keeps its parameters and their names.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from ..layers.activation import AliasFreeGELU
from ..layers.blocks import InstanceNorm
from ..layers.local import FiniteDifference
from ..layers.modes import mode_product
from ..layers.padding import Period
from ..layers.spectral import SpectralConv
from ..layers.spherical import SphericalConv
from ..transforms.degrees import to_degrees, to_rows
from .bands import Bands
from .collectives import shares
from .fourier import from_columns, from_modes, own_columns, to_columns, to_modes


def on_columns(
    x: Tensor, function: Callable[[Tensor], Tensor], bands: Bands, *, rows: int | None = None
) -> Tensor:
    """Apply a function to whole meridians, which all-to-alls exchange for the bands and back.

    Args:
        x: band of fields, shape (batch, rows, columns, channel).
        function: maps fields with all rows of some columns to fields on as many columns.
        bands: latitude bands of ``x``.
        rows: number of rows of the result; that of ``x`` by default.
    """
    sizes = shares(x.shape[2], bands.count)
    y = function(bands.join(x, rows=1, divide=2, sizes=sizes))
    return bands.of_rows(rows or bands.rows).divide(y, rows=1, join=2, sizes=sizes)


class BandSphericalConv(SphericalConv):
    """``SphericalConv`` on latitude bands: each process has some orders m of all degrees.

    Orders are divided in pairs, so that the first of each process is even and the Legendre functions keep
    their order by parity.

    Attributes:
        bands: latitude bands of the fields.
    """

    bands: Bands

    def analyse(self, x: Tensor) -> Tensor:
        """Return the coefficients of the own orders, shape (batch, 2, l, own m, channel)."""
        f = to_columns(x.movedim(1, -1), self._sizes(), self.bands)
        return to_degrees(f.movedim(2, -1), self._key(x.shape[3], weighted=True))

    def synthesise(self, z: Tensor, size: torch.Size) -> Tensor:
        """Return the band of the fields with these coefficients, shape (batch, *size, channel)."""
        f = to_rows(z, self._key(size[1], weighted=False)).movedim(-1, 2)
        return from_columns(f, self._sizes(), size[1], bands=self.bands)

    def _sizes(self) -> list[int]:
        pairs = shares((self.lmax + 1) // 2, self.bands.count)
        stops = [min(self.lmax, 2 * sum(pairs[: i + 1])) for i in range(len(pairs))]
        return [stop - start for start, stop in zip([0, *stops], stops, strict=False)]

    def _key(self, columns: int, *, weighted: bool) -> tuple[int, ...]:
        sizes = self._sizes()
        first = sum(sizes[: self.bands.index])
        orders = range(first, first + sizes[self.bands.index])
        return self._sphere(torch.Size((self.bands.rows, columns))).key(weighted=weighted, orders=orders)


class BandSpectralConv(SpectralConv):
    """``SpectralConv`` in two dimensions on latitude bands: each process has some columns of all rows.

    Attributes:
        bands: latitude bands of the fields.
    """

    bands: Bands

    @property
    def own(self) -> slice:
        """Columns of modes that this process multiplies."""
        return own_columns(self.n_modes[-1] // 2 + 1, self.bands)

    def _convolve(self, x: Tensor) -> Tensor:
        z = self.multiply(to_modes(x.movedim(1, -1), self.n_modes, self.bands))
        if self.bias is not None:
            z = z + self._constant(self.bias.to(z.dtype))[:, :, self.own]
        size = (self.bands.rows, x.shape[3])
        return from_modes(z, self.n_modes, size, bands=self.bands).movedim(-1, 1)

    def multiply(self, z: Tensor) -> Tensor:
        """Multiply the coefficients of the own columns by their part of the weight."""
        if isinstance(self.weight, Tensor):
            return mode_product(z, self.weight[:, self.own].to(z.dtype))
        part = {
            name: tensor[:, :, self.own] if name == "weight" else tensor[:, self.own]
            for name, tensor in self.weight.named_parameters()
            if name in ("weight", "along.1")
        }
        result: Tensor = functional_call(self.weight, part, (z,))
        return result


class BandInstanceNorm(InstanceNorm):
    """``InstanceNorm`` with means over the whole grid.

    Attributes:
        bands: latitude bands of the fields.
    """

    bands: Bands

    def _normalise(self, x: Tensor) -> Tensor:
        centred = x - self.bands.mean(x)
        variance = self.bands.mean(centred.square())
        return centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias


class BandAliasFreeGELU(AliasFreeGELU):
    """``AliasFreeGELU`` on latitude bands.

    Attributes:
        bands: latitude bands of the fields.
    """

    bands: Bands

    def _activate(self, x: Tensor) -> Tensor:
        fine = self.bands.of_rows(self.points[0])
        y = from_modes(to_modes(x, self.band, self.bands), self.band, self.points, bands=fine)
        z = to_modes(functional.gelu(y), self.band, fine)
        return from_modes(z, self.band, (self.bands.rows, x.shape[2]), bands=self.bands)


class BandFiniteDifference(FiniteDifference):
    """``FiniteDifference`` in two dimensions on latitude bands.

    Differences along the longitudes are taken on the bands, those along the latitudes on whole meridians.

    Attributes:
        bands: latitude bands of the fields, including margins.
    """

    bands: Bands

    def _combine(self, x: Tensor, size: Sequence[int] | None) -> Tensor:
        latitude, longitude = (p if size is not None and isinstance(p, Period) else None for p in self.axes)
        rows, columns = size or (0, 0)
        x = x.movedim(1, -1)
        if longitude is not None:
            x = longitude.restrict(x, 2, columns)
        channels = x.shape[-1]

        def combine(both: Tensor) -> Tensor:
            """Add the differences along whole meridians to those along the longitudes."""
            if latitude is not None:
                both = latitude.restrict(both, 1, rows)
            y = self.along(both[..., :channels], 0, both[..., channels:])
            return y if latitude is None else latitude.extend(y, 1)

        y = on_columns(torch.cat([x, self.along(x, 1)], dim=-1), combine, self.bands)
        if longitude is not None:
            y = longitude.extend(y, 2)
        return y.movedim(-1, 1)
