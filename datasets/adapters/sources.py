"""Opening of one or several files or stores as one canonical data set."""

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
from ..source import JoinedSources, Source, dataset_only
from ..store.names import fault, reserved
from ..suggestions import suggest
from .cf import canonical_source
from .joining import join
from .opening import open_lazily
from .static import split_constants, static_fields

log = logging.getLogger(__name__)

_WASTE = 4  # ratio of bytes read to bytes kept that is worth a warning


def join_sources(
    sources: Sequence[str | Path],
    select: Selection | None = None,
    *,
    units: Mapping[str, str] | None = None,
    layout: str | None = None,
    chunk_bytes: int = 2**25,
    allow_missing: bool = False,
    grid: str | None = None,
    method: str = "conservative",
    rename: Mapping[str, str] | None = None,
    static: Sequence[str] = (),
    follow_links: bool = False,
    memory: int | None = None,
) -> JoinedSources:
    """Open files or stores of any known layout as one canonical data set.

    Sources with the same variables are concatenated along time, see ``joining``; others are merged. The
    result has the coordinates of the first source. Variables with different known names, such as t2m and
    2m_temperature, are joined under the first source's name. A source without times, or with a single time
    and constant fields such as orography, provides static fields.

    Args:
        sources: paths, patterns with ``*``, or URLs of zarr stores.
        select: what to keep; everything by default.
        units: units by variable, for files with missing or wrong units.
        layout: name of the layout; recognised by default.
        chunk_bytes: bytes of a variable per dask chunk.
        allow_missing: whether missing chunks of a zarr store are read as fill values, instead of raising
            ``ValueError``.
        grid: target grid of curvilinear sources, see ``canonical_source``.
        method: regridding method.
        rename: new names by the source's or the canonical name of a variable.
        static: variables that do not change with time although they have times in their source.
        follow_links: whether to follow links that lead out of a source.
        memory: memory limit [bytes] for the chunks of stores; ``memory_limit()`` by default.

    Raises:
        FileNotFoundError: a source does not exist.
        ValueError: a source cannot be read or is incompatible with the others.
    """
    select = select or Selection()
    rename = rename or {}
    check_names(rename)
    paths = expand(sources)
    with ExitStack() as files:  # closes the files if there is an error
        parts: list[Source] = []
        refusals: list[NothingSelectedError] = []
        options: Any = {
            "units": units,
            "select": select,
            "layout": layout,
            "chunk_bytes": chunk_bytes,
            "grid": grid,
            "method": method,
            "rename": rename,
            "static": static,
            "one_of_several": len(paths) > 1,
        }
        for path in paths:
            raw = files.enter_context(
                open_lazily(
                    path, not allow_missing, select.variables, follow_links=follow_links, memory=memory
                )
            )
            try:
                part = canonical_source(raw, path, **options)
            except NothingSelectedError as error:
                refusals.append(error)
            else:
                parts.append(part)
        if not parts:
            raise refusals[0]
        named = {"units": units or {}, "rename": rename, "static": static}
        _check_options(parts, select, named, sources=", ".join(paths[:3]))
        dataset = _joined(parts, select, ", ".join(paths[:3]))
        dataset.set_close(files.pop_all().close)
    return JoinedSources(", ".join(paths[:3]), dataset, regridded=any(part.regridded for part in parts))


open_sources = dataset_only(join_sources)
"""Return only the data set of ``join_sources``."""


def _check_options(
    parts: Sequence[Source], select: Selection, options: Mapping[str, Collection[str]], *, sources: str
) -> None:
    """Raise ``ValueError`` if an option refers to a name, level or member that no source has."""
    names = {name for part in parts for name in part.names}
    axes = {axis for part in parts for axis in part.axes}
    levels = list(dict.fromkeys(level for part in parts for level in part.levels))
    members = {member for part in parts for member in part.members}
    references = {option: (list(entries), names) for option, entries in options.items()}
    references["select"] = ([name for name, _ in select.at], axes)
    for option, (entries, known) in references.items():
        if unknown := [name for name in entries if name not in known]:
            raise DataError(
                f"{option} names {unknown[0]!r}, which {sources} does not contain; "
                f"{suggest(unknown[0], sorted(known))}",
                option=option,
            )
    if missing := [level for level in select.levels or () if level not in levels]:
        raise ValueError(
            f"{sources} has no level {missing[0]} hPa; "
            f"it has {', '.join(map(str, levels)) or 'no pressure levels'}"
        )
    if select.member is not None and not members:
        raise DataError(
            f"{sources} has no members to select; leave out member {select.member}", option="member"
        )


def _joined(parts: Sequence[Source], select: Selection, sources: str) -> xr.Dataset:
    """Return the selected times of all sources as one data set, with their static fields."""
    changing, static = split_constants(parts)
    used = [bool(part.data_vars) and bool(part.sizes["time"]) for _, part in changing]
    series = [part for part, kept in zip(changing, used, strict=True) if kept]
    if not series:
        what = f"time of the period {select.times}" if select.times else "variable that changes with time"
        raise ValueError(f"{sources} has no {what}")
    _warn_about_waste(parts[used.index(True)])
    dataset = join(series)
    dataset = dataset.assign_coords(static_fields(static, dataset, series[0][0]))
    known = {name for d in dataset.data_vars.values() for name in identity(d).aliases}
    known |= {name for n, c in dataset.coords.items() for name in (str(n), str(c.attrs.get("source_name")))}
    if missing := [name for name in select.variables or () if name not in known]:
        names = sorted({name for part in parts for name in part.names})
        raise ValueError(f"{sources} has no variable {missing[0]!r}; {suggest(missing[0], names)}")
    return dataset.isel(time=select.thin(dataset["time"].values))


def check_names(rename: Mapping[str, str]) -> None:
    """Raise ``ValueError`` if a new name is not valid for a variable."""
    for old, new in rename.items():
        if fault(new) or reserved(new):
            raise DataError(
                f"{new!r} cannot be the name of a variable, to rename {old!r} to", option="rename"
            )


def _warn_about_waste(source: Source) -> None:
    """Log a warning if most of the bytes that are read are not selected."""
    if source.bytes_read > _WASTE * source.bytes_kept:
        log.warning(
            "%s: %.3g MB are read per time and only %.3g MB of them kept, since its chunks contain more "
            "levels or a larger area; select everything that you will need in one run",
            source.path,
            source.bytes_read / 1e6,
            source.bytes_kept / 1e6,
        )


def origin(sources: Sequence[str | Path]) -> str:
    """Return a text that identifies the versions of sources: paths, sizes and modification times."""
    entries = []
    for path in expand(sources):
        local = Path(path)
        metadata = [local, *(local / name for name in ("zarr.json", ".zmetadata", ".zgroup"))]
        stats = [m.stat() for m in metadata if m.is_file()]
        entries.append(
            f"{path if '://' in path else local.absolute()} {[(s.st_size, s.st_mtime_ns) for s in stats]}"
        )
    return "; ".join(entries)


def expand(sources: Sequence[str | Path]) -> list[str]:
    """Return the paths and URLs of sources, with patterns (``*``) replaced by the matching files."""
    return [path for source in sources for path in _expand(str(source))]


def _expand(source: str) -> list[str]:
    if "*" not in source or "://" in source:
        return [source]
    paths = sorted(glob.glob(source))
    if not paths:
        raise FileNotFoundError(f"no file matches {source}; check the pattern")
    return paths
