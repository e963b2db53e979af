"""Matching of variables of two data sets by name, name in the source, or physical quantity."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import xarray as xr

from .adapters.vocabulary import (
    ALIASES,
    CONSTANT_FILE_NAMES,
    CONSTANT_STANDARD_NAMES,
    CONSTANT_TERMS,
    ON_LEVELS,
    SINGLE,
    Term,
)
from .scalars import check_same_place, level_of, scalars_of, with_scalars
from .schema import LEVEL_VARIABLES
from .units import conversion_or_none

_AT_HEIGHT = re.compile(r"(\d+)m_")


@dataclass(frozen=True)
class Identity:
    """Names and attributes that identify the quantity of a variable.

    Attributes:
        name: name in its data set.
        attrs: CF attributes; ``source_name`` is the name in the file it came from.
        on_levels: whether the variable is on one or more pressure levels.
    """

    name: str
    attrs: Mapping[Any, Any]
    on_levels: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Name in the data set and names in the source."""
        return tuple(
            str(n) for n in (self.name, self.attrs.get("source_name"), self.attrs.get("GRIB_shortName")) if n
        )

    @property
    def term(self) -> Term | None:
        """Entry of the vocabulary, if standard name or names identify it and the units are compatible."""
        standard = str(self.attrs.get("standard_name"))
        height = scalars_of(self.attrs).get("height")
        terms: list[Term] = []
        if self.on_levels and standard in LEVEL_VARIABLES:
            terms = [ON_LEVELS[LEVEL_VARIABLES[standard][0]]]
        elif not self.on_levels and standard:
            same = [term for term in SINGLE.values() if term.standard_name == standard]
            terms = [
                t for t in same if (match := _AT_HEIGHT.match(t.name)) is None or height == f"{match[1]} m"
            ]
        if len(terms) != 1:
            terms = [ALIASES[name] for name in self.names if name in ALIASES]
        units = str(self.attrs.get("units") or "")
        return terms[0] if terms and conversion_or_none(units or terms[0].units, terms[0].units) else None

    @property
    def aliases(self) -> set[str]:
        """All known names of the quantity."""
        term = self.term
        return {*self.names, *(name for name, other in ALIASES.items() if other is term)}

    @property
    def constant(self) -> bool:
        """Whether the quantity does not change with time, such as orography or a land-sea mask."""
        attrs = self.attrs
        title = str(attrs.get("long_name", "")).lower()
        surface = attrs.get("GRIB_typeOfLevel") == "surface" or "surface" in title or "orography" in title
        term = self.term
        return (
            str(attrs.get("standard_name")) in CONSTANT_STANDARD_NAMES
            or any(name.lower() in CONSTANT_FILE_NAMES for name in self.names)
            or (term is not None and (term.name in CONSTANT_TERMS or (self.geopotential and surface)))
        )

    @property
    def geopotential(self) -> bool:
        """Whether this is a geopotential without a level, which may be the surface geopotential."""
        return not self.on_levels and self.term is not None and self.term.name == "geopotential"


def identity(variable: xr.DataArray) -> Identity:
    """Return the identity of a variable of a canonical data set."""
    return Identity(
        str(variable.name), variable.attrs, "level" in variable.dims or level_of(variable.attrs) is not None
    )


def same_quantity(a: Identity, b: Identity) -> bool:
    """Return whether two variables of different names are the same quantity.

    Both must be on pressure levels or neither, with compatible units, and the same in the vocabulary, or in
    standard name and name in the source.
    """
    if (
        a.on_levels != b.on_levels
        or conversion_or_none(str(a.attrs.get("units")), str(b.attrs.get("units"))) is None
    ):
        return False
    first = a.term
    second = b.term
    if first is not None and second is not None:
        return first is second
    standards = {str(i.attrs["standard_name"]) for i in (a, b) if i.attrs.get("standard_name")}
    return len(standards) < 2 and a.attrs.get("source_name", a.name) == b.attrs.get("source_name", b.name)


def match_variables(expected: Mapping[str, Identity], available: Mapping[str, Identity]) -> dict[str, str]:
    """Return the available name of each expected variable.

    That is the same name, or the name of the only variable of the same quantity.

    Args:
        expected: identities of the expected variables by name.
        available: identities of the available variables by name.
    """
    matches = {name: name for name in expected if name in available}
    free = [name for name in available if name not in matches]
    candidates: dict[str, str] = {}
    for name in expected:
        if name in matches:
            continue
        equivalent = [other for other in free if same_quantity(expected[name], available[other])]
        if len(equivalent) == 1:
            candidates[name] = equivalent[0]
    uses = Counter(candidates.values())
    return matches | {name: other for name, other in candidates.items() if uses[other] == 1}


def find_variables(
    requested: tuple[str, ...], names: Mapping[str, set[str]], identities: Mapping[str, Identity]
) -> set[str]:
    """Return the variables that the requested names refer to.

    Args:
        requested: names of variables, or aliases of their quantities.
        names: all names of each variable, by its own name; they take precedence over aliases.
        identities: identity of each variable.
    """
    selected: set[str] = set()
    for name in requested:
        exact = {n for n in names if name in names[n]}
        selected |= exact or {n for n in names if name in identities[n].aliases}
    return selected


def select_place(
    variable: xr.DataArray,
    *,
    levels: list[int] | None,
    scalars: Mapping[str, str],
    source: str,
    owner: str,
) -> xr.DataArray:
    """Return a variable on the levels and at the scalar coordinates that a store or model expects.

    Args:
        variable: variable of a canonical data set.
        levels: expected pressures [hPa] in order; None if the store or model has no dimension of levels.
        scalars: expected scalar coordinates.
        source: name of the source for messages.
        owner: name of the store or model for messages.

    Raises:
        ValueError: a scalar coordinate differs, or a level is missing.
    """
    name = str(variable.name)
    if "level" not in variable.dims:
        check_same_place(name, scalars_of(variable.attrs), scalars, source=source, owner=owner)
    single = level_of(variable.attrs)
    available = [] if single is None else [single]
    if "level" in variable.dims:
        available = variable["level"].values.tolist()
    if levels is None and "level" not in variable.dims:
        return variable
    expected = levels
    if expected is None and (level := level_of(with_scalars({}, scalars))) is not None:
        expected = [level]
    if expected is None and len(available) > 1:
        raise ValueError(
            f"{source}: {name!r} has levels, but that of {owner} has none; select one with ds.sel(level=...)"
        )
    if missing := [level for level in expected or () if level not in available]:
        hint = f"; it has {', '.join(map(str, available))} hPa" if available else ""
        raise ValueError(f"{source}: {name!r} lacks level {missing[0]} hPa, which {owner} needs{hint}")
    if "level" not in variable.dims:
        return variable.expand_dims(level=expected, axis=1)
    return variable.sel(level=levels) if levels else variable.sel(level=(expected or available)[0], drop=True)
