"""Functions that work for all tasks: configure, train, load and describe."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from ...datasets.errors import DataError
from ...datasets.store.locks import exclusive
from ...datasets.store.outputs import check_output, check_separate
from ...fno.errors import OtherRunError
from ...fno.progress import Progress
from ..checkpoint.folder import StoredCheckpoint
from ..config.source import apply_overrides, read_config, validate
from ..interruption import limited
from .base import CheckpointSummary, TaskConfig, TrainedModel, TrainResult
from .check import CheckReport
from .fork import forked
from .registry import get_task, task_of_config


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> TaskConfig:
    """Read a configuration.

    Args:
        source: YAML file, or the name of a recipe of the package.
        overrides: ``key=value`` with dotted keys; values are YAML.

    Returns:
        The configuration of its ``task``: ``WeatherConfig``, ``PinnConfig``, ``OperatorConfig``,
        ``InverseConfig``, or the class of another package.

    Raises:
        FileNotFoundError: no such file or recipe.
        ValueError: not YAML, an unknown task or key, or a value of the wrong type or out of range.
    """
    return make_config(read_config(source), overrides, source=str(source))


def make_config(
    values: Mapping[str, Any], overrides: Sequence[str] = (), *, source: str = "the configuration"
) -> TaskConfig:
    """Return the validated configuration of nested keys; raises ``ValueError`` as ``load_config`` does."""
    values = apply_overrides(values, overrides)
    task = task_of_config(values, source)
    if task.config is None:
        raise ValueError(f"{source}: the task {task.name} has no training")
    config: Any = validate(values, task.config, source)
    return config  # type: ignore[no-any-return]


def train(
    config: TaskConfig,
    device: str | None = None,
    progress: Progress | None = None,
    *,
    time_limit: float | None = None,
    fork: str | Path | None = None,
) -> TrainResult:
    """Train the model of a configuration, or resume an interrupted run of it.

    Writes ``output/checkpoint``; the state of a resumable run and the log are in ``output/state``.

    Args:
        config: what ``load_config`` returned.
        device: ``cpu`` or ``cuda``; a GPU where there is one by default.
        progress: called with (steps done, total steps, text).
        time_limit: time after which training must have stopped [s]; it saves its state before.
        fork: folder of a new run that starts from the weights of the run in ``config.output``, with the
            settings and data of ``config``. The earlier run is not changed.

    Raises:
        FileNotFoundError: no store.
        FileExistsError: ``output/checkpoint`` is not a checkpoint.
        OtherRunError: ``output`` contains another run; the message lists what differs.
        ValueError: store and configuration do not match, or the package of a logger is not installed.
        DeadlineError: the time limit was too short to finish; the same call resumes.
        ProcessLostError: started by ``torchrun``, and another process ended.
    """
    from ...fno.parallel.launch import joined
    from ...fno.training.loggers import check_loggers
    from ..device import pick_device

    task = get_task(config.task)
    source: Any = config
    if fork is not None:
        if not task.can_fork:
            raise ValueError(f"the training of a {task.title} cannot start from the weights of another run")
        source = source.model_copy(update={"output": Path(fork)})
    shared = pick_device(device) if task.distributed else "cpu"
    with limited(time_limit), joined(shared) as (processes, own):
        if processes.count > 1 and not task.distributed:
            raise ValueError(
                f"the task {task.name} trains in one process, not in {processes.count}; start it without "
                "torchrun"
            )
        check_loggers(getattr(getattr(config, "train", None), "loggers", ()))
        leads = processes.leads
        try:
            with (
                _reserved(source.output, task.inputs(source)) if leads else nullcontext(),
                forked(config.output, source.output, wanted=leads and fork is not None),
            ):
                processes.wait()  # for the lock and the initial weights
                return task.train(
                    source,
                    device=own if task.distributed else device,
                    progress=progress if leads else None,
                )
        except OtherRunError as error:
            if fork is not None or not task.can_fork:
                raise
            raise DataError(str(error), option="fork", example="NEW_OUTPUT") from error


def finetune(
    checkpoint: str | Path,
    overrides: Sequence[str] = (),
    *,
    device: str | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Train a model that starts from the weights of a checkpoint, or resume an interrupted run of it.

    The configuration is that of the checkpoint with overrides. Variables, levels, forcings and window may
    change: what both models have keeps its weights, scales and seasonal cycle, so that the new model, before
    it is trained, forecasts it as the old one does; what is new starts at zero. Of an imported network, all
    but the last layer is taken.

    Args:
        checkpoint: forecast model, or imported network; not changed.
        overrides: ``key=value`` with dotted keys. ``output`` is required, and ``data.store`` for an imported
            network; ``train.freeze`` names parameters that are not trained.
        device: as for ``train``.
        progress: as for ``train``.

    Raises:
        FileNotFoundError: no checkpoint, or no store.
        ValueError: a checkpoint of another task, a key that is missing or invalid, or data or a network that
            do not fit the checkpoint.
    """
    stored = StoredCheckpoint.open(checkpoint)
    stored.verify()
    with stored.noting_changes():
        task = get_task(stored.task)
    values = apply_overrides(task.child(stored), overrides)
    for key, example in (("output", "output=runs/tuned"), ("data", "data.store=data.zarr")):
        if key not in values:
            raise ValueError(f"{key} is missing; name it, e.g. {example}")
    return train(make_config(values, source=f"the configuration for {checkpoint}"), device, progress)


def check(
    source: str | Path | TaskConfig,
    store: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    device: str | None = None,
    probe_seconds: float = 8.0,
) -> CheckReport:
    """Check whether a model can be trained, or a trained one can run, and what it costs.

    All mismatches between the configuration, its data and the machine are listed. Memory follows from the
    shapes of the tensors of a training step, time from a few steps on random numbers. Nothing is written.

    Args:
        source: YAML file, recipe, what ``load_config`` returned, or folder of a checkpoint.
        store: of a configuration its ``data.store``, of a checkpoint the data that it should start from.
        overrides: ``key=value`` with dotted keys, for a configuration.
        device: ``cpu`` or ``cuda``; a GPU where there is one by default.
        probe_seconds: time for which steps are timed at most; 0 times none.

    Raises:
        FileNotFoundError: no such file, recipe or checkpoint.
        ValueError: the configuration is not valid, or the task has no check.
    """
    if isinstance(source, str | Path):
        for folder in (Path(source), Path(source) / "checkpoint"):
            if (folder / "meta.json").exists():
                if overrides:
                    raise ValueError(f"{source} is a checkpoint, whose configuration cannot be changed")
                stored = StoredCheckpoint.open(folder)
                stored.verify()
                path = None if store is None else Path(store)
                return get_task(stored.task).check_checkpoint(stored, path, device=device)
        stores = [] if store is None else [f"data.store={json.dumps(str(store))}"]
        source = load_config(source, [*stores, *overrides])
    elif store is not None or overrides:
        raise ValueError("a configuration that was read before has its store; leave out store and overrides")
    return get_task(source.task).check(source, device=device, probe_seconds=probe_seconds)


@contextmanager
def _reserved(folder: Path, inputs: Sequence[Path | None]) -> Iterator[None]:
    """Lock the output folder of a run, which may contain none of its inputs."""
    output = check_output(folder, "checkpoint")
    with exclusive(Path(os.path.realpath(output))):  # also for a run through a link to its folder
        for name in ("checkpoint", "state"):
            check_separate(output / name, inputs)
        checkpoint = output / "checkpoint"
        if os.path.lexists(checkpoint) and not (checkpoint / "meta.json").is_file():
            raise FileExistsError(f"{checkpoint} is not a checkpoint; move it away, or choose another output")
        yield


def load(checkpoint: str | Path | StoredCheckpoint, device: str | None = None) -> TrainedModel:
    """Load a checkpoint of any task.

    Args:
        checkpoint: folder that training wrote, or one whose metadata was read before.
        device: ``cpu`` or ``cuda``; a GPU where there is one by default.

    Returns:
        A model with a method ``run``: a ``Forecaster``, ``SolutionOperator`` or ``PinnSolution``, or the
        class of another package's task.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: it is damaged, or the device does not exist.
    """
    stored = checkpoint if isinstance(checkpoint, StoredCheckpoint) else StoredCheckpoint.open(checkpoint)
    with stored.noting_changes():
        task = get_task(stored.task)
    return task.load(stored, device)


def describe_checkpoint(path: str | Path) -> CheckpointSummary:
    """Return a summary of a checkpoint of any task, after a check of its metadata.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: damaged, changed after it was written, or of an unsupported format version or task.
    """
    stored = StoredCheckpoint.open(path)
    stored.verify()
    return get_task(stored.task).describe(stored)
