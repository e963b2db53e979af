"""SIGTERM and Ctrl-C end a run after its work is saved; what they report is true, and the same call resumes
to the same bits.
"""

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


def killer(calls, number, seen=None):
    """Return a progress callback that sends this process a signal at one of its calls."""
    count = 0

    def progress(done, total, text):
        nonlocal count
        count += 1
        if seen is not None:
            seen.append(done)
        if count == calls:
            os.kill(os.getpid(), number)

    return progress


def contents(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def stopped(work, number):
    """Return the text of the interruption of some work."""
    with pytest.raises(KeyboardInterrupt) as caught, handled():
        work()
    assert isinstance(caught.value, Stopped) and caught.value.signal == number
    return caught.value.text


@SIGNALS
def test_simulate_keeps_each_solved_sample(tmp_path, number):
    options = {"parameters": {"resolution": 32, "duration": 0.1}, "samples": 6}
    simulate("burgers", tmp_path / "a.zarr", **options)
    text = stopped(
        lambda: simulate("burgers", tmp_path / "b.zarr", progress=killer(4, number), **options), number
    )
    kept = int(re.match(r"(\d) of 6 samples are written; the same command resumes after them", text)[1])
    assert kept == 3 and not (tmp_path / "b.zarr").exists()
    solved = []
    simulate("burgers", tmp_path / "b.zarr", progress=lambda done, *_: solved.append(done), **options)
    assert contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


def test_simulate_solves_no_sample_again(tmp_path, monkeypatch):
    from fourcaster.datasets.pde.line import Burgers

    solved, solve = [], Burgers.solve
    monkeypatch.setattr(Burgers, "solve", lambda self, generator: solved.append(1) or solve(self, generator))
    options = {"parameters": {"resolution": 32, "duration": 0.1}, "samples": 6}
    stopped(
        lambda: simulate("burgers", tmp_path / "b.zarr", progress=killer(4, signal.SIGTERM), **options),
        signal.SIGTERM,
    )
    first = len(solved)
    simulate("burgers", tmp_path / "b.zarr", **options)
    assert first < 6 and len(solved) == 6


@SIGNALS
def test_ingest_keeps_the_times_that_are_written(tmp_path, number, monkeypatch):
    monkeypatch.setattr(
        "fourcaster.datasets.ingest.write.make_plan",
        lambda *a, **b: replace(make_plan(*a, **b), shard=100, block=100),
    )
    make_source(times=1460, shape=(13, 24)).to_netcdf(tmp_path / "a.nc")
    ingest([tmp_path / "a.nc"], tmp_path / "a.zarr")
    seen = []
    work = killer(3, number, seen)
    text = stopped(lambda: ingest([tmp_path / "a.nc"], tmp_path / "b.zarr", progress=work), number)
    assert (
        text == f"{seen[-1]} of 1460 times are written; the same command resumes after them"
        and 0 < seen[-1] < 1460
    )
    again = []
    ingest([tmp_path / "a.nc"], tmp_path / "b.zarr", progress=lambda done, *_: again.append(done))
    assert again[1] > seen[-1] and contents(tmp_path / "a.zarr") == contents(tmp_path / "b.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nc", "a.zarr", "b.zarr"]


@SIGNALS
def test_run_keeps_whole_batches(tiny_checkpoint, tmp_path, number, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    model = forecast.load(tiny_checkpoint)
    options = {"times": ["2001-01-11", "2001-01-20T06", "2001-02-01"], "lead": "24h", "batch_size": 1}
    for ending in ("zarr", "nc"):
        a, b = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
        model.run(make_source(), output=a, **options).close()
        text = stopped(
            lambda out=b: model.run(make_source(), output=out, progress=killer(12, number), **options), number
        )
        assert text == "forecasts of 2 of 3 initial times are written; the same command resumes after them"
        steps = []
        with model.run(
            make_source(), output=b, progress=lambda done, *_, s=steps: s.append(done), **options
        ) as resumed:
            assert steps == [11, 12, 13, 14, 15]
            assert resumed.identical(open_raw(str(a)))
        if ending == "zarr":
            assert contents(a) == contents(b)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_train_saves_the_state_of_the_last_step(tiny_store, tmp_path, number):
    train(tiny_config(tiny_store, tmp_path / "a"))
    config = tiny_config(tiny_store, tmp_path / "b")
    seen = []
    text = stopped(lambda: train(config, progress=killer(5, number, seen)), number)
    assert re.match(
        rf"the state after step 5 of \d+ is saved in {tmp_path}/b/state; the same command resumes from there",
        text,
    )
    again = []
    train(config, progress=lambda step, *_: again.append(step))
    assert seen == [1, 2, 3, 4, 5] and again[0] == 6
    assert (
        contents(tmp_path / "a" / "checkpoint")["weights.safetensors"]
        == contents(tmp_path / "b" / "checkpoint")["weights.safetensors"]
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
def test_training_of_a_network_on_an_equation_is_resumed(tmp_path, monkeypatch, more, calls, expected):
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
    weights = [contents(tmp_path / name / "checkpoint")["weights.safetensors"] for name in "ab"]
    assert weights[0] == weights[1] == read_meta(tmp_path / "b" / "checkpoint")["sha256"]
