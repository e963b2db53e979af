"""Lazy conversion of CF and COARDS data to the canonical data set."""

from collections.abc import Collection, Mapping

import xarray as xr

from ..errors import DataError
from ..identity import find_variables, identity
from ..ingest.select import NothingSelectedError, Selection, levels_in, members_in
from ..memory import check_bytes
from ..schema import DIMENSIONS, axes_of
from ..source import Source, dataset_only
from ..suggestions import suggest
from .axes import canonical_axes
from .chunking import bytes_per_time, chunk_time
from .curvilinear import find_curvilinear_grid
from .layouts import find_layout
from .projections import onto_latlon
from .static import first_of_constant, is_constant
from .variables import canonical_field, canonical_name, selectable_variables
from .versions import drop_superseded, fill_versions

# Attributes of simulations, which determine how a store is read.
_SIMULATION_ATTRIBUTES = ("system", "parameters", "seed", "checkpoint")


def canonical_source(
    dataset: xr.Dataset,
    source: str,
    *,
    units: Mapping[str, str] | None = None,
    select: Selection | None = None,
    layout: str | None = None,
    chunk_bytes: int = 2**25,
    grid: str | None = None,
    method: str = "conservative",
    rename: Mapping[str, str] | None = None,
    static: Collection[str] = (),
    one_of_several: bool = False,
    extra_dims: tuple[str, ...] = (),
) -> Source:
    """Convert a data set to the canonical one: names, units, order of axes; static fields as coordinates.

    Scalar coordinates, such as a height or a member, become the attribute ``scalar_coordinates`` of the
    variables.

    Args:
        dataset: data set of ``open_lazily`` or ``open_raw``, or a data set in memory.
        source: path, for error messages.
        units: units by variable, which override those of the source.
        select: what to keep. Variables that this source lacks are ignored, since another may have them.
        layout: name of the layout; recognised by default.
        chunk_bytes: bytes of a variable per dask chunk.
        grid: target grid of a curvilinear source, see ``projections.onto_latlon``; by default such a source
            is an error.
        method: regridding method.
        rename: new names by the source's or the canonical name of a variable.
        static: variables that do not change with time although they have times in the source.
        one_of_several: whether other sources may have the times and levels that this one lacks; a source
            without time then has only static fields.
        extra_dims: axes to keep that a time series does not have: ``prediction_timedelta`` and ``number`` of
            a forecast, whose variables may also lack units.

    Raises:
        NothingSelectedError: the source has no variable, level or member of the selection.
        ValueError: latitude, longitude or time is missing, there is no field, units are missing or wrong, or
            there is an extra dimension.
    """
    units = units or {}
    select = select or Selection()
    rename = rename or {}
    axes = {str(dim) for dim in dataset.dims}
    dataset = dataset.drop_vars(
        [n for n, v in dataset.variables.items() if any(dataset.sizes[d] == 0 for d in v.dims if d != "time")]
    )
    dataset = select.places(dataset, source)
    dataset = find_layout(dataset, layout).read(dataset, source)
    curvilinear = find_curvilinear_grid(dataset, source)
    if curvilinear is not None:
        if grid is None:
            raise curvilinear.regridding_error(source)
        used = selectable_variables(dataset, curvilinear.dims, select)
        dataset = onto_latlon(
            dataset, curvilinear, source, grid=grid, method=method, area=select.area, names=used
        )
    dataset = drop_superseded(
        canonical_axes(dataset, source, select, timeless=one_of_several, extra_dims=extra_dims)
    )
    horizontal = set(axes_of(dataset))
    on_grid = {str(n): v for n, v in dataset.data_vars.items() if horizontal <= set(v.dims)}
    known = [n for n, v in on_grid.items() if v.dtype.kind in ("fiu" if "time" in v.dims else "fiub")]
    identities = {n: identity(dataset[n]) for n in known}
    changing = [name for name in known if "time" in dataset[name].dims]
    fixed = [name for name in known if set(dataset[name].dims) == horizontal]
    called = {n: {*identities[n].names, canonical_name(n, dataset[n])} for n in known}
    called = {n: {*names, *(rename[name] for name in names if name in rename)} for n, names in called.items()}
    selected = None if select.variables is None else find_variables(select.variables, called, identities)
    names = [n for n in changing if selected is None or n in selected]
    fixed = [n for n in fixed if selected is None or n in selected]
    if not (names or fixed) and known and selected is not None and select.variables:
        first_name = select.variables[0]
        raise NothingSelectedError(
            f"{source} has no variable {first_name!r}; {suggest(first_name, changing or known)}"
        )
    if not names and not ("time" not in dataset.dims and fixed):
        raise ValueError(
            f"{source} has no variable on (time, {', '.join(axes_of(dataset))}); "
            f"it contains {', '.join(map(str, known)) or 'none'}"
        )
    selection = dataset[[*names, *fixed]]
    levels = levels_in(selection)
    members = members_in(selection)
    if not one_of_several and (missing := [level for level in select.levels or () if level not in levels]):
        available = ", ".join(map(str, levels)) or "no pressure levels"
        raise NothingSelectedError(f"{source} has no level {missing[0]} hPa; it has {available}")
    dataset = select.places_of(selection, source)
    forced = [n for n in names if n in dataset and called[n] & set(static)]
    single = dataset.sizes.get("time") == 1
    constants = [
        n
        for n in names
        if n in dataset
        and n not in forced
        and single
        and not extra_dims
        and is_constant(n, identities, changing)
    ]
    first = {n: dataset[n].isel(time=0) for n in constants} | {
        n: first_of_constant(dataset[n], source) for n in forced
    }
    dataset = dataset.drop_vars(forced)
    if "time" in dataset.dims:
        dataset = select.times_of(dataset)
    bytes_read, bytes_kept = bytes_per_time(selection, dataset)
    dataset = fill_versions(chunk_time(dataset, chunk_bytes), source)
    fields: dict[str, xr.DataArray] = {}
    for name, variable in [*dataset.data_vars.items(), *((n, first[n]) for n in forced)]:
        field = canonical_field(
            str(name), variable, source, units=units, rename=rename, extra_dims=extra_dims
        )
        if str(field.name) in fields:
            raise DataError(
                f"{source}: {name!r} and another variable both become {field.name!r}; "
                "select one of them, or rename one",
                option="rename",
            )
        fields[str(field.name)] = field
    attrs = {k: v for k, v in dataset.attrs.items() if k not in _SIMULATION_ATTRIBUTES}
    result = xr.Dataset({n: v for n, v in fields.items() if "time" in v.dims}, attrs=attrs)
    if "time" in dataset.coords and "time" not in result.coords:
        result = result.assign_coords(time=dataset["time"])
    result = result.drop_vars([c for c in result.coords if c not in DIMENSIONS])
    unchanging = {n: v for n, v in fields.items() if "time" not in v.dims}
    for name, field in unchanging.items():
        check_bytes(f"{source}: the static field {name!r}", 4 * field.nbytes)
    result = result.assign_coords({n: v.reset_coords(drop=True).compute() for n, v in unchanging.items()})
    kept = [
        canonical_field(
            n, first[n].chunk(), source, units=units, rename=rename, extra_dims=extra_dims
        ).reset_coords(drop=True)
        for n in constants
    ]
    result.encoding = {}
    return Source(
        source,
        result,
        names=frozenset({*changing, *fixed, *fields, *(name for n in known for name in called[n])}),
        axes=frozenset(axes),
        levels=tuple(levels),
        members=tuple(members),
        constants={str(field.name): field for field in kept},
        regridded=curvilinear is not None,
        bytes_read=bytes_read,
        bytes_kept=bytes_kept,
    )


canonical = dataset_only(canonical_source)
"""Return only the data set of ``canonical_source``."""
