"""Writing of a canonical data set as a store: in bounded memory, resumable, locally or on a Dask cluster.

The store depends only on the source and the arguments: an interrupted and resumed run writes the same bits as
an uninterrupted one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import xarray as xr
from zarr.abc.store import Store as ZarrStore

from ...fno.progress import Progress
from ..cluster import connected
from ..durations import format_time
from ..errors import DataError
from ..statistics.summaries import write_summaries
from ..stopping import Stopped
from ..store import atomic
from ..store.icechunk import Transaction
from ..store.journal import Journal
from ..store.locks import exclusive
from ..store.netcdf import time_encoding
from ..store.open import Store, consolidate, open_store
from ..store.outputs import check_output, check_replaceable
from .plan import COMPRESSOR, MEMORY, Plan, make_plan


def write_store(
    dataset: xr.Dataset,
    path: Path,
    train_period: str | None = None,
    *,
    allow_gaps: bool = False,
    overwrite: bool = False,
    memory: int = MEMORY,
    scheduler: str | None = None,
    origin: str = "",
    progress: Progress | None = None,
    icechunk: bool = False,
) -> Store:
    """Write a canonical data set as a store, with statistics and climatology of the training period.

    An interrupted run leaves the previous store, if any, and its own unfinished files, from which the same
    call resumes.

    Args:
        dataset: canonical data set.
        path: folder to write.
        train_period: training period, ``START:STOP``; by default that of the default split.
        allow_gaps: record gaps in time instead of raising an error.
        overwrite: replace an existing store.
        memory: memory that the process may use [bytes], see ``make_plan``.
        scheduler: address of a Dask scheduler whose workers can access the source and ``path``, or
            ``local:N`` for N local processes.
        origin: identifies the source and its processing; an interrupted run of the same origin is resumed. If
            it is empty, unfinished files are removed.
        progress: called with (times written, total times, text).
        icechunk: write to an Icechunk repository, in this process only.

    Raises:
        FileExistsError: the store exists and ``overwrite`` is False.
        ValueError: times are not sorted, unique and regular, the period is empty, or a variable has no
            values.
        OSError: the disk is full, or there is no scheduler at the address.
    """
    path = check_output(path, "store").absolute()
    atomic.recover(path)
    if not icechunk:
        check_replaceable(path, "store", overwrite)
    check_scheduler(scheduler, icechunk=icechunk)
    plan = make_plan(dataset, train_period, allow_gaps=allow_gaps, memory=memory)
    with open_journal(
        path, fingerprint(plan, origin), overwrite=overwrite, keep_partial=bool(origin), icechunk=icechunk
    ) as journal:
        if not (journal.resume() and origin):
            _write_template(plan, journal.target)
            journal.start()
        write_times(plan, journal, scheduler=scheduler, progress=progress, resumable=bool(origin))
    return open_store(path)


def check_scheduler(scheduler: str | None, *, icechunk: bool) -> None:
    """Raise ``ValueError`` for an Icechunk repository with a scheduler, since one process must write it."""
    if icechunk and scheduler is not None:
        raise DataError(
            f"an Icechunk repository is written by one process, got scheduler {scheduler!r}; "
            "leave it out, or write a zarr store",
            option="scheduler",
        )


@contextmanager
def open_journal(
    path: Path, identity: dict[str, Any], *, overwrite: bool, keep_partial: bool, icechunk: bool
) -> Iterator[Journal | Transaction]:
    """Yield the journal of an unfinished store, and move the store to its path at the end of the context.

    Args:
        path: store.
        identity: everything that its contents depend on.
        overwrite: whether an existing store may be replaced.
        keep_partial: keep unfinished files if writing stops.
        icechunk: whether the store is an Icechunk repository.
    """
    if icechunk:
        with exclusive(path):
            transaction = Transaction(path, identity, overwrite)
            yield transaction
            transaction.finish()
        return
    with atomic.replacing(path, overwrite=overwrite, kind="store", keep_partial=keep_partial) as temporary:
        yield Journal(temporary, identity)


def fingerprint(plan: Plan, origin: str) -> dict[str, Any]:
    """Return everything that the contents of a store depend on, as JSON can represent it.

    Args:
        plan: plan of the store.
        origin: identifies the source and its processing.
    """
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
    """Write the metadata and coordinates of a store, without values."""
    dataset = plan.dataset.copy()
    encoding = {"time": time_encoding(plan.step)}
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


def write_times(
    plan: Plan,
    journal: Journal | Transaction,
    first: int = 0,
    *,
    scheduler: str | None,
    progress: Progress | None,
    resumable: bool,
) -> None:
    """Write times, statistics and climatology, and consolidate the metadata.

    Args:
        plan: plan of the store.
        journal: record of the finished parts.
        first: position of the first time to write.
        scheduler: as in ``write_store``.
        progress: as in ``write_store``.
        resumable: whether an interrupted run can be resumed.

    Raises:
        Stopped: the process was interrupted, and the same call resumes.
    """
    total = plan.dataset.sizes["time"]
    starts = [first, *range((first // plan.block + 1) * plan.block, total, plan.block)]
    blocks = [slice(a, b) for a, b in zip(starts, [*starts[1:], total], strict=True)]
    missing = [b for b in blocks if not journal.is_complete(b.start)]
    written = total - first - sum(b.stop - b.start for b in missing)
    try:
        for block in _write_blocks(plan, journal, missing, scheduler=scheduler):
            written += block.stop - block.start
            if progress:
                progress(written, total - first, "times")
        if not journal.is_complete("statistics"):
            write_summaries(plan, journal.target)
            journal.mark_complete("statistics", ("statistics", "climatology"))
    except ValueError:  # invalid data: a resumed run would fail in the same way
        journal.discard()
        raise
    except KeyboardInterrupt as error:
        if not resumable:
            raise
        raise Stopped(
            f"{written} of {total - first} times are written; the same command resumes after them"
        ) from error
    if isinstance(journal, Journal):
        journal.sweep()
        consolidate(journal.path)


def _write_blocks(
    plan: Plan, journal: Journal | Transaction, blocks: Sequence[slice], *, scheduler: str | None
) -> Iterator[slice]:
    if scheduler is None:
        for block in blocks:
            _write_block(plan.dataset.isel(time=block), journal, block, shard=plan.shard)
            yield block
        return
    from distributed import as_completed

    with connected(scheduler) as client:
        futures = {
            client.submit(
                _write_block, plan.dataset.isel(time=b), journal, b, shard=plan.shard, pure=False
            ): b
            for b in blocks
        }
        for future in as_completed(futures):
            future.result()
            yield futures[future]


def _write_block(part: xr.Dataset, journal: Journal | Transaction, block: slice, *, shard: int) -> None:
    """Read and write whole shards, or those from the former end of a store to the next shard boundary."""
    bare = part.drop_vars([c for c in part.coords if "time" not in part[c].dims])
    try:
        values = bare.compute(scheduler="threads")
    except (OSError, MemoryError, ValueError):
        raise
    except Exception as error:  # decoders raise many types
        first, last = (format_time(time) for time in part["time"].values[[0, -1]])
        reason = " ".join(str(error).split())[:160]
        raise ValueError(
            f"the source cannot be read between {first} and {last} ({reason}); fetch it again"
        ) from error
    for variable in values.variables.values():
        variable.encoding = {}
    values.drop_vars("time").to_zarr(
        journal.target, region={"time": block}, consolidated=False, safe_chunks=False
    )
    shards = range(block.start // shard, -(-block.stop // shard))
    journal.mark_complete(block.start, [f"{name}/c/{i}" for name in bare.data_vars for i in shards])
