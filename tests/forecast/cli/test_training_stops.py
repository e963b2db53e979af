"""Training stops in time, keeps every completed step, and explains why it does not resume."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
from helpers import ROOT, make_source, tiny_config
from typer.testing import CliRunner

from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.write import write_store
from fourcaster.datasets.stopping import DeadlineError
from fourcaster.fno.training.state import load_state
from fourcaster.forecast.checkpoint.meta import read_meta
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.tasks.dispatch import train

TINY = [
    "model.n_modes=[4,4]",
    "model.hidden_channels=4",
    "model.n_layers=1",
    "model.members=1",
    "model.window=1",
]
TINY += ["train.batch_size=16", "train.epochs=2", "data.samples_per_epoch=64"]

# The command, with a step that never ends.
STUCK = """
import sys, time
from fourcaster.forecast import interruption
from fourcaster.forecast.cli.main import main
from fourcaster.fno.training.objectives.forecast import ForecastObjective
loss = ForecastObjective.loss
calls = []
def stuck(*args):
    calls.append(1)
    if len(calls) == 4:
        if interruption._process.deadline is not None:
            interruption._process.deadline = time.monotonic() + interruption.MARGIN + 1
        print("stuck", flush=True)
        time.sleep(600)
    return loss(*args)
ForecastObjective.loss = stuck
sys.argv[0] = "forecast"
main()
"""


def arguments(store, output, *more):
    return ["train", "quickstart", f"data.store={store}", f"output={output}", *TINY, *more]


def invoke(*args):
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    return result.exit_code, result.output.strip().splitlines()[-1]


def stuck(*args):
    """Start the command, and return the process once its fourth step does not end."""
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout.readline() == "stuck\n", process.stderr.read()
    return process


def weights(output):
    return read_meta(output / "checkpoint")["sha256"]


@pytest.fixture(scope="module")
def straight(tiny_store, tmp_path_factory):
    """Return the folder of an undisturbed run."""
    output = tmp_path_factory.mktemp("straight") / "run"
    code, line = invoke(*arguments(tiny_store, output))
    assert code == 0, line
    return output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_a_step_that_does_not_end_saves_the_steps_before_it(
    straight, tiny_store, tmp_path, number, code
):
    process = stuck(*arguments(tiny_store, tmp_path / "run"))
    started = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert time.monotonic() - started < 30  # 10 s on an idle machine
    line = errors.strip().splitlines()[-1]
    expected = (
        f"forecast: stopped by {number.name}; the state after step 3 of 8 is saved in {tmp_path}/run/state"
    )
    assert line == f"{expected}; the same command resumes from there"
    assert invoke(*arguments(tiny_store, tmp_path / "run"))[0] == 0
    assert weights(tmp_path / "run") == weights(straight)


def test_a_time_limit_ends_in_time_even_in_a_step_that_does_not_end(straight, tiny_store, tmp_path):
    process = stuck(*arguments(tiny_store, tmp_path / "run", "--time-limit", "3:50:00"))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "stopped before the end of the time limit; the state after step 3 of 8 is saved" in errors
    assert invoke(*arguments(tiny_store, tmp_path / "run"))[0] == 0
    assert weights(tmp_path / "run") == weights(straight)


def test_a_chain_of_time_limits_ends_with_the_bits_of_one_run(tiny_store, tmp_path):
    config = tiny_config(tiny_store, tmp_path / "a", "train.epochs=1", "train.batch_size=32")
    train(config)
    config = config.model_copy(update={"output": tmp_path / "b"})
    steps = []
    while True:
        try:
            train(config, time_limit=1e-3)  # one step at a time
            break
        except DeadlineError as error:
            assert "the same command resumes" in str(error)
            steps.append(load_state(tmp_path / "b" / "state" / "training.safetensors")[1]["step"])
    assert steps == [1, 2]
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


@pytest.mark.parametrize("text", ["soon", "3:50", "0s", "3:75:00", "-1h"])
def test_an_invalid_time_limit_is_refused(tmp_path, text):
    code, line = invoke("train", "quickstart", "--time-limit", text, f"output={tmp_path / 'run'}")
    assert code == 2
    assert "--time-limit" in line or "-1h" in line


def test_a_full_disk_keeps_the_last_state_and_the_run_resumes(straight, tiny_store, tmp_path):
    """A limit on the size of files stands for the full disk: states are larger than logs."""
    output = tmp_path / "run"
    shutil.copytree(straight, output)
    shutil.rmtree(output / "checkpoint")
    state = output / "state" / "training.safetensors"
    # Go back to the first epoch, whose state the undisturbed run saved.
    assert invoke(*arguments(tiny_store, tmp_path / "first", "train.keep_last=2"))[0] == 0
    shutil.copy(tmp_path / "first" / "state" / "epoch_0001.safetensors", state)
    before = state.read_bytes()

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "from fourcaster.forecast.cli.main import main; main()",
            *arguments(tiny_store, output),
        ],
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    line = result.stderr.strip().splitlines()[-1]
    assert result.returncode == 2, result.stderr
    assert "no room to write" in line
    assert "the previous content is kept: free some space and run it again" in line
    assert state.read_bytes() == before
    assert sorted(p.name for p in state.parent.iterdir()) == ["log.jsonl", "training.safetensors"]
    assert invoke(*arguments(tiny_store, output))[0] == 0
    assert weights(output) == weights(straight)


# Other runs in the folder


@pytest.mark.parametrize("recipe", ["quickstart", "pinn/convection", "pino/burgers", "operator/shock_pipe"])
def test_a_second_run_in_a_folder_is_refused_for_every_task(recipe, tmp_path):
    output = tmp_path / "run"
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(output)
    code = (
        "import sys; from pathlib import Path; from fourcaster.datasets.store.locks import exclusive\n"
        "with exclusive(Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, str(output)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert first.stdout.readline() == "locked\n"
        for name in ("run", "link"):
            store = [] if recipe.startswith("pin") else ["data.store=s.zarr"]
            code, line = invoke("train", recipe, f"output={tmp_path / name}", *store)
            assert code == 2
            assert f"is being written by process {first.pid}" in line
            assert "wait until it has ended, or choose another name" in line
    finally:
        first.communicate()
    assert list(output.iterdir()) == []


def test_changed_settings_of_an_interrupted_run_are_listed(tiny_store, tmp_path):
    output = tmp_path / "run"
    with pytest.raises(DeadlineError):
        train(tiny_config(tiny_store, output), time_limit=1e-3)
    with pytest.raises(ValueError, match="other settings or data") as error:
        train(tiny_config(tiny_store, output, "train.learning_rate=0.5", "model.window=3"))
    text = str(error.value)
    assert "(model.window was 2 and is 3; train.learning_rate was 0.002 and is 0.5)" in text


def test_changed_settings_and_data_of_a_finished_run_are_listed_with_a_way_on(straight, tmp_path):
    make_source(times=170).to_netcdf(tmp_path / "source.nc")
    write_store(open_sources([tmp_path / "source.nc"]), tmp_path / "store.zarr")
    code, line = invoke(*arguments(tmp_path / "store.zarr", straight, "train.clip=2"))
    assert code == 2
    assert "contains a finished run with other settings or data" in line
    assert "store.times was 160 from 2001-01-01T00:00:00" in line
    assert "train.clip was 1.0 and is 2.0" in line
    assert line.endswith("(--fork NEW_OUTPUT)")


@pytest.mark.parametrize(
    "key", ["checkpoint_minutes=1", "keep_last=3", "on_non_finite=restore", "max_restores=9"]
)
def test_settings_without_effect_on_the_result_may_change(straight, tiny_store, key):
    code, line = invoke(*arguments(tiny_store, straight, f"train.{key}"))
    assert code == 0
    assert "had already finished" in line


def test_a_fork_starts_from_the_old_weights_and_leaves_the_old_run_as_it_was(straight, tiny_store, tmp_path):
    before = {path: path.read_bytes() for path in straight.rglob("*") if path.is_file()}
    new = tmp_path / "new"
    args = arguments(tiny_store, straight, "train.learning_rate=1e-9", "train.epochs=1", "train.ema=0")
    code, line = invoke(*args, "--fork", new)
    assert code == 0, line
    assert {path: path.read_bytes() for path in straight.rglob("*") if path.is_file()} == before
    provenance = read_meta(new / "checkpoint")["provenance"]
    assert provenance["forked_from"]["run"] == str(straight)
    assert provenance["forked_from"]["step"] == 8
    assert provenance["steps"] == 4
    old = read_meta(straight / "checkpoint")["provenance"]["validation_score"]
    assert provenance["validation_score"] == pytest.approx(old, rel=1e-4)
    assert "had already finished" in invoke(*args, "--fork", new)[1]
    assert "had already finished" in invoke(*[arg.replace(str(straight), str(new)) for arg in args])[1]


def test_an_impossible_fork_is_refused_and_leaves_nothing(straight, tiny_store, tmp_path):
    args = arguments(tiny_store, straight)
    for overrides, new, expected in (
        ([], straight, "cannot be in the folder"),
        ([f"output={tmp_path / 'none'}"], tmp_path / "new", "has no saved state"),
        (["model.hidden_channels=5"], tmp_path / "new", "do not fit the model of the new run"),
    ):
        code, line = invoke(*args, *overrides, "--fork", new)
        assert code == 2
        assert expected in line
    assert list(tmp_path.iterdir()) == []
    code, line = invoke("train", "pinn/convection", f"output={straight}", "--fork", tmp_path / "new")
    assert code == 2
    assert "cannot start from the weights of another run" in line
    (tmp_path / "other" / "state").mkdir(parents=True)
    shutil.copy(straight / "state" / "training.safetensors", tmp_path / "other" / "state")
    code, line = invoke(*args, "--fork", tmp_path / "other")
    assert code == 2
    assert "contains a run that did not start from" in line


# Early stopping


def test_early_stopping_is_part_of_the_result_and_is_logged(tiny_store, tmp_path):
    output = tmp_path / "run"
    overrides = ["train.patience=1", "train.epochs=12", "train.learning_rate=1"]
    code, line = invoke(*arguments(tiny_store, output, *overrides))
    assert code == 0, line
    records = [json.loads(text) for text in (output / "state" / "log.jsonl").read_text().splitlines()]
    provenance = read_meta(output / "checkpoint")["provenance"]
    assert provenance["best_epoch"] == len(records) - 2
    assert len(records) < 12
    code, line = invoke(*arguments(tiny_store, output, *overrides, "train.patience=2"))
    assert code == 2
    assert "train.patience was 1 and is 2" in line
