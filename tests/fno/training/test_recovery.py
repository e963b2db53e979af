"""Interruptions at any moment, returns to an earlier state, early stopping, and kept states."""

import json
import math
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import stopping_after
from torch import nn

from fourcaster.fno.batch import Batch, Instances
from fourcaster.fno.errors import NonFiniteError, OtherRunError, StoppedError
from fourcaster.fno.training import ForecastObjective, Loss, TrainSettings, train
from fourcaster.fno.training.changes import explain_changes, list_changes
from fourcaster.fno.training.diagnosis import FieldLabels
from fourcaster.fno.training.log import MEASURED
from fourcaster.fno.training.start import fork_state
from fourcaster.fno.training.state import load_state, save_state

STEPS = 5  # per epoch


class Sums:
    """Five batches of random vectors per epoch, and one to validate on."""

    def steps_per_epoch(self):
        return STEPS

    def epoch(self, epoch, rollout, start):
        for i in range(start, STEPS):
            yield self.batch(STEPS * epoch + i)

    def validation(self, steps, samples):
        yield self.batch(99)

    def batch(self, seed):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed))
        return Instances(x, x)


class SumError:
    """The mean square error of a network that learns a sum.

    Args:
        model: network.
        fails: whether the loss is NaN, given the step and the largest rate seen so far.
        scores: validation errors in order, instead of the true ones.
    """

    def __init__(self, model, fails=lambda step: False, scores=None):
        self.model, self.fails, self.scores = model, fails, scores

    def loss(self, batch, share, generator):
        step = round(share * 40)
        value = (self.model(batch.state) - batch.state.sum(1, keepdim=True)).square().mean()
        return Loss(value * (math.nan if self.fails(step) else 1.0), {"data": value})

    def errors(self, batch):
        if self.scores is not None:
            return torch.tensor([[self.scores.pop(0)]])
        return (self.model(batch.state) - batch.state.sum(1, keepdim=True)).square().mean().reshape(1, 1)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))


SETTINGS = TrainSettings(
    epochs=8, warmup_steps=2, learning_rate=1e-2, checkpoint_minutes=1e6, validation_steps=1
)


def changed(**values):
    return replace(SETTINGS, **values)


def fit(folder, *, settings=SETTINGS, model=None, fails=lambda step: False, scores=None, **others):
    model = network() if model is None else model
    objective = SumError(model, fails, scores)
    record = train(model, objective, Sums(), settings=settings, folder=folder, **others)
    return model, record


def records(folder):
    """Return the log without measured values."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for line in lines:
        for name in MEASURED:
            line.pop(name, None)
    return lines


def assert_same(first, second):
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


# Interruptions


@pytest.mark.parametrize("calls", [1, 4, 5, 10, 13])
def test_a_stop_after_any_step_even_the_last_of_an_epoch_loses_no_validation(tmp_path, calls):
    uninterrupted, expected = fit(tmp_path / "a")
    with pytest.raises(StoppedError, match=f"after step {calls} of 40"):
        fit(tmp_path / "b", stop=stopping_after(calls))
    resumed, record = fit(tmp_path / "b")
    assert_same(uninterrupted, resumed)
    assert record == expected
    assert records(tmp_path / "a") == records(tmp_path / "b")  # with the mean loss of interrupted epochs


def test_a_run_that_is_saved_by_another_thread_in_the_middle_of_a_step_resumes_bit_identically(tmp_path):
    uninterrupted, _ = fit(tmp_path / "a")
    runs = []

    class Interrupted(Exception):
        pass

    def fails(step):
        if step == 7:  # in the middle of step 7, the state is that after seven steps
            saved = []
            thread = threading.Thread(target=lambda: saved.append(runs[0].rescue()))
            thread.start()
            thread.join()
            assert saved == [7]
            raise Interrupted
        return False

    with pytest.raises(Interrupted):
        fit(tmp_path / "b", fails=fails, watch=runs.append)
    assert load_state(tmp_path / "b" / "training.safetensors")[1]["step"] == 7
    resumed, _ = fit(tmp_path / "b")
    assert_same(uninterrupted, resumed)


def test_a_run_that_is_saved_during_validation_saves_its_own_weights_and_validates_again(tmp_path):
    uninterrupted, _ = fit(tmp_path / "a")
    runs = []

    class Interrupted(Exception):
        pass

    class Stopping(SumError):
        def errors(self, batch):
            assert runs[0].step == 5
            runs[0].rescue()
            raise Interrupted

    model = network()
    with pytest.raises(Interrupted):
        train(model, Stopping(model), Sums(), settings=SETTINGS, folder=tmp_path / "b", watch=runs.append)
    resumed, _ = fit(tmp_path / "b")
    assert_same(uninterrupted, resumed)
    assert records(tmp_path / "a") == records(tmp_path / "b")


def test_no_step_is_completed_after_a_rescue(tmp_path):
    runs = []
    finished = threading.Event()

    def fails(step):
        if step == 3:
            thread = threading.Thread(target=lambda: (runs[0].rescue(), finished.wait(20)))
            thread.start()
            while not (tmp_path / "training.safetensors").exists():
                pass
        return False

    worker = threading.Thread(target=lambda: fit(tmp_path, fails=fails, watch=runs.append), daemon=True)
    worker.start()
    worker.join(1.0)
    assert worker.is_alive()  # it waits before the optimizer step
    assert runs[0].step == load_state(tmp_path / "training.safetensors")[1]["step"] == 3
    finished.set()


def test_buffers_that_a_step_changes_are_saved_as_they_were_before_it(tmp_path):
    def normalised():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))

    uninterrupted, _ = fit(tmp_path / "a", model=normalised())
    runs = []

    class Interrupted(Exception):
        pass

    class Stopping(SumError):
        def loss(self, batch, share, generator):
            loss = super().loss(batch, share, generator)  # updates the running mean
            if round(share * 40) == 7:
                runs[0].rescue()
                raise Interrupted
            return loss

    model = normalised()
    with pytest.raises(Interrupted):
        train(model, Stopping(model), Sums(), settings=SETTINGS, folder=tmp_path / "b", watch=runs.append)
    resumed, _ = fit(tmp_path / "b", model=normalised())
    assert_same(uninterrupted, resumed)


# Returns to an earlier state


RESTORING = changed(on_non_finite="restore", restore_factor=0.5, max_restores=2)


class FailsAbove:
    """Fail at one step as long as the learning rate is too high."""

    def __init__(self, at, rate):
        self.at, self.rate, self.runs = at, rate, []

    def watch(self, run):
        self.runs.append(run)

    def __call__(self, step):
        return step == self.at and self.runs[-1].rate_scale > self.rate


def test_a_run_goes_back_to_the_start_of_the_epoch_with_a_lower_rate(tmp_path, caplog):
    fails = FailsAbove(13, 0.6)
    _, record = fit(tmp_path, settings=RESTORING, fails=fails, watch=fails.watch)
    assert (record.steps, record.restorations) == (40, 1)
    lines = records(tmp_path)
    assert [line["epoch"] for line in lines] == [0, 1, 2, 2, 3, 4, 5, 6, 7]
    assert lines[2]["step"] == 10
    assert lines[2]["failed_step"] == 13
    assert lines[2]["rate_scale"] == 0.5
    assert "the loss became nan at step 13" in lines[2]["reason"]
    assert "training goes back to step 10 with 0.5 times the learning rate (1 of 2 returns)" in caplog.text
    assert load_state(tmp_path / "training.safetensors")[1]["restorations"][0]["failed_step"] == 13


def test_without_failures_the_setting_changes_no_bit(tmp_path):
    assert_same(fit(tmp_path / "a")[0], fit(tmp_path / "b", settings=RESTORING)[0])


@pytest.mark.parametrize("calls", [3, 11, 13, 14, 18, 20])
def test_an_interrupted_run_that_goes_back_equals_an_uninterrupted_one(tmp_path, calls):
    """The failure is at step 13: calls above 13 interrupt the run after its return."""
    models = []
    for name, stop in (("a", None), ("b", stopping_after(calls))):
        fails = FailsAbove(13, 0.3)
        if stop is not None:
            with pytest.raises(StoppedError):
                fit(tmp_path / name, settings=RESTORING, fails=fails, watch=fails.watch, stop=stop)
        model, record = fit(tmp_path / name, settings=RESTORING, fails=fails, watch=fails.watch)
        assert record.restorations == 2
        models.append(model)
    assert_same(*models)
    assert records(tmp_path / "a") == records(tmp_path / "b")


def test_a_return_in_the_first_epoch_starts_from_the_initial_weights(tmp_path):
    fails = FailsAbove(2, 0.6)
    _, record = fit(tmp_path, settings=RESTORING, fails=fails, watch=fails.watch)
    assert record.restorations == 1
    assert records(tmp_path)[0]["step"] == 0


def test_a_run_that_keeps_failing_stops_and_keeps_its_state(tmp_path):
    for _ in range(2):
        with pytest.raises(NonFiniteError, match=r"nan at step 13.*\(after 2 returns to an earlier state\)"):
            fit(tmp_path, settings=RESTORING, fails=lambda step: step == 13)
    groups, meta = load_state(tmp_path / "training.safetensors")
    assert meta["step"] == 10
    assert all(torch.isfinite(t).all() for tensors in groups.values() for t in tensors.values())


def test_a_stopped_run_may_be_resumed_with_returns(tmp_path):
    with pytest.raises(NonFiniteError, match="nan at step 13"):
        fit(tmp_path, settings=changed(checkpoint_minutes=0), fails=lambda step: step == 13)
    fails = FailsAbove(13, 0.6)
    _, record = fit(tmp_path, settings=RESTORING, fails=fails, watch=fails.watch)
    assert (record.steps, record.restorations) == (40, 1)


def test_a_point_to_go_back_to_of_a_removed_run_is_not_used(tmp_path):
    fit(tmp_path, settings=RESTORING)
    (tmp_path / "training.safetensors").unlink()
    fails = FailsAbove(2, 0.6)
    fit(tmp_path, settings=RESTORING, fails=fails, watch=fails.watch)
    assert records(tmp_path)[0]["step"] == 0


# Early stopping and kept states


SCORES = [5.0, 4.0, 4.5, math.nan, 3.0, 3.5, 3.2, 3.1]


def test_training_ends_after_epochs_without_a_better_score(tmp_path):
    model, record = fit(tmp_path, settings=changed(patience=2), scores=list(SCORES))
    assert (record.steps, record.best_epoch, record.stopped_early) == (20, 1, True)
    best = load_state(tmp_path / "training.safetensors")[0]["best"]
    assert all(torch.equal(best[name], t) for name, t in model.state_dict().items())
    _, patient = fit(tmp_path / "b", settings=changed(patience=3), scores=list(SCORES))
    assert (patient.steps, patient.best_epoch, patient.stopped_early) == (40, 4, True)


@pytest.mark.parametrize("calls", [2, 10, 15, 18, 20])
def test_a_resumed_run_ends_at_the_same_epoch(tmp_path, calls):
    settings = changed(patience=2)
    scores = list(SCORES)
    with pytest.raises(StoppedError):
        fit(tmp_path, settings=settings, scores=scores, stop=stopping_after(calls))
    _, record = fit(tmp_path, settings=settings, scores=scores)
    assert (record.steps, record.best_epoch, record.stopped_early) == (20, 1, True)
    _, again = fit(tmp_path, settings=settings, scores=[])  # the state says that it has ended
    assert again == record


def test_the_last_states_and_that_of_the_best_epoch_are_kept(tmp_path):
    fit(tmp_path, settings=changed(keep_last=2), scores=list(SCORES))
    kept = {path.name: load_state(path)[1]["step"] for path in tmp_path.glob("*.safetensors")}
    assert kept == {
        "training.safetensors": 40,
        "epoch_0007.safetensors": 35,
        "epoch_0008.safetensors": 40,
        "best.safetensors": 25,
    }


def test_a_run_resumes_from_a_kept_state(tmp_path):
    straight, _ = fit(tmp_path, settings=changed(keep_last=3))
    before = records(tmp_path)
    shutil.copy(tmp_path / "epoch_0006.safetensors", tmp_path / "training.safetensors")
    again, _ = fit(tmp_path, settings=changed(keep_last=3))
    assert_same(straight, again)
    assert records(tmp_path) == before


def test_keeping_states_changes_no_bit(tmp_path):
    assert_same(fit(tmp_path / "a")[0], fit(tmp_path / "b", settings=changed(keep_last=1))[0])


@pytest.mark.parametrize(
    "invalid",
    [
        {"patience": -1},
        {"keep_last": -1},
        {"on_non_finite": "ignore"},
        {"restore_factor": 0.0},
        {"restore_factor": 1.5},
        {"max_restores": -1},
    ],
)
def test_settings_out_of_range_are_refused(invalid):
    with pytest.raises(ValueError, match=f"{next(iter(invalid))} must be"):
        TrainSettings(**invalid)


# A full disk


def test_a_full_disk_keeps_the_last_state_and_the_run_resumes(tmp_path, monkeypatch):
    straight, _ = fit(tmp_path / "a")
    from fourcaster.fno.training import state

    written = []

    def full(tensors, path, metadata=None):
        if len(written) == 2:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        written.append(path)
        torch_save(tensors, path, metadata=metadata)

    torch_save = state.save_file
    monkeypatch.setattr(state, "save_file", full)
    with pytest.raises(OSError, match=r"no room to write .* the previous content is kept"):
        fit(tmp_path / "b")
    assert load_state(tmp_path / "b" / "training.safetensors")[1]["step"] == 10
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["log.jsonl", "training.safetensors"]
    monkeypatch.undo()
    resumed, _ = fit(tmp_path / "b")
    assert_same(straight, resumed)


# Other runs


def test_a_state_of_another_run_is_refused_with_what_changed(tmp_path):
    old = {"train": {"epochs": 3, "noise": 0.1}, "store": {"times": "10 from a to b (sha256 1)"}}
    new = {"train": {"epochs": 4}, "store": {"times": "10 from a to b (sha256 1)"}}
    fit(tmp_path, fingerprint="one", description=old)
    expected = r"\(train.epochs was 3 and is 4; train.noise was 0.1 and is not set\)"
    with pytest.raises(OtherRunError, match=expected):
        fit(tmp_path, fingerprint="two", description=new)


def test_changes_are_listed_by_dotted_key():
    assert list_changes({"a": {"b": [1, 2]}, "c": 1}, {"a": {"b": (1, 2)}, "c": 1}) == []
    many = {f"k{i}": i for i in range(9)}
    assert explain_changes({}, many).endswith("k5 was not set and is 5; and 3 more")
    assert "earlier version" in explain_changes(None, many)
    assert explain_changes(many, many) == "what differs was not recorded"


def test_a_new_run_starts_from_the_best_weights_of_another_and_resumes(tmp_path):
    old, _ = fit(tmp_path / "old", fingerprint="old")
    settings = changed(epochs=2, learning_rate=1e-3)
    models = []
    for name, calls in (("a", None), ("b", 3)):
        origin = fork_state(tmp_path / "old" / "training.safetensors", tmp_path / name, "old")
        assert origin == {"run": "old", "step": 40, "fingerprint": "old"}
        if calls:
            with pytest.raises(StoppedError):
                fit(tmp_path / name, settings=settings, stop=stopping_after(calls))
        model, record = fit(tmp_path / name, settings=settings)
        assert record.origin == origin
        assert record.steps == 10
        models.append(model)
    assert_same(*models)
    fork_state(tmp_path / "old" / "training.safetensors", tmp_path / "c", "old")
    start = load_state(tmp_path / "c" / "start.safetensors")[0]["model"]
    assert all(torch.equal(start[name], t) for name, t in old.state_dict().items())


def test_weights_of_another_model_are_refused_as_a_start(tmp_path):
    fit(tmp_path / "old")
    fork_state(tmp_path / "old" / "training.safetensors", tmp_path / "new", "old")
    with pytest.raises(ValueError, match="the weights of old do not fit the model of the new run"):
        fit(tmp_path / "new", model=nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Dropout(), nn.Linear(4, 1)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stale", -1),
        ("unvalidated", 1),
        ("sums", {"loss": [1.0]}),
        ("restorations", [{"step": 1}]),
        ("description", []),
        ("origin", {"run": "x"}),
    ],
)
def test_a_damaged_record_in_a_state_is_refused(tmp_path, name, value):
    fit(tmp_path)
    path = tmp_path / "training.safetensors"
    groups, meta = load_state(path)
    save_state(path, groups, {**meta, name: value})
    with pytest.raises(ValueError, match=f"is not a training state .its {name} is"):
        fit(tmp_path)


# The place of a value that is not finite


LABELS = FieldLabels(("t2m", "u10"), ("latitude", "longitude"), np.array([60.0, 50, 40]), np.arange(4) * 10.0)


class Step(nn.Module):
    """A linear step of two channels on three by four points, with the interface of ``Stepper``."""

    window = 1

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 1, 1))
        self.register_buffer("mask", torch.ones(2, 3, 4, dtype=torch.bool), persistent=False)
        self.register_buffer("static", torch.zeros(1), persistent=False)
        self.anomaly_std = torch.ones(2, 1, 1)
        self.tendency_std = torch.ones(2, 1, 1)
        self.fault = None

    def anomaly(self, state, background):
        return torch.where(self.mask, state - background, 0.0)

    def noise(self, window, generator):
        return window.new_zeros(len(window), 0, 3, 4)

    def forward(self, window):
        step = window * self.weight
        return step if self.fault is None else self.fault(step)

    def rollout(self, window, drivers, *, noise=None):
        state = window[:, -1]
        for _ in drivers:
            state = self(state)
            yield state


class Fields(Sums):
    def __init__(self, spoil=lambda tensor: None, field="state"):
        self.spoil, self.field = spoil, field

    def batch(self, seed):
        tensors = {"state": torch.randn(2, 3, 2, 3, 4), "background": torch.zeros(2, 3, 2, 3, 4)}
        self.spoil(tensors[self.field])
        return Batch(**tensors, forcing=torch.zeros(2, 3, 1, 3, 4))


def message(folder, source, fault=None):
    step = Step()
    step.fault = fault
    objective = ForecastObjective(step, torch.ones(2, 3, 4))
    objective.labels = LABELS
    with pytest.raises(NonFiniteError) as error:
        train(step, objective, source, settings=SETTINGS, folder=folder)
    return str(error.value)


def test_missing_data_are_named_with_variable_place_and_time(tmp_path):
    def spoil(state):
        state[1, 2, 1, 0, 3] = math.nan

    text = message(tmp_path, Fields(spoil))
    assert "the loss became nan at step 0: " in text
    assert "the data of u10 of the batch: nan at latitude 60, longitude 30, state 3 of sample 2" in text


def test_a_bad_seasonal_cycle_is_named(tmp_path):
    def spoil(background):
        background[0, 0, 0, 2, 1] = math.inf

    text = message(tmp_path, Fields(spoil, "background"))
    assert "the seasonal cycle of t2m of the batch: inf at latitude 40, longitude 10, state 1" in text


def test_a_diverging_forecast_is_named_with_the_step_of_the_rollout(tmp_path):
    calls = []

    def fault(step):
        calls.append(1)
        broken = step.clone()
        if len(calls) % 2 == 0:  # the second step of each rollout
            broken[1, 0, 1, 2] = math.inf
        return broken

    text = message(tmp_path, Fields(), fault)
    assert "the forecast of t2m: inf at latitude 50, longitude 20 of sample 2, step 2 of 2" in text


def test_a_gradient_that_is_not_finite_is_named_with_its_place(tmp_path):
    class Poisoned(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            gradient = gradient.clone()
            gradient[0, 1, 2, 0] = math.nan
            return gradient

    calls = []

    def fault(step):
        calls.append(1)
        return Poisoned.apply(step) if len(calls) % 2 == 0 else step

    text = message(tmp_path, Fields(), fault)
    assert "the gradient of weight is not finite at step 0: " in text
    assert "the gradient with respect to the forecast of u10: nan at latitude 40, longitude 0" in text
    assert "step 1 of 2" in text
