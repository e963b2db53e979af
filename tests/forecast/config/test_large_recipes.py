"""Recipes that were not run here: built at full size without memory, and a reduced copy takes a step."""

import re

import numpy as np
import pytest
import xarray as xr
from helpers import ROOT

from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.adapters.vocabulary import WEATHERBENCH
from fourcaster.datasets.forcings import forcing_names
from fourcaster.datasets.ingest.write import write_store
from fourcaster.fno.grids import LatLon
from fourcaster.fno.models.stepper import Stepper
from fourcaster.fno.training.footprint import without_values
from fourcaster.forecast.model import build_network
from fourcaster.forecast.tasks.dispatch import load_config, train

SURFACE = ["10m_u_component_of_wind", "10m_v_component_of_wind", "2m_temperature", "surface_pressure"]
UPPER = [
    "u1000",
    "v1000",
    "z1000",
    "u850",
    "v850",
    "z850",
    "t850",
    "r850",
    "u500",
    "v500",
    "z500",
    "t500",
    "r500",
]
FOURCASTNET = [*SURFACE, "mean_sea_level_pressure", *UPPER, "z50", "total_column_water_vapour"]
ON_LEVELS = {"geopotential", "specific_humidity", "temperature", "u_component_of_wind", "v_component_of_wind"}
UNITS = {
    "t": "K",
    "u": "m s**-1",
    "v": "m s**-1",
    "z": "m**2 s**-2",
    "r": "%",
}  # by letter, of names like t850
RECIPES = {
    # full grid, channels, smallest and largest number of parameters in millions
    "fourcastnet": ((720, 1440), 20, (70, 100)),
    "afno_era5": ((721, 1440), 73, (70, 120)),
    "sfno_era5": ((721, 1440), 73, (500, 650)),
    "fno_era5_64x32": ((32, 64), 69, (90, 130)),
}
REDUCED = {
    "afno": ["model.embed_dim=32", "model.depth=2"],
    "sfno": ["model.hidden_channels=8", "model.lmax=8", "model.n_layers=2"],
    "fno": ["model.hidden_channels=8", "model.n_modes=[8,8]", "model.n_layers=2"],
}


def global_grid(rows: int, columns: int) -> LatLon:
    """Return rows on the poles if their number is odd, without the southernmost if it is FourCastNet's."""
    if rows == 720:
        return LatLon(90 - 0.25 * np.arange(720), 0.25 * np.arange(1440))
    step = 180 / (rows - 1 if rows % 2 else rows)
    first = 90 - (0 if rows % 2 else step / 2)
    return LatLon(first - step * np.arange(rows), 360 / columns * np.arange(columns))


def synthetic(variables: list[str] | None, rows: int, columns: int) -> xr.Dataset:
    """Return a few days of noise with the variables of a recipe; FourCastNet's by default."""
    grid = global_grid(rows, columns)
    levels = [50, 100, 150, 200, 250, 300, 400, 500, 600, 700, 850, 925, 1000]
    rng = np.random.default_rng(0)
    coords = {
        "time": np.datetime64("2001-01-01", "ns") + np.arange(16) * np.timedelta64(6, "h"),
        "level": ("level", levels, {"units": "hPa"}),
        "latitude": ("latitude", grid.latitude, {"units": "degrees_north"}),
        "longitude": ("longitude", grid.longitude, {"units": "degrees_east"}),
    }
    result = {}
    for name in variables or FOURCASTNET:
        vertical = ("level",) * (name in ON_LEVELS)
        dims = ("time", *vertical, "latitude", "longitude")
        shape = (16, *(len(levels),) * len(vertical), rows, columns)
        values = rng.standard_normal(shape).astype("f4")
        units = WEATHERBENCH[name].units if name in WEATHERBENCH else UNITS[name[0]]
        result[name] = (dims, values, {"units": units})
    return xr.Dataset(result, coords)


@pytest.mark.parametrize("recipe", RECIPES)
def test_model_of_full_size_is_built_without_memory(recipe):
    (rows, columns), channels, (fewest, most) = RECIPES[recipe]
    config = load_config(recipe)
    grid = global_grid(rows, columns)
    count = Stepper.input_channels(
        channels, window=config.model.window, forcings=len(forcing_names(grid)), static=3 + channels
    )
    with without_values():
        network = build_network(config.model, grid, in_channels=count, out_channels=channels)
    assert fewest < sum(p.numel() for p in network.parameters()) / 1e6 < most
    assert {p.device.type for p in network.parameters()} == {"meta"}


@pytest.mark.parametrize("recipe", RECIPES)
def test_reduced_copy_takes_a_step(recipe, tmp_path):
    config = load_config(recipe)
    rows = 32 if recipe in ("fourcastnet", "fno_era5_64x32") else 33
    synthetic(config.data.variables, rows, 64).to_netcdf(tmp_path / "era5.nc")
    write_store(open_sources([tmp_path / "era5.nc"]), tmp_path / "era5.zarr", train_period="2001")
    reduced = load_config(
        recipe,
        [
            f"data.store={tmp_path / 'era5.zarr'}",
            f"output={tmp_path / 'run'}",
            "data.train_period='2001'",
            "data.validation_fraction=0",
            "data.samples_per_epoch=2",
            "train.batch_size=2",
            "train.epochs=1",
            "train.precision=float32",
            *REDUCED[config.model.kind],
        ],
    )
    result = train(reduced, "cpu")
    assert (result.checkpoint / "weights.safetensors").exists()
    assert (tmp_path / "run" / "state" / "log.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_says_that_it_was_not_run_and_where_data_come_from(recipe):
    comment = (ROOT / "configs" / f"{recipe}.yaml").read_text().split("task:")[0]
    assert "NOT RUN HERE" in comment
    assert re.search(r"forecast ingest \S+ ", comment)
    assert f"forecast check {recipe}" in comment


def test_fourcastnet_keeps_the_published_schedule():
    train_settings = load_config("fourcastnet").train
    assert train_settings.rollout_epoch == 80
    assert [train_settings.rollout_length(epoch) for epoch in (0, 79, 80, 129)] == [1, 1, 2, 2]
    assert train_settings.rate(0, 13_000) == pytest.approx(5e-4)
    assert train_settings.rate(8_000, 13_000) == pytest.approx(1e-4)
