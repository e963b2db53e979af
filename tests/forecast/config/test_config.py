"""Recipes load and build their networks; configuration keys and values are validated."""

import numpy as np
import pytest
import torch
from helpers import ROOT, make_source, tiny_config

from fourcaster import forecast
from fourcaster.fno.grids import LatLon
from fourcaster.forecast.model import build_network
from fourcaster.forecast.tasks.dispatch import load_config, make_config

RECIPES = sorted(ROOT.joinpath("configs").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_recipe_loads_by_path_and_name_and_builds_its_network(path):
    config = load_config(path)
    assert load_config(path.stem) == config
    if config.model.kind == "sfno":
        grid = LatLon(np.linspace(90, -90, 25), np.arange(0, 360, 7.5))
    else:
        grid = LatLon(np.arange(75, 14, -2.5), np.arange(200, 331, 2.5))
    network = build_network(config.model, grid, in_channels=7, out_channels=2)
    assert network(torch.randn(config.model.members, 7, *grid.shape)).shape == (
        config.model.members,
        2,
        *grid.shape,
    )


def values(**model):
    return {"data": {"store": "s"}, "model": {"kind": "fno"} | model, "output": "o"}


@pytest.mark.parametrize("factorization", ["tucker", "cp"])
def test_the_rank_in_a_configuration_is_a_fraction_also_if_it_is_an_integer(factorization):
    grid = LatLon(np.linspace(-90, 90, 19), np.arange(0, 360, 10.0))
    sizes = []
    for rank in (1, 1.0):
        config = make_config(values(kind="tfno", factorization=factorization, rank=rank, hidden_channels=4))
        network = build_network(config.model, grid, in_channels=3, out_channels=2)
        sizes.append(sum(p.numel() for p in network.parameters()))
    assert sizes[0] == sizes[1]


def test_modes_are_clipped_to_the_grid_with_a_message(caplog):
    config = make_config(values(n_modes=[40, 8], hidden_channels=4))
    grid = LatLon(np.linspace(0, 10, 5), np.linspace(0, 10, 9))
    network = build_network(config.model, grid, in_channels=1, out_channels=1)
    assert "n_modes [40, 8]" in caplog.text and "clipped to [5, 8]" in caplog.text
    assert network(torch.randn(1, 1, 5, 9)).shape == (1, 1, 5, 9)


def test_afno_is_built_from_a_configuration():
    config = make_config(values(kind="afno", embed_dim=16, depth=1, num_blocks=4))
    grid = LatLon(np.linspace(-90, 90, 19), np.arange(0, 360, 10.0))
    assert build_network(config.model, grid, in_channels=3, out_channels=2)(
        torch.randn(1, 3, 19, 36)
    ).shape == (1, 2, 19, 36)


def test_other_models_are_built_from_a_configuration(caplog):
    grid = LatLon(np.linspace(-90, 90, 19), np.arange(0, 360, 10.0))
    for model in (
        {"kind": "sfno", "lmax": 12},
        {"kind": "tfno", "factorization": "cp"},
        {"kind": "fno", "activation": "alias_free", "n_modes": [12, 8]},
    ):
        config = make_config(values(hidden_channels=4, **model))
        assert build_network(config.model, grid, in_channels=3, out_channels=2)(
            torch.randn(1, 3, 19, 36)
        ).shape == (1, 2, 19, 36)
    assert "lmax [12] does not fit the grid and was clipped to [10]" in caplog.text
    assert "n_modes [12, 8] does not fit the grid and was clipped to [10, 8]" in caplog.text
    box = LatLon(np.linspace(20, 60, 9), np.arange(0, 100, 5.0))
    with pytest.raises(ValueError, match="needs a grid that covers the sphere"):
        build_network(make_config(values(kind="sfno")).model, box, in_channels=1, out_channels=1)


def test_factorized_model_trains_and_forecasts(tiny_store, tmp_path):
    config = tiny_config(
        tiny_store,
        tmp_path / "run",
        "model.kind=tfno",
        "model.rank=0.3",
        "model.norm=instance",
        "train.epochs=1",
    )
    prediction = forecast.load(forecast.train(config).checkpoint, device="cpu").run(
        make_source(), "2001-02-01T00", "12h"
    )
    assert np.isfinite(prediction["t2m"]).all()


@pytest.mark.parametrize(
    "options",
    [
        ["model.activation=alias_free"],
        ["model.activation=alias_free", "model.norm=instance", "model.local=true"],
    ],
)
def test_alias_free_models_train_in_bfloat16(options, tiny_store, tmp_path):
    runs = []
    for precision in ("float32", "bf16"):
        config = tiny_config(
            tiny_store, tmp_path / precision, *options, f"train.precision={precision}", "train.epochs=1"
        )
        trained = forecast.load(forecast.train(config).checkpoint, device="cpu")
        runs.append(trained.run(make_source(), "2001-02-01T00", "12h")["t2m"])
    assert np.isfinite(runs[1]).all()
    assert 0 < np.abs(runs[1] - runs[0]).max() < 1  # [K], of an amplitude of 5 K


def test_periodic_dimensions_are_not_padded():
    config = make_config(values(hidden_channels=4))
    global_grid = LatLon(np.linspace(-80, 80, 9), np.arange(0, 360, 20.0))
    box = LatLon(np.linspace(20, 60, 9), np.arange(0, 100, 5.0))
    paddings = [
        build_network(config.model, grid, in_channels=1, out_channels=1).networks[0].domain_padding
        for grid in (global_grid, box)
    ]
    assert paddings == [(0.2, 0.0), (0.2, 0.2)]


def test_models_store_reference_size_periods_and_latitude_staggering():
    config = make_config(values(hidden_channels=4, local=True))
    without_poles = LatLon(np.linspace(-87.5, 87.5, 36), np.arange(0, 360, 5.0))
    with_poles = LatLon(np.linspace(-90, 90, 37), np.arange(0, 360, 5.0))
    box = LatLon(np.linspace(20, 60, 33), np.arange(0, 100, 5.0))
    for grid, edges, spacings in (
        (without_poles, "cell", (44, None)),
        (with_poles, "node", (44, None)),
        (box, "node", (40, 24)),
    ):
        network = build_network(config.model, grid, in_channels=1, out_channels=1).networks[0]
        assert network.reference_size == grid.shape and network.edges == (edges, "node")
        for period, n, expected in zip(network.periods, grid.shape, spacings, strict=True):
            assert (period and period.points(n)) == expected


REGION = LatLon(np.linspace(20, 60, 9), np.arange(0, 100, 5.0))
GLOBE = LatLon(np.linspace(-90, 90, 19), np.arange(0, 360, 10.0))
COSINE = {"series": "cosine", "domain_padding": 0, "local": "stencil", "input_injection": True}


def test_cosine_series_stencil_and_injection_are_built_from_a_configuration():
    options = {"hidden_channels": 4, "n_modes": [4, 4], "outer_activation": False}
    config = make_config(values(**options, **COSINE))
    (network,) = build_network(config.model, REGION, in_channels=3, out_channels=2).networks
    assert network.series == "cosine" and len(network.injections) == 4
    assert not any(block.outer for block in network.blocks)
    for block in network.blocks:
        assert block.local.reference == (8, 19) and block.local.periodic == (False, False)
    assert network(torch.randn(1, 3, 17, 39)).shape == (1, 2, 17, 39)
    config = make_config(values(**options, local="stencil"))
    (network,) = build_network(config.model, GLOBE, in_channels=3, out_channels=2).networks
    assert network.blocks[0].local.periodic == (True, True)  # latitudes with their margin


def test_local_of_older_configurations_is_true_or_false():
    kinds = {True: "FiniteDifference", False: "NoneType", "stencil": "StencilConv"}
    for local, kind in kinds.items():
        config = make_config(values(hidden_channels=4, n_layers=1), [f"model.local={str(local).lower()}"])
        assert config.model.local is local or config.model.local == local == "stencil"
        (network,) = build_network(config.model, REGION, in_channels=1, out_channels=1).networks
        assert type(network.blocks[0].local).__name__ == kind


@pytest.mark.parametrize(
    ("model", "grid", "message"),
    [
        ({}, GLOBE, "periodic dimensions.*use series='fourier'"),
        ({"domain_padding": 0.2}, REGION, "set domain_padding to 0"),
        ({"kind": "tfno"}, REGION, "factorization='tucker'; use an FNO"),
        ({"activation": "alias_free"}, REGION, "activation='alias_free'; use 'gelu'"),
        ({"local": "kernel"}, REGION, "model.local: write true, false or stencil, got 'kernel'"),
        ({"series": "sine"}, REGION, "model.series: Input should be 'fourier' or 'cosine', got 'sine'"),
    ],
)
def test_series_that_a_grid_or_other_keys_exclude_are_refused(model, grid, message):
    with pytest.raises(ValueError, match=message):
        config = make_config(values(hidden_channels=4, **COSINE | model))
        build_network(config.model, grid, in_channels=1, out_channels=1)


def test_equivariant_sfno_is_built_from_a_configuration():
    grid = LatLon(np.linspace(90, -90, 19), np.arange(0, 360, 10.0))
    for options, shape in (({"equivariant": True}, (6, 4, 4)), ({}, (6, 4, 2, 4))):
        config = make_config(values(kind="sfno", lmax=6, hidden_channels=4, **options))
        assert (
            build_network(config.model, grid, in_channels=1, out_channels=1)
            .networks[0]
            .blocks[0]
            .conv.weight.shape
            == shape
        )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.n_modes=[0, 4]"], "n_modes"),
        (["model.domain_padding=-1"], "domain_padding"),
        (["data.store.x=1"], "cannot be set"),
        (["=3"], "is not an override"),
        (["output=null"], "output"),
        (["model.patch_size=[2, 2]"], "unknown key model.patch_size"),
        (["train.precision=fp8"], "precision"),
    ],
)
def test_errors_name_the_invalid_key(overrides, message):
    with pytest.raises(ValueError, match=message):
        make_config(values(), overrides)
