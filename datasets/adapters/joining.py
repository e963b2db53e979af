"""Combination of the data sets of several files along time, along levels, and as separate variables.

A variable in two files forms a series only if level, height, member and all other scalar coordinates agree.
Different levels at the same times become a level axis, and different heights become separate variables;
anything else is an error.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...fno.grids import match_axis
from ..errors import DataError
from ..identity import Identity, identity, match_variables
from ..scalars import describe_scalars, differing, level_of, scalars_of, with_scalars
from ..schema import LEVEL_VARIABLES, axes_of
from ..units import conversion_or_none

log = logging.getLogger(__name__)

Part = tuple[str, xr.Dataset]
"""A source and its canonical data set."""
Piece = tuple[str, xr.DataArray]
"""A source and one of its variables."""


@dataclass
class Group:
    """Pieces of a variable with the same levels and scalar coordinates, which follow one another in time.

    Attributes:
        levels: pressures [hPa] of an axis or of a single level; empty if unknown.
        scalars: other scalar coordinates, the union of those of all pieces.
        pieces: sources and fields.
    """

    levels: tuple[int, ...]
    scalars: dict[str, str]
    pieces: list[Piece] = field(default_factory=list)

    @property
    def source(self) -> str:
        """Source of the first piece."""
        return self.pieces[0][0]

    @property
    def times(self) -> NDArray[np.datetime64]:
        """Sorted times of all pieces."""
        return np.sort(np.concatenate([piece["time"].values for _, piece in self.pieces]))

    @property
    def place(self) -> str:
        """Levels and scalar coordinates, for error messages."""
        levels = [f"level {' and '.join(map(str, self.levels))} hPa"] if self.levels else []
        return ", ".join(levels + [describe_scalars(self.scalars)] * bool(self.scalars)) or "an unknown level"

    def accepts(self, levels: tuple[int, ...], scalars: dict[str, str]) -> bool:
        """Return whether a piece belongs to the group; a single level matches an unknown one.

        Args:
            levels: pressures of the piece [hPa].
            scalars: its other scalar coordinates.
        """
        unknown = (not levels or not self.levels) and len(levels or self.levels) < 2
        return (unknown or set(self.levels) == set(levels)) and differing(self.scalars, scalars) is None

    def add(self, source: str, variable: xr.DataArray) -> None:
        """Add a piece that the group accepts."""
        self.pieces.append((source, variable))
        levels, scalars = _place(variable)
        self.levels = self.levels or levels
        self.scalars = scalars | self.scalars

    def series(self, along_level: bool = False) -> xr.DataArray:
        """Concatenate the pieces in the order of their times, which may alternate between pieces.

        Args:
            along_level: whether the result has a level axis even if no piece has one.

        Raises:
            ValueError: two pieces contain the same time.
        """
        pieces = sorted(self.pieces, key=lambda piece: piece[1]["time"].values[0])
        _check_disjoint(pieces)
        along_level |= any("level" in piece.dims for _, piece in pieces)
        scalars = dict(self.scalars)
        if along_level:
            pieces = [(source, _on_axis(piece, self.levels)) for source, piece in pieces]
        elif self.levels:
            scalars["level"] = f"{self.levels[0]} hPa"
        fields = [piece for _, piece in pieces]
        joined = _in_order(_concat(fields, "time")) if len(fields) > 1 else fields[0]
        return joined.assign_attrs(with_scalars(self.pieces[0][1].attrs, scalars)) if scalars else joined


def _place(variable: xr.DataArray) -> tuple[tuple[int, ...], dict[str, str]]:
    """Return the levels [hPa] and the other scalar coordinates of a variable."""
    scalars = scalars_of(variable.attrs)
    level = level_of(variable.attrs)
    scalars.pop("level", None)
    axis = tuple(variable["level"].values.tolist()) if "level" in variable.dims else ()
    return axis or (() if level is None else (level,)), scalars


def _check_disjoint(pieces: Sequence[Piece]) -> None:
    """Raise ``ValueError`` if any two pieces contain the same time."""
    times = np.concatenate([piece["time"].values for _, piece in pieces])
    owners = np.repeat(np.arange(len(pieces)), [piece.sizes["time"] for _, piece in pieces])
    order = np.lexsort((owners, times))
    times = times[order]
    owners = owners[order]
    shared = np.flatnonzero((times[1:] == times[:-1]) & (owners[1:] != owners[:-1]))
    if len(shared):
        at = shared[0]
        a, b = (pieces[owner] for owner in owners[at : at + 2])
        raise DataError(
            f"{a[0]} and {b[0]} both contain {a[1].name!r} at {times[at].astype('datetime64[m]')}; "
            "leave one of them out, or select a period",
            option="times",
        )


def _in_order(series: xr.DataArray) -> xr.DataArray:
    """Return a series in the order of its times."""
    times = series["time"].values
    return series if (times[1:] >= times[:-1]).all() else series.isel(time=np.argsort(times, kind="stable"))


def _concat(fields: Sequence[xr.DataArray], along: str) -> xr.DataArray:
    return xr.concat(fields, along, coords="minimal", compat="override", combine_attrs="override")


def _on_axis(variable: xr.DataArray, levels: tuple[int, ...]) -> xr.DataArray:
    """Return a variable with an axis of the given levels [hPa], in their order."""
    if "level" not in variable.dims:
        attrs = {"standard_name": "air_pressure", "units": "hPa", "positive": "down"}
        variable = variable.expand_dims(level=np.array(levels, np.int32), axis=1)
        variable = variable.assign_coords(level=("level", variable["level"].values, attrs))
        variable.attrs = with_scalars(variable.attrs, _place(variable)[1])
    return variable if variable["level"].values.tolist() == list(levels) else variable.sel(level=list(levels))


def join(parts: Sequence[Part]) -> xr.Dataset:
    """Join the canonical data sets of several sources on the coordinates of the first.

    Raises:
        ValueError: grids, times, levels, units or scalar coordinates are incompatible; the message names both
            sources.
    """
    first = parts[0]
    groups: dict[str, list[Group]] = {}
    known: dict[str, Identity] = {}
    for source, dataset in parts:
        aligned = align(dataset, first, source)
        identities = {str(n): identity(v) for n, v in aligned.data_vars.items()}
        names = {new: old for old, new in match_variables(known, identities).items()}
        for own_name, own in identities.items():
            name = names.get(own_name, own_name)
            known.setdefault(name, replace(own, name=name))
            _check_units(known[name], groups, own, source=source)
            _add(groups.setdefault(name, []), source, aligned[own_name].rename(name))
    fields: dict[str, tuple[str, xr.DataArray]] = {}
    for name, variable_groups in groups.items():
        for variable in _combine_groups(name, variable_groups):
            new = str(variable.name)
            if new in fields:
                raise DataError(
                    f"{fields[new][0]} and {variable_groups[0].source} contain {new!r} and {name!r}, "
                    f"which both become {new!r}; rename one of them",
                    option="rename",
                    example=f"{name}=...",
                )
            fields[new] = (variable_groups[0].source, variable)
    return _merge(fields, first[1])


def align(dataset: xr.Dataset, reference: Part, source: str, *, cut: bool = False) -> xr.Dataset:
    """Return a data set on the horizontal coordinates of another one.

    Args:
        dataset: data set to align.
        reference: source and data set whose coordinates to use.
        source: source of ``dataset``, for error messages.
        cut: whether ``dataset`` may have more points.

    Raises:
        ValueError: the coordinates differ.
    """
    for name in axes_of(reference[1]):
        if name not in dataset.coords:
            raise ValueError(f"{reference[0]} and {source} differ: only one has {name}")
        target = reference[1][name].values
        own = dataset[name].values
        positions = match_axis(target, own, name) if cut or len(target) == len(own) else None
        if positions is None:
            raise ValueError(
                f"{reference[0]} and {source} differ in {name}; "
                "ingest them separately, or regrid them to one grid first"
            )
        if not np.array_equal(positions, np.arange(len(own))):
            dataset = dataset.isel({name: positions})
        dataset = dataset.assign_coords({name: reference[1][name].variable})
    return dataset


def _check_units(first: Identity, groups: dict[str, list[Group]], other: Identity, *, source: str) -> None:
    """Raise ``ValueError`` if a variable has other units in another source."""
    a = str(first.attrs["units"])
    b = str(other.attrs["units"])
    if a != b and conversion_or_none(b, a) != (1.0, 0.0):
        raise DataError(
            f"{source} has {other.name!r} in {b!r}, {groups[first.name][0].source} in {a!r}; "
            "convert one of them, or override its units if they are wrong",
            option="units",
        )


def _add(groups: list[Group], source: str, variable: xr.DataArray) -> None:
    """Add a piece to the first group that accepts it, or to a new one."""
    levels, scalars = _place(variable)
    group = next((g for g in groups if g.accepts(levels, scalars)), None)
    if group is None:
        group = Group(levels, scalars)
        groups.append(group)
    group.add(source, variable)


def _combine_groups(name: str, groups: list[Group]) -> list[xr.DataArray]:
    """Return one variable for a single group or several levels, or several variables for several heights."""
    if len(groups) == 1:
        return [groups[0].series()]
    a, b = groups[:2]
    if bool(a.levels) != bool(b.levels):
        raise DataError(
            f"{a.source} and {b.source} differ: only one has a level for {name!r}; "
            "leave one out, or rename one",
            option="rename",
        )
    key = differing(a.scalars, b.scalars)
    if key == "number":
        members = f"{a.scalars['number']} and {b.scalars['number']}"
        raise DataError(
            f"{a.source} and {b.source} contain the members {members} of {name!r}; select one",
            option="member",
            example=a.scalars["number"],
        )
    if not all(np.array_equal(a.times, other.times) for other in groups[1:]):
        hint = ", or select levels that all have" if a.levels else ""
        raise DataError(
            f"{a.source} has {name!r} at {a.place}, {b.source} at {b.place}, at other times; "
            f"these are different fields: leave one out{hint}",
            option="levels" if a.levels else None,
        )
    if key is None:
        return [_along_levels(name, groups)]
    suffixes = [re.sub(r"[^\w.]+", "", group.scalars.get(key, "")) for group in groups]
    if a.levels != b.levels or "" in suffixes or len(set(suffixes)) < len(groups):
        raise ValueError(
            f"{a.source} has {name!r} at {a.place}, {b.source} at {b.place}; "
            "these are different fields: leave one out"
        )
    renamed = [f"{name}_{suffix}" for suffix in suffixes]
    log.warning(
        "%s is at %s; they become the variables %s",
        name,
        " and ".join(group.place for group in groups),
        ", ".join(renamed),
    )
    return [group.series().rename(new) for group, new in zip(groups, renamed, strict=True)]


def _along_levels(name: str, groups: list[Group]) -> xr.DataArray:
    """Return one variable on the levels of all groups, by increasing pressure unless a source decreases."""
    sources: dict[int, str] = {}
    for group in groups:
        if (differing_scalar := differing(group.scalars, groups[0].scalars)) is not None:
            raise ValueError(
                f"{groups[0].source} and {group.source} differ in {differing_scalar} of {name!r}: "
                f"{groups[0].place} and {group.place}"
            )
        for level in group.levels:
            if level in sources:
                raise ValueError(
                    f"{sources[level]} and {group.source} both contain {name!r} at {level} hPa "
                    "at the same times; leave one out"
                )
            sources[level] = group.source
    decreasing = any(len(group.levels) > 1 and group.levels[0] > group.levels[1] for group in groups)
    series = [group.series(along_level=True) for group in groups]
    joined = _concat(series, "level")
    joined = joined.transpose(*series[0].dims).sel(level=sorted(sources, reverse=decreasing))
    standard = str(joined.attrs.get("standard_name"))
    return joined.rename(LEVEL_VARIABLES[standard][0] if standard in LEVEL_VARIABLES else name)


def _merge(fields: dict[str, tuple[str, xr.DataArray]], first: xr.Dataset) -> xr.Dataset:
    """Return variables, which must have the same times and levels, as one data set."""
    variables: dict[str, xr.DataArray] = {}
    (source, reference), *_ = fields.values()
    on_levels: tuple[str, list[int]] | None = None
    for name, (other, variable) in fields.items():
        if not np.array_equal(variable["time"].values, reference["time"].values):
            single = next((n for n, (_, v) in fields.items() if v.sizes["time"] == 1), None)
            what = f"{source} and {other} differ in time; ingest them separately, or"
            if single:
                raise DataError(
                    f"{what} declare {single!r} as static if it never changes",
                    option="static",
                    example=single,
                )
            raise DataError(f"{what} select a period that all of them cover", option="times")
        levels = variable["level"].values.tolist() if "level" in variable.dims else None
        if levels and on_levels is None:
            on_levels = (other, levels)
        if levels and on_levels and set(on_levels[1]) != set(levels):
            raise DataError(
                f"{on_levels[0]} and {other} differ in level: {on_levels[1]} and {levels} hPa; "
                "select those that both have",
                option="levels",
            )
        ordered = (
            variable.sel(level=on_levels[1]) if levels and on_levels and on_levels[1] != levels else variable
        )
        variables[name] = ordered.drop_vars([c for c in ordered.coords if c not in ordered.dims])
    return xr.Dataset(variables, attrs=first.attrs)
