"""Training from the weights of another checkpoint."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from helpers import make_source, tiny_config
from typer.testing import CliRunner

from fourcaster import forecast
from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.write import write_store
from fourcaster.forecast.checkpoint.weather import load_checkpoint
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.config.weather import DataConfig
from fourcaster.forecast.tasks.dispatch import finetune, train
from fourcaster.forecast.tasks.weather.parent import merged_cycle

SHORT = ["train.epochs=1", "train.batch_size=8", "train.validation_steps=2", "train.rollout_steps=1"]
FREEZE = "train.freeze=['*.blocks.*', '*lifting*']"
UNTRAINED = [*SHORT, "train.learning_rate=1e-30", "train.weight_decay=0", "train.noise=0"]
EXTENDED = [*UNTRAINED, "data.forcings=[sst]", "model.window=3", "--json"]


@pytest.fixture(scope="module")
def wide_store(tmp_path_factory):
    """Return a store with the variables of the tiny one, humidity and surface temperature."""
    folder = tmp_path_factory.mktemp("wide")
    source = make_source()
    rng = np.random.default_rng(3)
    source["q"] = (source["t2m"].dims, rng.random(source["t2m"].shape, "f4"), {"units": "kg kg**-1"})
    sst = 290 + 3 * rng.random(source["t2m"].shape, "f4")
    sst[:, :2] = np.nan
    source["sst"] = (source["t2m"].dims, sst, {"units": "K"})
    source = source[["q", "u10", "sst", "t2m"]]  # another order
    source.to_netcdf(folder / "source.nc")
    write_store(open_sources([folder / "source.nc"]), folder / "store.zarr")
    return folder / "store.zarr"


@pytest.fixture(scope="module")
def parent(tiny_store, tmp_path_factory):
    output = tmp_path_factory.mktemp("parent")
    train(tiny_config(tiny_store, output, "train.epochs=1"))
    return output / "checkpoint"


def one_step(checkpoint, store, variable):
    run = forecast.load(checkpoint).run(store, times="2001-01-20", lead="6h")
    return run[variable].isel(prediction_timedelta=1).values


def test_old_outputs_are_unchanged_at_step_zero_with_new_variables_forcings_and_states(
    parent, wide_store, tiny_store, tmp_path
):
    result = CliRunner().invoke(
        app,
        [
            "finetune",
            str(parent),
            f"data.store={wide_store}",
            f"output={tmp_path / 'run'}",
            *UNTRAINED,
            *EXTENDED,
        ],
    )
    assert result.exit_code == 0, result.output
    child = json.loads(result.stdout)["checkpoint"]
    for variable in ("t2m", "u10"):
        expected = one_step(parent, tiny_store, variable)
        spread = float(np.nanstd(expected))
        np.testing.assert_allclose(one_step(child, wide_store, variable), expected, atol=1e-4 * spread)
    # A new variable starts as persistence of its anomaly.
    loaded = load_checkpoint(child)
    q = [channel.variable for channel in loaded.channels].index("q")
    assert not loaded.stepper.network.networks[0].projection.fc2.weight[q].abs().max() > 1e-20
    assert [str(c) for c in loaded.stored_forcings.channels] == ["sst"]
    meta = json.loads((tmp_path / "run" / "checkpoint" / "meta.json").read_text())
    (record,) = meta["provenance"]["parents"]
    assert record["checksum"] == json.loads((parent / "meta.json").read_text())["checksum"]


def test_the_chain_of_parents_is_kept_and_frozen_parts_do_not_change(parent, tmp_path):
    first = finetune(parent, [f"output={tmp_path / 'first'}", *SHORT])
    second = finetune(
        first.checkpoint,
        [f"output={tmp_path / 'second'}", *SHORT, FREEZE],
    )
    stored = [json.loads((path / "meta.json").read_text()) for path in (parent, first.checkpoint)]
    meta = json.loads((second.checkpoint / "meta.json").read_text())
    chain = [record["checksum"] for record in meta["provenance"]["parents"]]
    assert chain == [stored[1]["checksum"], stored[0]["checksum"]]
    old, new = (load_checkpoint(path).stepper.state_dict() for path in (first.checkpoint, second.checkpoint))
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed and all(".projection." in name for name in changed)
    inspected = CliRunner().invoke(app, ["inspect", str(second.checkpoint), "--json"])
    assert json.loads(inspected.output)["parents"] == chain
    again = finetune(
        first.checkpoint,
        [f"output={tmp_path / 'second'}", *SHORT, FREEZE],
    )
    assert again.already_done


def test_a_finetuned_run_with_frozen_parts_resumes_with_the_same_bits(parent, tmp_path):
    from fourcaster.datasets.stopping import Stopped

    overrides = [*SHORT, "train.epochs=2", "train.freeze=['*.blocks.*']", "train.checkpoint_minutes=0"]
    straight = finetune(parent, [f"output={tmp_path / 'straight'}", *overrides])
    steps = []

    def interrupt(step, total, text):
        steps.append(step)
        if len(steps) == 9:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, Stopped)):
        finetune(parent, [f"output={tmp_path / 'stopped'}", *overrides], progress=interrupt)
    resumed = finetune(parent, [f"output={tmp_path / 'stopped'}", *overrides])
    a, b = ((r.checkpoint / "weights.safetensors").read_bytes() for r in (straight, resumed))
    assert a == b


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.epochs=1"], "output is missing"),
        (["output={run}", "model.hidden_channels=6"], "does not fit"),
        (["output={run}", "data.stor=x"], "unknown key data.stor"),
        (["output={run}", "train.freeze=[nothing]"], "'nothing' matches no parameter"),
        (["output={run}", "train.freeze=['*']"], "nothing remains to train"),
    ],
)
def test_what_does_not_fit_is_refused(parent, tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        finetune(parent, [text.format(run=tmp_path / "run") for text in overrides])
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_another_grid_other_units_and_another_task_are_refused(parent, tmp_path):
    for name, change in (("grid", {"shape": (8, 12)}), ("units", {})):
        source = make_source(**change)
        if name == "units":
            source["u10"].attrs["units"] = "km/h"
        source.to_netcdf(tmp_path / f"{name}.nc")
        write_store(open_sources([tmp_path / f"{name}.nc"]), tmp_path / f"{name}.zarr")
    for name, message in (("grid", "another grid"), ("units", "u10 in m/s, the data in km/h")):
        with pytest.raises(ValueError, match=message):
            finetune(parent, [f"data.store={tmp_path / name}.zarr", f"output={tmp_path / 'run'}"])
    with pytest.raises(ValueError, match="is the input"):
        finetune(parent, [f"output={parent.parent}"])


def test_cycles_of_parent_and_data_are_joined():
    from fourcaster.datasets.statistics.climatology import SeasonalCycle

    rng = np.random.default_rng(0)
    old = SeasonalCycle(np.array([0, 720]), rng.random((2, 3, 2, 2, 2), "f4"))
    new = SeasonalCycle(np.array([0, 360, 720, 1080]), rng.random((4, 5, 2, 2, 2), "f4"))
    joined = merged_cycle(old, new, [1, None])
    times = np.arange("2001-01-01", "2001-01-03", 6, dtype="datetime64[h]").astype("datetime64[ns]")
    np.testing.assert_allclose(joined.at(times)[:, 0], old.at(times)[:, 1], rtol=1e-6)
    np.testing.assert_allclose(joined.at(times)[:, 1], new.at(times)[:, 1], rtol=1e-6)
    assert merged_cycle(old, new, [1, 0]).coefficients.shape == (2, 3, 2, 2, 2)


@pytest.mark.parametrize(
    ("file", "format", "arguments"),
    [
        ("fourcastnet_tiny.ckpt", "fourcastnet", {"inp_shape": [32, 64]}),
        ("physicsnemo_afno_tiny.pt", "physicsnemo", {"inp_shape": [32, 64]}),
        ("neuralop_fno_tiny.pt", "neuraloperator", {}),
    ],
)
def test_training_starts_from_imported_networks(real_data, tmp_path, file, format, arguments):
    from fourcaster.forecast.interop import import_network

    import_network(real_data / "reference" / file, format, tmp_path / "net", arguments=arguments)
    network = forecast.load_network(tmp_path / "net")
    rng = np.random.default_rng(0)
    shape = (32, 64) if format != "neuraloperator" else (24, 36)
    source = make_source(times=40, shape=shape)
    for i in range(network.in_channels - 2):
        source[f"v{i}"] = (source["t2m"].dims, rng.random(source["t2m"].shape, "f4"), {"units": "1"})
    source.to_netcdf(tmp_path / "source.nc")
    write_store(open_sources([tmp_path / "source.nc"]), tmp_path / "store.zarr")
    variables = list(source.data_vars)[: network.in_channels]
    keys = [f"data.store={tmp_path / 'store.zarr'}", f"data.variables=[{','.join(variables)}]"]
    if network.in_channels != network.out_channels:
        with pytest.raises(ValueError, match="output channels"):
            finetune(tmp_path / "net", [*keys, f"output={tmp_path / 'run'}", *SHORT])
        return
    result = finetune(tmp_path / "net", [*keys, f"output={tmp_path / 'run'}", *UNTRAINED])
    child = load_checkpoint(result.checkpoint)
    old = network.state_dict()
    new = child.stepper.network.networks[0].state_dict()
    same = {name for name in old if old[name].shape == new[name].shape and torch.equal(old[name], new[name])}
    assert len(same) >= len(old) - 3  # all but the first and the last layer
    assert child.provenance["parents"][0]["source"]["format"] == format
    assert child.config.model.window == 1


def test_stored_forcings_are_normalised_and_needed_at_all_lead_times(wide_store, tiny_store, tmp_path):
    values = {"data.store": wide_store, "data.variables": "[t2m,u10]", "data.forcings": "[sst]"}
    config = tiny_config(wide_store, tmp_path / "run", *[f"{k}={v}" for k, v in values.items()], *SHORT)
    result = train(config)
    checkpoint = load_checkpoint(result.checkpoint)
    scales = checkpoint.stored_forcings
    truth = xr.open_zarr(wide_store)["sst"].values
    assert 289 < scales.mean[0] < 293 and (scales.mask[0] == np.isfinite(truth[0])).all()
    normal = scales.normalise(truth[:, None])
    assert np.isfinite(normal).all() and abs(normal[:, 0, 2:].std() - 1) < 0.05 and not normal[:, 0, :2].any()
    model = forecast.load(result.checkpoint)
    init = xr.open_zarr(wide_store)
    short = model.run(init, times="2001-02-08", lead="1d")
    # The forcing has an effect, and only values up to the lead time are used.
    late = init.copy()
    late["sst"] = init["sst"].where(init["time"] <= np.datetime64("2001-02-09"), 300.0)
    np.testing.assert_array_equal(model.run(late, times="2001-02-08", lead="1d")["t2m"], short["t2m"])
    warm = init.copy()
    warm["sst"] = init["sst"] + xr.where(init["time"] > np.datetime64("2001-02-08"), 5, 0).astype("f4")
    changed = model.run(warm.assign(sst=warm["sst"].assign_attrs(units="K")), times="2001-02-08", lead="1d")
    assert (changed["t2m"] != short["t2m"]).isel(prediction_timedelta=slice(1, None)).any()
    assert (changed["t2m"] == short["t2m"]).isel(prediction_timedelta=0).all()
    for kind, message in (
        (init, "lacks .* at which the model needs the forcing sst"),
        (tiny_store, "no variable 'sst'"),
    ):
        with pytest.raises(ValueError, match=message):
            model.run(kind, times="2001-02-09", lead="10d", output=tmp_path / "f.zarr")
        assert not (tmp_path / "f.zarr").exists()
    holes = init.assign(sst=init["sst"].where(init["time"] != np.datetime64("2001-02-08T12")))
    with pytest.raises(ValueError, match=r"forcing sst has missing values at 2001-02-08"):
        model.run(holes, times="2001-02-08", lead="1d")


def test_forcings_do_not_change_other_runs(tiny_store):
    """The fingerprint of a run without them is that of earlier versions."""
    assert DataConfig(store=tiny_store).forcings == []
