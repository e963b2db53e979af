"""Precipitation diagnosed from the forecast of a frozen model."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from helpers import make_source, tiny_config
from torch import nn
from typer.testing import CliRunner

from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.write import write_store
from fourcaster.datasets.target_scales import LogTransform
from fourcaster.fno import import_weights
from fourcaster.fno.models import PrecipNet
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.tasks.dispatch import make_config, train

OPTIONS = {"patch_size": [4, 4], "embed_dim": 16, "depth": 1, "num_blocks": 4}
TRAIN = {"epochs": 8, "batch_size": 16, "validation_steps": 2, "learning_rate": 5e-3, "warmup_steps": 5}


def published(folder, in_channels=2, shape=(8, 12)):
    """Write a training checkpoint of a PrecipNet as FourCastNet does; return it and its network."""
    torch.manual_seed(0)
    model = PrecipNet(shape, in_channels=in_channels, **OPTIONS)
    state = {f"module.{name}": t for name, t in model.state_dict().items()}
    state |= {f"module.backbone.norm.{name}": torch.ones(16) for name in ("weight", "bias")}
    torch.save({"model_state": state, "epoch": 3}, folder / "precip.ckpt")
    return folder / "precip.ckpt", model


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a store with precipitation that follows from temperature and wind at the same time."""
    folder = tmp_path_factory.mktemp("rain")
    source = make_source(shape=(8, 12))
    wet = np.maximum(source["t2m"] - 283, 0) * 1e-3 * (1 + 0.1 * source["u10"])
    source["tp"] = (source["t2m"].dims, np.maximum(wet.values, 0).astype("f4"), {"units": "m"})
    source.to_netcdf(folder / "source.nc")
    write_store(open_sources([folder / "source.nc"]), folder / "store.zarr")
    return folder / "store.zarr"


@pytest.fixture(scope="module")
def backbone(store, tmp_path_factory):
    output = tmp_path_factory.mktemp("backbone")
    train(tiny_config(store, output, "data.variables=[t2m,u10]", "train.epochs=3"))
    return output / "checkpoint"


def config(store, backbone, output, *overrides):
    values = {
        "task": "diagnostic",
        "backbone": str(backbone),
        "data": {"store": str(store)},
        "target": {"variable": "tp"},
        "model": {"kind": "precipnet", **OPTIONS},
        "train": TRAIN,
        "output": str(output),
    }
    return make_config(values, overrides)


def test_the_network_is_that_of_fourcastnet(tmp_path):
    """Against the published definition, written out: circular columns, zeros beyond the rows."""
    path, model = published(tmp_path)
    imported = import_weights(path, "fourcastnet", inp_shape=[8, 12])
    x = torch.randn(2, 2, 8, 12)
    with torch.no_grad():
        y = model.backbone(x)
        padded = torch.zeros(2, 1, 10, 14)
        padded[:, :, 1:-1] = torch.cat([y[..., -1:], y, y[..., :1]], dim=-1)
        expected = nn.functional.conv2d(padded, model.conv.weight, model.conv.bias).clamp(min=0)
        torch.testing.assert_close(imported(x), expected)
    assert (expected > 0).any() and (expected == 0).any()


def test_the_transformation_is_inverted():
    x = np.array([0, 1e-7, 1e-5, 1e-3, 0.3], "f4")
    y = LogTransform(1e-5).forward(x)
    np.testing.assert_allclose(y, np.log(1 + x.astype("f8") / 1e-5), rtol=1e-6)
    np.testing.assert_allclose(LogTransform(1e-5).inverse(y), x, rtol=1e-5, atol=1e-12)
    assert LogTransform(1e-5).forward(np.float32(-1e-9)) == 0


def test_precipitation_is_trained_from_imported_weights_and_forecast(store, backbone, tmp_path):
    path, _ = published(tmp_path)
    runner = CliRunner()
    net = str(tmp_path / "net")
    arguments = ["import", str(path), "--format", "fourcastnet", "-o", net, "--inp-shape", "8,12"]
    assert runner.invoke(app, arguments).exit_code == 0
    before = (backbone / "weights.safetensors").read_bytes()
    result = train(config(store, backbone, tmp_path / "run", f"parent={net}"))
    untrained = train(config(store, backbone, tmp_path / "none", "train.learning_rate=1e-30"))
    assert result.best_score < 0.7 * untrained.best_score
    assert (backbone / "weights.safetensors").read_bytes() == before
    meta = json.loads((result.checkpoint / "meta.json").read_text())
    assert meta["provenance"]["parents"][0]["task"] == "network"
    command = ["run", str(result.checkpoint), "--init", str(store), "--time", "2001-02-05", "--lead", "1d"]
    ran = runner.invoke(app, [*command, "-o", str(tmp_path / "rain.zarr")])
    assert ran.exit_code == 0, ran.output
    rain = xr.open_zarr(tmp_path / "rain.zarr", consolidated=False)["tp"]
    assert rain.dims == ("time", "prediction_timedelta", "latitude", "longitude")
    assert rain.shape == (1, 5, 8, 12) and rain.attrs["units"] == "m" and (rain >= 0).all()
    truth = xr.open_zarr(store)["tp"].sel(time="2001-02-05T00")
    assert np.corrcoef(rain.values[0, 0].ravel(), truth.values.ravel())[0, 1] > 0.5
    scored = runner.invoke(app, ["verify", str(tmp_path / "rain.zarr"), "--truth", str(store), "--json"])
    assert scored.exit_code == 0, scored.output
    assert train(config(store, backbone, tmp_path / "run", f"parent={net}")).already_done


def test_what_does_not_fit_is_refused(store, backbone, tmp_path):
    for overrides, message in (
        (["target.variable=rain"], "no variable 'rain'"),
        (["target.variable=t2m"], "is forecast by"),
        (["target.epsilon=0"], "greater than 0"),
        ([f"parent={backbone}"], "is a forecast model"),
        (["data.stroe=x"], "unknown key data.stroe"),
    ):
        with pytest.raises(ValueError, match=message):
            train(config(store, backbone, tmp_path / "run", *overrides))
    other = train(tiny_config(store, tmp_path / "uv", "data.variables=[u10]", "train.epochs=1")).checkpoint
    with pytest.raises(ValueError, match="t2m has negative values"):
        source = xr.open_zarr(store).load()
        source["t2m"] -= 300
        source.attrs = {}
        source.drop_encoding().to_netcdf(tmp_path / "cold.nc")
        write_store(open_sources([tmp_path / "cold.nc"]), tmp_path / "cold.zarr")
        train(config(tmp_path / "cold.zarr", other, tmp_path / "run", "target.variable=t2m"))
