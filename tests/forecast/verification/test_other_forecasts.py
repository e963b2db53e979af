"""Forecasts of other packages: a perfect forecast has zero error in every layout."""

import json

import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import QuadMesh
from typer.testing import CliRunner

from fourcaster import forecast
from fourcaster.datasets.adapters.channel_names import identify
from fourcaster.datasets.adapters.forecasts import is_forecast
from fourcaster.datasets.adapters.lead_times import decode_leads
from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.select import Selection
from fourcaster.datasets.ingest.write import write_store
from fourcaster.fno.grids import LatLon
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.inference.open import open_forecast
from fourcaster.forecast.inspection import inspect
from fourcaster.forecast.verification import plots
from fourcaster.forecast.verification.pairing import in_units

HOURS = np.timedelta64(1, "h")
LATITUDE, LONGITUDE = np.linspace(-82.5, 82.5, 12), np.arange(0, 360, 30.0)  # a square grid
LEADS = (np.arange(0, 25, 6) * HOURS).astype("timedelta64[ns]")


@pytest.fixture(scope="module")
def source():
    rng = np.random.default_rng(0)
    time = np.datetime64("2001-01-01", "ns") + np.arange(120) * 6 * HOURS
    coords = {
        "time": time,
        "level": ("level", [500, 850], {"units": "hPa"}),
        "latitude": LATITUDE,
        "longitude": LONGITUDE,
    }
    wave = (
        5
        * np.cos(np.deg2rad(LONGITUDE) - 0.4 * np.arange(120)[:, None, None])
        * np.cos(np.deg2rad(LATITUDE))[:, None]
    )
    t2m = (280 + wave + rng.normal(size=wave.shape)).astype("f4")
    z = (5e4 + 100 * wave[:, None] + rng.normal(size=(120, 2, 12, 12))).astype("f4")
    dims = ("time", "latitude", "longitude")
    return xr.Dataset(
        {
            "2m_temperature": (dims, t2m, {"units": "K"}),
            "geopotential": (("time", "level", *dims[1:]), z, {"units": "m**2 s**-2"}),
        },
        coords,
    )


@pytest.fixture(scope="module")
def truth(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("truth")
    source.to_netcdf(folder / "s.nc")
    return write_store(open_sources([folder / "s.nc"]), folder / "truth.zarr").path


@pytest.fixture(scope="module")
def perfect(source):
    """The truth as a forecast, without units, as WeatherBench2 publishes forecasts."""
    times = source["time"].values[100:114]
    parts = [source.sel(time=times + lead).assign_coords(time=times) for lead in LEADS]
    combined = xr.concat(parts, "prediction_timedelta").assign_coords(prediction_timedelta=LEADS)
    return combined.drop_attrs().transpose("time", "prediction_timedelta", "level", "latitude", "longitude")


def with_hours(ds, name):
    hours = (ds[name].values / HOURS).astype(np.int64)
    return ds.assign_coords({name: (name, hours, {"units": "hours"})})


def channels(ds):
    """Return fields along an axis of names, as in earth2studio."""
    z = ds["geopotential"]
    parts = [ds["2m_temperature"], z.sel(level=500, drop=True), z.sel(level=850, drop=True)]
    names = xr.DataArray(["t2m", "z500", "z850"], dims="variable", name="variable")
    array = xr.concat([p.rename("fields") for p in parts], names, coords="minimal", compat="override")
    return (
        array.to_dataset()
        .rename(prediction_timedelta="lead_time", latitude="lat", longitude="lon")
        .transpose("time", "lead_time", ...)
    )


def graphcast(ds):
    valid = ds["time"].values[:, None] + LEADS
    ds = (
        ds.drop_vars("time")
        .rename(time="batch", latitude="lat", longitude="lon")
        .rename(prediction_timedelta="time")
    )
    return ds.assign_coords(datetime=(("batch", "time"), valid))


def cells(ds, shuffled):
    """Return fields along an axis of points, by valid time, as written by anemoi-inference."""
    one = ds.isel(time=0)
    valid = one["time"].values + LEADS
    order = np.random.default_rng(1).permutation(144) if shuffled else np.arange(144)
    rows, columns = np.meshgrid(LATITUDE, LONGITUDE, indexing="ij")
    flat = lambda a: a.values.reshape(len(LEADS), 144)[:, order]  # noqa: E731
    z = one["geopotential"].transpose("prediction_timedelta", "level", ...)
    fields = {"2t": flat(one["2m_temperature"]), **{f"z_{p}": flat(z.sel(level=p)) for p in (500, 850)}}
    points = {
        "latitude": ("values", rows.ravel()[order].astype("f4")),
        "longitude": ("values", columns.ravel()[order].astype("f4")),
    }
    result = xr.Dataset({n: (("time", "values"), v) for n, v in fields.items()} | points, {"time": valid})
    return result.assign_attrs({} if shuffled else {"forecast_reference_time": str(one["time"].values)})


def in_other_units(ds):
    celsius = (ds["2m_temperature"] - 273.15).assign_attrs(units="degC")
    return ds.assign(
        {"2m_temperature": celsius, "geopotential": (ds["geopotential"] / 1e3).assign_attrs(units="kJ/kg")}
    )


LAYOUTS = {
    "weatherbench2": lambda ds: ds.transpose(
        "time", "prediction_timedelta", "level", "longitude", "latitude"
    ),
    "leads in hours": lambda ds: with_hours(ds, "prediction_timedelta"),
    "leads in nanoseconds": lambda ds: ds.assign_coords(prediction_timedelta=LEADS.astype(np.int64)),
    "init_time, lead_time": lambda ds: with_hours(
        ds.rename(time="init_time", prediction_timedelta="lead_time"), "lead_time"
    ),
    "initial_time, levels first": lambda ds: ds.rename(time="initial_time").transpose(
        "level", "longitude", ...
    ),
    "earth2studio": channels,
    "variables z500 and u10m": lambda ds: channels(ds)["fields"].to_dataset("variable"),
    "graphcast": graphcast,
    "graphcast, leads in hours": lambda ds: with_hours(graphcast(ds), "time"),
    "gencast": lambda ds: graphcast(ds).expand_dims(sample=2, axis=1),
    "cfgrib": lambda ds: ds.rename(
        prediction_timedelta="step", geopotential="z", **{"2m_temperature": "t2m"}
    ).assign_coords(valid_time=(("time", "step"), ds["time"].values[:, None] + LEADS), surface=0.0),
    "one cfgrib run by valid time": lambda ds: (
        ds.isel(time=0)
        .rename(prediction_timedelta="step")
        .assign_coords(valid_time=("step", ds["time"].values[0] + LEADS))
        .swap_dims(step="valid_time")
    ),
    "anemoi-inference": lambda ds: cells(ds, shuffled=False),
    "realization": lambda ds: ds.expand_dims(realization=3, axis=-1),
    "member of one": lambda ds: ds.expand_dims(member=[4]),
    "rows reversed, longitudes from -180": lambda ds: (
        ds.isel(latitude=slice(None, None, -1))
        .assign_coords(longitude=(ds["longitude"] + 180) % 360 - 180)
        .sortby("longitude")
    ),
    "rounded coordinates": lambda ds: ds.assign_coords(
        latitude=(LATITUDE + 1e-3).astype("f4"), longitude=LONGITUDE.astype("f4")
    ),
    "levels in Pa, descending": lambda ds: ds.isel(level=[1, 0]).assign_coords(
        level=("level", [85000.0, 50000.0], {"units": "Pa"})
    ),
    "levels in Pa without units": lambda ds: ds.assign_coords(level=[50000, 85000]),
    "one level": lambda ds: ds.sel(level=[850]),
    "leads unsorted": lambda ds: ds.isel(prediction_timedelta=[2, 0, 4, 1, 3]),
    "dimensions without index coordinates": lambda ds: (
        ds.drop_vars(["latitude", "longitude"])
        .rename(latitude="row", longitude="column")
        .assign_coords(lat=("row", LATITUDE), lon=("column", LONGITUDE))
    ),
    "other units": in_other_units,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_perfect_forecast_has_zero_error_in_every_layout(perfect, truth, layout):
    result = LAYOUTS[layout](perfect)
    assert is_forecast(result)
    scores = forecast.verify(result, truth)
    rounding = 0.05 if layout == "other units" else 0
    for name in ("2m_temperature", "geopotential"):
        rmse = scores[name].sel(metric="rmse", source="forecast")
        assert rmse.sizes["prediction_timedelta"] == 5 and (rmse <= rounding).all(), (name, rmse.values)
        later = (
            scores[name].sel(metric="rmse", source="persistence").isel(prediction_timedelta=slice(1, None))
        )
        assert (later > 0.5).all()
    expected = [850] if layout == "one level" else [850, 500]
    assert sorted(scores["level"].values.tolist(), reverse=True) == expected


def test_commands_read_forecasts_of_other_packages(perfect, truth, tmp_path, caplog):
    transposed = with_hours(LAYOUTS["weatherbench2"](perfect), "prediction_timedelta")
    transposed.to_zarr(tmp_path / "a.zarr", zarr_format=2)
    result = CliRunner().invoke(
        app, ["verify", str(tmp_path / "a.zarr"), "--truth", str(truth), "-o", str(tmp_path / "s.nc")]
    )
    assert result.exit_code == 0, result.output
    with xr.open_dataset(tmp_path / "s.nc", decode_timedelta=True) as scores:
        assert float(scores["2m_temperature"].sel(metric="rmse", source="forecast").max()) == 0
    assert sum("without units; those of their names" in record.message for record in caplog.records) == 1
    description = inspect(tmp_path / "a.zarr")
    assert (
        description.kind == "forecast"
        and description.lead_hours == [0, 24]
        and description.levels_hpa == [500, 850]
        and description.members == 1
    )
    assert "geopotential 500 hPa [m**2 s**-2]" in description.variables
    args = [
        "plot",
        str(tmp_path / "a.zarr"),
        "--variable",
        "2m_temperature",
        "--truth",
        str(truth),
        "-o",
        str(tmp_path / "a.png"),
    ]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0 and (tmp_path / "a.png").exists(), result.output


def test_plots_are_not_transposed_and_show_zero_error(perfect, truth, tmp_path, monkeypatch):
    figures = []
    draw_maps = plots.draw_maps
    monkeypatch.setattr(
        plots,
        "draw_maps",
        lambda *args, **options: figures.append(draw_maps(*args, **options)) or figures[-1],
    )
    forecast.plot(
        LAYOUTS["weatherbench2"](perfect), "2m_temperature", "24h", output=tmp_path / "a.png", truth=truth
    )
    meshes = [
        next(c for c in ax.collections if isinstance(c, QuadMesh)).get_array()
        for ax in figures[0].axes
        if ax.collections
    ][:3]
    expected = perfect["2m_temperature"].isel(time=0).sel(prediction_timedelta=24 * HOURS).values
    assert np.array_equal(meshes[0].reshape(12, 12), expected) and np.array_equal(
        meshes[1].reshape(12, 12), expected
    )
    assert float(np.abs(meshes[2]).max()) == 0


def test_channels_are_plotted_by_either_name(perfect, truth, tmp_path):
    for variable, level in (("z500", None), ("geopotential", 500), ("z500", 500)):
        forecast.plot(
            channels(perfect),
            variable,
            "6h",
            output=tmp_path / "z.png",
            truth=truth,
            level=level,
            overwrite=True,
        )
    for variable, level, message in (
        ("2m_temperature", 500, "has no levels; leave out the level"),
        ("geopotential", 300, "no level 300 hPa; choose one of the levels 500, 850 hPa"),
        ("geopotential", None, "choose one of the levels 500, 850"),
        ("wind", None, "no variable 'wind'"),
    ):
        with pytest.raises(ValueError, match=message):
            forecast.plot(perfect, variable, "6h", output=tmp_path / "no.png", level=level)
    with pytest.raises(ValueError, match="no variable 'z500'"):
        forecast.plot(perfect.sel(level=[850]), "z500", "6h", output=tmp_path / "no.png")
    with pytest.raises(ValueError, match="add one, or do not regrid"):
        forecast.plot(perfect, "2m_temperature", "6h", output=tmp_path / "no.png", regrid=True)
    assert not (tmp_path / "no.png").exists()


def test_initial_time_is_read_from_the_epoch_of_valid_times(perfect, truth, tmp_path):
    result = cells(perfect, shuffled=True)
    result["time"].encoding = {"units": f"seconds since {str(perfect['time'].values[0])[:19]}", "dtype": "i4"}
    result.to_netcdf(tmp_path / "a.nc")
    assert (
        float(
            forecast.verify(tmp_path / "a.nc", truth)["geopotential"]
            .sel(metric="rmse", source="forecast")
            .max()
        )
        == 0
    )


def test_lead_times_without_units_are_rejected_with_a_hint(perfect, truth):
    result = perfect.assign_coords(prediction_timedelta=np.arange(0, 25, 6))
    with pytest.raises(ValueError, match=r"0, 6, 12, 18 without units; .*lead_units='hours'"):
        forecast.verify(result, truth)
    scores = forecast.verify(result, truth, lead_units="hours")
    assert float(scores["2m_temperature"].sel(metric="rmse", source="forecast").max()) == 0
    with pytest.raises(ValueError, match="leave out lead_units"):
        forecast.verify(perfect, truth, lead_units="hours")
    with pytest.raises(ValueError, match="expected a unit of time"):
        forecast.verify(result, truth, lead_units="kelvin")
    with pytest.raises(ValueError, match="decoded with a wrong unit"):
        forecast.verify(
            perfect.assign_coords(prediction_timedelta=np.arange(0, 25, 6).astype("timedelta64[ns]")), truth
        )


@pytest.mark.parametrize(
    ("name", "values", "attrs", "hours"),
    [
        ("lead", [0, 6], {"units": "hours"}, [0, 6]),
        ("lead", [0, 1], {"units": "days"}, [0, 24]),
        ("lead", [0.0, 0.5], {"units": "h"}, [0, 0.5]),
        ("lead", [0, 360], {"units": "minutes"}, [0, 6]),
        ("lead", [0, 21600], {"units": "seconds"}, [0, 6]),
        ("lead", [0, 21600 * 10**9], {}, [0, 6]),
        ("forecast_hour", [0, 6], {}, [0, 6]),
        ("lead", [0], {}, [0]),
    ],
)
def test_lead_times_are_decoded(name, values, attrs, hours):
    decoded = decode_leads(xr.DataArray(values, dims=name, name=name, attrs=attrs), "x")
    assert (decoded / HOURS).tolist() == hours


def test_variable_names_are_identified():
    for name, expected in {
        "t2m": ("2m_temperature", None),
        "2t": ("2m_temperature", None),
        "z500": ("geopotential", 500),
        "q_850": ("specific_humidity", 850),
        "Z500": ("geopotential", 500),
        "temperature_850hPa": ("temperature", 850),
        "u10m": ("10m_u_component_of_wind", None),
        "u10": ("10m_u_component_of_wind", None),
        "u100": ("u100", None),
        "q2": ("q2", None),
        "air": ("air", None),
    }.items():
        assert identify(name, {}) == expected
    assert identify("u100", {"GRIB_shortName": "100u"}) == ("100m_u_component_of_wind", None)


def test_data_without_lead_times_are_rejected(perfect, source, truth):
    one = perfect.isel(time=0, drop=True)
    cases = [
        (one, "no initial time"),
        (source, "not a forecast: it has no initial time"),
        (
            cells(perfect, shuffled=False).isel(values=slice(100)),
            "do not form a regular latitude-longitude grid",
        ),
        (perfect.isel(time=[0, 0]), "contains the same initial time twice"),
        (
            xr.concat([perfect["2m_temperature"]] * 2, "variable").to_dataset(name="f"),
            "has no variable names",
        ),
    ]
    for wrong, message in cases:
        with pytest.raises(ValueError, match=message):
            forecast.verify(wrong, truth)
    assert not is_forecast(source)


def test_common_channels_are_scored_and_others_reported(perfect, truth, tmp_path):
    more = perfect.assign(wind=perfect["2m_temperature"].assign_attrs(units="m s-1"))
    more.to_zarr(tmp_path / "a.zarr", consolidated=False)
    result = CliRunner().invoke(app, ["verify", str(tmp_path / "a.zarr"), "--truth", str(truth)])
    assert result.exit_code == 0 and "not scored, because the truth lacks them: wind" in result.output
    mixed = channels(perfect)["fields"].to_dataset("variable").assign(t850=lambda d: d["z850"])
    scores = forecast.verify(mixed.drop_vars("z500"), truth)
    assert scores.attrs["left_out"] == ["t850"] and scores["level"].values.tolist() == [850]


def test_reading_is_lazy(perfect, tmp_path):
    perfect.to_zarr(tmp_path / "a.zarr", consolidated=False)
    opened = open_forecast(tmp_path / "a.zarr")
    assert all(v.chunks is not None for v in opened.data_vars.values())
    perfect.chunk(time=1).to_netcdf(tmp_path / "a.nc")
    assert all(v.chunks is not None for v in open_forecast(tmp_path / "a.nc").data_vars.values())


def subset(ds, rows, columns):
    return ds.isel(latitude=rows, longitude=columns)


@pytest.fixture(scope="module")
def imperfect(perfect):
    """A forecast with errors that depend on the location."""
    noise = np.random.default_rng(3).normal(size=perfect["2m_temperature"].shape).astype("f4")
    growing = noise * (1 + np.abs(LATITUDE)[:, None].astype("f4") / 10)
    return perfect[["2m_temperature"]].assign({"2m_temperature": perfect["2m_temperature"] + growing})


@pytest.fixture(scope="module")
def europe(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("europe")
    source.to_netcdf(folder / "s.nc")
    return write_store(
        open_sources([folder / "s.nc"], Selection(area="70/-70/10/70")), folder / "europe.zarr"
    ).path


def test_area_scores_equal_those_of_a_regional_truth(imperfect, truth, europe, tmp_path):
    rows, columns = slice(7, 11), [10, 11, 0, 1, 2]  # 22.5 ... 67.5, -60 ... 60
    part = subset(imperfect, rows, columns).assign_coords(longitude=[-60.0, -30.0, 0.0, 30.0, 60.0])
    expected = forecast.verify(part, europe)
    for scores in (
        forecast.verify(part, truth),
        forecast.verify(imperfect, truth, area="70/-70/10/70"),
        forecast.verify(imperfect, europe),
    ):
        xr.testing.assert_allclose(scores["2m_temperature"], expected["2m_temperature"], rtol=1e-5, atol=1e-5)
    assert (
        "common to the 4 x 5 of the forecast and the 12 x 12 of the truth"
        in forecast.verify(part, truth).attrs["points"]
    )
    assert "points" not in expected.attrs
    part.to_zarr(tmp_path / "part.zarr", consolidated=False)
    args = [
        "verify",
        str(tmp_path / "part.zarr"),
        "--truth",
        str(truth),
        "--report",
        str(tmp_path / "r.html"),
    ]
    result = CliRunner().invoke(app, args)
    assert (
        result.exit_code == 0
        and "scored on 4 x 5, latitude 22.5 ... 67.5, longitude -60 ... 60" in result.output
    )
    assert "common to the 4 x 5" in (tmp_path / "r.html").read_text()


def test_rmse_of_an_area_is_weighted_by_its_own_cells(imperfect, perfect, truth):
    scores = forecast.verify(imperfect, truth, area="70/0/-20/90")["2m_temperature"].sel(
        metric="rmse", source="forecast"
    )
    error = (imperfect - perfect)["2m_temperature"].sel(
        latitude=slice(-20, 70), longitude=slice(0, 90)
    ).astype("f8") ** 2
    edges = np.sin(np.deg2rad(np.stack([error["latitude"] - 7.5, error["latitude"] + 7.5])))
    mean = error.weighted(xr.DataArray(edges[1] - edges[0], dims="latitude")).mean(
        ("time", "latitude", "longitude")
    )
    assert np.allclose(scores, np.sqrt(mean), rtol=1e-6)


def test_subsampled_forecast_is_scored_on_the_common_points(imperfect, perfect, truth):
    part = subset(imperfect, slice(None, None, 2), slice(1, None, 2))
    scores = forecast.verify(part, truth)["2m_temperature"].sel(metric="mae", source="forecast")
    error = np.abs((part - perfect)["2m_temperature"].astype("f8"))
    weights = xr.DataArray(
        LatLon(part["latitude"].values, part["longitude"].values).area_weights, dims="latitude"
    )
    assert np.allclose(scores, error.weighted(weights).mean(("time", "latitude", "longitude")), rtol=1e-6)


def test_regridding_scores_on_the_coarser_grid(perfect, source, truth):
    """A perfect forecast on cells twice as large has the mean of four cells of the truth."""
    latitude = (LATITUDE[::2] + LATITUDE[1::2]) / 2
    longitude = (LONGITUDE[::2] + LONGITUDE[1::2]) / 2
    weights = xr.DataArray(np.cos(np.deg2rad(LATITUDE)), dims="latitude", coords={"latitude": LATITUDE})
    field = perfect[["2m_temperature"]].astype("f8")
    mean = (field * weights).coarsen(latitude=2, longitude=2).sum() / (2 * weights.coarsen(latitude=2).sum())
    coarse = mean.assign_coords(latitude=latitude, longitude=longitude).astype("f4")
    with pytest.raises(ValueError, match=r"on different points.*choose an area of common points, or regrid"):
        forecast.verify(coarse, truth)
    scores = forecast.verify(coarse, truth, regrid=True)
    assert "the truth, 12 x 12 points, regridded conservatively to 6 x 6" in scores.attrs["regridding"]
    assert (scores["2m_temperature"].sel(metric="rmse", source="forecast") < 1e-4).all()
    assert (
        scores["2m_temperature"]
        .sel(metric="rmse", source="persistence")
        .isel(prediction_timedelta=slice(1, None))
        > 0.3
    ).all()
    part = forecast.verify(subset(coarse, slice(2, 5), [5, 0, 1]), truth, regrid=True)
    assert (part["2m_temperature"].sel(metric="rmse", source="forecast") < 1e-4).all()
    for options in ({"area": "50/-40/-50/100"}, {}):
        fine = forecast.verify(subset(coarse, slice(1, 5), slice(0, 4)), truth, regrid=True, **options)
        assert (fine["2m_temperature"].sel(metric="rmse", source="forecast") < 1e-4).all()
    shifted = coarse.assign_coords(longitude=longitude + 7)
    assert (
        float(
            forecast.verify(shifted, truth, regrid=True)["2m_temperature"]
            .sel(metric="rmse", source="forecast")
            .max()
        )
        > 0.1
    )


def test_partial_overlap_is_rejected_without_an_area(imperfect, europe):
    part = subset(
        imperfect, slice(6, 9), [0, 1, 2, 3, 4, 5]
    )  # extends beyond the truth in the south and east
    with pytest.raises(ValueError, match="on different points"):
        forecast.verify(part, europe)
    scores = forecast.verify(part, europe, area="40/0/10/60")
    assert (
        "area" in scores.attrs
        and float(scores["2m_temperature"].sel(metric="rmse", source="forecast").min()) > 0
    )
    with pytest.raises(ValueError, match="fewer than two points"):
        forecast.verify(part, europe, area="40/0/30/60")


def test_underdispersive_ensemble_is_reported(perfect, truth, tmp_path):
    """Members and truth that deviate equally from one state are reliable; identical members are not."""
    rng = np.random.default_rng(5)
    right = perfect["2m_temperature"]
    state = right + rng.normal(size=right.shape)
    for spread, underdispersive in ((0.01, 1), (1.0, 0)):
        members = state.expand_dims(number=8) + spread * rng.normal(size=(8, *right.shape))
        result = members.astype("f4").assign_attrs(units="K").to_dataset(name="2m_temperature")
        path = tmp_path / f"{underdispersive}.zarr"
        result.to_zarr(path, consolidated=False)
        run = CliRunner().invoke(app, ["verify", str(path), "--truth", str(truth)])
        assert run.exit_code == 0 and ("too little spread" in run.output) == bool(underdispersive), run.output
        scores = forecast.verify(path, truth)
        metrics = {
            m: scores["2m_temperature"].sel(metric=m, source="forecast")
            for m in ("spread", "rmse", "spread_error_ratio")
        }
        assert np.allclose(metrics["spread"], spread, rtol=0.02)
        assert np.allclose(
            metrics["spread_error_ratio"], metrics["spread"] * np.sqrt(9 / 8) / metrics["rmse"]
        )
        assert scores.attrs["underdispersive"] == underdispersive
        assert underdispersive or np.allclose(metrics["spread_error_ratio"], 1, atol=0.05)


def test_units_with_an_offset_are_converted():
    fahrenheit = xr.DataArray(
        np.float32([32, 212]), attrs={"units": "degF", "long_name": "temperature"}, name="t"
    )
    kelvin = in_units(fahrenheit, "K", "a.nc")
    assert np.allclose(kelvin, [273.15, 373.15], atol=1e-3) and kelvin.attrs == {
        "units": "K",
        "long_name": "temperature",
    }
    assert np.array_equal(in_units(fahrenheit.drop_attrs(), "K", "a.nc"), fahrenheit)
    with pytest.raises(ValueError, match=r"'t' of a\.nc"):
        in_units(fahrenheit, "Pa", "a.nc")


def test_no_spread_ratio_is_computed_for_round_off_errors(perfect, truth, tmp_path):
    """The ratio is null in JSON and a dash in the table if the ensemble mean has no error."""
    right = perfect["2m_temperature"]
    one_rounding = np.float32(2.0**-14)  # between neighbouring float32 numbers near 280 there are 2 ** -15
    members = (
        xr.concat([right - 0.5 + one_rounding, right, right + 0.5], "number")
        .astype("f4")
        .assign_attrs(units="K")
    )
    assert float(np.abs(members.astype("f8").mean("number") - right).min()) > 1e-6
    members.to_dataset(name="2m_temperature").to_zarr(tmp_path / "centred.zarr", consolidated=False)
    command = ["verify", str(tmp_path / "centred.zarr"), "--truth", str(truth)]
    rows = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout, parse_constant=pytest.fail)
    assert rows and all(row["spread_error_ratio"] is None and row["spread"] > 0.4 for row in rows)
    table = CliRunner().invoke(app, [*command, "--report", str(tmp_path / "r.html")]).stdout
    assert all(line.split()[-1] == "-" for line in table.splitlines() if " h " in line)
    assert ">nan<" not in (tmp_path / "r.html").read_text()


def test_inspect_reports_levels_and_members(perfect, source, truth, real_data, tmp_path):
    LAYOUTS["gencast"](perfect).to_zarr(tmp_path / "a.zarr", consolidated=False)
    assert inspect(tmp_path / "a.zarr").members == 2
    stored = inspect(truth)
    assert stored.kind == "store" and stored.levels_hpa == [500, 850] and stored.members == 1
    description = inspect(real_data / "era5_levels_members_3deg.grib")
    assert description.kind.startswith("source") and description.members == 10
    assert sorted(description.levels_hpa) == [500, 850]
    numbers = perfect.assign_coords(prediction_timedelta=np.arange(0, 25, 6))
    numbers.to_netcdf(tmp_path / "n.nc")
    for args, code, message in (
        (["inspect", str(tmp_path / "n.nc")], 2, "--lead-units hours"),
        (["inspect", str(tmp_path / "n.nc"), "--lead-units", "hours"], 0, "members: 1"),
        (["inspect", str(truth), "--lead-units", "hours"], 2, "lead_units does not apply"),
        (
            [
                "plot",
                str(tmp_path / "n.nc"),
                "--variable",
                "2m_temperature",
                "-o",
                str(tmp_path / "x.gif"),
                "--lead-units",
                "hours",
            ],
            2,
            ".png",
        ),
        (
            [
                "verify",
                str(tmp_path / "n.nc"),
                "--truth",
                str(truth),
                "-o",
                str(tmp_path / "x.csv"),
                "--lead-units",
                "hours",
            ],
            2,
            ".nc",
        ),
    ):
        result = CliRunner().invoke(app, args)
        assert result.exit_code == code and message in result.output, (args, result.output)
    assert not list(tmp_path.glob("x.*"))
