"""Loggers of training runs: no step twice, no influence on the training, clear errors before it."""

import json
import logging
import re
import shutil
import sys
import types
from dataclasses import asdict, replace
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest
import torch
from helpers import ROOT, coordinate_network, stopping_after

from fourcaster.fno.errors import NonFiniteError, RegistryError, StoppedError
from fourcaster.fno.physics import equations
from fourcaster.fno.training import TrainSettings, fit
from fourcaster.fno.training.log import MEASURED, TrainingLog, read_lines
from fourcaster.fno.training.loggers import LOGGERS, LoggerGroup, RunInfo, check_loggers
from fourcaster.fno.training.pinn.settings import PinnSettings
from fourcaster.fno.training.pinn.train import train_pinn
from fourcaster.fno.training.reporter import Reporter
from fourcaster.fno.training.settings import identifying
from fourcaster.fno.training.state import load_state
from fourcaster.fno.training.status import LiveStatus, read_status
from fourcaster.fno.training.throughput import ThroughputMeter

PER_EPOCH = 8
SETTINGS = TrainSettings(epochs=3, learning_rate=0.02, warmup_steps=0, log_every=2)


def run(folder, settings=SETTINGS, *, validation=True, **options):
    """Train a small network on fixed batches, and return its weights."""
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    x = torch.linspace(-1, 1, 4 * PER_EPOCH).reshape(PER_EPOCH, 4, 1)
    batches = [(part, 2 * part) for part in x]
    loss = options.pop("loss", torch.nn.MSELoss())
    fit(
        model,
        batches,
        loss=loss,
        folder=folder,
        settings=settings,
        validation=batches[:2] if validation else (),
        **options,
    )
    return torch.cat([p.flatten() for p in model.parameters()]).detach()


class Recorder:
    """A logger that keeps everything of a process, in lists of its subclass."""

    records: ClassVar[list] = []
    starts: ClassVar[list] = []
    ends: ClassVar[list] = []

    def __init__(self, info):
        self.starts.append(info)
        self.run = info.run or f"run {len(self.starts)}"

    def log(self, values, step):
        self.records.append((step, values))

    def picture(self, name, path, step):
        self.records.append((step, {name: path.stat().st_size}))

    def flush(self):
        pass

    def close(self, *, finished):
        self.ends.append(finished)


class Failing(Recorder):
    """A logger that fails at the second record."""

    def log(self, values, step):
        if step > SETTINGS.log_every:
            raise ConnectionError("no route to host")


@pytest.fixture
def recorder(monkeypatch):
    """Install two loggers by entry points, and return what the first one records."""
    module = types.ModuleType("installed_loggers")
    module.Recorder = type("Recorder", (Recorder,), {"records": [], "starts": [], "ends": []})
    module.Failing = Failing
    monkeypatch.setitem(sys.modules, module.__name__, module)
    entries = {
        name: EntryPoint(name, f"{module.__name__}:{name.title()}", LOGGERS.group)
        for name in ("recorder", "failing")
    }
    monkeypatch.setattr(LOGGERS, "_entries", entries)
    monkeypatch.setattr(LOGGERS, "_models", dict(LOGGERS._models))
    return module.Recorder


RECORDING = replace(SETTINGS, loggers=("recorder",))


def assert_same_values(first, second):
    """Assert that two lists of records have the same steps and, apart from speeds, the same values."""
    assert [step for step, _ in first] == [step for step, _ in second]
    for (_, a), (_, b) in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        kept = [name for name in a if name.removeprefix("train/") not in MEASURED]
        assert {name: a[name] for name in kept} == {name: b[name] for name in kept}


def test_a_logger_receives_every_few_steps_and_each_validation(recorder, tmp_path):
    run(tmp_path, RECORDING)
    steps = [step for step, _ in recorder.records]
    assert steps == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24]
    step, validation = recorder.records[3]
    (line, *_) = read_lines(tmp_path / "log.jsonl")
    assert step == line["step"] == PER_EPOCH
    assert validation["epoch/loss"] == line["loss"]
    assert (
        validation["validation/score"] == validation["validation/rmse_step_001"] == line["validation_score"]
    )
    assert validation["train/learning_rate"] == line["learning_rate"] == SETTINGS.rate(PER_EPOCH - 1, 24)
    assert {"train/loss", "train/learning_rate", "train/samples_per_second", "train/waiting"} <= set(
        recorder.records[0][1]
    )
    assert recorder.ends == [True]


@pytest.mark.parametrize("calls", [1, 3, 8, 9, 16, 23])
def test_an_interrupted_run_passes_no_step_on_twice_and_none_is_missing(recorder, tmp_path, calls):
    run(tmp_path / "a", RECORDING)
    straight = list(recorder.records)
    recorder.records.clear()
    with pytest.raises(StoppedError):
        run(tmp_path / "b", RECORDING, stop=stopping_after(calls))
    run(tmp_path / "b", RECORDING)
    assert_same_values(straight, recorder.records)
    assert [start.run for start in recorder.starts] == [None, None, "run 2"]
    assert recorder.ends == [True, False, True]


def test_a_killed_run_passes_no_step_on_twice(recorder, tmp_path):
    """Steps after the last saved state are repeated, and were not passed on before."""
    run(tmp_path / "a", RECORDING)
    straight = list(recorder.records)
    recorder.records.clear()

    def killed(prediction, target):
        calls.append(None)
        if len(calls) == 2 * PER_EPOCH:
            raise KeyboardInterrupt
        return torch.nn.functional.mse_loss(prediction, target)

    calls: list = []
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", RECORDING, loss=killed)
    assert recorder.records[-1][0] == PER_EPOCH
    run(tmp_path / "b", RECORDING)
    assert_same_values(straight, recorder.records)


def test_steps_before_a_return_to_an_earlier_state_are_not_passed_on(recorder, tmp_path):
    def explosive(prediction, target):
        calls.append(None)
        value = torch.nn.functional.mse_loss(prediction, target)
        return value * torch.nan if len(calls) == PER_EPOCH + 7 else value

    calls: list = []
    settings = replace(RECORDING, on_non_finite="restore")
    run(tmp_path, settings, loss=explosive)
    steps = [step for step, _ in recorder.records]
    assert steps == sorted(set(steps)) and steps[-1] == 24


def test_a_logger_that_is_ahead_of_a_restored_state_starts_a_new_run(recorder, tmp_path):
    keeping = replace(RECORDING, keep_last=3)
    run(tmp_path, keeping)
    shutil.copy(tmp_path / "epoch_0001.safetensors", tmp_path / "training.safetensors")
    run(tmp_path, keeping)
    assert recorder.starts[0].step == 0 and recorder.starts[1].step == PER_EPOCH
    assert recorder.starts[1].run is None
    assert json.loads((tmp_path / "loggers.json").read_text())["recorder"] == {"run": "run 2", "step": 24}


def test_a_finished_run_opens_no_logger(recorder, tmp_path):
    run(tmp_path, RECORDING)
    run(tmp_path, RECORDING)
    assert len(recorder.starts) == 1


PINN = PinnSettings(windows=2, points=20, initial_points=8, iterations=4, tolerance=0.0, log_every=2)


def run_pinn(folder, settings, **options):
    """Train a physics-informed network, and return the weights of both windows."""
    problem = equations.get("reaction").problem()
    networks, _ = train_pinn(problem, coordinate_network, settings, folder=folder, **options)
    return torch.cat([p.flatten() for net in networks for p in net.parameters()]).detach()


@pytest.mark.parametrize("calls", [1, 3, 6])
def test_an_interrupted_physics_informed_network_passes_each_step_on_once(recorder, tmp_path, calls):
    settings = replace(PINN, loggers=("recorder",))
    plain = run_pinn(tmp_path / "a", PINN)
    assert torch.equal(run_pinn(tmp_path / "b", settings), plain)
    expected = list(recorder.records)
    assert [step for step, _ in expected] == [2, 4, 4, 6, 8, 8]
    assert {"train/residual", "train/initial"} <= set(expected[0][1])
    assert set(expected[2][1]) == {"validation/residual", "validation/held_out"}
    recorder.records.clear()
    with pytest.raises(StoppedError):
        run_pinn(tmp_path / "c", settings, stop=stopping_after(calls))
    assert torch.equal(run_pinn(tmp_path / "c", settings), plain)
    assert recorder.records == expected
    assert recorder.ends == [True, False, True]


def test_a_failing_logger_is_reported_once_and_changes_no_bit(recorder, tmp_path, caplog):
    plain = run(tmp_path / "a")
    with caplog.at_level(logging.WARNING):
        logged = run(tmp_path / "b", replace(SETTINGS, loggers=("failing", "recorder")))
    assert torch.equal(plain, logged)
    failures = [r.getMessage() for r in caplog.records if "logger" in r.getMessage()]
    assert failures == [
        "the logger failing failed (ConnectionError: no route to host); training goes on without it"
    ]
    assert len(recorder.records) == 12


def test_a_logger_that_cannot_be_opened_is_reported_and_training_goes_on(recorder, tmp_path, caplog):
    def unreachable(self, info):
        raise OSError("no server")

    recorder.__init__ = unreachable
    run(tmp_path, RECORDING)
    assert "the logger recorder failed (OSError: no server)" in caplog.text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mlflow", r"needs the package mlflow.*pip install 'fourcaster\[mlflow\]'"),
        ("wandb", r"needs the package wandb.*pip install 'fourcaster\[wandb\]'"),
        ("tensorboard", r"needs the package tensorboard.*pip install 'fourcaster\[tensorboard\]'"),
        ("tensorbord", r"no logger 'tensorbord'; choose one of tensorboard, wandb, mlflow"),
        ("json:Nothing", "json"),
    ],
)
def test_a_missing_logger_or_package_is_an_error_before_training(tmp_path, monkeypatch, name, message):
    monkeypatch.setattr("fourcaster.fno.training.loggers.registry.find_spec", lambda package: None)
    for package in ("wandb", "mlflow", "tensorboard"):
        monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(RegistryError, match=message):
        run(tmp_path / "run", replace(SETTINGS, loggers=(name,)))
    assert not (tmp_path / "run").exists()


def test_a_logger_whose_import_fails_is_an_error(monkeypatch):
    entries = {"broken": EntryPoint("broken", "no_such_module_of_a_logger:Logger", LOGGERS.group)}
    monkeypatch.setattr(LOGGERS, "_entries", entries)
    with pytest.raises(RegistryError, match="logger broken cannot be imported"):
        check_loggers(["broken"])


def test_loggers_and_pictures_do_not_identify_a_run(recorder, tmp_path):
    plain = asdict(TrainSettings())
    changed = asdict(TrainSettings(loggers=("tensorboard",), log_every=3, pictures="never"))
    assert identifying(plain) == identifying(changed)
    with pytest.raises(StoppedError):
        run(tmp_path, stop=stopping_after(5))
    run(tmp_path, replace(RECORDING, log_every=1, pictures="never"))
    assert [step for step, _ in recorder.records] == list(range(6, 25))


@pytest.mark.parametrize("values", [{"loggers": ("a", "a")}, {"log_every": 0}, {"pictures": "often"}])
def test_invalid_settings_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        TrainSettings(**values)


def test_other_processes_than_the_first_report_nothing(tmp_path):
    trainer = types.SimpleNamespace(processes=types.SimpleNamespace(leads=False))
    reporter = Reporter(trainer, tmp_path, progress=None, pictures=None)
    reporter.step({"loss": 1.0}, ThroughputMeter(iter(())), last=False)
    reporter.saved()
    reporter.epoch({"validation_rmse": None}, ThroughputMeter(iter(())))
    reporter.epoch_saved()
    reporter.restored()
    reporter.close()
    assert not list(tmp_path.iterdir())


def test_values_that_are_not_finite_are_left_out(recorder, tmp_path):
    group = LoggerGroup(["recorder"], RunInfo("run", tmp_path))
    group.add({"a": 1.0, "b": float("nan")}, 1)
    group.release(1)
    assert recorder.records == [(1, {"a": 1.0})]


@pytest.mark.parametrize("text", ["[]", '{"recorder": 3}', "{", '{"recorder": {"run": 1, "step": 2}}'])
def test_a_damaged_record_of_positions_starts_a_new_run(recorder, tmp_path, text):
    (tmp_path / "loggers.json").write_text(text)
    LoggerGroup(["recorder"], RunInfo("run", tmp_path, 5))
    assert recorder.starts[0].run is None


def test_the_documented_logger_records_a_run(tmp_path, monkeypatch):
    module = types.ModuleType("documented_logger")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    (block,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "monitoring.md").read_text(), flags=re.DOTALL
    )
    exec(block, module.__dict__)
    monkeypatch.setattr(
        LOGGERS, "_entries", {"lines": EntryPoint("lines", "documented_logger:LineLogger", LOGGERS.group)}
    )
    monkeypatch.setattr(LOGGERS, "_models", dict(LOGGERS._models))
    run(tmp_path, replace(SETTINGS, loggers=("lines",)))
    assert [line["step"] for line in read_lines(tmp_path / "lines.jsonl")] == list(range(2, 26, 2))


# TensorBoard, with its own reader


def scalars(folder, tag):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_shows_each_step_once_after_an_interruption_and_a_restored_state(tmp_path):
    pytest.importorskip("tensorboard")
    settings = replace(SETTINGS, loggers=("tensorboard",), keep_last=3)
    with pytest.raises(StoppedError):
        run(tmp_path, settings, stop=stopping_after(13))
    run(tmp_path, settings)
    steps = [step for step, _ in scalars(tmp_path, "train/loss")]
    assert steps == [2, 4, 6, 10, 12, 14, 18, 20, 22]
    log = read_lines(tmp_path / "log.jsonl")
    expected = [(line["step"], pytest.approx(line["validation_score"])) for line in log]
    assert scalars(tmp_path, "validation/score") == expected
    shutil.copy(tmp_path / "epoch_0001.safetensors", tmp_path / "training.safetensors")
    run(tmp_path, settings)
    assert [step for step, _ in scalars(tmp_path, "train/loss")] == steps
    assert scalars(tmp_path, "validation/score") == expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_shows_pictures(tmp_path):
    pytest.importorskip("tensorboard")
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Image.new("RGB", (4, 3), "red").save(tmp_path / "curves.png")
    group = LoggerGroup(["tensorboard"], RunInfo("run", tmp_path, settings={"train": {"seed": 1}}))
    group.picture("curves", tmp_path / "curves.png", 7)
    group.close(finished=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (image,) = events.Images("pictures/curves")
    assert (image.step, image.width, image.height) == (7, 4, 3)


# Weights & Biases and MLflow, by modules with the same interface


@pytest.fixture
def wandb(monkeypatch):
    """Return a module with the functions of wandb that are used."""
    module = types.ModuleType("wandb")
    module.starts = []
    module.rows = []
    module.ends = []

    class Run:
        def __init__(self, number):
            self.id = number

        def log(self, values, step):
            module.rows.append((step, values))

        def finish(self, exit_code):
            module.ends.append(exit_code)

    def init(**options):
        module.starts.append(options)
        return Run(options["id"] or f"id{len(module.starts)}")

    module.init = init
    module.Settings = lambda **options: options
    module.Image = lambda path: ("image", path)
    monkeypatch.setitem(sys.modules, "wandb", module)
    for name in ("WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    return module


def test_wandb_is_offline_by_default_and_continues_its_run(wandb, tmp_path, monkeypatch):
    settings = replace(SETTINGS, loggers=("wandb",))
    with pytest.raises(StoppedError):
        run(tmp_path / "run" / "state", settings, stop=stopping_after(13))
    monkeypatch.setenv("WANDB_MODE", "online")
    run(tmp_path / "run" / "state", settings)
    first, second = wandb.starts
    assert (first["mode"], first["id"], first["resume"]) == ("offline", None, None)
    assert (second["mode"], second["id"], second["resume"]) == ("online", "id1", "allow")
    assert (first["project"], first["name"]) == ("fourcaster", "run")
    steps = [step for step, _ in wandb.rows]
    assert steps == sorted(set(steps)) == list(range(2, 26, 2))
    assert wandb.ends == [1, 0]


def test_wandb_receives_pictures_at_the_step_of_the_validation(wandb, tmp_path):
    group = LoggerGroup(["wandb"], RunInfo("run", tmp_path))
    group.picture("curves", tmp_path / "curves.png", 8)
    assert wandb.rows == [(8, {"pictures/curves": ("image", str(tmp_path / "curves.png"))})]


@pytest.fixture
def mlflow(monkeypatch):
    """Return a module with the functions of mlflow that are used."""
    module = types.ModuleType("mlflow")
    entities = types.ModuleType("mlflow.entities")
    module.clients = []
    module.calls = []
    entities.Metric = lambda key, value, timestamp, step: (key, value, step)
    entities.Param = lambda key, value: (key, value)

    class Client:
        def __init__(self, tracking_uri):
            module.clients.append(tracking_uri)

        def get_experiment_by_name(self, name):
            return None

        def create_experiment(self, name, artifact_location=None):
            module.calls.append(("experiment", name, artifact_location))
            return "1"

        def create_run(self, experiment_id, run_name):
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id=f"run of {run_name}"))

        def update_run(self, run, status):
            module.calls.append(("update", run, status))

        def log_batch(self, run, metrics=(), params=()):
            assert len(metrics) <= 1000 and len(params) <= 100
            module.calls += [("metric", *metric) for metric in metrics]
            module.calls += [("param", *param) for param in params]

        def log_artifact(self, run, path, folder):
            module.calls.append(("artifact", path, folder))

        def set_terminated(self, run, status):
            module.calls.append(("end", run, status))

    module.MlflowClient = Client
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return module


def test_mlflow_records_locally_by_default_and_continues_its_run(mlflow, tmp_path):
    settings = replace(SETTINGS, loggers=("mlflow",))
    with pytest.raises(StoppedError):
        run(tmp_path / "one" / "state", settings, stop=stopping_after(13))
    run(tmp_path / "one" / "state", settings)
    folder = tmp_path / "one" / "state"
    assert mlflow.clients == 2 * [f"sqlite:///{folder / 'mlflow.db'}"]
    assert ("experiment", "fourcaster", (folder / "mlartifacts").as_uri()) in mlflow.calls
    assert ("update", "run of one", "RUNNING") in mlflow.calls
    losses = [call[3] for call in mlflow.calls if call[:2] == ("metric", "train/loss")]
    assert losses == [2, 4, 6, 10, 12, 14, 18, 20, 22]
    assert [call for call in mlflow.calls if call[0] == "end"] == [
        ("end", "run of one", "KILLED"),
        ("end", "run of one", "FINISHED"),
    ]


def test_mlflow_uses_the_configured_server_and_receives_settings_and_pictures(mlflow, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    group = LoggerGroup(["mlflow"], RunInfo("run", tmp_path, settings={"train": {"seed": 1}}))
    group.picture("curves", tmp_path / "curves.png", 8)
    assert mlflow.clients == ["http://server"]
    assert ("experiment", "fourcaster", None) in mlflow.calls
    assert ("param", "train.seed", "1") in mlflow.calls
    assert ("artifact", str(tmp_path / "curves.png"), "pictures") in mlflow.calls


# Log, progress and live status


def test_the_log_records_rate_and_speed_with_the_former_keys(tmp_path):
    run(tmp_path)
    former = {"step", "epoch", "loss", "validation_rmse", "validation_score", "rollout", "time", "waiting"}
    for line in read_lines(tmp_path / "log.jsonl"):
        assert former | {"learning_rate", *MEASURED} <= set(line)
        assert line["samples_per_second"] > 0 and line["seconds"] > 0
        assert line["learning_rate"] == SETTINGS.rate(line["step"] - 1, 24)


def test_the_record_of_an_epoch_that_is_validated_again_is_dropped(tmp_path):
    path = tmp_path / "log.jsonl"
    log = TrainingLog(path, 0)
    log.write({"step": 8, "epoch": 0})
    log.write({"step": 16, "epoch": 1})
    log.write({"step": 16, "epoch": 2, "failed_step": 17})
    TrainingLog(path, 16, epochs=1)
    assert [line["epoch"] for line in read_lines(path)] == [0, 2]
    TrainingLog(path, 16)
    assert len(read_lines(path)) == 2


def test_progress_shows_loss_validation_rate_and_speed(tmp_path):
    texts = {}
    run(tmp_path, progress=lambda done, total, text: texts.update({done: text}))
    assert list(texts) == list(range(1, 25))
    assert "epoch 1/3, loss" in texts[1] and "not yet validated" in texts[1]
    score = read_lines(tmp_path / "log.jsonl")[0]["validation_score"]
    assert f"validation {score:.3g} (step 1), best in epoch 1, rate" in texts[8]
    for part in ("epoch 2/3", "validation", "samples/s", "MB/s", "waiting for data"):
        assert part in texts[9]


def test_progress_says_that_there_is_no_validation_and_one_warning_does(tmp_path, caplog):
    texts = []
    run(tmp_path, validation=False, progress=lambda done, total, text: texts.append(text))
    assert "no validation" in texts[-1]
    assert sum("no validation data" in r.getMessage() for r in caplog.records) == 1


class Item:
    nbytes = 10**6

    def __len__(self):
        return 5


def test_the_throughput_counts_samples_of_all_processes_until_the_last_batch(monkeypatch):
    times = iter([0.0, 1.0, 2.0, 2.0, 3.0, 4.0, 4.0, 10.0, 10.0])
    monkeypatch.setattr("fourcaster.fno.training.throughput.time.monotonic", lambda: next(times))
    meter = ThroughputMeter(iter([Item(), Item()]), parts=3)
    assert len(list(meter)) == 2
    assert meter.seconds == 4.0
    assert meter.samples == 30 / 4
    assert meter.rate == 0.5
    assert meter.waiting == 0.5


def test_the_live_status_is_written_at_intervals_and_read_back(tmp_path):
    status = LiveStatus(tmp_path, interval=0.0)
    status.update(lambda: {"step": 3})
    assert read_status(tmp_path)["step"] == 3
    LiveStatus(tmp_path).update(lambda: {"step": 4})
    assert read_status(tmp_path) is None
    (tmp_path / "progress.json").write_text("[1]")
    assert read_status(tmp_path) is None


def test_a_run_writes_its_position_and_removes_it_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(LiveStatus.__init__, "__defaults__", (0.0,))
    seen = []

    def stop():
        seen.append(read_status(tmp_path))
        return False

    run(tmp_path, stop=stop)
    assert seen[3]["step"] == 4 and seen[3]["total"] == 24 and seen[3]["epochs"] == 3
    assert seen[3]["seconds_left"] >= 0 and "loss" in seen[3]["losses"]
    assert read_status(tmp_path) is None


def test_the_state_names_the_number_of_steps(tmp_path):
    run(tmp_path)
    assert load_state(tmp_path / "training.safetensors")[1]["total"] == 24


def test_a_stop_by_a_value_that_is_not_finite_closes_the_loggers(recorder, tmp_path):
    with pytest.raises(NonFiniteError):
        run(tmp_path, RECORDING, loss=lambda prediction, target: prediction.mean() * torch.nan)
    assert recorder.ends == [False]
