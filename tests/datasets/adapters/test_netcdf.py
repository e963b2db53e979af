"""netCDF outputs follow the CF conventions: coordinates, units, names, heights, cell methods, compression."""

import json
import re

import numpy as np
import pytest
import xarray as xr
from helpers import make_source, tiny_config
from netCDF4 import Dataset
from typer.testing import CliRunner

from fourcaster import forecast
from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.write import write_store
from fourcaster.datasets.store.netcdf import forecast_attributes, height_of, history, write_netcdf
from fourcaster.datasets.units import normalise
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.tasks.dispatch import train
from fourcaster.forecast.verification.verify import verify

STANDARD_NAMES = {
    *(
        "time",
        "forecast_reference_time",
        "forecast_period",
        "latitude",
        "longitude",
        "height",
        "air_pressure",
        "realization",
    ),
    *("air_temperature", "eastward_wind", "geopotential"),
}


def assert_cf(path):
    """Check what CF-1.11 requires of any file."""
    with Dataset(path) as file:
        assert re.fullmatch(r"CF-1\.\d+", file.Conventions) and re.match(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ: ", file.history
        )
        named = {name for v in file.variables.values() for name in getattr(v, "coordinates", "").split()}
        named |= set(getattr(file, "coordinates", "").split())
        assert named <= set(file.variables), "coordinates name variables that are not there"
        coordinates = named | set(file.dimensions)
        for name, v in file.variables.items():
            assert re.fullmatch(r"[A-Za-z0-9][\w]*", name) and set(v.dimensions) <= set(file.dimensions)
            if name in coordinates:
                assert "_FillValue" not in v.ncattrs() and "missing_value" not in v.ncattrs(), name
                assert v.dtype is str or not np.ma.is_masked(v[:]), name
            if v.dtype is str:
                continue
            assert v.units, name
            if " since " in v.units:
                assert v.dtype.kind in "if" and v.calendar in ("proleptic_gregorian", "standard"), name
                assert getattr(v, "standard_name", "time") in ("time", "forecast_reference_time")
            else:
                normalise(v.units)
                assert getattr(v, "axis", "") != "T", name
            if "standard_name" in v.ncattrs():
                assert v.standard_name in STANDARD_NAMES, name
            if (axis := getattr(v, "axis", None)) is not None:
                assert axis in "XYZT" and v.ndim < 2, name
            if name in coordinates and v.ndim == 1 and v.dimensions == (name,) and v.dtype.kind in "if":
                steps = np.diff(v[:].astype(float))
                assert (steps > 0).all() or (steps < 0).all() or name == "time", name
            for reference in (
                "grid_mapping",
                "bounds",
                "ancillary_variables",
                "cell_measures",
                "formula_terms",
            ):
                assert reference not in v.ncattrs(), name
            if "cell_methods" in v.ncattrs():
                assert {part.strip() for part in re.findall(r"(\w+): ", v.cell_methods)} <= set(
                    v.dimensions
                ) | named | {"area"}, name
            if name not in coordinates and v.ndim:
                assert v.filters()["zlib"] and v.filters()["shuffle"] and np.isnan(v._FillValue), name


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return a model of geopotential, 10 m and 100 m wind, 2 m temperature and rain, and its store."""
    folder = tmp_path_factory.mktemp("cf")
    source = make_source().rename(u10="10m_u_component_of_wind", t2m="2m_temperature")
    source["100m_u_component_of_wind"] = (source["10m_u_component_of_wind"] * 1.5).assign_attrs(
        units="m s**-1", standard_name="eastward_wind"
    )
    source["2m_temperature"].attrs |= {
        "standard_name": "air_temperature",
        "actual_range": [185.0, 322.0],
        "grid_mapping": "crs",
    }
    source["total_precipitation_6hr"] = abs(source["10m_u_component_of_wind"] * 1e-4).assign_attrs(units="m")
    source["z"] = source["2m_temperature"].expand_dims(level=[500, 850], axis=1) * 100
    source["z"].attrs = {"units": "m2 s-2", "standard_name": "geopotential"}
    source["level"].attrs = {"units": "hPa"}
    source.to_netcdf(folder / "source.nc")
    write_store(open_sources([folder / "source.nc"]), folder / "store.zarr")
    train(tiny_config(folder / "store.zarr", folder / "run", "train.epochs=1"))
    return forecast.load(folder / "run" / "checkpoint", device="cpu"), folder / "store.zarr"


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "fc.nc"
    model[0].run(model[1], ["2001-02-01", "2001-02-03T06"], "24h", members=3, output=path).close()
    return path


def test_forecasts_follow_the_conventions(written):
    assert_cf(written)
    with Dataset(written) as file:
        number = file["number"]
        assert (number.standard_name, number.units) == ("realization", "1")
        assert (file["level"].standard_name, file["level"].units, file["level"].positive) == (
            "air_pressure",
            "hPa",
            "down",
        )
        assert file["latitude"].axis == "Y" and file["longitude"].axis == "X"
        assert "actual_range" not in file["2m_temperature"].ncattrs()


def test_heights_are_scalar_coordinates_of_their_own_variables(written):
    with Dataset(written) as file:
        expected = {"2m_temperature": 2, "10m_u_component_of_wind": 10, "100m_u_component_of_wind": 100}
        for name in file.variables:
            heights = [n for n in getattr(file[name], "coordinates", "").split() if n.startswith("height")]
            assert heights == ([f"height_{expected[name]}m"] if name in expected else []), name
        for height in expected.values():
            v = file[f"height_{height}m"]
            assert v.shape == () and float(v[...]) == height
            assert (v.standard_name, v.units, v.positive) == ("height", "m", "up")
        assert "valid_time" in file["geopotential"].coordinates


def test_a_single_height_coordinate_is_named_height(model, tmp_path):
    with model[0].run(
        model[1], lead="6h", variables=["2m_temperature", "geopotential"], output=tmp_path / "t.nc"
    ):
        pass
    with xr.open_dataset(tmp_path / "t.nc", decode_timedelta=True) as file:
        assert float(file["height"]) == 2 and file["height"].attrs["standard_name"] == "height"


def test_accumulations_have_the_cell_method_sum(written):
    with Dataset(written) as file:
        assert file["total_precipitation_6hr"].cell_methods == "prediction_timedelta: sum"
        assert "cell_methods" not in file["2m_temperature"].ncattrs()


def test_a_netcdf_forecast_round_trips_and_initialises_another(model, written):
    forecaster, store = model
    in_memory = forecaster.run(store, ["2001-02-01", "2001-02-03T06"], "24h", members=3)
    with xr.open_dataset(written, decode_timedelta=True) as file:
        assert file["prediction_timedelta"].dtype == "timedelta64[ns]" and np.array_equal(
            file["valid_time"], in_memory["valid_time"]
        )
        for name in in_memory.data_vars:
            assert np.array_equal(file[name], in_memory[name]), name
    forecaster.run(store, "2001-02-01", "24h", output=written.parent / "one.nc").close()
    continued = forecaster.run(written.parent / "one.nc", lead="6h")
    assert np.isfinite(continued["2m_temperature"]).all() and continued["time"].values[0] == np.datetime64(
        "2001-02-02"
    )


def test_the_command_names_levels_and_members(model, tmp_path):
    run = [
        "run",
        str(model[1].parent / "run" / "checkpoint"),
        "--init",
        str(model[1]),
        "--lead",
        "6h",
        "--members",
        "3",
    ]
    printed = json.loads(CliRunner().invoke(app, [*run, "-o", str(tmp_path / "a.nc"), "--json"]).stdout)
    assert {
        "geopotential 500 hPa [m**2 s**-2]",
        "geopotential 850 hPa [m**2 s**-2]",
        "2m_temperature at height 2 m [K]",
    } <= set(printed["variables"])
    assert printed["members"] == 3
    text = CliRunner().invoke(app, [*run, "-o", str(tmp_path / "b.nc")]).stdout
    assert "geopotential 850 hPa" in text and "members: 3" in text


def test_smooth_fields_are_compressed(tmp_path):
    field = np.broadcast_to(np.float32(280), (40, 91, 180)).copy()
    dataset = xr.Dataset({"t": (("time", "latitude", "longitude"), field, {"units": "K"})})
    write_netcdf(dataset, tmp_path / "t.nc")
    assert (tmp_path / "t.nc").stat().st_size < field.nbytes / 20
    with Dataset(tmp_path / "t.nc") as file:
        assert file["t"].chunking() == [4, 91, 180]


def test_scores_follow_the_conventions(model, written, tmp_path):
    verify(written, model[1], tmp_path / "scores.nc")
    assert_cf(tmp_path / "scores.nc")
    with Dataset(tmp_path / "scores.nc") as file:
        assert file["level"].units == "hPa"


def test_solutions_follow_the_conventions(tmp_path):
    coords = {
        "time": ("time", [0.0, 0.5], {"long_name": "time", "axis": "T"}),
        "x": ("x", np.arange(4) / 4, {"long_name": "place"}),
        "sample": [0, 1],
    }
    u = (("sample", "time", "x"), np.random.rand(2, 2, 4), {"long_name": "solution", "units": "1"})
    write_netcdf(xr.Dataset({"u": u}, coords), tmp_path / "u.nc")
    assert_cf(tmp_path / "u.nc")
    with xr.open_dataset(tmp_path / "u.nc") as file:
        assert np.array_equal(file["u"], u[1]) and file["time"].values.tolist() == [0, 0.5]


def test_history_records_time_and_command_without_secrets(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    monkeypatch.setattr(
        "sys.argv",
        ["/usr/bin/forecast", "run", "c", "--init", "s3://key:secret@host/b.zarr", "https://h/x?token=abc"],
    )
    line = history()
    assert (
        line.startswith("1970-01-01T00:00:00Z: forecast run c --init ")
        and "secret" not in line
        and "abc" not in line
    )
    monkeypatch.setattr("sys.argv", ["pytest"])
    assert history().startswith("1970-01-01T00:00:00Z: fourcaster.forecast, from Python")


def test_outputs_are_reproducible(model, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    for name in ("a.nc", "b.nc", "a.zarr", "b.zarr"):
        model[0].run(model[1], "2001-02-01", "12h", output=tmp_path / name).close()
    with (
        xr.open_dataset(tmp_path / "a.nc", decode_timedelta=True) as a,
        xr.open_dataset(tmp_path / "b.nc", decode_timedelta=True) as b,
    ):
        xr.testing.assert_identical(a, b)
    files = sorted(
        path.relative_to(tmp_path / "a.zarr") for path in (tmp_path / "a.zarr").rglob("*") if path.is_file()
    )
    assert files and all(
        (tmp_path / "a.zarr" / file).read_bytes() == (tmp_path / "b.zarr" / file).read_bytes()
        for file in files
    )


@pytest.mark.parametrize("name", ["2m_temperature", "t2m", "2t", "d2m", "tas"])
def test_variables_at_2_metres_are_recognised_by_name(name):
    assert height_of(name, {}) == 2


@pytest.mark.parametrize(
    ("name", "attrs", "height"),
    [
        ("u10", {}, 10),
        ("10v", {}, 10),
        ("uas", {}, 10),
        ("u100", {}, 100),
        ("100m_v_component_of_wind", {}, 100),
        ("wind", {"long_name": "10 metre wind gust"}, 10),
        ("x", {"scalar_coordinates": "height=80 m"}, 80),
        ("u250", {}, None),
        ("t850", {}, None),
        ("u10", {"long_name": "U component of wind at 10 hPa"}, None),
        ("u100", {"pressure_level_hPa": "100"}, None),
        ("stl2", {"long_name": "2 m soil temperature"}, None),
        ("msl", {"long_name": "Mean sea level pressure"}, None),
        ("temperature", {}, None),
    ],
)
def test_heights_follow_from_names_and_attributes(name, attrs, height):
    assert height_of(name, attrs) == height


def test_attributes_that_do_not_apply_to_forecasts_are_dropped():
    attrs = {
        "units": "K",
        "standard_name": "unknown",
        "cell_methods": "time: mean area: mean",
        "valid_range": [0, 1],
        "GRIB_x": 1,
        "long_name": "t",
    }
    assert forecast_attributes("t", attrs, "K") == {
        "units": "K",
        "cell_methods": "prediction_timedelta: mean area: mean",
        "GRIB_x": 1,
        "long_name": "t",
    }
    assert forecast_attributes("ssrd", {}, "J m**-2")["cell_methods"] == "prediction_timedelta: sum"
    assert "cell_methods" not in forecast_attributes(
        "snow_depth", {}, "m"
    ) and "cell_methods" not in forecast_attributes("pr", {}, "kg m-2 s-1")
    assert json.dumps(forecast_attributes("tp", {}, "mm")) == '{"cell_methods": "prediction_timedelta: sum"}'
