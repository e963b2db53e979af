"""Sources into stores: what the command and the Python interface share."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..datasets.adapters.sources import expand, join_sources, origin
from ..datasets.adapters.untrusted import parse_bytes  # noqa: F401 (callers of this module know it here)
from ..datasets.ingest.append import append_store
from ..datasets.ingest.plan import MEMORY, make_plan
from ..datasets.ingest.regrid import parse_grid, regrid
from ..datasets.ingest.select import Selection
from ..datasets.ingest.write import write_store
from ..datasets.loaders.split import period
from ..datasets.memory import limited
from ..datasets.store.icechunk import is_repository
from ..datasets.store.locks import exclusive
from ..datasets.store.open import open_store
from ..datasets.store.outputs import check_apart, check_output
from ..fno.progress import Progress


def ingest(
    sources: Sequence[str | Path],
    output: str | Path,
    select: Selection | None = None,
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
    *,
    rename: Mapping[str, str] | None = None,
    static: Sequence[str] = (),
    follow_links: bool = False,
) -> dict[str, Any]:
    """Make a store, or add to one; a run that is stopped goes on where it was.

    Args:
        sources: files, patterns, zarr stores or their URLs.
        output: store to make.
        select: what to keep.
        units: units of variables that a file lacks or has wrong.
        layout: name of the sources' layout; recognised by default.
        grid: degrees between points, ``LATxLON`` points, or a store whose grid to take; the source's own by
            default.
        method: ``conservative`` (the default), ``bilinear`` or ``spectral``, to ``grid``.
        train_period: period for statistics.
        allow_gaps: record gaps in time instead of refusing them.
        memory: bytes that the process may come to use.
        scheduler: address of a Dask scheduler, or ``local:N`` for N processes.
        append: add later times to the store.
        dry_run: only return the plan.
        overwrite: replace an existing store.
        progress: called with (done, in all, text).
        allow_missing: take chunks that a source lacks for fill values.
        kind: of the store, ``zarr`` (the default) or ``icechunk``; a store that is appended to stays what it
            is.
        rename: new names of variables, by the source's or the canonical name.
        static: variables that do not change with time although their source gives them times.
        follow_links: follow links within a source that lead outside of it.

    Returns:
        The plan where it is a dry run, else nothing.

    Raises:
        FileExistsError: the store exists and may not be replaced.
        FileNotFoundError: a source does not exist, or the store to append to.
        ValueError: a source does not fit; the message says which, where and how to mend it.
    """
    path, select = Path(output), select or Selection()
    if not append:
        check_output(path, "store")
    if append and overwrite:
        raise ValueError("--append adds to a store and --overwrite replaces it; choose one")
    if method is not None and grid is None:
        raise ValueError(
            f"--method {method} has no use without --grid; name the grid to regrid to, or leave it out"
        )
    if append and train_period is not None:
        _same_period(path, train_period)
    if append and kind is not None and (kind == "icechunk") != is_repository(path):
        raise ValueError(f"--store {kind} has no use with --append: {path} stays what it is; leave it out")
    kind, method = kind or "zarr", method or "conservative"
    if kind not in ("zarr", "icechunk"):
        raise ValueError(f"--store {kind} is not known; use zarr or icechunk")
    begun = kind == "icechunk" and is_repository(path)  # which may be an unfinished one, and is asked later
    if path.exists() and not (overwrite or append or dry_run or begun):
        raise FileExistsError(
            f"{path} exists; pass --overwrite to replace it, --append to add later times, or choose another "
            "name"
        )
    check_apart(path, [*expand(sources), grid])
    made_from = f"{origin(sources)} {select} {sorted((units or {}).items())} {layout} {grid} {method}"
    made_from += f" {sorted(rename.items())}" if rename else ""
    made_from += f" static {sorted(static)}" if static else ""
    chunk_bytes = min(2**25, memory // 64)
    options: Any = {
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
        joined = join_sources(sources, select, **options)
        dataset = stack.enter_context(joined.dataset)
        if grid is not None and not joined.regridded:
            dataset = regrid(dataset, parse_grid(str(grid), dataset), method)
        if dry_run:
            return make_plan(dataset, train_period, allow_gaps=allow_gaps, memory=memory).describe().to_dict()
        options = {
            "allow_gaps": allow_gaps,
            "memory": memory,
            "scheduler": scheduler,
            "origin": made_from,
            "progress": progress,
        }
        if append:
            append_store(dataset, path, source=joined.paths, **options)
        else:
            write_store(
                dataset, path, train_period, overwrite=overwrite, icechunk=kind == "icechunk", **options
            )
    return {}


def _same_period(path: Path, train_period: str) -> None:
    """Raise ``ValueError`` unless a training period is that of the store, whose statistics an append leaves
    alone.
    """
    store = open_store(path)
    times = store.dataset["time"].values
    fit = times[period(times, train_period)]
    if (str(fit[0]), str(fit[-1])) != store.train_period:
        first, last = (text[:16] for text in store.train_period)
        raise ValueError(
            f"--train-period {train_period} has no use with --append: statistics stay those of {first} ... "
            f"{last}; leave it out"
        )


def parse_names(option: str, text: str | None) -> list[str] | None:
    """Return the names of an option's text, separated by commas; raises ``ValueError`` where one is empty."""
    names = None if text is None else [name.strip() for name in text.split(",")]
    if names is not None and not all(names):
        raise ValueError(f"--{option} {text!r} is not understood; write names separated by commas")
    return names


def parse_levels(text: str | None) -> tuple[int, ...] | None:
    """Return pressures in hPa; raises ``ValueError`` where one is no number."""
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--levels {text} is not understood; write pressures in hPa, e.g. --levels 850,500"
        ) from None


def parse_pairs(option: str, pairs: Sequence[str], example: str) -> dict[str, str]:
    """Return values by name of an option's texts NAME=VALUE; raises ``ValueError`` where one is none."""
    given = dict(pair.partition("=")[::2] for pair in pairs)
    names = [pair.partition("=")[0] for pair in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"--{option} names {twice[0]} twice; give it once")
    if lacking := [name for name, value in given.items() if not value]:
        raise ValueError(
            f"--{option} {lacking[0]} is not understood; write --{option} NAME=..., e.g. --{option} {example}"
        )
    return given
