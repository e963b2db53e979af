"""Ingest: from sources to a store."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..datasets.adapters.sources import expand, join_sources, origin
from ..datasets.errors import DataError, OutputExistsError
from ..datasets.ingest.append import append_store
from ..datasets.ingest.plan import MEMORY, PlanSummary, make_plan
from ..datasets.ingest.regrid import parse_grid, regrid
from ..datasets.ingest.select import Selection
from ..datasets.ingest.write import write_store
from ..datasets.loaders.split import period
from ..datasets.memory import limited
from ..datasets.store.icechunk import is_repository
from ..datasets.store.locks import exclusive
from ..datasets.store.open import open_store
from ..datasets.store.outputs import check_output, check_separate
from ..fno.progress import Progress


def ingest(
    sources: Sequence[str | Path],
    output: str | Path,
    select: Selection | None = None,
    *,
    units: Mapping[str, str] | None = None,
    layout: str | None = None,
    grid: str | None = None,
    method: str | None = None,
    train_period: str | None = None,
    allow_gaps: bool = False,
    memory: int = MEMORY,
    scheduler: str | None = None,
    append: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    allow_missing: bool = False,
    kind: str | None = None,
    rename: Mapping[str, str] | None = None,
    static: Sequence[str] = (),
    follow_links: bool = False,
) -> PlanSummary | None:
    """Write a store from gridded data, or append to one; an interrupted run is resumed.

    Args:
        sources: files, patterns, zarr stores or their URLs.
        output: store to write.
        select: variables, levels, times, area and members to keep.
        units: units of variables that are missing or wrong in a file.
        layout: name of the layout of the sources; recognised by default.
        grid: target grid: degrees between points, ``LATxLON`` points, or the path of a store; that of the
            sources by default.
        method: ``conservative`` (the default), ``bilinear`` or ``spectral`` regridding to ``grid``.
        train_period: training period, on which statistics are computed.
        allow_gaps: record gaps in time instead of raising an error.
        memory: memory limit of the process [bytes].
        scheduler: address of a Dask scheduler, or ``local:N`` for N processes.
        append: append later times to the store.
        dry_run: return the plan without writing anything.
        overwrite: replace an existing store.
        progress: called with (steps done, total steps, text).
        allow_missing: read missing chunks of a zarr source as fill values.
        kind: format of the store, ``zarr`` (the default) or ``icechunk``; appending keeps the format.
        rename: new names of variables, by the name in the source or the canonical one.
        static: time-invariant variables that have a time axis in their source.
        follow_links: follow links within a source that lead out of it.

    Returns:
        The plan of a dry run, else None.

    Raises:
        FileExistsError: the store exists and may not be replaced.
        FileNotFoundError: a source, or the store to append to, does not exist.
        ValueError: unsuitable sources or arguments; the message says which, where and how to fix it.
    """
    path = Path(output)
    select = select or Selection()
    if not append:
        check_output(path, "store")
    if append and overwrite:
        raise ValueError("append extends a store and overwrite replaces it; choose one of them")
    if method is not None and grid is None:
        raise DataError(
            f"method {method} does not apply without a grid; name the grid to regrid to, or leave it out",
            option="grid",
        )
    if append and train_period is not None:
        _check_same_period(path, train_period)
    if append and kind is not None and (kind == "icechunk") != is_repository(path):
        raise ValueError(f"{kind} does not apply to append: {path} keeps its format; leave it out")
    kind = kind or "zarr"
    method = method or "conservative"
    if kind not in ("zarr", "icechunk"):
        raise ValueError(f"a store cannot be {kind}; use zarr or icechunk")
    # An existing repository may be that of an interrupted run, which is only known when it is written to.
    may_resume = kind == "icechunk" and is_repository(path)
    if path.exists() and not (overwrite or append or dry_run or may_resume):
        raise OutputExistsError(
            f"{path} exists; overwrite it, append later times to it, or choose another name"
        )
    check_separate(path, [*expand(sources), grid])
    provenance = f"{origin(sources)} {select} {sorted((units or {}).items())} {layout} {grid} {method}"
    provenance += f" {sorted(rename.items())}" if rename else ""
    provenance += f" static {sorted(static)}" if static else ""
    chunk_bytes = min(2**25, memory // 64)
    source_options: Any = {
        "grid": grid,
        "method": method,
        "rename": rename,
        "static": static,
        "units": units,
        "layout": layout,
        "chunk_bytes": chunk_bytes,
        "allow_missing": allow_missing,
        "follow_links": follow_links,
        "memory": memory,
    }
    with ExitStack() as stack:
        if not dry_run:
            stack.enter_context(exclusive(path))
        if progress:
            progress(0, 1, f"to {path}")
        stack.enter_context(limited(memory))
        joined = join_sources(sources, select, **source_options)
        dataset = stack.enter_context(joined.dataset)
        if grid is not None and not joined.regridded:
            dataset = regrid(dataset, parse_grid(str(grid), dataset), method)
        if dry_run:
            return make_plan(dataset, train_period, allow_gaps=allow_gaps, memory=memory).describe()
        write_options: Any = {
            "allow_gaps": allow_gaps,
            "memory": memory,
            "scheduler": scheduler,
            "origin": provenance,
            "progress": progress,
        }
        if append:
            append_store(dataset, path, source=joined.paths, **write_options)
        else:
            write_store(
                dataset, path, train_period, overwrite=overwrite, icechunk=kind == "icechunk", **write_options
            )
    return None


def _check_same_period(path: Path, train_period: str) -> None:
    """Raise ``ValueError`` unless a training period is that of the store, whose statistics are kept."""
    store = open_store(path)
    times = store.dataset["time"].values
    fit = times[period(times, train_period)]
    if (str(fit[0]), str(fit[-1])) != store.train_period:
        first, last = (text[:16] for text in store.train_period)
        raise ValueError(
            f"train_period {train_period} does not apply to append: statistics remain those of {first} ... "
            f"{last}; leave it out"
        )
