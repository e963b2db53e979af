"""Any canonical data set into a store: in bounded memory, from where an earlier run stopped, here or on a
Dask cluster.

What is written is a function of the source and the arguments alone, so a run that was killed and started
again ends with the same bits.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr
import zarr
from zarr.abc.store import Store as ZarrStore

from ...fno.grids import match_axis
from ...fno.progress import Progress
from ..cluster import connected
from ..identity import at_place, identity, match_variables
from ..loaders.split import period
from ..scalars import scalars_of
from ..schema import axes_of, nearest
from ..statistics.summaries import write_summaries
from ..stopping import Stopped
from ..store import atomic
from ..store.icechunk import Transaction, is_repository
from ..store.journal import Journal
from ..store.locks import exclusive
from ..store.netcdf import time_encoding
from ..store.open import Store, consolidate, open_store
from ..store.outputs import check_output, check_replaceable
from ..units import conversion_or_none
from .plan import COMPRESSOR, MEMORY, Plan, make_plan


def write_store(
    dataset: xr.Dataset,
    path: Path,
    train_period: str | None = None,
    allow_gaps: bool = False,
    overwrite: bool = False,
    memory: int = MEMORY,
    scheduler: str | None = None,
    origin: str = "",
    progress: Progress | None = None,
    icechunk: bool = False,
) -> Store:
    """Write a canonical data set as a store, with statistics and climatology of the training period.

    A run that is stopped leaves the old store, or none, and what it had written; the same call goes on from
    there.

    Args:
        dataset: canonical data set.
        path: folder to make.
        train_period: ``START:STOP``; None takes the default split.
        allow_gaps: record gaps in time instead of refusing them.
        overwrite: replace an existing store.
        memory: bytes that the process may come to use, see ``make_plan``.
        scheduler: address of a Dask scheduler whose workers see source and ``path``, or ``local:N`` for N
            processes here.
        origin: says what ``dataset`` was made from; what an earlier run wrote for the same one is taken up.
            Without it, nothing is kept.
        progress: called with (times done, times in all, text).
        icechunk: write to an Icechunk repository, by this process alone.

    Raises:
        FileExistsError: the store exists and may not be replaced.
        ValueError: times are not sorted, unique and regular, the period is empty, or a variable has no
            values.
        OSError: no room, or no scheduler at the address.
    """
    path = check_output(path, "store").absolute()
    atomic.recover(path)
    if not icechunk:
        check_replaceable(path, "store", overwrite)
    _refuse_cluster(icechunk, scheduler)
    plan = make_plan(dataset, train_period, allow_gaps, memory)
    with _journal(path, _identity(plan, origin), overwrite, bool(origin), icechunk) as journal:
        if not (journal.begun() and origin):
            _write_template(plan, journal.target)
            journal.begin()
        _work(plan, journal, 0, scheduler, progress, bool(origin))
    return open_store(path)


def append_store(
    dataset: xr.Dataset,
    path: Path,
    allow_gaps: bool = False,
    memory: int = MEMORY,
    scheduler: str | None = None,
    origin: str = "",
    progress: Progress | None = None,
) -> Store:
    """Add new times to the end of a store; statistics and climatology stay those of its training period.

    The store is not touched until all is written: what is there is linked into a new folder, which then takes
    its place.

    Args:
        dataset: canonical data set with the store's variables and grid, and later times only.
        path: store.
        allow_gaps: as in ``write_store``.
        memory: as in ``write_store``.
        scheduler: as in ``write_store``.
        origin: as in ``write_store``.
        progress: as in ``write_store``.

    Raises:
        ValueError: other variables, levels or grid, times that the store holds or that lie before its end, or
            a gap.
        OSError: no room, or no scheduler at the address.
    """
    path = check_output(path, "store").absolute()
    with exclusive(path):
        return _append(dataset, path, allow_gaps, memory, scheduler, origin, progress)


def _append(
    dataset: xr.Dataset,
    path: Path,
    allow_gaps: bool,
    memory: int,
    scheduler: str | None,
    origin: str,
    progress: Progress | None,
) -> Store:
    store = open_store(path)
    _refuse_cluster(is_repository(path), scheduler)
    dataset = _fitting(dataset, store)
    held = len(store.dataset["time"])
    fit = period(store.dataset["time"].values, "/".join(store.train_period))
    # Old times with the new ones, of which only the new ones are written.
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
    if not allow_gaps and (new := [gap for gap in plan.gaps if gap >= held]):
        before, after = joined["time"].values[new[0] - 1 : new[0] + 1].astype("datetime64[m]")
        raise ValueError(
            f"between {before} and {after} times are missing; append those first, or pass --allow-gaps to record the gap"
        )
    shard = int(store.dataset[next(iter(store.dataset.data_vars))].encoding["shards"][0])
    plan = replace(plan, fit=fit, shard=shard, block=max(shard, plan.block // shard * shard))
    with _journal(
        path, _identity(plan, f"{origin} after {held}"), True, bool(origin), is_repository(path)
    ) as journal:
        if not (journal.begun() and origin):
            journal.adopt(path)
            _lengthen(plan, journal.target)
            journal.begin()
        journal.mark("statistics")
        _work(plan, journal, held, scheduler, progress, bool(origin))
    return open_store(path)


@contextmanager
def _journal(
    path: Path, identity: dict[str, Any], overwrite: bool, keep: bool, repository: bool
) -> Iterator[Journal | Transaction]:
    """Give what a store is written through, and put the store in place once it is whole."""
    if repository:
        with exclusive(path):
            transaction = Transaction(path, identity, overwrite)
            yield transaction
            transaction.finish()
        return
    with atomic.replacing(path, overwrite, "store", keep_partial=keep) as temporary:
        yield Journal(temporary, identity)


def _fitting(dataset: xr.Dataset, store: Store) -> xr.Dataset:
    """Return the new times in the order, names, levels and coordinates of the store, or raise ``ValueError``
    for what does not fit.
    """
    source = str(dataset.encoding.get("sources", "the new data"))
    owned = {str(n): identity(v) for n, v in store.dataset.data_vars.items()}
    names = match_variables(owned, {str(n): identity(v) for n, v in dataset.data_vars.items()})
    axes = {}
    for axis in axes_of(store.dataset):
        a, b = (d[axis].values if axis in d.coords else np.array([]) for d in (store.dataset, dataset))
        positions = match_axis(a, b, axis) if len(a) == len(b) else None
        if positions is None:
            raise ValueError(f"{source} and {store.path} differ in {axis}; select or regrid as for the store")
        axes[axis] = positions
    fields = {}
    for name, own in owned.items():
        if name not in names:
            raise ValueError(
                f"{source} has no variable {name!r}, which {store.path} holds; {nearest(name, dataset.data_vars)}"
            )
        variable = dataset[names[name]].rename(name)
        here, there = str(variable.attrs["units"]), str(own.attrs["units"])
        if here != there and conversion_or_none(here, there) != (1.0, 0.0):
            raise ValueError(
                f"{name!r} is in {here!r}, but {store.path} holds it in {there!r}; pass --units {name}=..."
            )
        levels = store.dataset["level"].values.tolist() if "level" in store.dataset[name].dims else None
        variable = at_place(
            variable, levels=levels, scalars=scalars_of(own.attrs), source=source, owner=str(store.path)
        )
        fields[name] = variable.reset_coords(drop=True)
    dataset = xr.Dataset(fields).isel(
        {axis: p for axis, p in axes.items() if not np.array_equal(p, np.arange(len(p)))}
    )
    dataset = dataset.assign_coords({axis: store.dataset[axis].variable for axis in axes})
    times, old = dataset["time"].values, store.dataset["time"].values
    if both := sorted(set(times.tolist()) & set(old.tolist())):
        first = np.datetime64(both[0], "ns").astype("datetime64[m]")
        raise ValueError(
            f"{store.path} holds {len(both)} of these times already, the first {first}; leave them out, e.g. with --times"
        )
    if (times < old[-1]).any():
        raise ValueError(
            f"{store.path} ends at {old[-1].astype('datetime64[m]')}; only later times can be appended"
        )
    return dataset


def _refuse_cluster(repository: bool, scheduler: str | None) -> None:
    if repository and scheduler is not None:
        raise ValueError(
            "an Icechunk repository is written by one process; leave out --scheduler, or --store icechunk"
        )


def _lengthen(plan: Plan, path: Path | ZarrStore) -> None:
    group = zarr.open_group(path, mode="r+")
    for name in plan.dataset.data_vars:
        array: Any = group[str(name)]
        array.resize((plan.dataset.sizes["time"], *array.shape[1:]))
    del group["time"]
    times = xr.Dataset(coords={"time": plan.dataset["time"].variable}, attrs=plan.dataset.attrs)
    times.to_zarr(path, mode="a", encoding={"time": time_encoding(plan.step)}, consolidated=False)
    group.attrs.update({"gaps": plan.dataset.attrs["gaps"]})


def _identity(plan: Plan, origin: str) -> dict[str, Any]:
    dataset = plan.dataset
    axes = {
        str(name): coordinate.values.tolist()
        for name, coordinate in dataset.coords.items()
        if coordinate.ndim == 1
    }
    fields = {str(name): [v.dims, v.shape, v.attrs] for name, v in dataset.data_vars.items()}
    return {
        "origin": origin,
        "attrs": dataset.attrs,
        "axes": axes,
        "fields": fields,
        "shard": plan.shard,
        "fit": str(plan.fit),
    }


def _write_template(plan: Plan, path: Path | ZarrStore) -> None:
    """Write the store without values."""
    dataset, encoding = plan.dataset.copy(), {"time": time_encoding(plan.step)}
    for name, v in plan.dataset.data_vars.items():
        one = v.shape[1:]
        lazy = dask.array.full(v.shape, np.nan, dtype=np.float32, chunks=(plan.shard, *one))
        dataset[name] = (v.dims, lazy, v.attrs)
        encoding[str(name)] = {
            "chunks": (1, *one),
            "shards": (plan.shard, *one),
            "dtype": "float32",
            "compressors": (COMPRESSOR,),
        }
    dataset.to_zarr(path, mode="w", compute=False, encoding=encoding, consolidated=False)


def _work(
    plan: Plan,
    journal: Journal | Transaction,
    first: int,
    scheduler: str | None,
    progress: Progress | None,
    resumable: bool,
) -> None:
    """Write the times from ``first`` on, then statistics and climatology, and gather the metadata."""
    total = plan.dataset.sizes["time"]
    starts = [first, *range((first // plan.block + 1) * plan.block, total, plan.block)]
    blocks = [slice(a, b) for a, b in zip(starts, [*starts[1:], total], strict=True)]
    todo = [b for b in blocks if not journal.done(b.start)]
    done = sum(b.stop - b.start for b in blocks) - sum(b.stop - b.start for b in todo)
    try:
        for block in _write_blocks(plan, journal, todo, scheduler):
            done += block.stop - block.start
            if progress:
                progress(done, total - first, "times")
        if not journal.done("statistics"):
            write_summaries(plan, journal.target)
            journal.mark("statistics", ("statistics", "climatology"))
    except ValueError:  # of the data; another try would end the same way
        journal.discard()
        raise
    except KeyboardInterrupt as error:
        if not resumable:
            raise
        raise Stopped(
            f"{done} of {total - first} times are written; the same command resumes after them"
        ) from error
    if isinstance(journal, Journal):
        journal.sweep()
        consolidate(journal.path)


def _write_blocks(
    plan: Plan, journal: Journal | Transaction, blocks: Sequence[slice], scheduler: str | None
) -> Iterator[slice]:
    if scheduler is None:
        for block in blocks:
            _write_block(plan.dataset.isel(time=block), journal, block, plan.shard)
            yield block
        return
    from distributed import as_completed

    with connected(scheduler) as client:
        futures = {
            client.submit(_write_block, plan.dataset.isel(time=b), journal, b, plan.shard, pure=False): b
            for b in blocks
        }
        for future in as_completed(futures):
            future.result()
            yield futures[future]


def _write_block(part: xr.Dataset, journal: Journal | Transaction, block: slice, shard: int) -> None:
    """Read and write some whole shards, or those that follow the old end of a store."""
    bare = part.drop_vars([c for c in part.coords if "time" not in part[c].dims])
    try:
        with dask.config.set(scheduler="threads"):
            values = bare.compute()
    except (OSError, MemoryError, ValueError):
        raise
    except Exception as error:  # decoders raise many types
        first, last = part["time"].values[[0, -1]].astype("datetime64[m]")
        raise ValueError(
            f"the source cannot be read between {first} and {last} ({' '.join(str(error).split())[:160]}); fetch it again"
        ) from error
    for v in values.variables.values():
        v.encoding = {}
    values.drop_vars("time").to_zarr(
        journal.target, region={"time": block}, consolidated=False, safe_chunks=False
    )
    shards = range(block.start // shard, -(-block.stop // shard))
    journal.mark(block.start, [f"{name}/c/{i}" for name in bare.data_vars for i in shards])
