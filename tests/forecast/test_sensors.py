"""Sensors read from a file: positions in units of the domain, any fields and axes, invalid files."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from fourcaster.datasets.pde.loaders import open_system
from fourcaster.forecast.sensors import read_sensors

PLANE = open_system("navier_stokes", {"duration": 4, "frames": 4})[1]
LINE = open_system("burgers", {"duration": 4, "frames": 4})[1]


def write(path, layout, fields, **coordinates):
    """Write readings that are different in each field, and return them."""
    values = np.arange(12.0).reshape(3, 4)
    stations = {axis: ("station", [0.25, 0.5, 0.75]) for axis in layout.axes}
    readings = {name: values + 100 * i for i, name in enumerate(fields)}
    dataset = xr.Dataset(
        {n: (("station", "time"), r, {"noise": 0.1 + i}) for i, (n, r) in enumerate(readings.items())},
        {**stations, "time": [0.0, 1.0, 2.5, 4.0], **coordinates},
    )
    dataset.to_netcdf(path)
    return readings


def test_stations_on_a_plane_have_two_coordinates(tmp_path):
    readings = write(tmp_path / "s.nc", PLANE, ["vorticity"], y=("station", [0.1, 0.2, 0.9]))
    sensors = read_sensors(tmp_path / "s.nc", PLANE)
    np.testing.assert_allclose(sensors.positions, [[0.1, 0.25], [0.2, 0.5], [0.9, 0.75]])
    np.testing.assert_array_equal(sensors.readings[0], readings["vorticity"])
    assert sensors.times.tolist() == [0, 1, 2.5, 4]


def test_fields_are_matched_by_name_and_unmeasured_ones_are_missing(tmp_path):
    layout = replace(PLANE, fields=("u", "v", "height"))
    readings = write(tmp_path / "s.nc", layout, ["height", "u"])
    sensors = read_sensors(tmp_path / "s.nc", layout)
    np.testing.assert_array_equal(sensors.readings[0], readings["u"])
    np.testing.assert_array_equal(sensors.readings[2], readings["height"])
    assert not sensors.known[1].any()
    assert torch.as_tensor(sensors.noise)[[0, 2], 0, 0].tolist() == [1.1, 0.1]


def test_positions_are_relative_to_the_origin_and_length_of_the_domain(tmp_path):
    layout = replace(LINE, origins=(-2.0,), lengths=(4.0,))
    write(tmp_path / "s.nc", layout, ["u"], x=("station", [-2.0, 0.0, 1.0]))
    assert read_sensors(tmp_path / "s.nc", layout).positions[:, 0].tolist() == [0, 0.5, 0.75]


@pytest.mark.parametrize("time", [[0.0, 1.0, 1.0, 2.0], [0.0, 1.0, 2.0, 5.0], [-1.0, 0.0, 1.0, 2.0]])
def test_times_must_increase_within_the_simulations(tmp_path, time):
    write(tmp_path / "s.nc", LINE, ["u"], time=time)
    with pytest.raises(ValueError, match=r"s\.nc: sensors must be read at increasing times in \[0, 4\]"):
        read_sensors(tmp_path / "s.nc", LINE)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"x": ("station", [0.1, 0.5, np.nan])}, "must lie in 0 <= x < 1"),
        ({"x": ("station", [0.1, 0.5, 1.0])}, "must lie in 0 <= x < 1"),
        ({"x": ("time", [0.1, 0.2, 0.3, 0.4])}, "x has the dimensions time, expected station"),
    ],
)
def test_stations_must_lie_in_the_domain(tmp_path, changes, match):
    write(tmp_path / "s.nc", LINE, ["u"], **changes)
    with pytest.raises(ValueError, match=match):
        read_sensors(tmp_path / "s.nc", LINE)


def test_a_file_without_fields_or_coordinates_of_the_equation_is_refused(tmp_path):
    write(tmp_path / "s.nc", LINE, ["speed"])
    with pytest.raises(ValueError, match="has no u; sensors are"):
        read_sensors(tmp_path / "s.nc", LINE)
    write(tmp_path / "line.nc", LINE, ["vorticity"])
    with pytest.raises(ValueError, match=r"has no y; sensors are .* coordinates y, x \(station\)"):
        read_sensors(tmp_path / "line.nc", PLANE)


@pytest.mark.parametrize(("name", "parameters"), [("wave", {}), ("darcy", {})])
def test_other_equations_are_refused(tmp_path, name, parameters):
    with pytest.raises(ValueError, match="depends on time, on a periodic domain"):
        read_sensors(tmp_path / "absent.nc", open_system(name, parameters)[1])
