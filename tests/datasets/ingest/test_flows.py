"""Flows on Cartesian grids (time, y, x), from a file to a verified forecast."""

import numpy as np
import pytest
import torch
import xarray as xr
from typer.testing import CliRunner

from fourcaster.datasets.adapters.cf import canonical
from fourcaster.datasets.forcings import static_fields
from fourcaster.datasets.ingest.write import write_store
from fourcaster.datasets.schema import grid_of
from fourcaster.datasets.store.fields import Fields
from fourcaster.datasets.store.open import open_store, read_group, store_statistics
from fourcaster.fno.grids import Box
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.config.weather import FNOConfig
from fourcaster.forecast.model import build_network


def flow(times=120, shape=(16, 24), step=0.05, periodic=True):
    """Return waves that a uniform wind advects through a periodic box."""
    y = np.arange(shape[0]) / shape[0]
    x = 2 * np.arange(shape[1]) / shape[1]
    t = step * np.arange(times)
    phase = np.pi * x + 2 * np.pi * y[:, None] - 1.3 * t[:, None, None]
    u = (np.sin(phase) + 0.5 * np.cos(2 * np.pi * x - 2.6 * t[:, None, None])).astype("f4")
    attrs = [{"units": "m", "modulo": length} if periodic else {"units": "m"} for length in (1.0, 2.0)]
    coords = {"time": ("time", t, {"units": "s"}), "y": ("y", y, attrs[0]), "x": ("x", x, attrs[1])}
    return xr.Dataset({"u": (("time", "y", "x"), u, {"units": "m s-1"})}, coords)


def call(*words):
    result = CliRunner().invoke(app, [str(w) for w in words])
    return result.exit_code, " ".join(result.output.split())


def test_a_flow_is_ingested_trained_on_forecast_verified_and_plotted(tmp_path):
    source = flow(times=300)
    source.to_netcdf(tmp_path / "flow.nc")
    network = [
        "model.kind=fno",
        "model.n_modes=[4,4]",
        "model.hidden_channels=12",
        "model.n_layers=2",
        "model.domain_padding=0.2",
    ]
    steps = [
        ("ingest", tmp_path / "flow.nc", "-o", tmp_path / "s.zarr"),
        (
            "train",
            "quickstart",
            f"data.store={tmp_path / 's.zarr'}",
            f"output={tmp_path / 'run'}",
            "train.epochs=20",
            "train.batch_size=8",
            *network,
        ),
        (
            "run",
            tmp_path / "run" / "checkpoint",
            "--init",
            tmp_path / "flow.nc",
            "--time",
            "1970-01-01T00:00:13",
            "--lead",
            "0.5s",
            "-o",
            tmp_path / "f.zarr",
        ),
        ("verify", tmp_path / "f.zarr", "--truth", tmp_path / "s.zarr", "-o", tmp_path / "scores.nc"),
        ("plot", tmp_path / "f.zarr", "--variable", "u", "--lead", "0.5s", "-o", tmp_path / "map.png"),
        ("inspect", tmp_path / "run" / "checkpoint"),
        ("inspect", tmp_path / "f.zarr"),
    ]
    for step in steps:
        code, text = call(*step)
        assert code == 0, text
    assert "y 0" in text and "x 0" in text
    store = open_store(tmp_path / "s.zarr")
    assert isinstance(store.grid, Box)
    assert store.grid.periodic == (True, True)
    assert store.step == np.timedelta64(50, "ms")
    assert np.array_equal(store.dataset["u"], source["u"])
    fit = source["u"].values[:240].astype(float)
    statistics = read_group(store, "statistics")
    assert float(statistics["u_mean"]) == pytest.approx(fit.mean(), abs=1e-6)
    assert float(statistics["u_std"]) == pytest.approx(fit.std(), rel=1e-6)
    assert np.allclose(read_group(store, "climatology")["u"].values[0, 0], fit.mean(axis=0), atol=1e-5)
    scores = xr.open_dataset(tmp_path / "scores.nc")["u"].sel(metric="rmse").isel(prediction_timedelta=-1)
    assert float(scores.sel(source="forecast")) < 0.5 * float(scores.sel(source="persistence"))
    error = (
        xr.open_zarr(tmp_path / "f.zarr")["u"].isel(time=0, prediction_timedelta=10).values
        - source["u"].values[270]
    ).astype(float)
    assert float(scores.sel(source="forecast")) == pytest.approx(np.sqrt((error**2).mean()), rel=1e-4)
    forecast = xr.open_zarr(tmp_path / "f.zarr")
    assert grid_of(forecast).periodic == (True, True)
    assert forecast["x"].attrs["units"] == "m"
    for words in (("--grid", "0.1"), ("--area", "1/0/0/1")):
        code, text = call(
            "run",
            tmp_path / "run" / "checkpoint",
            "--init",
            tmp_path / "flow.nc",
            "--lead",
            "1s",
            "-o",
            tmp_path / "g.zarr",
            *words,
        )
        assert code == 2 and "can be written on another grid or area; leave both out" in text


def test_a_network_on_a_periodic_box_commutes_with_translation():
    """A shifted field has the shifted forecast, up to rounding."""
    grid = Box.from_coordinates({"y": np.arange(8.0), "x": np.arange(12.0)}, (True, True))
    network = build_network(
        FNOConfig(kind="fno", n_modes=(3, 3), hidden_channels=6, n_layers=1, domain_padding=0.5),
        grid,
        in_channels=3,
        out_channels=2,
    )
    torch.nn.init.normal_(
        next(p for name, p in network.named_parameters() if name.endswith("projection.fc2.weight"))
    )
    fields = torch.randn(1, 3, 8, 12)
    assert torch.allclose(
        network(fields.roll((3, 5), (2, 3))), network(fields).roll((3, 5), (2, 3)), atol=1e-5
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.assign_coords(x=d["x"] ** 2), "x must be evenly spaced"),
        (lambda d: d.drop_vars("time"), "no time coordinate"),
        (lambda d: d.assign(u=d["u"].drop_attrs()), "units"),
    ],
)
def test_unsuitable_flows_raise_an_error(change, message):
    with pytest.raises(ValueError, match=message):
        canonical(change(flow()), "memory")


def test_times_in_seconds_remain_evenly_spaced():
    dataset = canonical(flow(times=1000, step=0.1), "memory")
    assert np.unique(np.diff(dataset["time"].values)).tolist() == [10**8]


@pytest.mark.parametrize("hours", [0.01, 1, 6, 24 * 30])
def test_the_climatology_of_a_flow_is_its_mean_without_diurnal_or_annual_cycle(hours, tmp_path):
    """At every time step."""
    store = write_store(canonical(flow(times=100, step=3600 * hours), "memory"), tmp_path / "s.zarr")
    fit = store.split().fit
    mean = store.dataset["u"].values[fit].astype(float).mean(axis=0)
    cycle = store_statistics(store, Fields(store.dataset), fit).cycle
    assert np.allclose(cycle.at(store.dataset["time"].values[:30]), mean, atol=1e-6)
    climatology = read_group(store, "climatology")["u"]
    assert np.allclose(climatology, mean, atol=1e-6)
    assert climatology.shape == (1, 1, 16, 24)


def test_regridding_and_areas_require_latitudes(tmp_path):
    flow().to_netcdf(tmp_path / "flow.nc")
    for words, message in (
        (("--grid", "1"), "only latitude-longitude"),
        (("--area", "1/0/0/1"), "has no latitudes"),
    ):
        code, text = call("ingest", tmp_path / "flow.nc", "-o", tmp_path / "s.zarr", *words)
        assert code == 2 and message in text, text


def test_a_box_with_walls_has_a_coordinate_as_static_field():
    walls = static_fields(Box.from_coordinates({"y": np.arange(4.0), "x": np.arange(6.0)}, (False, True)))
    assert walls.shape == (1, 4, 6) and np.array_equal(walls[0, :, 0], np.linspace(-1, 1, 4, dtype="f4"))
