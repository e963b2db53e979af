"""Heat sinks in cross-section: a plate with fins that is heated from below and cooled by air.

    -div(k grad T) = 0    in the metal
    k dT/dn = q           below
    -k dT/dn = h T        between metal and air
    dT/dn = 0             at the sides

T is the temperature excess over the air [K]. Finite volumes on square cells, solved directly: the heat flux
per metre of depth is ``k (T1 - T2)`` between the centres of two metal cells, and
``T dx / (1 / h + dx / (2 k))`` from a centre to the air.
"""

from typing import ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import model_validator
from scipy.sparse import coo_array
from scipy.sparse.linalg import spsolve

from .system import Array, Count, Positive, System

# Cells per side of the lattice on which shapes are drawn; every multiple of it resolves them exactly.
LATTICE = 32


class HeatSink(System):
    """A plate with fins of random number, heights and widths, and a random heat transfer to the air.

    Attributes:
        resolution: cells along each side, a multiple of 32.
        side: side of the square that contains the heat sink [m].
        conductivity: thermal conductivity k of the metal [W/(m K)].
        flux: heat flux q from below [W/m^2].
        transfer_low: smallest heat transfer coefficient h [W/(m^2 K)]; h is drawn log-uniformly.
        transfer_high: largest heat transfer coefficient [W/(m^2 K)].
        fewest_fins: smallest number of fins.
        most_fins: largest number of fins.
        refine: solver cells per stored cell along each side; stored values are means over solver cells.
    """

    resolution: Count = 32
    side: Positive = 0.04
    conductivity: Positive = 200.0
    flux: Positive = 2e4
    transfer_low: Positive = 50.0
    transfer_high: Positive = 500.0
    fewest_fins: Count = 2
    most_fins: Count = 5
    refine: Count = 4

    coefficients: ClassVar[tuple[str, ...]] = ("conductivity", "flux", "transfer")
    input_variables: ClassVar[tuple[str, ...]] = ("metal", "transfer")
    sampled_ranges: ClassVar[tuple[tuple[str, str], ...]] = (
        ("transfer_low", "transfer_high"),
        ("fewest_fins", "most_fins"),
    )

    @model_validator(mode="after")
    def _fits(self) -> "HeatSink":
        if self.resolution % LATTICE:
            raise ValueError(f"resolution must be a multiple of {LATTICE}, got {self.resolution}")
        if self.most_fins < self.fewest_fins or self.most_fins > LATTICE // 4:
            raise ValueError(
                f"fewest_fins <= most_fins <= {LATTICE // 4} must hold, "
                f"got {self.fewest_fins} and {self.most_fins}"
            )
        if self.transfer_high < self.transfer_low:
            raise ValueError(
                f"transfer_high must not be less than transfer_low={self.transfer_low:g}, "
                f"got {self.transfer_high:g}"
            )
        return self

    def template(self) -> xr.Dataset:
        """Return the coordinates y (upward) and x of cell centres, shape, heat transfer and temperature."""
        n = self.resolution
        axis = self.side / n * (np.arange(n, dtype=np.float64) + 0.5)
        attrs = {"units": "m", "periodic": "false", "length": self.side}
        field = np.broadcast_to(np.zeros(()), (n, n))
        return xr.Dataset(
            {
                "metal": (("y", "x"), field, {"long_name": "whether there is metal", "units": "1"}),
                "transfer": (
                    (),
                    np.zeros(()),
                    {"long_name": "heat transfer coefficient", "units": "W m**-2 K**-1"},
                ),
                "temperature": (
                    ("y", "x"),
                    field,
                    {"long_name": "temperature above that of the air, in metal", "units": "K"},
                ),
            },
            {d: (d, axis, {"long_name": d, **attrs}) for d in ("y", "x")},
        )

    def draw(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Return whether each cell of the lattice is metal, shape (y, x)."""
        metal = np.zeros((LATTICE, LATTICE), dtype=bool)
        plate = int(rng.integers(2, 7))
        metal[:plate] = True
        count = int(rng.integers(self.fewest_fins, self.most_fins + 1))
        edges = np.linspace(0, LATTICE, count + 1).round().astype(int)
        for left, right in zip(edges[:-1], edges[1:], strict=True):
            width = int(rng.integers(1, max(2, (right - left) // 2 + 1)))
            start = int(rng.integers(left, right - width + 1))
            metal[: int(rng.integers(plate + 4, LATTICE + 1)), start : start + width] = True
        return metal

    def solve(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return shape, heat transfer and temperature, which is NaN in the air."""
        metal = self.draw(rng)
        transfer = float(np.exp(rng.uniform(np.log(self.transfer_low), np.log(self.transfer_high))))
        fine = np.kron(metal, np.ones((self.resolution * self.refine // LATTICE,) * 2, dtype=bool))
        t = steady_temperature(
            fine, self.side / len(fine), conductivity=self.conductivity, transfer=transfer, flux=self.flux
        )
        n = self.resolution
        coarse = t.reshape(n, self.refine, n, self.refine).mean(axis=(1, 3))
        return {
            "metal": np.isfinite(coarse).astype(np.float64),
            "transfer": np.asarray(transfer),
            "temperature": coarse,
        }


def steady_temperature(
    metal: NDArray[np.bool_], dx: float, *, conductivity: float, transfer: float, flux: float
) -> Array:
    """Return the temperature excess over the air [K], NaN in the air, shape (y, x).

    Args:
        metal: whether each cell is metal; the lowest row must be metal, and all metal connected to it.
        dx: side of a cell [m].
        conductivity: thermal conductivity k [W/(m K)].
        transfer: heat transfer coefficient h [W/(m^2 K)].
        flux: heat flux q from below [W/m^2].
    """
    index = np.full(metal.shape, -1)
    index[metal] = np.arange(metal.sum())
    rows = []
    columns = []
    values = []
    diagonal = np.zeros(metal.sum())
    right = np.zeros(metal.sum())
    outwards = dx / (1 / transfer + dx / (2 * conductivity))
    padded = np.pad(index, ((0, 1), (0, 0)), constant_values=-1)  # air above, but not below or at the sides
    for first, second in ((padded[:-1], padded[1:]), (index[:, :-1], index[:, 1:])):
        both = (first >= 0) & (second >= 0)
        a = first[both]
        b = second[both]
        rows += [a, b]
        columns += [b, a]
        values += [np.full(len(a), -conductivity)] * 2
        np.add.at(diagonal, np.concatenate([a, b]), conductivity)
        for inside, outside in ((first, second), (second, first)):
            np.add.at(diagonal, inside[(inside >= 0) & (outside < 0)], outwards)
    right[index[0]] = flux * dx
    every = np.arange(len(diagonal))
    entries = (
        np.concatenate([*values, diagonal]),
        (np.concatenate([*rows, every]), np.concatenate([*columns, every])),
    )
    t = np.full(metal.shape, np.nan)
    t[metal] = spsolve(coo_array(entries).tocsc(), right)
    return t
