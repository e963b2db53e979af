"""Check before training or a forecast: every mismatch, parameters, memory, volume and exit codes."""

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
from fourcaster.fno import memory as machine
from fourcaster.fno.models.registry import REGISTRY
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.tasks.check import Memory, format_seconds
from fourcaster.forecast.tasks.dispatch import train
from fourcaster.forecast.tasks.weather import cost
from fourcaster.forecast.tasks.weather.forcing_inputs import ForcingPlan
from fourcaster.forecast.tasks.weather.shapes import Shapes


def store_of(dataset: xr.Dataset, folder) -> str:
    dataset.to_netcdf(folder / "source.nc")
    write_store(open_sources([folder / "source.nc"]), folder / "store.zarr")
    return folder / "store.zarr"


def test_a_run_that_fits_has_no_problems_and_writes_nothing(tiny_store, tmp_path):
    config = tiny_config(tiny_store, tmp_path / "run")
    report = forecast.check(config, device="cpu", probe_seconds=0.2)
    assert report.ready and report.problems == []
    assert not (tmp_path / "run").exists()
    trained = forecast.load(train(config).checkpoint).checkpoint.stepper
    assert report.parameters == sum(p.numel() for p in trained.parameters())
    assert report.volume.bytes_per_sample == 4 * 3 * (2 + 2 + 3) * 7 * 12
    assert report.volume.samples == 113 and report.volume.steps == 2 * (113 // 16)
    assert report.memory.fits and report.duration.total > report.duration.step > 0
    state = (tmp_path / "run" / "state" / "training.safetensors").stat().st_size
    assert state < report.volume.written_bytes


def test_memory_of_a_model_of_cosines_and_stencils_is_estimated(tiny_store, tmp_path):
    options = ["model.series=cosine", "model.domain_padding=0", "model.local=stencil"]
    config = tiny_config(tiny_store, tmp_path / "run", *options, "model.input_injection=true")
    report = forecast.check(config, device="cpu", probe_seconds=0)
    assert report.ready and report.memory.fits and report.memory.step > 0
    refused = forecast.check(tiny_config(tiny_store, tmp_path, options[0]), device="cpu", probe_seconds=0)
    assert "set domain_padding to 0" in "\n".join(refused.problems)


def test_every_mismatch_is_listed(tiny_store, tmp_path):
    config = tiny_config(
        tiny_store,
        tmp_path,
        "data.variables=[t2m,wind,rain]",
        "data.static=[orography]",
        "model.window=8",
        "train.batch_size=5000",
        "loss.physics={hydrostatic: 0.1}",
    )
    report = forecast.check(config, device="cpu", probe_seconds=0)
    text = "\n".join(report.problems)
    for part in ("'wind'", "'rain'", "'orography'", "batch_size is 5000", "hydrostatic"):
        assert part in text
    assert all("\n" not in problem for problem in report.problems)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.train_period=1990", "contains no time of the series"),
        ("data.gap_steps=500", "leaves none"),
        ("model.window=200", "has no 201 consecutive times"),
        ("model={kind: sfno}", "covers the sphere"),
        ("data.route=direct", "fourcaster[fast]"),
    ],
)
def test_period_split_window_and_grid_are_checked(tiny_store, tmp_path, monkeypatch, override, message):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    report = forecast.check(tiny_config(tiny_store, tmp_path, override), device="cpu", probe_seconds=0)
    assert not report.ready
    assert message in "\n".join(report.problems)


def test_what_works_otherwise_is_noted(tiny_store, tmp_path):
    config = tiny_config(tiny_store, tmp_path, "model.n_modes=[64,64]", "data.validation_fraction=0")
    report = forecast.check(config, device="cpu", probe_seconds=0)
    assert report.ready
    assert "is clipped to [7, 12]" in "\n".join(report.notes)
    assert "no validation data" in "\n".join(report.notes)


def test_constant_and_partly_missing_channels_are_listed_and_refused(tmp_path):
    source = make_source(times=60)
    source["flat"] = source["t2m"] * 0 + 5
    source["flat"].attrs["units"] = "m"
    source["u10"][30:, 2, 3] = np.nan
    store = store_of(source, tmp_path)
    config = tiny_config(store, tmp_path / "run", "train.batch_size=4")
    problems = "\n".join(forecast.check(config, device="cpu", probe_seconds=0).problems)
    assert "flat does not change" in problems
    assert "u10 has intermittently missing values at 1 points" in problems
    with pytest.raises(ValueError, match=r"does not change|intermittently missing"):
        train(config)


def test_stored_statistics_are_used_for_long_periods(tmp_path, monkeypatch):
    from fourcaster.forecast.tasks.weather import check_values as module

    source = make_source(times=60)
    source["flat"] = source["t2m"] * 0 + 5
    source["u10"][30:, 2, 3] = np.nan
    monkeypatch.setattr(module, "STATISTICS_BYTES", 0)
    config = tiny_config(store_of(source, tmp_path), tmp_path / "run", "train.batch_size=4")
    problems = "\n".join(forecast.check(config, device="cpu", probe_seconds=0).problems)
    assert "flat does not change" in problems
    assert "u10 has intermittently missing values at 1 points or more" in problems


def test_a_run_that_does_not_fit_is_refused_by_check_and_train(tiny_store, tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "usable_memory", lambda: 2**28)
    config = tiny_config(tiny_store, tmp_path / "run")
    report = forecast.check(config, device="cpu", probe_seconds=0)
    (problem,) = report.problems
    assert "of memory, and this machine has 256 MiB" in problem
    with pytest.raises(ValueError, match="this machine has 256 MiB; use a smaller") as refused:
        train(config)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_a_model_of_absurd_size_is_refused_without_allocating_it(tiny_store, tmp_path):
    config = tiny_config(tiny_store, tmp_path / "run", "model.hidden_channels=60000")
    with pytest.raises(ValueError, match="TiB of memory"):
        train(config)


@pytest.mark.parametrize("model", ["fno", "tfno", "afno"])
def test_traced_memory_is_that_of_real_tensors(tiny_store, tmp_path, model):
    """The largest sum of live tensors, with values and without, agrees; only oneDNN's copies differ."""
    from fourcaster.datasets.store.open import open_store
    from fourcaster.fno.training.footprint import MemoryTracker, training_footprint

    config = tiny_config(tiny_store, tmp_path, f"model={{kind: {model}}}", "train.batch_size=8")
    shapes = Shapes(config, open_store(tiny_store), ForcingPlan(("a", "b", "c")))

    def build():
        stepper = shapes.stepper()
        return stepper, shapes.objective(stepper)

    traced = training_footprint(
        build, lambda: shapes.batch(8, 2), lambda: shapes.batch(8, 3), settings=config.train
    )
    stepper, objective = build()
    objective.loss(shapes.batch(8, 1), 1.0, torch.Generator()).value.backward()  # fills caches
    stepper.zero_grad()
    stepper.train()
    with MemoryTracker() as tracker:
        objective.loss(shapes.batch(8, 2), 1.0, torch.Generator()).value.backward()
    assert traced.training == pytest.approx(tracker.peak, rel=0.1)
    assert traced.weights == sum(t.nbytes for t in (*stepper.parameters(), *stepper.buffers()))


def test_longer_rollouts_and_members_extrapolate(tiny_store, tmp_path):
    from fourcaster.datasets.store.open import open_store
    from fourcaster.fno.training.footprint import training_footprint

    config = tiny_config(
        tiny_store, tmp_path, "train.rollout_steps=1", "train.rollout_lengths=[1,5]", "model.members=2"
    )
    shapes = Shapes(config, open_store(tiny_store), ForcingPlan(("a", "b", "c")))
    estimate = cost.footprint(shapes, "cpu")

    def build():
        stepper = shapes.stepper()
        return stepper, shapes.objective(stepper)

    whole = training_footprint(
        build, lambda: shapes.batch(16, 5), lambda: shapes.batch(16, 3), settings=config.train
    )
    assert estimate.training == pytest.approx(whole.training, rel=0.05)
    assert estimate.validation == pytest.approx(whole.validation, rel=0.05)
    assert (estimate.weights, estimate.parameters) == (
        pytest.approx(whole.weights, rel=0.2),
        whole.parameters,
    )


@pytest.mark.parametrize("kind", ["mae", "huber", "relative_l2", "h1", "quantile", "afcrps"])
def test_memory_is_known_for_losses_that_select_no_modes(tiny_store, tmp_path, kind):
    noise = ["model.noise_channels=1"] if kind == "afcrps" else []
    config = tiny_config(tiny_store, tmp_path, f"loss.kind={kind}", *noise)
    report = forecast.check(config, device="cpu", probe_seconds=0)
    assert report.memory is not None, report.notes
    assert report.ready and report.memory.step > 0


def test_settings_that_save_memory_reduce_the_estimate(tiny_store, tmp_path):
    def sizes(*overrides):
        config = tiny_config(tiny_store, tmp_path, "train.rollout_steps=3", *overrides)
        return forecast.check(config, device="cpu", probe_seconds=0).memory

    plain = sizes()
    for override in (
        "train.activation_checkpointing=blocks",
        "train.activation_checkpointing=steps",
        "train.accumulation=4",
        "train.pushforward=true",
    ):
        assert sizes(override).step < plain.step
    assert sizes("train.optimizer=muon").weights < plain.weights < sizes("train.optimizer=soap").weights
    assert sizes("train.freeze=['*.blocks.0.*']").weights < plain.weights


def test_lead_times_and_stored_forcings_count(tiny_store, tmp_path):
    inputs = ["data.variables=[t2m]", "data.forcings=[u10]"]
    overrides = [*inputs, "train.rollout_steps=1", "train.lead_times=[1,2,4]"]
    config = tiny_config(tiny_store, tmp_path / "run", *overrides)
    report = forecast.check(config, device="cpu", probe_seconds=0.2)
    trained = forecast.load(train(config).checkpoint).checkpoint.stepper
    assert report.problems == []
    assert report.parameters == sum(p.numel() for p in trained.parameters())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.freeze=['nothing']", "matches no parameter"),
        ("loss.variables={wind: 2}", "no variable 'wind'"),
        ("data.forcings=[wind]", "data.forcings: 'wind'"),
        ("data.validation_period=1990", "1990"),
        ("parent=missing", "missing"),
    ],
)
def test_parts_of_a_configuration_that_do_not_fit_are_listed(tiny_store, tmp_path, override, message):
    report = forecast.check(tiny_config(tiny_store, tmp_path, override), device="cpu", probe_seconds=0)
    assert message in "\n".join(report.problems)


def test_a_model_that_computes_with_values_is_noted(tiny_store, tmp_path, monkeypatch):
    class Clever(torch.nn.Module):
        def __init__(self, in_channels, out_channels):
            super().__init__()
            self.layer = torch.nn.Conv2d(in_channels, out_channels, 1)

        def forward(self, x):
            return self.layer(x) * float(x.abs().max() > 1)

    monkeypatch.setitem(REGISTRY._models, "clever", Clever)
    config = tiny_config(tiny_store, tmp_path, "model={kind: clever}")
    report = forecast.check(config, device="cpu", probe_seconds=0)
    assert report.ready and report.memory is None
    assert "computes with values" in "\n".join(report.notes)


def test_checkpoint_lists_all_differences_from_initial_states(tiny_checkpoint, tmp_path):
    other = make_source(shape=(9, 12)).drop_vars("u10")
    other["t2m"].attrs["units"] = "m"
    path = store_of(other.assign(v10=other["t2m"] * 1.0), tmp_path)
    report = forecast.check(tiny_checkpoint, path, device="cpu")
    text = "\n".join(report.problems)
    for part in ("latitude is", "'u10'", "'t2m'"):
        assert part in text
    assert report.parameters > 0


def test_checkpoint_matches_its_own_store(tiny_checkpoint, tiny_store):
    report = forecast.check(tiny_checkpoint, tiny_store, device="cpu")
    assert report.ready
    assert report.volume.samples == 159
    assert report.memory.step > 0


def test_command_lists_problems_and_exits_with_2(tiny_store, tiny_checkpoint, tmp_path):
    runner = CliRunner()
    arguments = ["check", "ncep_temperature", str(tiny_store), f"output={tmp_path}/run", "--probe", "0"]
    wrong = runner.invoke(app, [*arguments, "data.variables=[a,b]", "--json"])
    assert wrong.exit_code == 2
    values = json.loads(wrong.stdout)
    assert values["ready"] is False and len(values["problems"]) == 2
    good = runner.invoke(app, [*arguments, "train.batch_size=8", "model.members=1", "model.window=2"])
    assert good.exit_code == 0, good.output
    assert "peak memory:" in good.stdout and "no problems" in good.stdout
    checkpoint = runner.invoke(app, ["check", str(tiny_checkpoint), str(tiny_store), "--json"])
    assert checkpoint.exit_code == 0
    assert json.loads(checkpoint.stdout)["subject"] == "forecasts from a checkpoint"
    refused = runner.invoke(app, ["check", str(tiny_checkpoint), "train.epochs=2"])
    assert refused.exit_code == 2 and "cannot be changed" in refused.stderr
    assert runner.invoke(app, ["check", "pinn/burgers"]).exit_code == 2


def test_a_solution_operator_is_built_and_its_data_compared(tmp_path):
    small = ["data.samples=16", "model.hidden_channels=6", "model.n_layers=1", f"output={tmp_path}"]
    report = forecast.check("pino/burgers", overrides=small, device="cpu")
    assert report.ready and report.parameters > 0 and report.memory is None
    missing = forecast.check("operator/heat_sink", tmp_path / "none.zarr", small[1:], device="cpu")
    assert len(missing.problems) == 1 and "none.zarr" in missing.problems[0]


def test_memory_and_durations_are_formatted():
    memory = Memory(1, 2, 3, 4, peak=10, available=9)
    assert not memory.fits
    assert [format_seconds(s) for s in (5, 3600, 200_000)] == ["5.0 s", "1.0 h", "2.31 d"]


def test_a_container_limits_the_usable_memory(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    limit.write_text("1000\n")
    monkeypatch.setattr(machine, "_GROUP_LIMITS", (str(limit), str(tmp_path / "missing")))
    assert machine.usable_memory() == 1000
    limit.write_text("max\n")
    assert machine.usable_memory() == machine.machine_memory()
    assert machine.resident_memory() > 2**20
