"""Invalid input gives a one-line error and exit code 2; valid input writes the expected files."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from helpers import make_source
from safetensors.numpy import load_file
from typer.testing import CliRunner

from fourcaster.forecast.cli.main import app

runner = CliRunner()


def call(*arguments: object, code: int = 0) -> str:
    """Run the command in this process, check its exit code and return its standard output."""
    result = runner.invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def error_line(*arguments: object) -> str:
    """Run a command that must fail with exit code 2 and a one-line error; return that line."""
    result = runner.invoke(app, [str(a) for a in arguments])
    errors = [line for line in result.stderr.splitlines() if line.startswith("forecast: ")]
    assert result.exit_code == 2 and len(errors) == 1 and not result.stdout.strip(), (
        result.output,
        result.exception,
    )
    return errors[0]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    make_source().to_netcdf(folder / "air.nc")
    return folder


@pytest.fixture
def config(tiny_store, tmp_path):
    text = f"data: {{store: {tiny_store}}}\n"
    text += "model: {kind: fno, n_modes: [4, 4], hidden_channels: 8, n_layers: 2}\n"
    text += f"train: {{epochs: 1, batch_size: 16, validation_steps: 2}}\noutput: {tmp_path / 'run'}\n"
    (tmp_path / "run.yaml").write_text(text)
    return tmp_path / "run.yaml"


def test_complete_workflow_step_by_step(data_dir, tmp_path):
    store = tmp_path / "s.zarr"
    run = tmp_path / "run"
    forecast = tmp_path / "fc.zarr"
    report = json.loads(call("ingest", data_dir / "air.nc", "-o", store, "--variables", "t2m", "--json"))
    assert report["kind"] == "store" and report["variables"] == ["t2m [K]"] and report["step_hours"] == 6
    settings = [
        f"data.store={store}",
        f"output={run}",
        "train.epochs=1",
        "model.members=2",
        "model.hidden_channels=6",
        "model.window=2",
    ]
    assert "written" in call("train", "quickstart", *settings)
    assert "had already finished" in call("train", "quickstart", *settings)
    report = json.loads(call("inspect", run, "--json"))
    assert (report["kind"], report["status"], report["model"]["kind"]) == (
        "training run",
        "finished",
        "checkpoint",
    )
    report = json.loads(
        call(
            "run",
            run / "checkpoint",
            "--init",
            store,
            "--time",
            "2001-02-02/2001-02-07/18h",
            "--lead",
            "24h",
            "-o",
            forecast,
            "--json",
        )
    )
    assert report["kind"] == "forecast" and report["initial_times"] == 7 and report["lead_hours"] == [0, 24]
    rows = json.loads(call("verify", forecast, "--truth", store, "-o", tmp_path / "scores.nc", "--json"))
    assert len(rows) == 5 and (tmp_path / "scores.nc").exists()
    assert "RMSE of t2m [K]" in call("verify", forecast, "--truth", store)
    for name in ("map.png", "map.pdf"):
        call("plot", forecast, "--variable", "t2m", "--lead", "12h", "--truth", store, "-o", tmp_path / name)
        assert (tmp_path / name).stat().st_size > 5000
    assert "initial_times: 7" in call("inspect", forecast)
    assert "source, not ingested" in call("inspect", data_dir / "air.nc")
    shutil.rmtree(store)
    init = ["run", run / "checkpoint", "--init", data_dir / "air.nc", "--lead", "6h"]
    call(*init, "-o", tmp_path / "alone.nc")  # a forecast requires only the checkpoint
    with xr.open_dataset(tmp_path / "alone.nc", decode_timedelta=True) as alone:
        assert alone["t2m"].shape == (1, 2, 7, 12) and np.isfinite(alone["t2m"]).all()


def test_ingest_rejects_invalid_input(data_dir, tmp_path):
    out = tmp_path / "s.zarr"
    (tmp_path / "cut.nc").write_bytes((data_dir / "air.nc").read_bytes()[:9000])
    bad = make_source()
    bad["t2m"].attrs["units"] = "banana"
    bad.to_netcdf(tmp_path / "units.nc")
    bad["t2m"].attrs.pop("units")
    bad.to_netcdf(tmp_path / "none.nc")
    make_source().isel(time=[0, 1, 1, 2]).to_netcdf(tmp_path / "twice.nc")
    make_source().isel(time=[0, 2, 1, 3]).to_netcdf(tmp_path / "unsorted.nc")
    make_source().isel(time=[*range(50), *range(60, 100)]).to_netcdf(tmp_path / "gap.nc")
    for source, message in (
        (tmp_path / "no.nc", "no.nc does not exist; check the path"),
        (tmp_path / "cut.nc", "cut.nc cannot be read"),
        (
            tmp_path / "units.nc",
            "'t2m' has units 'banana', which are not units; set its attribute units, or override its units "
            "(--units t2m=...)",
        ),
        (tmp_path / "none.nc", "'t2m' has no units"),
        (tmp_path / "twice.nc", "twice; drop one"),
        (tmp_path / "unsorted.nc", "unsorted times"),
        (tmp_path / "gap.nc", "(--allow-gaps)"),
    ):
        assert message in error_line("ingest", source, "-o", out)
        assert not list(tmp_path.glob("*s.zarr*"))
    assert "no variable 'tm2'; did you mean t2m" in error_line(
        "ingest", data_dir / "air.nc", "-o", out, "--variables", "tm2"
    )
    assert "select names 'depth', which" in error_line(
        "ingest", data_dir / "air.nc", "-o", out, "--select", "depth=0"
    )
    assert "--units NAME=..., e.g. --units air=K" in error_line(
        "ingest", data_dir / "air.nc", "-o", out, "--units", "t2m"
    )
    assert "is not a period" in error_line("ingest", data_dir / "air.nc", "-o", out, "--train-period", "then")
    call("ingest", tmp_path / "units.nc", "-o", out, "--units", "t2m=K")
    assert "--overwrite" in error_line("ingest", data_dir / "air.nc", "-o", out)
    call("ingest", tmp_path / "gap.nc", "-o", out, "--allow-gaps", "--overwrite")
    assert "2001-01-16" in call("inspect", out)


def test_full_disk_leaves_no_partial_output(data_dir, tiny_store, tmp_path):
    """Simulate the full disk by a limit on file sizes."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    command = Path(sys.executable).parent / "forecast"

    def assert_full_disk_error(*arguments):
        result = subprocess.run(
            [command, *arguments], check=False, capture_output=True, text=True, preexec_fn=limit
        )
        assert (
            result.returncode == 2
            and "free some space and run it again" in result.stderr
            and "Traceback" not in result.stderr
        ), result.stderr

    assert_full_disk_error("ingest", data_dir / "air.nc", "-o", tmp_path / "a" / "s.zarr")
    assert not (tmp_path / "a" / "s.zarr").exists()
    call("ingest", data_dir / "air.nc", "-o", tmp_path / "a" / "s.zarr")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["s.zarr"]
    shutil.rmtree(tmp_path / "a")
    assert_full_disk_error(
        "train",
        "quickstart",
        f"data.store={tiny_store}",
        f"output={tmp_path}",
        "train.epochs=1",
        "model.window=2",
    )
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["log.jsonl"]


def test_train_rejects_invalid_input(config, tiny_store, tmp_path):
    for extra, message in (
        ("train.epoch=3", "unknown key train.epoch; did you mean train.epochs"),
        ("model.hiden_channels=3", "unknown key model.hiden_channels; did you mean model.hidden_channels"),
        ("modle.kind=fno", "unknown key modle; did you mean model"),
        ("train.epochs=many", "train.epochs"),
        ("train.epochs=0", "train.epochs must be at least 1, got 0"),
        ("train.epochs", "is not an override; write key=value"),
        ("model.kind=gnn", "model"),
        ("data.store=nowhere.zarr", "nowhere.zarr does not exist"),
        ("data.variables=[t3m]", "no variable 't3m'; did you mean t2m"),
        ("data.train_period=1999", "contains no time"),
        ("data.train_period=2001-01-01:2001-01-01T06", "has no 3 consecutive times"),
    ):
        assert message in error_line("train", config, extra), extra
    assert "the recipes are" in error_line("train", "no_such_recipe")
    (tmp_path / "list.yaml").write_text("[1, 2")
    assert "is not YAML" in error_line("train", tmp_path / "list.yaml")
    (tmp_path / "list.yaml").write_text("just words")
    assert "is not a mapping of keys" in error_line("train", tmp_path / "list.yaml")
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_finished_run_with_different_settings_is_rejected(config):
    call("train", config)
    assert "had already finished" in call("train", config)
    assert "finished run with other settings" in error_line("train", config, "train.seed=4")


def test_missing_values_are_rejected(config, tmp_path):
    source = make_source()
    nothing = source.copy(deep=True)
    nothing["t2m"][...] = np.nan
    nothing.to_netcdf(tmp_path / "nothing.nc")
    assert "t2m has no value in the period" in error_line(
        "ingest", tmp_path / "nothing.nc", "-o", tmp_path / "s.zarr"
    )
    assert [p.name for p in tmp_path.glob("*s.zarr*")] == []
    source["t2m"][7:9, 2, 3] = np.nan
    source.to_netcdf(tmp_path / "a.nc")
    call("ingest", tmp_path / "a.nc", "-o", tmp_path / "s.zarr")
    message = "t2m has intermittently missing values at 1 points"
    assert message in error_line("train", config, f"data.store={tmp_path / 's.zarr'}")
    call("train", config, f"data.store={tmp_path / 's.zarr'}", "data.variables=[u10]")


def test_masked_points_stay_masked_in_the_forecast(config, tmp_path):
    source = make_source()
    source["t2m"][:, :2, 3] = np.nan
    source.to_netcdf(tmp_path / "a.nc")
    store = tmp_path / "s.zarr"
    call("ingest", tmp_path / "a.nc", "-o", store)
    call("train", config, f"data.store={store}")
    call(
        "run",
        tmp_path / "run" / "checkpoint",
        "--init",
        store,
        "--time",
        "2001-02-03",
        "--lead",
        "12h",
        "-o",
        tmp_path / "fc.zarr",
    )
    forecast = xr.open_zarr(tmp_path / "fc.zarr", consolidated=False)
    assert np.array_equal(
        forecast["t2m"].isnull().any(("time", "prediction_timedelta")), source["t2m"].isnull().all("time")
    )
    assert not forecast["u10"].isnull().any()
    call("verify", tmp_path / "fc.zarr", "--truth", store)


def test_no_training_window_crosses_a_gap(tmp_path):
    from fourcaster.datasets.loaders.batches import StoreBatches

    source = StoreBatches(None, slice(0, 100), slice(100, 100), [40, 41, 70], 2, 4)  # type: ignore[arg-type]
    for start in source.starts(source.train, 5):
        assert not any(start < gap < start + 5 for gap in source.gaps)
    assert set(source.starts(source.train, 5)) == {*range(0, 36), *range(41, 66), *range(70, 96)}


def test_run_verify_and_plot_reject_invalid_input(tiny_checkpoint, tiny_store, data_dir, tmp_path):
    forecast = tmp_path / "fc.zarr"
    run = (
        "run",
        tiny_checkpoint,
        "--init",
        tiny_store,
        "--time",
        "2001-02-03",
        "--lead",
        "12h",
        "-o",
        forecast,
    )
    call(*run)
    assert "--overwrite" in error_line(*run)
    other = ("-o", tmp_path / "x.zarr")
    assert "is not a checkpoint" in error_line("run", tmp_path, "--init", tiny_store, *other)
    assert "torch finds no GPU" in error_line(
        "run", tiny_checkpoint, "--init", tiny_store, "--device", "cuda", *other
    )
    assert "lacks 2029-12-31T18:00" in error_line(
        "run", tiny_checkpoint, "--init", tiny_store, "--time", "2030-01-01", *other
    )
    assert "does not exist" in error_line("run", tiny_checkpoint, "--init", "nowhere.nc", *other)
    source = error_line("verify", forecast, "--truth", data_dir / "air.nc")
    assert "is not a store of this package; ingest it first" in source
    assert "is not a forecast" in error_line("verify", tiny_store, "--truth", tiny_store)
    picture = ("-o", tmp_path / "m.png")
    for arguments, message in (
        (("--variable", "tm2"), "did you mean t2m"),
        (("--variable", "t2m", "--lead", "7h"), "no lead 7h"),
        (("--variable", "t2m", "--lead", "6h", "--time", "2001-02-04"), "no initial time"),
        (("--variable", "t2m", "--lead", "6h", "--time", "noon"), "is not a time"),
        (("--variable", "t2m", "--lead", "soon"), "is not a duration"),
    ):
        assert message in error_line("plot", forecast, *arguments, *picture)
    assert not (tmp_path / "m.png").exists() and not (tmp_path / "x.zarr").exists()
    call("plot", forecast, "--variable", "t2m", "--lead", "6h", *picture)
    assert "--overwrite" in error_line("plot", forecast, "--variable", "t2m", "--lead", "6h", *picture)
    assert "does not exist" in error_line("inspect", tmp_path / "none")


def test_usage_errors_and_help_examples():
    call("ingest", code=2)
    call("fly", code=2)
    for verb in ("quickstart", "ingest", "inspect", "train", "run", "verify", "plot", "doctor"):
        assert "Example: forecast " + verb in " ".join(call(verb, "--help").split())


def test_doctor_reports_no_problems():
    report = json.loads(call("doctor", "--json"))
    assert report["problems"] == [] and max(report["round_trip_errors"].values()) < 1e-5


def test_killed_training_resumes_bit_identically(tiny_store, tmp_path):
    """Kill the run at random times until it finishes, and compare it with an uninterrupted run."""
    text = f"data: {{store: {tiny_store}}}\n"
    text += "model: {kind: fno, n_modes: [4, 4], hidden_channels: 8, n_layers: 2, members: 2, dropout: 0.1}\n"
    text += "train: {epochs: 25, batch_size: 8, validation_steps: 2, noise: 0.1, rollout_steps: 3, "
    text += "checkpoint_minutes: 0.0005}\noutput: x\n"
    (tmp_path / "c.yaml").write_text(text)
    command = [str(Path(sys.executable).parent / "forecast"), "train", str(tmp_path / "c.yaml")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, f"output={tmp_path / 'a'}"], check=True, capture_output=True, env=environment)
    rng, kills, steps = np.random.default_rng(0), 0, set()
    state = tmp_path / "b" / "state" / "training.safetensors"
    for _ in range(40):
        process = subprocess.Popen(
            [*command, f"output={tmp_path / 'b'}"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        before = state.stat().st_mtime_ns if state.exists() else 0
        while process.poll() is None and (not state.exists() or state.stat().st_mtime_ns == before):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1.0))
        if process.poll() is None and kills < 4:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        if process.wait() == 0:
            break
        steps.add(state.stat().st_mtime_ns)
    assert kills >= 2 and process.returncode == 0
    a, b = (load_file(tmp_path / name / "checkpoint" / "weights.safetensors") for name in "ab")
    assert a.keys() == b.keys()
    for name, weights in a.items():
        assert np.array_equal(weights, b[name], equal_nan=weights.dtype.kind == "f"), name
    logs = [
        [json.loads(line) for line in (tmp_path / n / "state" / "log.jsonl").read_text().splitlines()]
        for n in "ab"
    ]
    assert [line["validation_rmse"] for line in logs[0]] == [line["validation_rmse"] for line in logs[1]]


def test_simulate_writes_and_describes_a_store(tmp_path):
    output = call(
        "simulate", "wave", "-o", tmp_path / "w.zarr", "samples=2", "seed=3", "resolution=17", "frames=4"
    )
    assert "system: wave" in output and "sample: 2" in output
    assert json.loads(call("inspect", tmp_path / "w.zarr", "--json"))["seed"] == 3
    for args, message in (
        (["wave", "-o", tmp_path / "w.zarr"], "exists"),
        (["weve", "-o", tmp_path / "x.zarr"], "did you mean wave"),
        (["wave", "-o", tmp_path / "x.zarr", "sped=2"], "did you mean speed"),
        (["wave", "-o", tmp_path / "x.zarr", "samples=2.5"], "samples=2.5 is not an integer"),
        (["wave", "-o", tmp_path / "x.zarr", "resolution"], "'resolution' is not understood"),
    ):
        assert message in error_line("simulate", *args)
    assert not (tmp_path / "x.zarr").exists()
