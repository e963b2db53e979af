"""Selection from a source: variables, levels, period, time step, area, member, position along other axes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...fno.grids import COORDINATE_TOLERANCE, spacing_at
from ..durations import format_time
from ..errors import DataError
from ..loaders.split import EmptyPeriodError, period
from ..scalars import level_of, record, scalars_of

Positions = NDArray[np.int64]


class NothingSelectedError(ValueError):
    """A source contains nothing of the selection, though another source may."""


@dataclass(frozen=True)
class Selection:
    """The part of a source to keep; None keeps everything.

    Attributes:
        variables: names of variables, either the source's or the canonical ones.
        levels: pressures [hPa].
        times: period, as ``START:STOP`` with both ends included.
        step: time between states [h], counted from the first state that is kept.
        area: ``NORTH/WEST/SOUTH/EAST`` [degrees].
        member: number of an ensemble member.
        at: pairs of an axis, such as depth, and the value to select along it; along an axis without
            coordinates, the position.

    Raises:
        ValueError: the step is not positive, or the area is not valid.
    """

    variables: tuple[str, ...] | None = None
    levels: tuple[int, ...] | None = None
    times: str | None = None
    step: float | None = None
    area: str | None = None
    member: int | None = None
    at: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.step is not None and self.step <= 0:
            raise ValueError(f"step must be a positive number of hours, got {self.step:g}")
        if self.area is not None:
            parse_area(self.area)

    def places(self, dataset: xr.Dataset, source: str) -> xr.Dataset:
        """Return a data set, with the axes of its source, at the values of ``at``; other axes are ignored.

        Args:
            dataset: data set.
            source: name of the source for messages.

        Raises:
            ValueError: an axis does not have the value.
        """
        positions = {
            name: _position(dataset, name, value, source=source)
            for name, value in self.at
            if name in dataset.dims
        }
        selected = dataset.isel({name: [position] for name, position in positions.items()})
        without_values = [name for name in positions if name not in dataset.coords]
        return record(selected, [n for n in positions if n in dataset.coords]).squeeze(without_values)

    def places_of(self, dataset: xr.Dataset, source: str) -> xr.Dataset:
        """Return the selected levels, member and area of a data set with canonical coordinates, lazily.

        Args:
            dataset: data set.
            source: name of the source for messages.

        Raises:
            NothingSelectedError: the data set has none of the levels, or lacks the member.
            ValueError: the area has fewer than two points along an axis, or the data set has no latitudes.
        """
        dataset = self._one_member(self._levels(dataset, source), source)
        if self.area is None:
            return dataset
        if "latitude" not in dataset.dims:
            raise DataError(f"{source} has no latitudes, so no area of it can be selected", option="area")
        rows, columns = area_positions(dataset["latitude"].values, dataset["longitude"].values, self.area)
        if min(len(rows), len(columns)) < 2:
            raise ValueError(
                f"{source} has fewer than two points along an axis of the area {self.area}; "
                "write NORTH/WEST/SOUTH/EAST"
            )
        dataset = dataset.isel(latitude=rows, longitude=columns)
        return dataset.assign_coords(
            longitude=("longitude", eastward(dataset["longitude"].values), dataset["longitude"].attrs)
        )

    def times_of(self, dataset: xr.Dataset) -> xr.Dataset:
        """Return the data set at the times of the period, which may be none."""
        return dataset.isel(time=self._times(dataset["time"].values))

    def _levels(self, dataset: xr.Dataset, source: str) -> xr.Dataset:
        """Return the selected levels that the data set has; other sources may have the others."""
        if self.levels is None:
            return dataset
        known = levels_in(dataset)
        single = {name: level_of(v.attrs) for name, v in dataset.data_vars.items()}
        dataset = dataset.drop_vars(
            [n for n, level in single.items() if level is not None and level not in self.levels]
        )
        if "level" in dataset.dims:
            available = dataset["level"].values.tolist()
            if keep := [available.index(level) for level in self.levels if level in available]:
                dataset = dataset.isel(level=keep)
            else:
                dataset = dataset.drop_dims("level")
        if known and not dataset.data_vars:
            raise NothingSelectedError(
                f"{source} has no level {self.levels[0]} hPa; it has {', '.join(map(str, known))}"
            )
        return dataset

    def _one_member(self, dataset: xr.Dataset, source: str) -> xr.Dataset:
        if self.member is None:
            return dataset
        members = members_in(dataset)
        if members and str(self.member) not in members:
            raise NothingSelectedError(
                f"{source} has no member {self.member}; it has {members[0]} ... {members[-1]}"
            )
        if "number" not in dataset.dims:
            return dataset
        return record(dataset.isel(number=[members.index(str(self.member))]), ["number"])

    def _times(self, times: NDArray[np.datetime64]) -> Positions:
        """Return the positions of the times in the period; empty if the source has none of them."""
        positions = np.arange(len(times))
        if self.times is not None:
            try:
                positions = positions[period(times, self.times)]
            except EmptyPeriodError:
                return positions[:0]
        return positions

    def thin(self, times: NDArray[np.datetime64]) -> Positions:
        """Return the positions of the times to keep, ``step`` hours apart.

        Args:
            times: times of all sources together.

        Raises:
            ValueError: fewer than two times remain.
        """
        if self.step is None:
            return np.arange(len(times))
        step = np.timedelta64(round(self.step * 3600), "s").astype("timedelta64[ns]")
        keep = np.flatnonzero((times - times[0]) % step == np.timedelta64(0, "ns"))
        if len(keep) < min(2, len(times)):
            raise ValueError(
                f"no two times lie {self.step:g} h apart; the series runs from {format_time(times[0])} to "
                f"{format_time(times[-1])}"
            )
        return keep


def levels_in(dataset: xr.Dataset) -> list[int]:
    """Return the pressure levels [hPa] of a canonical data set, including variables on a single level."""
    axis = dataset["level"].values.tolist() if "level" in dataset.dims else []
    single = [level_of(v.attrs) for v in dataset.data_vars.values()]
    return list(dict.fromkeys([*axis, *(level for level in single if level is not None)]))


def members_in(dataset: xr.Dataset) -> list[str]:
    """Return the members of a canonical data set, as text, including variables of a single member."""
    axis = [str(number) for number in dataset["number"].values.tolist()] if "number" in dataset.dims else []
    single = [scalars_of(v.attrs).get("number") for v in dataset.data_vars.values()]
    return [*axis, *dict.fromkeys(number for number in single if number is not None)]


def places_along(values: NDArray[Any]) -> list[str]:
    """Return the values of an axis as text by which one is selected; lead times in hours."""
    if values.dtype.kind == "m":
        return [f"{hours:g}h" for hours in values / np.timedelta64(1, "h")]
    return [str(value) for value in values]


def _position(dataset: xr.Dataset, name: str, value: str, *, source: str) -> int:
    """Return the position of a value along an axis.

    Numbers need to agree to a thousandth only, since those in files are rounded.
    """
    values = dataset[name].values
    try:
        if values.dtype.kind in "fiu":
            number = float(value)
            position = int(np.abs(values - number).argmin())
            if abs(values[position] - number) <= 1e-3 * max(abs(number), 1e-6):
                return position
        else:
            return places_along(values).index(value)
    except ValueError:
        pass
    available = ", ".join(places_along(values[:12])) + (", ..." if len(values) > 12 else "")
    raise ValueError(f"{source} has no {name} {value}; it has {available}")


def parse_area(area: str) -> tuple[float, float, float, float]:
    """Return north, west, south and east of ``NORTH/WEST/SOUTH/EAST`` [degrees], with west <= east.

    Longitudes keep the convention in which they are written: ``-15/42`` and ``170/190`` stay as they are;
    ``170/-170``, across the date line, becomes ``170/190``, and ``345/42`` or ``345/402``, across Greenwich,
    become ``-15/42``.

    Raises:
        ValueError: the text is not four finite numbers, south lies above north, or the area spans more than
            the whole globe.
    """
    try:
        north, west, south, east = (float(part) for part in area.split("/"))
    except ValueError as error:
        raise ValueError(
            f"{area!r} is not an area; write NORTH/WEST/SOUTH/EAST in degrees, e.g. 60/-130/20/-60"
        ) from error
    if not -90 <= south < north <= 90:
        raise ValueError(
            f"area {area}: south {south:g} must lie below north {north:g}, both within [-90, 90]"
        )
    if not (-360 <= west <= 720 and -360 <= east <= 720 and east - west <= 360):
        raise ValueError(
            f"area {area}: west {west:g} and east {east:g} must be longitudes at most 360 degrees apart"
        )
    east += 360 * np.ceil((west - east) / 360) if east < west else 0
    turns = np.floor(west / 360 + 0.5) if east > 360 or west < -180 else 0
    return north, west - 360 * turns, south, east - 360 * turns


def area_positions(
    latitude: NDArray[np.floating], longitude: NDArray[np.floating], area: str
) -> tuple[Positions, Positions]:
    """Return the positions of the rows and columns in an area.

    Columns are in eastward order from its western edge, even where the longitudes start again in between.

    Args:
        latitude: latitudes of the rows [degrees north].
        longitude: longitudes of the columns [degrees east].
        area: ``NORTH/WEST/SOUTH/EAST`` [degrees].

    Raises:
        ValueError: the area is not valid, see ``parse_area``.
    """
    north, west, south, east = parse_area(area)
    edge = COORDINATE_TOLERANCE * spacing_at(latitude).min()
    rows = np.flatnonzero((latitude >= south - edge) & (latitude <= north + edge))
    edge = COORDINATE_TOLERANCE * spacing_at(longitude).min()
    from_west = (longitude.astype(np.float64) - west) % 360
    width = (east - west) % 360 or 360 * (east > west)
    columns = np.flatnonzero((from_west <= width + edge) | (from_west >= 360 - edge))
    return rows, columns[np.argsort(from_west[columns] % (360 - edge), kind="stable")]


def eastward(longitude: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return increasing longitudes from the first one on, by adding 360 degrees after each decrease."""
    turns = np.cumsum(np.diff(longitude, prepend=longitude[0]) < 0)
    return (longitude + 360 * turns).astype(longitude.dtype) if turns.any() else longitude
