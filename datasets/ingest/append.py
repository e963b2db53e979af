"""Appending of later times to a store."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import Store as ZarrStore

from ...fno.grids import match_axis
from ...fno.progress import Progress
from ..durations import format_time
from ..errors import DataError
from ..identity import identity, match_variables, select_place
from ..loaders.split import period
from ..scalars import scalars_of
from ..schema import axes_of
from ..store.icechunk import is_repository
from ..store.locks import exclusive
from ..store.netcdf import time_encoding
from ..store.open import Store, open_store
from ..store.outputs import check_output
from ..suggestions import suggest
from ..units import conversion_or_none
from .plan import MEMORY, Plan, make_plan
from .write import check_scheduler, fingerprint, open_journal, write_times


def append_store(
    dataset: xr.Dataset,
    path: Path,
    *,
    source: str = "the new data",
    allow_gaps: bool = False,
    memory: int = MEMORY,
    scheduler: str | None = None,
    origin: str = "",
    progress: Progress | None = None,
) -> Store:
    """Append later times to a store; statistics and climatology stay those of its training period.

    The store is unchanged until the end: its files are linked into a new folder, which replaces the store
    once all times are written.

    Args:
        dataset: canonical data set with the store's variables and grid, and only later times.
        path: store.
        source: name of ``dataset`` in messages.
        allow_gaps: as in ``write_store``.
        memory: as in ``write_store``.
        scheduler: as in ``write_store``.
        origin: as in ``write_store``.
        progress: as in ``write_store``.

    Raises:
        ValueError: other variables, levels or grid, times that the store contains or that precede its end, or
            a gap.
        OSError: the disk is full, or there is no scheduler at the address.
    """
    path = check_output(path, "store").absolute()
    with exclusive(path):
        store = open_store(path)
        icechunk = is_repository(path)
        check_scheduler(scheduler, icechunk=icechunk)
        stored_times = len(store.dataset["time"])
        plan = _plan(_match_store(dataset, store, source), store, allow_gaps=allow_gaps, memory=memory)
        contents = fingerprint(plan, f"{origin} after {stored_times}")
        with open_journal(
            path, contents, overwrite=True, keep_partial=bool(origin), icechunk=icechunk
        ) as journal:
            if not (journal.resume() and origin):
                journal.adopt(path)
                _extend_arrays(plan, journal.target)
                journal.start()
            journal.mark_complete("statistics")
            write_times(
                plan, journal, stored_times, scheduler=scheduler, progress=progress, resumable=bool(origin)
            )
        return open_store(path)


def _plan(dataset: xr.Dataset, store: Store, *, allow_gaps: bool, memory: int) -> Plan:
    """Return the plan of the extended store, of which only the new times are written."""
    stored_times = len(store.dataset["time"])
    fit = period(store.dataset["time"].values, "/".join(store.train_period))
    joined = xr.concat(
        [store.dataset, dataset],
        "time",
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="override",
    )
    plan = make_plan(
        joined, f"{store.train_period[0]}/{store.train_period[1]}", allow_gaps=True, memory=memory
    )
    if not allow_gaps and (new := [gap for gap in plan.gaps if gap >= stored_times]):
        before, after = (format_time(time) for time in joined["time"].values[new[0] - 1 : new[0] + 1])
        raise DataError(
            f"between {before} and {after} times are missing; append those first, or allow gaps to record it",
            option="allow_gaps",
        )
    shard = int(store.dataset[next(iter(store.dataset.data_vars))].encoding["shards"][0])
    return replace(plan, fit=fit, shard=shard, block=max(shard, plan.block // shard * shard))


def _match_store(dataset: xr.Dataset, store: Store, source: str) -> xr.Dataset:
    """Return the new times with the order, names, levels and coordinates of the store.

    Raises:
        ValueError: a variable, level, unit, grid or time does not fit.
    """
    stored = {str(n): identity(v) for n, v in store.dataset.data_vars.items()}
    names = match_variables(stored, {str(n): identity(v) for n, v in dataset.data_vars.items()})
    positions = {}
    for axis in axes_of(store.dataset):
        stored_axis, new_axis = (
            d[axis].values if axis in d.coords else np.array([]) for d in (store.dataset, dataset)
        )
        order = match_axis(stored_axis, new_axis, axis) if len(stored_axis) == len(new_axis) else None
        if order is None:
            raise ValueError(f"{source} and {store.path} differ in {axis}; select or regrid as for the store")
        positions[axis] = order
    fields = {}
    for name, expected in stored.items():
        if name not in names:
            raise ValueError(
                f"{source} has no variable {name!r}, which {store.path} contains; "
                f"{suggest(name, dataset.data_vars)}"
            )
        variable = dataset[names[name]].rename(name)
        units = str(variable.attrs["units"])
        stored_units = str(expected.attrs["units"])
        if units != stored_units and conversion_or_none(units, stored_units) != (1.0, 0.0):
            raise DataError(
                f"{name!r} is in {units!r}, but in {stored_units!r} in {store.path}; correct its units",
                option="units",
                example=f"{name}=...",
            )
        levels = store.dataset["level"].values.tolist() if "level" in store.dataset[name].dims else None
        variable = select_place(
            variable, levels=levels, scalars=scalars_of(expected.attrs), source=source, owner=str(store.path)
        )
        fields[name] = variable.reset_coords(drop=True)
    dataset = xr.Dataset(fields).isel(
        {axis: p for axis, p in positions.items() if not np.array_equal(p, np.arange(len(p)))}
    )
    dataset = dataset.assign_coords({axis: store.dataset[axis].variable for axis in positions})
    _check_times(dataset, store)
    return dataset


def _check_times(dataset: xr.Dataset, store: Store) -> None:
    """Raise ``ValueError`` unless all new times are later than the stored ones."""
    new_times = dataset["time"].values
    stored_times = store.dataset["time"].values
    if common := sorted(set(new_times.tolist()) & set(stored_times.tolist())):
        first = format_time(np.datetime64(common[0], "ns"))
        raise DataError(
            f"{store.path} already contains {len(common)} of these times, the first {first}; "
            "select the others",
            option="times",
        )
    if (new_times < stored_times[-1]).any():
        raise ValueError(
            f"{store.path} ends at {format_time(stored_times[-1])}; only later times can be appended"
        )


def _extend_arrays(plan: Plan, path: Path | ZarrStore) -> None:
    """Resize the arrays along time and rewrite the time coordinate."""
    group = zarr.open_group(path, mode="r+")
    for name in plan.dataset.data_vars:
        array = group[str(name)]
        assert isinstance(array, zarr.Array)
        array.resize((plan.dataset.sizes["time"], *array.shape[1:]))
    del group["time"]
    times = xr.Dataset(coords={"time": plan.dataset["time"].variable}, attrs=plan.dataset.attrs)
    times.to_zarr(path, mode="a", encoding={"time": time_encoding(plan.step)}, consolidated=False)
    group.attrs.update({"gaps": plan.dataset.attrs["gaps"]})
