"""Summaries of data sets: stores, sources, forecasts and simulations."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..datasets.adapters.cf import canonical
from ..datasets.ingest.select import levels_in, members_in
from ..datasets.schema import channels, describe_axes, grid_of
from ..datasets.store.open import open_store, read_group
from ..datasets.store.recorded import recorded


@dataclass(frozen=True)
class DataSummary:
    """Summary of a data set.

    Attributes:
        kind: what the data set is.
    """

    kind: str

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, as JSON can represent them."""
        return asdict(self)


@dataclass(frozen=True)
class SimulationSummary(DataSummary):
    """Summary of simulations, or of the solutions of an operator.

    Attributes:
        system: name of the system.
        variables: variables with their units.
        sizes: size of each dimension.
        parameters: parameters of the system by name.
        seed: seed of the random inputs, None without one.
    """

    system: str
    variables: list[str]
    sizes: dict[str, int]
    parameters: dict[str, Any]
    seed: Any


@dataclass(frozen=True)
class OutputSummary(DataSummary):
    """Summary of an output of a model other than a forecast.

    Attributes:
        attributes: texts among its attributes, such as the name of an equation.
        variables: variables with their units.
        sizes: size of each dimension.
    """

    attributes: dict[str, str]
    variables: list[str]
    sizes: dict[str, int]


@dataclass(frozen=True)
class SourceSummary(DataSummary):
    """Summary of a CF file or foreign store that was not ingested.

    Attributes:
        variables: channels with their units.
        levels_hpa: pressure levels [hPa].
        members: number of ensemble members.
        grid: size and extent of the grid.
        periodic: whether the longitudes span the whole circle.
        times: number of times.
        first_time: first time, to the minute.
        last_time: last time, to the minute.
        bytes: size of the fields in memory [bytes].
    """

    kind: str = field(default="source, not ingested", init=False)
    variables: list[str]
    levels_hpa: list[int]
    members: int
    grid: str
    periodic: bool
    times: int
    first_time: str
    last_time: str
    bytes: int


@dataclass(frozen=True)
class StoreSummary(SourceSummary):
    """Summary of a store.

    Attributes:
        step_hours: time step [h].
        gaps: first times after gaps.
        train_period: first and last time of the training period.
        statistics: statistics of the training period by variable and quantity; lists where they differ by
            level.
    """

    kind: str = field(default="store", init=False)
    step_hours: float
    gaps: list[str]
    train_period: list[str]
    statistics: dict[str, Any]


@dataclass(frozen=True)
class ForecastSummary(DataSummary):
    """Summary of a forecast.

    Attributes:
        variables: channels with their units.
        levels_hpa: pressure levels [hPa].
        members: number of ensemble members.
        grid: size and extent of the grid.
        initial_times: number of initial times.
        first_initial_time: first initial time, to the minute.
        last_initial_time: last initial time, to the minute.
        lead_hours: first and last lead time [h].
        leads: number of lead times.
        source: what produced the forecast, None if it is not recorded.
    """

    kind: str = field(default="forecast", init=False)
    variables: list[str]
    levels_hpa: list[int]
    members: int
    grid: str
    initial_times: int
    first_initial_time: str
    last_initial_time: str
    lead_hours: list[float]
    leads: int
    source: str | None


def simulation_summary(dataset: xr.Dataset) -> SimulationSummary:
    """Describe simulations, or the solutions of an operator: system, parameters and sizes."""
    return SimulationSummary(
        kind="solution of an operator" if "checkpoint" in dataset.attrs else "simulation",
        system=recorded(dataset.attrs, "system", str),
        variables=_variables(dataset),
        sizes=_sizes(dataset),
        parameters=recorded(dataset.attrs, "parameters", dict),
        seed=recorded(dataset.attrs, "seed", object, default="null"),
    )


def output_summary(dataset: xr.Dataset, kind: str) -> OutputSummary:
    """Describe an output of a model: attributes, variables and sizes."""
    texts = {str(name): value for name, value in dataset.attrs.items() if isinstance(value, str)}
    return OutputSummary(kind, texts, _variables(dataset), _sizes(dataset))


def _variables(dataset: xr.Dataset) -> list[str]:
    """Return each variable with its units."""
    return [f"{name} [{v.attrs.get('units', 'units not given')}]" for name, v in dataset.data_vars.items()]


def _sizes(dataset: xr.Dataset) -> dict[str, int]:
    """Return the size of each dimension."""
    return {str(name): size for name, size in dataset.sizes.items()}


def _channels(dataset: xr.Dataset) -> list[str]:
    """Return each variable, on each of its levels, with its units."""
    return [f"{c} [{c.units or 'units not given'}]" for c in channels(dataset)]


def _fields(dataset: xr.Dataset) -> dict[str, Any]:
    """Return the attributes of ``SourceSummary``: variables, grid and times."""
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


def store_summary(path: Path, *, follow_links: bool = False) -> StoreSummary:
    """Describe a store: variables, grid, times, gaps, training period and statistics."""
    store = open_store(path, follow_links=follow_links)
    statistics = read_group(store, "statistics")
    return StoreSummary(
        **_fields(store.dataset),
        step_hours=store.step / np.timedelta64(1, "h"),
        gaps=recorded(store.dataset.attrs, "gaps", list),
        train_period=list(store.train_period),
        statistics={str(name): np.round(v.values, 6).tolist() for name, v in statistics.data_vars.items()},
    )


def source_summary(dataset: xr.Dataset, path: str) -> SourceSummary:
    """Describe a CF file or foreign store that was not ingested."""
    dataset = canonical(dataset, path, extra_dims=("number",))
    if not dataset.sizes["time"]:
        raise ValueError(f"{path} has no fields: its axis time has no points")
    return SourceSummary(**_fields(dataset))


def forecast_summary(dataset: xr.Dataset) -> ForecastSummary:
    """Describe a forecast: variables, grid, initial times and lead times."""
    leads = dataset["prediction_timedelta"].values / np.timedelta64(1, "h")
    return ForecastSummary(
        variables=_channels(dataset),
        levels_hpa=levels_in(dataset),
        members=dataset.sizes.get("number", 1),
        grid=describe_axes(dataset),
        initial_times=len(dataset["time"]),
        first_initial_time=str(dataset["time"].values[0].astype("datetime64[m]")),
        last_initial_time=str(dataset["time"].values[-1].astype("datetime64[m]")),
        lead_hours=[float(leads[0]), float(leads[-1])],
        leads=len(leads),
        source=dataset.attrs.get("source"),
    )
