"""Conversion of variables to canonical names, units, dimension order and data type."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from .. import units as cf_units
from ..errors import DataError
from ..identity import identity
from ..ingest.select import Selection, places_along
from ..scalars import ATTRIBUTE as SCALARS
from ..schema import DIMENSIONS, LEVEL_VARIABLES, STANDARD_UNITS
from ..store.names import reserved


def selectable_variables(dataset: xr.Dataset, axes: tuple[str, str], select: Selection) -> list[str]:
    """Return the variables along both horizontal axes that a selection may include.

    Args:
        dataset: data set.
        axes: names of the horizontal axes.
        select: selection.
    """
    requested = None if select.variables is None else set(select.variables)
    return [
        str(n)
        for n, v in dataset.data_vars.items()
        if set(axes) <= set(v.dims) and (requested is None or _selection_names(str(n), v) & requested)
    ]


def _selection_names(name: str, variable: xr.DataArray) -> set[str]:
    """Return the names that may select a variable, before its vertical axis is known."""
    on_levels = LEVEL_VARIABLES.get(str(variable.attrs.get("standard_name")))
    return identity(variable).aliases | {name} | ({on_levels[0]} if on_levels else set())


def canonical_name(name: str, variable: xr.DataArray) -> str:
    """Return the WeatherBench2 name of a variable on several pressure levels; other names as they are.

    Args:
        name: name of the variable in its source.
        variable: variable with canonical axes.
    """
    standard = str(variable.attrs.get("standard_name"))
    on_levels = variable.sizes.get("level", 1) > 1 and standard in LEVEL_VARIABLES
    return LEVEL_VARIABLES[standard][0] if on_levels else name


def canonical_field(
    name: str,
    variable: xr.DataArray,
    source: str,
    *,
    units: Mapping[str, str],
    rename: Mapping[str, str],
    extra_dims: tuple[str, ...] = (),
) -> xr.DataArray:
    """Return a variable with canonical name, units and dimension order, as float32; lazy.

    Args:
        name: name of the variable in its source.
        variable: variable with canonical axes.
        source: path, for error messages.
        units: units by name, which override those of the source.
        rename: new names by the source's or the canonical name.
        extra_dims: further axes to keep; their variables may lack units.

    Raises:
        ValueError: the variable has another dimension or members, invalid units or a reserved name.
    """
    extra = [d for d in variable.dims if d not in DIMENSIONS and d not in extra_dims]
    for dim in extra:
        if variable.sizes[dim] > 1:
            position = places_along(variable[dim].values)[0]
            raise DataError(
                f"{source}: {name!r} has a dimension {dim!r} of size {variable.sizes[dim]}; "
                f"select one position along it, e.g. {dim}={position}",
                option="select",
                example=f"{dim}={position}",
            )
    variable = variable.isel(dict.fromkeys(extra, 0), drop=True)
    if "number" in variable.dims and "number" not in extra_dims:
        raise DataError(
            f"{source}: {name!r} has {variable.sizes['number']} members; select one, e.g. member 0",
            option="member",
            example="0",
        )
    standard = variable.attrs.get("standard_name")
    standard = None if standard == "unknown" else standard  # as in GRIB tables
    new_name = canonical_name(name, variable)
    original = variable.attrs.get("source_name", name)
    names = (name, new_name, original, str(variable.attrs.get("GRIB_shortName", name)))
    if "level" in variable.dims:
        standard = next((s for s, (wb, _) in LEVEL_VARIABLES.items() if wb == new_name), standard)
    expected = STANDARD_UNITS.get(str(standard))
    try:
        stored = variable.attrs.get("units") or (None if "time" in variable.dims else "1")
        own = next((units[n] for n in names if n in units), stored)
        own = "" if extra_dims and not own else cf_units.normalise(own)
        target = (expected if own else "") or ("K" if own == "degC" else own)
        factor, offset = cf_units.conversion(own, target) if own else (1.0, 0.0)
    except ValueError as error:
        hint = f" (its standard name is {standard})" if expected else ""
        raise DataError(
            f"{source}: {name!r} {error}{hint}; set its attribute units, or override its units",
            option="units",
            example=f"{name}=...",
        ) from error
    attrs = {k: v for k, v in variable.attrs.items() if k in ("long_name", "cell_methods", SCALARS)}
    attrs |= {"units": target, "source_name": original} | ({"standard_name": standard} if standard else {})
    if (factor, offset) != (1.0, 0.0):
        variable = variable * factor + offset
    order = dict.fromkeys(("time", *extra_dims, *DIMENSIONS))
    variable = variable.astype(np.float32).transpose(*[d for d in order if d in variable.dims])
    variable.attrs = attrs
    variable.encoding = {}
    new_name = next((rename[n] for n in names if n in rename), new_name)
    if reserved(new_name):
        raise DataError(
            f"{source}: {name!r} cannot be the name of a variable in a store; rename it",
            option="rename",
            example=f"{name}=...",
        )
    return variable.rename(new_name)
