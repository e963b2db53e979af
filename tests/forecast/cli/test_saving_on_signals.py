"""Signals interrupt work only after it is saved, and the same call then resumes it bit-identically."""

import hashlib
import os
import re
import signal
from dataclasses import replace

import pytest
from helpers import make_source, tiny_config

from fourcaster import forecast
from fourcaster.datasets.adapters.opening import open_raw
from fourcaster.datasets.ingest.plan import make_plan
from fourcaster.datasets.pde.simulate import simulate
from fourcaster.datasets.stopping import Stopped, handled
from fourcaster.forecast.checkpoint.meta import read_meta
from fourcaster.forecast.ingestion import ingest
from fourcaster.forecast.tasks.dispatch import load_config, train

pytestmark = pytest.mark.usefixtures("default_signal_handlers")

SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])


def signal_at_call(calls, number, reported=None):
    """Return a progress callback that sends a signal to this process at its n-th call."""
    count = 0

    def progress(done, total, text):
        nonlocal count
        count += 1
        if reported is not None:
            reported.append(done)
        if count == calls:
            os.kill(os.getpid(), number)

    return progress


def checksums(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def interruption_message(work, number):
    """Run work that is interrupted by a signal, and return the message of the interruption."""
    with pytest.raises(KeyboardInterrupt) as error, handled():
        work()
    assert isinstance(error.value, Stopped) and error.value.signal == number
    return error.value.text


@SIGNALS
def test_interrupted_simulation_keeps_every_solved_sample(tmp_path, number):
    options = {"parameters": {"resolution": 32, "duration": 0.1}, "samples": 6}
    simulate("burgers", tmp_path / "a.zarr", **options)
    text = interruption_message(
        lambda: simulate("burgers", tmp_path / "b.zarr", progress=signal_at_call(4, number), **options),
        number,
    )
    written = int(re.match(r"(\d) of 6 samples are written; the same command resumes after them", text)[1])
    assert written == 3 and not (tmp_path / "b.zarr").exists()
    solved = []
    simulate("burgers", tmp_path / "b.zarr", progress=lambda done, *_: solved.append(done), **options)
    assert checksums(tmp_path / "a.zarr") == checksums(tmp_path / "b.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


def test_resumed_simulation_solves_no_sample_twice(tmp_path, monkeypatch):
    from fourcaster.datasets.pde.line import Burgers

    solved, solve = [], Burgers.solve
    monkeypatch.setattr(Burgers, "solve", lambda self, generator: solved.append(1) or solve(self, generator))
    options = {"parameters": {"resolution": 32, "duration": 0.1}, "samples": 6}
    interruption_message(
        lambda: simulate(
            "burgers", tmp_path / "b.zarr", progress=signal_at_call(4, signal.SIGTERM), **options
        ),
        signal.SIGTERM,
    )
    first = len(solved)
    simulate("burgers", tmp_path / "b.zarr", **options)
    assert first < 6 and len(solved) == 6


@SIGNALS
def test_interrupted_ingestion_keeps_written_times(tmp_path, number, monkeypatch):
    monkeypatch.setattr(
        "fourcaster.datasets.ingest.write.make_plan",
        lambda *a, **b: replace(make_plan(*a, **b), shard=100, block=100),
    )
    make_source(times=1460, shape=(13, 24)).to_netcdf(tmp_path / "a.nc")
    ingest([tmp_path / "a.nc"], tmp_path / "a.zarr")
    reported = []
    work = signal_at_call(3, number, reported)
    text = interruption_message(
        lambda: ingest([tmp_path / "a.nc"], tmp_path / "b.zarr", progress=work), number
    )
    assert (
        text == f"{reported[-1]} of 1460 times are written; the same command resumes after them"
        and 0 < reported[-1] < 1460
    )
    resumed = []
    ingest([tmp_path / "a.nc"], tmp_path / "b.zarr", progress=lambda done, *_: resumed.append(done))
    assert resumed[1] > reported[-1] and checksums(tmp_path / "a.zarr") == checksums(tmp_path / "b.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nc", "a.zarr", "b.zarr"]


@SIGNALS
def test_interrupted_forecast_keeps_complete_batches(tiny_checkpoint, tmp_path, number, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    model = forecast.load(tiny_checkpoint)
    options = {"times": ["2001-01-11", "2001-01-20T06", "2001-02-01"], "lead": "24h", "batch_size": 1}
    for ending in ("zarr", "nc"):
        a, b = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
        model.run(make_source(), output=a, **options).close()
        text = interruption_message(
            lambda out=b: model.run(
                make_source(), output=out, progress=signal_at_call(12, number), **options
            ),
            number,
        )
        assert text == "forecasts of 2 of 3 initial times are written; the same command resumes after them"
        steps = []
        with model.run(
            make_source(), output=b, progress=lambda done, *_, s=steps: s.append(done), **options
        ) as resumed:
            assert steps == [11, 12, 13, 14, 15]
            assert resumed.identical(open_raw(str(a)))
        if ending == "zarr":
            assert checksums(a) == checksums(b)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_interrupted_training_saves_the_state_of_the_last_step(tiny_store, tmp_path, number):
    train(tiny_config(tiny_store, tmp_path / "a"))
    config = tiny_config(tiny_store, tmp_path / "b")
    reported = []
    text = interruption_message(lambda: train(config, progress=signal_at_call(5, number, reported)), number)
    assert re.match(
        rf"the state after step 5 of \d+ is saved in {tmp_path}/b/state; the same command resumes from there",
        text,
    )
    resumed = []
    train(config, progress=lambda step, *_: resumed.append(step))
    assert reported == [1, 2, 3, 4, 5] and resumed[0] == 6
    assert (
        checksums(tmp_path / "a" / "checkpoint")["weights.safetensors"]
        == checksums(tmp_path / "b" / "checkpoint")["weights.safetensors"]
    )


EQUATION = [
    "equation.beta=5",
    "train.windows=2",
    "train.points=100",
    "train.initial_points=16",
    "model.width=6",
    "train.iterations=25",
]


@pytest.mark.parametrize(
    ("more", "calls", "expected"),
    [
        (
            ["train.curriculum_stages=2", "train.curriculum={beta: 1}"],
            40,
            "iteration 40 of window 1 of 2 is saved",
        ),
        (
            ["train.resample_every=7", "loss.weighting=gradient_norm", "loss.reweigh_every=3"],
            40,
            "iteration 15 of window 2 of 2 is saved",
        ),
        (
            ["train.optimizer=adam_lbfgs", "train.adam_steps=100", "train.lbfgs_steps=40"],
            5,
            "1 of 2 windows of time are saved",
        ),
    ],
    ids=["curriculum", "resampled and weighted", "adam"],
)
def test_interrupted_pinn_training_resumes_bit_identically(tmp_path, monkeypatch, more, calls, expected):
    a, b = (load_config("pinn/convection", [*EQUATION, *more, f"output={tmp_path / name}"]) for name in "ab")
    train(a)
    count = 0

    def requested():
        nonlocal count
        count += 1
        return count == calls

    monkeypatch.setattr("fourcaster.forecast.tasks.pinn.requested", requested)
    with pytest.raises(Stopped, match=expected):
        train(b)
    train(b)
    logs = [(tmp_path / name / "state" / "log.jsonl").read_text() for name in "ab"]
    assert logs[0] == logs[1]
    weights = [checksums(tmp_path / name / "checkpoint")["weights.safetensors"] for name in "ab"]
    assert weights[0] == weights[1] == read_meta(tmp_path / "b" / "checkpoint")["sha256"]
