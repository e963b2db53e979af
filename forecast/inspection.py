"""What a path holds: a store, a checkpoint or a forecast."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..datasets.adapters.cf import canonical
from ..datasets.adapters.forecasts import canonical_forecast, is_forecast
from ..datasets.adapters.opening import open_lazily
from ..datasets.ingest.select import levels_in, members_in
from ..datasets.schema import Channel, channels, describe_axes, grid_of
from ..datasets.store.open import open_store, read_group
from ..datasets.store.recorded import recorded
from .checkpoint.folder import described_meta, grid_from


def inspect(path: str | Path, lead_units: str | None = None, *, follow_links: bool = False) -> dict[str, Any]:
    """Describe a store, a simulation, a checkpoint, a forecast or a CF file.

    Args:
        path: file, folder or URL.
        lead_units: unit of a forecast's lead times that are numbers without one, e.g. ``hours``.
        follow_links: follow links within a store or file that lead outside of it.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: none of these.
    """
    source, path = str(path), Path(path)
    if (path / "meta.json").exists():
        return _checkpoint(path)
    if (path / "checkpoint" / "meta.json").exists():
        return _checkpoint(path / "checkpoint")
    dataset = open_lazily(source, follow_links=follow_links)
    if is_forecast(dataset):
        return _forecast(canonical_forecast(dataset, source, lead_units))
    if lead_units is not None:
        raise ValueError(f"{source} is not a forecast, so it has no lead times; leave out --lead-units")
    if "system" in dataset.attrs:
        return _simulation(dataset)
    return _store(path, follow_links) if "time_step_seconds" in dataset.attrs else _source(dataset, source)


def _checkpoint(path: Path) -> dict[str, Any]:
    meta = described_meta(path)
    if meta.get("kind") == "network":
        return {
            "kind": "network",
            **meta["model"],
            "source": meta["source"],
            "versions": meta["versions"],
            "sha256": meta["sha256"],
        }
    model = meta["config"]["model"]
    if meta.get("kind") == "pinn":
        config = meta["config"]
        return {
            "kind": "physics-informed network",
            **{k: config[k] for k in ("equation", "model", "loss", "train")},
            "results": {k: v for k, v in meta["provenance"].items() if k != "fingerprint"},
        }
    if meta.get("kind") == "operator":
        config = meta["config"]
        return {
            "kind": "solution operator",
            **{k: config[k] for k in ("equation", "data", "model", "loss", "train")},
            "results": {
                k: v
                for k, v in meta["provenance"].items()
                if k in ("validation_score", "best_epoch", "steps", "recovered")
            },
        }
    return {
        "kind": "checkpoint",
        "model": model,
        "variables": [f"{channel} [{channel.units}]" for channel in (Channel(**c) for c in meta["channels"])],
        "levels_hpa": list(dict.fromkeys(c["level"] for c in meta["channels"] if c["level"] is not None)),
        "grid": describe_axes(xr.Dataset(coords={n: meta[n] for n in grid_from(meta).axes})),
        "step_hours": meta["step_seconds"] / 3600,
        "input_states": meta["window"],
        "trained_on": meta["provenance"]["train_period"],
        "chosen_on": meta["provenance"]["validation_period"],
        "validation_score": meta["provenance"]["validation_score"],
        "versions": meta["versions"],
        "sha256": meta["sha256"],
    }


def _simulation(dataset: xr.Dataset) -> dict[str, Any]:
    return {
        "kind": "solution of an operator" if "checkpoint" in dataset.attrs else "simulation",
        "system": recorded(dataset.attrs, "system", str),
        "variables": [
            f"{name} [{v.attrs.get('units', 'units not given')}]" for name, v in dataset.data_vars.items()
        ],
        "sizes": {str(name): size for name, size in dataset.sizes.items()},
        "parameters": recorded(dataset.attrs, "parameters", dict),
        "seed": recorded(dataset.attrs, "seed", object, "null"),
    }


def _channels(dataset: xr.Dataset) -> list[str]:
    """Return each variable, on each of its levels, with its units."""
    return [f"{c} [{c.units or 'units not given'}]" for c in channels(dataset)]


def _fields(dataset: xr.Dataset) -> dict[str, Any]:
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


def _store(path: Path, follow_links: bool) -> dict[str, Any]:
    store = open_store(path, follow_links=follow_links)
    statistics = read_group(store, "statistics")
    numbers = {str(name): np.round(v.values, 6).tolist() for name, v in statistics.data_vars.items()}
    rest = {
        "step_hours": store.step / np.timedelta64(1, "h"),
        "gaps": recorded(store.dataset.attrs, "gaps", list),
        "train_period": list(store.train_period),
    }
    return {"kind": "store"} | _fields(store.dataset) | rest | {"statistics": numbers}


def _source(dataset: xr.Dataset, path: str) -> dict[str, Any]:
    dataset = canonical(dataset, path, extra_dims=("number",))
    if not dataset.sizes["time"]:
        raise ValueError(f"{path} holds no field: its axis time has no points")
    return {"kind": "source, not ingested"} | _fields(dataset)


def _forecast(dataset: xr.Dataset) -> dict[str, Any]:
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
