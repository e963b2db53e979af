"""Evaluate the residuals of atmospheric balances in an operational forecast; writes results/atmosphere.json.

    python benchmarks/atmosphere.py icon_global_2022-04-01_1deg_12h.nc

The file contains wind u and v, temperature t, humidity q and geopotential height gh on pressure levels, and
mean sea level pressure msl, which replaces the surface pressure. Derivatives are truncated to spherical
harmonics of degree below 60. Numbers are root mean squares over the sphere and all times.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from fourcaster.fno.physics import atmosphere as air
from fourcaster.fno.physics.sphere import Sphere

RESULT = Path(__file__).parent / "results" / "atmosphere.json"


def main() -> None:
    """Evaluate the balances, and print and write the residuals."""
    with xr.open_dataset(sys.argv[1]) as data:
        fields = {
            name: torch.tensor(data[name].values.astype(np.float64))
            for name in ("u", "v", "t", "q", "gh", "msl")
        }
        pressure = torch.tensor(100.0 * data["level"].values.astype(np.float64))
        seconds = float(data["time"].diff("time").values[0] / np.timedelta64(1, "s"))
        shape = data.sizes["latitude"], data.sizes["longitude"]
    u, v, t, q, height, surface_pressure = fields.values()
    sphere = Sphere(*shape, "equiangular", 60)
    virtual = air.virtual_temperature(t, q)
    days = seconds * (len(u) - 1) / 86400

    def root_mean_square(x: Tensor, mask: Tensor | float = 1.0) -> float:
        share = sphere.mean(torch.ones_like(x) * mask)
        return float((sphere.mean(x.square() * mask) / share).mean().sqrt())

    extratropics = (sphere.latitude(u).abs() >= np.deg2rad(20)).double()
    east, north = air.thermal_wind(u, v, virtual, pressure=pressure, sphere=sphere)
    column = air.column_continuity(u, v, surface_pressure, pressure=pressure, seconds=seconds, sphere=sphere)
    mass = air.dry_mass(surface_pressure, q, pressure=pressure, sphere=sphere)
    energy = air.energy(
        t, u, v, humidity=q, surface_pressure=surface_pressure, pressure=pressure, sphere=sphere
    )
    tendency = (surface_pressure[2:] - surface_pressure[:-2]) / (2 * seconds)
    rows = [
        (
            "hydrostatic thickness",
            "m",
            root_mean_square(air.hydrostatic(air.GRAVITY * height, t, pressure, humidity=q)),
            root_mean_square(torch.diff(height, dim=-3)),
            "thickness",
        ),
        (
            "the same without moisture",
            "m",
            root_mean_square(air.hydrostatic(air.GRAVITY * height, t, pressure)),
            root_mean_square(torch.diff(height, dim=-3)),
            "thickness",
        ),
        (
            "thermal wind, eastward, beyond 20 degrees",
            "m/s",
            root_mean_square(east, extratropics),
            root_mean_square(torch.diff(u, dim=-3), extratropics),
            "shear",
        ),
        (
            "thermal wind, northward, beyond 20 degrees",
            "m/s",
            root_mean_square(north, extratropics),
            root_mean_square(torch.diff(v, dim=-3), extratropics),
            "shear",
        ),
        (
            "continuity of the column",
            "hPa/day",
            864 * root_mean_square(column),
            864 * root_mean_square(tendency),
            "change of pressure",
        ),
        ("dry mass, drift", "Pa/day", float(mass[-1] - mass[0]) / days, float(mass.mean()), "dry mass [Pa]"),
        (
            "energy, net heating",
            "W/m2",
            float(energy[-1] - energy[0]) / (86400 * days),
            float(energy.mean()),
            "energy [J/m2]",
        ),
    ]
    for name, units, residual, scale, quantity in rows:
        print(f"{name:44s} {residual:10.3g} {units:8s} of {scale:.3g} ({quantity})")
    keys = ("balance", "units", "residual", "scale", "quantity")
    RESULT.write_text(
        json.dumps(
            {"file": Path(sys.argv[1]).name, "rows": [dict(zip(keys, row, strict=True)) for row in rows]},
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
