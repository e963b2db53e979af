"""Many files or stores as one canonical data set."""

import glob
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from ..schema import axes_of, nearest
from ..selection import Selection
from .cf import canonical
from .opening import open_lazily

log = logging.getLogger(__name__)

_WASTE = 4  # times as many bytes read as kept, from which on it is worth a word


def open_sources(
    sources: Sequence[str | Path],
    select: Selection | None = None,
    units: Mapping[str, str] | None = None,
    layout: str | None = None,
    chunk_bytes: int = 2**25,
    allow_missing: bool = False,
    grid: str | None = None,
    method: str = "conservative",
) -> xr.Dataset:
    """Open files or stores of any known layout as one canonical data set.

    Sources with the same variables follow one another in time; others are merged, and must agree in their coordinates.

    Args:
        sources: paths, patterns with ``*``, or URLs of zarr stores.
        select: what to keep.
        units: units to set on variables whose files have none or wrong ones.
        layout: name of the layout; recognised by default.
        chunk_bytes: bytes of a variable read at once.
        allow_missing: take chunks that a zarr store lacks for fill values, instead of raising ``ValueError`` when they are read.
        grid: what to regrid curvilinear sources to, as ``canonical`` takes it; ``encoding["regridded"]`` of the result says whether any was.
        method: how to regrid them.

    Raises:
        FileNotFoundError: a source does not exist.
        ValueError: a source cannot be read or does not fit; the message says which, where and how to mend it.
    """
    select = select or Selection()
    paths = [path for source in sources for path in _expand(str(source))]
    costs: list[tuple[int, int]] = []
    names: set[str] = set()
    regridded = False
    axes: set[str] = set()
    series: dict[frozenset[str], list[tuple[str, xr.Dataset]]] = {}
    for path in paths:
        dataset = canonical(open_lazily(path, not allow_missing, select.variables), path, units, select, layout, chunk_bytes, grid, method)
        regridded |= dataset.encoding["regridded"]
        names |= dataset.encoding["names"]
        axes |= dataset.encoding["axes"]
        if dataset.sizes["time"]:
            costs.append(dataset.encoding["bytes_of_a_time"])
            series.setdefault(frozenset(map(str, dataset.data_vars)), []).append((path, dataset))
    for option, given, known in (("units", list(units or {}), names), ("select", [name for name, _ in select.at], axes)):
        if unknown := [name for name in given if name not in known]:
            raise ValueError(f"--{option} names {unknown[0]!r}, which {', '.join(paths[:3])} does not hold; {nearest(unknown[0], sorted(known))}")
    read, kept = costs[0] if costs else (0, 0)
    if read > _WASTE * kept:
        log.warning(
            "%s: %.3g MB are read for each time and %.3g MB of them kept, since its chunks hold more levels or a larger area; "
            "select at once all that you will need",
            paths[0], read / 1e6, kept / 1e6,
        )  # fmt: skip
    if not series:
        raise ValueError(f"{', '.join(paths[:3])} holds no time of the period {select.times}")
    parts = []
    for members in series.values():
        members.sort(key=lambda member: member[1]["time"].values[0])
        first = members[0]
        for path, dataset in members[1:]:
            _same_coordinates(first, (path, dataset), (*axes_of(first[1]), "level"))
        parts.append((first[0], xr.concat([d for _, d in members], "time", data_vars="minimal", coords="minimal", compat="override")))
    for other in parts[1:]:
        _same_coordinates(parts[0], other, ("time", *axes_of(parts[0][1])), optional=("level",))
    dataset = xr.merge([d for _, d in parts], compat="override", join="outer", combine_attrs="override")
    dataset = dataset[[name for _, d in parts for name in d.data_vars]]  # merging sorts them
    held = {name for d in dataset.data_vars.values() for name in (d.name, d.attrs["source_name"])}
    if missing := [name for name in select.variables or () if name not in held]:
        raise ValueError(f"{', '.join(paths[:3])} has no variable {missing[0]!r}; {nearest(missing[0], dataset.data_vars)}")
    dataset = dataset.isel(time=select.thin(dataset["time"].values))
    dataset.encoding["regridded"] = regridded
    return dataset


def origin(sources: Sequence[str | Path]) -> str:
    """Return a text that tells sources from others of the same names: paths, sizes and times of change."""
    said = []
    for path in [path for source in sources for path in _expand(str(source))]:
        here = Path(path)
        metadata = [here, *(here / name for name in ("zarr.json", ".zmetadata", ".zgroup"))]
        stats = [m.stat() for m in metadata if m.is_file()]
        said.append(f"{path if '://' in path else here.absolute()} {[(s.st_size, s.st_mtime_ns) for s in stats]}")
    return "; ".join(said)


def _expand(source: str) -> list[str]:
    if "*" not in source or "://" in source:
        return [source]
    found = sorted(glob.glob(source))
    if not found:
        raise FileNotFoundError(f"no file matches {source}; check the pattern")
    return found


def _same_coordinates(a: tuple[str, xr.Dataset], b: tuple[str, xr.Dataset], names: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Raise unless both have the same of each coordinate; an optional one may be missing from either."""
    for name in [*names, *optional]:
        if (name in a[1].coords) != (name in b[1].coords):
            if name in optional:
                continue
            raise ValueError(f"{a[0]} and {b[0]} differ: only one has {name}")
        if name in a[1].coords and not np.array_equal(a[1][name].values, b[1][name].values):
            raise ValueError(f"{a[0]} and {b[0]} differ in {name}; ingest them apart, or put them on one grid first")
