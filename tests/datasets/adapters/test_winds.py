"""Wind components along the axes of a grid are rotated with their own other component, or refused."""

import numpy as np
import pytest
import xarray as xr

from fourcaster.datasets.adapters.curvilinear import CurvilinearSource
from fourcaster.datasets.adapters.winds import rotate_winds
from fourcaster.datasets.ingest.curvilinear import CurvilinearGrid

LATITUDE, LONGITUDE = np.meshgrid(np.linspace(40, 50, 6), np.linspace(0, 20, 8), indexing="ij")
TILTED = CurvilinearGrid(LATITUDE + 0.2 * LONGITUDE, LONGITUDE - 0.1 * LATITUDE)
SOURCE = CurvilinearSource(("y", "x"), TILTED, "", flipped=False)
# Eastward and northward wind [m/s] by height [m].
WINDS = {10: (10.0, 3.0), 100: (20.0, -5.0)}
GRIB = {"GRIB_uvRelativeToGrid": 1}


def along(axis, height, name, standard="", **attrs):
    """Return the component of the wind at a height along the rows (0) or columns (1) of the grid."""
    east, north = WINDS[height]
    angle = TILTED.angle()
    rows, columns = np.cos(angle), np.sin(angle)
    values = (east * rows + north * columns, north * rows - east * columns)[axis]
    attrs |= {"units": "m s**-1"} | ({"standard_name": standard} if standard else {})
    return xr.DataArray(values[None].astype("f4"), dims=("time", "y", "x"), name=name, attrs=attrs)


def named(*fields):
    return {field.name: field for field in fields}


def assert_geographic(rotated, heights):
    """Assert that each field is the eastward (0) or northward (1) wind at its height."""
    assert set(rotated) == set(heights)
    for name, (axis, height) in heights.items():
        assert np.allclose(rotated[name], WINDS[height][axis], atol=1e-4), name
        assert rotated[name].attrs["standard_name"] == ("eastward_wind", "northward_wind")[axis]


@pytest.mark.parametrize("standards", [("eastward_wind", "northward_wind"), ("unknown", "unknown"), ("", "")])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 2, 1)])
def test_winds_at_two_heights_are_paired_by_name_in_any_order(standards, order):
    fields = [
        along(0, 10, "u10", standards[0], GRIB_shortName="10u", **GRIB),
        along(0, 100, "u100", standards[0], GRIB_shortName="100u", **GRIB),
        along(1, 100, "v100", standards[1], GRIB_shortName="100v", **GRIB),
        along(1, 10, "v10", standards[1], GRIB_shortName="10v", **GRIB),
    ]
    rotated = rotate_winds(named(*(fields[i] for i in order)), ["u10", "v100"], SOURCE, source="a.grib")
    assert_geographic(rotated, {"u10": (0, 10), "v10": (1, 10), "u100": (0, 100), "v100": (1, 100)})


@pytest.mark.parametrize(
    "names",
    [
        ("UGRD_10maboveground", "VGRD_10maboveground", "UGRD_100maboveground", "VGRD_100maboveground"),
        ("x_wind_10m", "y_wind_10m", "x_wind", "y_wind"),
        ("uas", "vas", "ua100m", "va100m"),
        ("UU10", "VV10", "UU100", "VV100"),
        ("zonal_low", "meridional_low", "zonal_high", "meridional_high"),
    ],
)
def test_names_that_differ_only_in_the_direction_belong_together(names):
    u10, v10, u100, v100 = names
    fields = named(
        along(0, 10, u10, "x_wind"),
        along(0, 100, u100, "x_wind"),
        along(1, 100, v100, "y_wind"),
        along(1, 10, v10, "y_wind"),
    )
    rotated = rotate_winds(fields, list(names), SOURCE, source="a.nc")
    assert_geographic(rotated, {u10: (0, 10), v10: (1, 10), u100: (0, 100), v100: (1, 100)})


def test_names_in_the_source_pair_renamed_fields():
    fields = named(
        along(0, 10, "low_a", "x_wind", source_name="u10"),
        along(0, 100, "high_a", "x_wind", source_name="u100"),
        along(1, 100, "high_b", "y_wind", source_name="v100"),
        along(1, 10, "low_b", "y_wind", source_name="v10"),
    )
    rotated = rotate_winds(fields, list(fields), SOURCE, source="a.nc")
    assert_geographic(rotated, {"low_a": (0, 10), "low_b": (1, 10), "high_a": (0, 100), "high_b": (1, 100)})


def test_heights_pair_fields_whose_names_do_not():
    fields = named(
        along(0, 10, "a", "x_wind", scalar_coordinates="height=10 m"),
        along(0, 100, "b", "x_wind", scalar_coordinates="height=100 m"),
        along(1, 100, "c", "y_wind", scalar_coordinates="height=100 m"),
        along(1, 10, "d", "y_wind", scalar_coordinates="height=10 m"),
    )
    rotated = rotate_winds(fields, list(fields), SOURCE, source="a.nc")
    assert_geographic(rotated, {"a": (0, 10), "d": (1, 10), "b": (0, 100), "c": (1, 100)})


def test_the_only_two_components_form_a_wind_whatever_their_names():
    fields = named(along(0, 10, "rows", "x_wind"), along(1, 10, "columns", "y_wind"))
    rotated = rotate_winds(fields, ["rows"], SOURCE, source="a.nc")
    assert_geographic(rotated, {"rows": (0, 10), "columns": (1, 10)})


@pytest.mark.parametrize(
    "fields",
    [
        (along(0, 10, "u10", "x_wind"), along(1, 100, "v100", "y_wind")),
        (
            along(0, 10, "u", "x_wind", scalar_coordinates="height=10 m"),
            along(1, 100, "v", "y_wind", scalar_coordinates="height=100 m"),
        ),
        (
            along(0, 10, "a", "x_wind"),
            along(0, 100, "b", "x_wind"),
            along(1, 100, "c", "y_wind"),
            along(1, 10, "d", "y_wind"),
        ),
    ],
    ids=["numbers", "heights", "names"],
)
def test_components_without_a_certain_partner_are_refused_if_they_are_used(fields):
    other = along(0, 10, "t", "air_temperature")
    fields = named(*fields, other)
    first = next(iter(fields))
    message = (
        rf"^a.nc: '{first}' is a wind along one axis of the grid \(x_wind\), and it is not certain that '"
    )
    with pytest.raises(ValueError, match=message) as caught:
        rotate_winds(fields, [first], SOURCE, source="a.nc")
    assert "\n" not in str(caught.value)
    assert rotate_winds(fields, ["t"], SOURCE, source="a.nc") == {}
