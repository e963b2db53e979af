"""Check of a training configuration against its store, and of a checkpoint against initial states."""

import importlib.util
import shutil
import time
from dataclasses import replace
from pathlib import Path

from ....datasets.forcings import forcing_names
from ....datasets.loaders.batches import consecutive
from ....datasets.loaders.samplers import SAMPLERS
from ....datasets.loaders.split import Split
from ....datasets.memory import format_bytes
from ....datasets.store.fields import Fields
from ....datasets.store.open import Store, open_store, store_statistics
from ....datasets.suggestions import suggest
from ....fno.training.footprint import Footprint
from ....fno.training.loggers import check_loggers
from ...checkpoint.description import ForecastDescription
from ...checkpoint.folder import finished_run
from ...config.weather import WeatherConfig
from ...device import pick_device
from ..check import CheckReport, Duration, Findings, Volume, memory_problem
from .check_values import STATISTICS_BYTES, check_values, states_bytes
from .checks import check_samples
from .cost import HINT, footprint, memory_of
from .forcing_inputs import ForcingPlan, split_variables
from .identity import run_identity
from .losses import channel_weights
from .objective import physics_terms
from .parent import Parent, open_parent
from .shapes import Shapes, clippings
from .timing import StepTimes, cores, time_steps

SUBJECT = "training of a forecast model"
_TIMED_BYTES = 2**24  # of states whose reading is timed


def check_training(config: WeatherConfig, *, device: str | None, probe_seconds: float) -> CheckReport:
    """Check whether a forecast model can be trained, and what it costs; nothing is written.

    Args:
        config: configuration.
        device: device of training; a GPU where there is one by default.
        probe_seconds: time for which steps are timed at most; 0 times none.
    """
    findings = Findings()
    name = "cpu"
    with findings.collecting():
        name = pick_device(device)
    report = CheckReport(SUBJECT, name, findings.problems, findings.notes)
    opened = _open(config, findings)
    if opened is None:
        return report
    store, forcing = opened
    parent: Parent | None = None
    if config.parent is not None:
        with findings.collecting():
            parent = open_parent(config.parent)
    split = _split(config, store, findings)
    _check_grid(config, store, forcing, findings=findings)
    if parent is not None or config.parent is None:
        _check_output(config, store, forcing, parent=parent, findings=findings)
    with findings.collecting():
        check_loggers(config.train.loggers)
    if config.data.route == "direct" and importlib.util.find_spec("zarrs") is None:
        findings.add("data.route is direct, which needs one more package: pip install 'fourcaster[fast]'")
    if split is None:
        return report
    samples = _check_samples(config, store, split, findings=findings)
    masked = check_values(store, split, parent, findings=findings)
    with findings.collecting():
        if states_bytes(store, split.fit.stop - split.fit.start) <= STATISTICS_BYTES:
            forcing.open(split.fit, 0)
    shapes = Shapes(config, store, forcing, masked)
    steps = max(1, samples // config.train.batch_size) * config.train.epochs
    fit = split.fit
    volume = Volume(
        samples=samples,
        steps=steps,
        bytes_per_sample=shapes.batch_bytes(1, 1),
        training_bytes=states_bytes(store, fit.stop - fit.start),
        written_bytes=0,
    )
    sizes: Footprint | None = None
    if not findings.problems:
        sizes = _trace(shapes, name, findings)
    if sizes is None:
        return replace(report, volume=volume)
    memory = memory_of(shapes, sizes, name)
    if not memory.fits:
        findings.add(memory_problem(memory, name, HINT))
    # Old and new state exist at the same time: weights, averages, best and moments; and the checkpoint.
    volume = replace(volume, written_bytes=2 * (3 * sizes.weights + sizes.moments) + sizes.weights)
    _check_disk(config.output, volume.written_bytes, findings)
    duration = None
    if probe_seconds > 0 and not findings.problems:
        times = time_steps(shapes, name, seconds=probe_seconds)
        reading, preparation = _preparation(config, store, fit)
        duration = _duration(config, store, times, steps=steps, read=reading, preparation=preparation)
    return replace(report, parameters=sizes.parameters, memory=memory, duration=duration, volume=volume)


def _open(config: WeatherConfig, findings: Findings) -> tuple[Store, ForcingPlan] | None:
    """Return the store with those of the requested variables that it has, and the forcings if they exist."""
    data = config.data
    try:
        store = open_store(data.store, whole_shards=False)
    except (ValueError, OSError) as error:
        findings.add(str(error))
        return None
    names = list(map(str, store.dataset.data_vars))
    requested = list(dict.fromkeys(data.variables or names))
    for name in requested:
        if name not in names:
            findings.add(f"{store.path} has no variable {name!r}; {suggest(name, names)}")
    if data.variables is not None and len(requested) < len(data.variables):
        findings.add("data.variables names a variable twice")
    for name in data.static or ():
        with findings.collecting():
            store.static([name])
    if data.sampler is not None:
        with findings.collecting():
            SAMPLERS.build(data.sampler.kind, **data.sampler.options)
    available = [name for name in requested if name in names]
    if not available:
        return None
    existing = data.model_copy(update={"variables": available if data.variables else None})
    with findings.collecting():
        return split_variables(store, existing)
    without = existing.model_copy(update={"forcings": []})
    return split_variables(store, without)[0], ForcingPlan(tuple(forcing_names(store.grid)))


def _split(config: WeatherConfig, store: Store, findings: Findings) -> Split | None:
    data = config.data
    with findings.collecting():
        split = store.split(
            data.train_period,
            data.validation_fraction,
            data.gap_steps,
            validation_period=data.validation_period,
        )
        if split.test.start >= split.test.stop:
            findings.notes.append("no times are left after the training period to verify forecasts on")
        return split
    return None


def _check_grid(config: WeatherConfig, store: Store, forcing: ForcingPlan, *, findings: Findings) -> None:
    """Check the model, the weights of channels and the physics terms against grid, variables and levels."""
    with findings.collecting():
        channel_weights(config.loss, store.channels)
    with findings.collecting():
        for option in clippings(Shapes(config, store, forcing)):
            findings.notes.append(
                f"model.{option.name} {list(option.requested)} does not fit the grid of "
                f"{'x'.join(map(str, store.grid.shape))} points and is clipped to {list(option.used)}"
            )
    with findings.collecting():
        physics_terms(config, store)


def _check_samples(config: WeatherConfig, store: Store, split: Split, *, findings: Findings) -> int:
    """Check windows, rollouts and batches against the periods, and return the samples of an epoch."""
    window = config.model.window
    settings = config.train
    gaps = store.gaps
    available = len(consecutive(split.train, window + 1, gaps))
    if not available:
        findings.add(
            f"the training period has no {window + 1} consecutive times, which model.window {window} needs; "
            "extend it, or use a smaller window"
        )
        return 0
    samples = min(available, config.data.samples_per_epoch or available)
    with findings.collecting():
        check_samples(store, split.train, window=window, batch_size=settings.batch_size)
    if samples < min(settings.batch_size, available):
        findings.notes.append(
            f"train.batch_size {settings.batch_size} exceeds data.samples_per_epoch {samples}, so an epoch "
            "is one batch"
        )
    if settings.batch_size < config.model.members:
        findings.notes.append(
            f"train.batch_size {settings.batch_size} is smaller than model.members {config.model.members}, "
            "so that some members have no samples in a step"
        )
    longest = max(settings.rollout_length(epoch) for epoch in range(settings.epochs))
    if not len(consecutive(split.train, window + longest, gaps)):
        findings.notes.append(
            f"rollouts or lead times of {longest} steps exceed the longest part of the training period "
            "without a gap, so they are shortened"
        )
    if not len(consecutive(split.validation, window + 1, gaps)):
        findings.notes.append("there is no validation data: the weights after the last step are kept")
    elif len(consecutive(split.validation, window + settings.validation_steps, gaps)) < 4:
        findings.notes.append(
            f"the validation period is too short for train.validation_steps {settings.validation_steps}, "
            "so its rollouts are shortened"
        )
    return samples


def _check_output(
    config: WeatherConfig, store: Store, forcing: ForcingPlan, *, parent: Parent | None, findings: Findings
) -> None:
    """Check that the output folder contains no other run."""
    with findings.collecting():
        identity = run_identity(config, store, forcing, parent=parent)
        if finished_run(
            config.output,
            ForecastDescription,
            task="weather",
            digest=identity.digest,
            content=identity.description,
        ):
            findings.notes.append(f"this run has already finished in {config.output}")


def _trace(shapes: Shapes, device: str, findings: Findings) -> Footprint | None:
    """Return the memory of a step, or None with a note for a model that cannot be traced."""
    if shapes.config.loss.physics:
        findings.notes.append("the memory and time of the physics terms are not included")
    try:
        with findings.collecting():
            return footprint(shapes, device)
    except (NotImplementedError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        findings.notes.append(f"memory and time are unknown, since the model computes with values ({reason})")
    return None


def _check_disk(output: Path, needed: int, findings: Findings) -> None:
    """Check that the disk has room for the saved states and the checkpoint."""
    folder = output.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        findings.add(
            f"the saved states need about {format_bytes(needed)}, and the disk of {output} has "
            f"{format_bytes(free)} left; choose another output, or free some space"
        )


def _preparation(config: WeatherConfig, store: Store, period: slice) -> tuple[float, float]:
    """Return the times to read the states of a period, and to compute their statistics [s], from a few.

    The statistics of a quarter, half and all of them are computed; the first of these is for warming up, and
    the other two are extrapolated.
    """
    fields = Fields(split_variables(open_store(config.data.store), config.data)[0].dataset)
    count = max(2, min(period.stop - period.start, _TIMED_BYTES // max(1, states_bytes(store, 1))))
    part = slice(period.start, period.start + count)
    before = time.perf_counter()
    fields.read(part)
    reading = time.perf_counter() - before
    seconds = []
    for number in (count // 4, count // 2, count):
        before = time.perf_counter()
        store_statistics(store, fields, slice(period.start, period.start + max(2, number)))
        seconds.append(time.perf_counter() - before)
    _, half, whole = seconds
    times = period.stop - period.start
    slope = max(whole - half, 0.0) / max(1, count - count // 2)
    return reading * times / count, whole + slope * (times - count)


def _duration(
    config: WeatherConfig,
    store: Store,
    times: StepTimes,
    *,
    steps: int,
    read: float,
    preparation: float,
) -> Duration:
    """Return the time of a run.

    Rollouts of n steps take n times as long as one step, of which only the last is trained on with
    ``train.pushforward``. States are read in advance, on a second core if
    there is one.

    Args:
        config: configuration.
        store: store with the selected variables.
        times: measured times.
        steps: number of optimizer steps.
        read: time to read the training period once [s].
        preparation: time to compute statistics [s].
    """
    settings = config.train
    per_epoch = steps // settings.epochs
    lengths = [settings.rollout_length(epoch) for epoch in range(settings.epochs)]
    batches = -(-settings.validation_samples // max(1, min(settings.batch_size, settings.validation_samples)))
    validation = batches * settings.validation_steps * times.forward
    cached = states_bytes(store, store.dataset.sizes["time"]) <= config.data.cache_bytes
    reading = 0.0 if cached else read
    share = times.forward * settings.batch_size / min(settings.batch_size, settings.validation_samples)
    step = {n: n * times.train for n in lengths}
    if settings.lead_times:
        step = dict.fromkeys(lengths, times.train)
    elif settings.pushforward:
        step = {n: times.train + (n - 1) * share for n in lengths}
    computing = sum(per_epoch * step[n] + validation for n in lengths)
    waiting = reading * len(lengths)
    total = max(computing, waiting) if cores() > 1 else computing + waiting
    return Duration(times.train, preparation, preparation + total)
