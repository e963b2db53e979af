"""Readable data sets with invalid or unusual times, coordinates, names, attributes and values."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from .cases import Case, change, kind
from .corpus_stores import readers


def alterations() -> dict[str, Callable[[xr.Dataset], xr.Dataset]]:
    """Return functions that alter a data set of forecasts or states, by label."""
    nat = np.datetime64("NaT")

    def times(dataset: xr.Dataset, change: Any) -> xr.Dataset:
        values = dataset["time"].values.copy()
        return dataset.assign_coords(time=change(values))

    def renamed(name: str) -> Callable[[xr.Dataset], xr.Dataset]:
        return lambda d: d.rename({"t2m": name})

    def attribute(name: str, value: Any) -> Callable[[xr.Dataset], xr.Dataset]:
        def apply(dataset: xr.Dataset) -> xr.Dataset:
            dataset["t2m"].attrs[name] = value
            dataset.attrs[name] = value
            return dataset

        return apply

    changes: dict[str, Callable[[xr.Dataset], xr.Dataset]] = {
        f"called {name!r}": renamed(name)
        for name in (
            "statistics",
            "climatology",
            "time_",
            "valid_time",
            "..",
            "a b",
            "\u202ered",
            "é",
            "number",
            "level",
            "x" * 200,
        )
    }
    for name in (
        "units",
        "standard_name",
        "long_name",
        "source",
        "system",
        "parameters",
        "outside_training_range",
        "clipped",
        "gaps",
        "scalars",
        "cell_methods",
    ):
        for value in (
            "",
            "\x1b[31mred\x1b[0m",
            "9**9**9**9",
            "[" * 5000,
            "null",
            "{}",
            "[1]",
            "K" * 100_000,
            "a\nb",
            "nan",
        ):
            changes[f"{name} {value[:12]!r}"] = attribute(name, value)
        changes[f"{name} of numbers"] = attribute(name, [1.5, float("nan")])
    return changes | {
        "no variable": lambda d: d.drop_vars(list(d.data_vars)),
        "no times": lambda d: d.isel(time=slice(0)),
        "one time": lambda d: d.isel(time=slice(1)),
        "NaT": lambda d: times(d, lambda v: np.where(np.arange(len(v)) == 0, nat, v)),
        "all NaT": lambda d: times(d, lambda v: np.full(len(v), nat)),
        "duplicate times": lambda d: times(d, lambda v: np.repeat(v[:1], len(v))),
        "reversed times": lambda d: d.isel(time=slice(None, None, -1)),
        "times are numbers": lambda d: times(d, lambda v: np.arange(len(v))),
        "times are texts": lambda d: times(d, lambda v: np.array(["x"] * len(v))),
        "nan latitudes": lambda d: d.assign_coords(
            {n: d[n] * np.nan for n in d.dims if n in ("lat", "latitude")}
        ),
        "inf longitudes": lambda d: d.assign_coords(
            {n: d[n] * np.inf for n in d.dims if n in ("lon", "longitude")}
        ),
        "all nan": lambda d: d * np.nan,
        "infinite": lambda d: d + np.float32(np.inf),
        "complex": lambda d: d.astype("complex64"),
        "integers": lambda d: d.astype("int64"),
        "booleans": lambda d: d > 0,
        "texts": lambda d: d.assign(t2m=d["t2m"].astype(str)),
        "scalar": lambda d: d.assign(t2m=5.0),
        "another dimension": lambda d: d.expand_dims(banana=3),
        "huge values": lambda d: d.astype("float64") * 1e300,
    }


@kind("data sets")
def data_sets(rng: random.Random) -> Iterator[Case]:
    """Yield readable stores and netCDF files with invalid times, coordinates, names, attributes or values."""
    for label, alter in alterations().items():
        for fixture in ("source.zarr", "source.nc", "store.zarr", "forecast.zarr", "forecast.nc"):

            def edit(path: Path, alter: Any = alter) -> None:
                with xr.open_dataset(path, decode_timedelta=True) as opened:
                    dataset = opened.load()
                for variable in dataset.variables.values():
                    variable.encoding.clear()
                dataset = alter(dataset)
                if path.suffix == ".nc":
                    path.unlink()
                    dataset.to_netcdf(path)
                else:
                    target = path.with_suffix(".new")
                    dataset.to_zarr(target)
                    for group in ("statistics", "climatology"):
                        if (path / group).exists() and not (target / group).exists():
                            shutil.copytree(path / group, target / group)
                    shutil.rmtree(path)
                    target.rename(path)

            name = Path(fixture).with_suffix(".zarr").name
            for words in rng.sample(readers(name, f"in/{fixture}"), 1):
                yield Case(words, change(fixture, edit), f"{fixture}: {label}")
