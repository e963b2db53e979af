"""Many files or stores as one canonical data set."""

import glob
import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import xarray as xr

from ..errors import DataError
from ..identity import identity
from ..ingest.select import NothingSelectedError, Selection
from ..schema import nearest
from ..store.names import fault, reserved
from .cf import canonical
from .joining import Part, join
from .opening import open_lazily
from .static import split_constants, static_fields

log = logging.getLogger(__name__)

_WASTE = 4  # times as many bytes read as kept, from which on it is worth a word


def open_sources(
    sources: Sequence[str | Path],
    select: Selection | None = None,
    units: Mapping[str, str] | None = None,
    layout: str | None = None,
    chunk_bytes: int = 2**25,
    allow_missing: bool = False,
    *,
    grid: str | None = None,
    method: str = "conservative",
    rename: Mapping[str, str] | None = None,
    static: Sequence[str] = (),
    follow_links: bool = False,
    memory: int | None = None,
) -> xr.Dataset:
    """Open files or stores of any known layout as one canonical data set.

    Sources with the same variables follow one another in time, see ``joining``; others are merged.
    Coordinates are those of the first. Variables that go by another known name, such as t2m and
    2m_temperature, are joined under the first source's name. A source without times, or with one time and
    fields such as orography that never change, gives static fields.

    Args:
        sources: paths, patterns with ``*``, or URLs of zarr stores.
        select: what to keep.
        units: units to set on variables whose files have none or wrong ones.
        layout: name of the layout; recognised by default.
        chunk_bytes: bytes of a variable read at once.
        allow_missing: take chunks that a zarr store lacks for fill values, instead of raising ``ValueError``
            when they are read.
        grid: what to regrid curvilinear sources to, as ``canonical`` takes it; ``encoding["regridded"]`` of
            the result says whether any was.
        method: how to regrid them.
        rename: new names by the source's or the canonical name of a variable.
        static: variables that do not change with time although their source gives them times.
        follow_links: read also what links within a source lead to outside of it.
        memory: bytes that may be used, to which the chunks of stores are bounded; by default those of
            ``untrusted.memory_limit``.

    Raises:
        FileNotFoundError: a source does not exist.
        ValueError: a source cannot be read or does not fit; the message says which, where and how to mend it.
    """
    select, rename = select or Selection(), rename or {}
    check_names(rename)
    paths = expand(sources)
    with ExitStack() as files:  # closes them where something is refused
        parts: list[tuple[str, xr.Dataset]] = []
        refusals: list[NothingSelectedError] = []
        options: Any = {"grid": grid, "method": method, "rename": rename, "static": static}
        options["one_of_several"] = len(paths) > 1
        for path in paths:
            raw = files.enter_context(
                open_lazily(
                    path, not allow_missing, select.variables, follow_links=follow_links, memory=memory
                )
            )
            try:
                part = canonical(raw, path, units, select, layout, chunk_bytes, **options)
            except NothingSelectedError as error:
                refusals.append(error)
            else:
                parts.append((path, part))
        if not parts:
            raise refusals[0]
        _check_options(
            parts, select, {"units": units or {}, "rename": rename, "static": static}, ", ".join(paths[:3])
        )
        dataset = _joined(parts, select, ", ".join(paths[:3]))
        dataset.encoding["regridded"] = any(part.encoding["regridded"] for _, part in parts)
        dataset.encoding["sources"] = ", ".join(paths[:3])
        dataset.set_close(files.pop_all().close)
    return dataset


def _check_options(
    parts: Sequence[Part], select: Selection, options: Mapping[str, Collection[str]], sources: str
) -> None:
    """Raise ``ValueError`` where an option names what no source has."""
    names, axes, levels, members = (
        list(dict.fromkeys(entry for _, part in parts for entry in part.encoding[key]))
        for key in ("names", "axes", "levels", "members")
    )
    named = {option: (list(wanted), names) for option, wanted in options.items()}
    named["select"] = ([name for name, _ in select.at], axes)
    for option, (wanted, known) in named.items():
        if unknown := [name for name in wanted if name not in known]:
            raise DataError(
                f"{option} names {unknown[0]!r}, which {sources} does not contain; "
                f"{nearest(unknown[0], sorted(known))}",
                option=option,
            )
    if lacking := [level for level in select.levels or () if level not in levels]:
        raise ValueError(
            f"{sources} has no level {lacking[0]} hPa; it holds {', '.join(map(str, levels)) or 'no pressure levels'}"
        )
    if select.member is not None and not members:
        raise DataError(
            f"{sources} has no members to select; leave out member {select.member}", option="member"
        )


def _joined(parts: Sequence[Part], select: Selection, sources: str) -> xr.Dataset:
    """Return the selected times of all sources as one data set, with their static fields."""
    changing, static = split_constants(parts)
    series = [(path, part) for path, part in changing if part.data_vars and part.sizes["time"]]
    if not series:
        what = f"time of the period {select.times}" if select.times else "variable that changes with time"
        raise ValueError(f"{sources} holds no {what}")
    _warn_of_waste(*series[0])
    dataset = join(series)
    dataset = dataset.assign_coords(static_fields(static, dataset, series[0][0]))
    known = {name for d in dataset.data_vars.values() for name in identity(d).aliases}
    known |= {name for n, c in dataset.coords.items() for name in (str(n), str(c.attrs.get("source_name")))}
    if missing := [name for name in select.variables or () if name not in known]:
        names = sorted({name for _, part in parts for name in part.encoding["names"]})
        raise ValueError(f"{sources} has no variable {missing[0]!r}; {nearest(missing[0], names)}")
    return dataset.isel(time=select.thin(dataset["time"].values))


def check_names(rename: Mapping[str, str]) -> None:
    """Raise ``ValueError`` where a new name cannot be that of a variable."""
    for old, new in rename.items():
        if fault(new) or reserved(new):
            raise DataError(
                f"{new!r} cannot be the name of a variable, to rename {old!r} to", option="rename"
            )


def _warn_of_waste(path: str, dataset: xr.Dataset) -> None:
    read, kept = dataset.encoding["bytes_of_a_time"]
    if read > _WASTE * kept:
        log.warning(
            "%s: %.3g MB are read for each time and %.3g MB of them kept, since its chunks hold more levels or a larger area; "
            "select at once all that you will need",
            path,
            read / 1e6,
            kept / 1e6,
        )


def origin(sources: Sequence[str | Path]) -> str:
    """Return a text that tells sources from others of the same names: paths, sizes and times of change."""
    said = []
    for path in expand(sources):
        here = Path(path)
        metadata = [here, *(here / name for name in ("zarr.json", ".zmetadata", ".zgroup"))]
        stats = [m.stat() for m in metadata if m.is_file()]
        said.append(
            f"{path if '://' in path else here.absolute()} {[(s.st_size, s.st_mtime_ns) for s in stats]}"
        )
    return "; ".join(said)


def expand(sources: Sequence[str | Path]) -> list[str]:
    """Return the paths and URLs that sources name, patterns with ``*`` replaced by the files that match them."""
    return [path for source in sources for path in _expand(str(source))]


def _expand(source: str) -> list[str]:
    if "*" not in source or "://" in source:
        return [source]
    found = sorted(glob.glob(source))
    if not found:
        raise FileNotFoundError(f"no file matches {source}; check the pattern")
    return found
