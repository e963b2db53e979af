"""Summaries of data sets as JSON values: stores, sources, forecasts and simulations."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..datasets.adapters.cf import canonical
from ..datasets.ingest.select import levels_in, members_in
from ..datasets.schema import channels, describe_axes, grid_of
from ..datasets.store.open import open_store, read_group
from ..datasets.store.recorded import recorded


def simulation_summary(dataset: xr.Dataset) -> dict[str, Any]:
    """Describe simulations, or the solutions of an operator: system, parameters and sizes."""
    return {
        "kind": "solution of an operator" if "checkpoint" in dataset.attrs else "simulation",
        "system": recorded(dataset.attrs, "system", str),
        "variables": [
            f"{name} [{v.attrs.get('units', 'units not given')}]" for name, v in dataset.data_vars.items()
        ],
        "sizes": {str(name): size for name, size in dataset.sizes.items()},
        "parameters": recorded(dataset.attrs, "parameters", dict),
        "seed": recorded(dataset.attrs, "seed", object, default="null"),
    }


def _channels(dataset: xr.Dataset) -> list[str]:
    """Return each variable, on each of its levels, with its units."""
    return [f"{c} [{c.units or 'units not given'}]" for c in channels(dataset)]


def _fields(dataset: xr.Dataset) -> dict[str, Any]:
    """Return variables, grid and times of gridded fields."""
    return {
        "variables": _channels(dataset),
        "levels_hpa": levels_in(dataset),
        "members": len(members_in(dataset)) or 1,
        "grid": describe_axes(dataset),
        "periodic": grid_of(dataset).periodic[1],
        "times": len(dataset["time"]),
        "first_time": str(dataset["time"].values[0].astype("datetime64[m]")),
        "last_time": str(dataset["time"].values[-1].astype("datetime64[m]")),
        "bytes": int(dataset.nbytes),
    }


def store_summary(path: Path, *, follow_links: bool = False) -> dict[str, Any]:
    """Describe a store: variables, grid, times, gaps, training period and statistics."""
    store = open_store(path, follow_links=follow_links)
    statistics = read_group(store, "statistics")
    rounded = {str(name): np.round(v.values, 6).tolist() for name, v in statistics.data_vars.items()}
    properties = {
        "step_hours": store.step / np.timedelta64(1, "h"),
        "gaps": recorded(store.dataset.attrs, "gaps", list),
        "train_period": list(store.train_period),
    }
    return {"kind": "store"} | _fields(store.dataset) | properties | {"statistics": rounded}


def source_summary(dataset: xr.Dataset, path: str) -> dict[str, Any]:
    """Describe a CF file or foreign store that was not ingested."""
    dataset = canonical(dataset, path, extra_dims=("number",))
    if not dataset.sizes["time"]:
        raise ValueError(f"{path} has no fields: its axis time has no points")
    return {"kind": "source, not ingested"} | _fields(dataset)


def forecast_summary(dataset: xr.Dataset) -> dict[str, Any]:
    """Describe a forecast: variables, grid, initial times and lead times."""
    leads = dataset["prediction_timedelta"].values / np.timedelta64(1, "h")
    return {
        "kind": "forecast",
        "variables": _channels(dataset),
        "levels_hpa": levels_in(dataset),
        "members": dataset.sizes.get("number", 1),
        "grid": describe_axes(dataset),
        "initial_times": len(dataset["time"]),
        "first_initial_time": str(dataset["time"].values[0].astype("datetime64[m]")),
        "last_initial_time": str(dataset["time"].values[-1].astype("datetime64[m]")),
        "lead_hours": [float(leads[0]), float(leads[-1])],
        "leads": len(leads),
        "source": dataset.attrs.get("source"),
    }
