"""Train a forecast model on a store, from configuration to checkpoint."""

import logging
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from ....datasets.loaders.batches import BatchReader, StoreBatches
from ....datasets.loaders.samplers import SAMPLERS
from ....datasets.loaders.split import Split
from ....datasets.statistics.moments import Statistics
from ....datasets.store.locks import exclusive
from ....datasets.store.open import Store, open_store, store_statistics
from ....fno.models.stepper import Stepper
from ....fno.parallel.bands import Bands
from ....fno.parallel.latitudes import divide_latitudes
from ....fno.parallel.placement import BandBatches
from ....fno.parallel.processes import Processes
from ....fno.parallel.strategies import whole_tensors
from ....fno.progress import Progress
from ....fno.training import BatchSource, ForecastObjective, TrainSettings
from ....fno.training import train as fit
from ....fno.training.loop import TrainingRecord
from ....fno.training.objectives.bands import BandForecastObjective
from ...checkpoint.description import ForecastDescription
from ...checkpoint.folder import finished_run
from ...checkpoint.weather import Checkpoint, load_checkpoint, save_checkpoint
from ...config.loss import LossConfig
from ...config.weather import WeatherConfig
from ...device import pick_device
from ...interruption import saving_when_stopped
from ...model import build_stepper
from ...monitoring.pictures import RunPictures
from ..base import TrainResult
from .checks import check_channels, check_samples
from .cost import require_memory
from .forcing_inputs import split_variables, with_attributes
from .identity import field_labels, run_identity
from .losses import channel_weights
from .objective import build_objective, physics_terms
from .parent import Layout, open_parent
from .placement import place
from .reading import block_length, open_fields
from .sample import ValidationSample

log = logging.getLogger(__name__)
Comparison = dict[str, dict[str, float | None]]


def train(config: WeatherConfig, *, device: str | None, progress: Progress | None) -> TrainResult:
    """Train a forecast model, or resume an interrupted run; see ``tasks.dispatch.train``."""
    device = pick_device(device)
    processes = Processes.current()
    output = config.output
    store, forcing = split_variables(open_store(config.data.store, whole_shards=False), config.data)
    order = config.data.sampler
    sampler = None if order is None else SAMPLERS.build(order.kind, **order.options)
    parent = None if config.parent is None else open_parent(config.parent)
    identity = run_identity(config, store, forcing, parent=parent)
    finished = finished_run(
        output, ForecastDescription, task="weather", digest=identity.digest, content=identity.description
    )
    compare = bool(config.loss.physics) and config.loss.compare
    if finished and compare and not finished.provenance.comparison:
        raise ValueError(
            f"{output} contains a finished run without a comparison, which is computed while it is trained; "
            "choose another output, or remove the run"
        )
    if finished:
        comparison: Comparison = finished.provenance.comparison
        score = finished.provenance.validation_score
        return TrainResult(output / "checkpoint", True, score, comparison=comparison)
    require_memory(config, store, forcing, device=device)
    control = None
    if compare:
        physics_terms(config, store)  # errors are raised before the control is trained
        without = {"loss": LossConfig(**config.loss.changed()), "output": output / "data_only"}
        with exclusive(output / "data_only") if processes.leads else nullcontext():
            control = train(config.model_copy(update=without), device=device, progress=progress)
    split = store.split(
        config.data.train_period,
        config.data.validation_fraction,
        config.data.gap_steps,
        validation_period=config.data.validation_period,
    )
    check_samples(store, split.train, window=config.model.window, batch_size=config.train.batch_size)
    fields = open_fields(config, store)
    static = store.static(config.data.static)
    # Sums in another order can differ in the last bit, so all processes use the values of one.
    statistics = processes.from_leader(store_statistics(store, fields, split.fit))
    check_channels(store, fields, statistics=statistics, period=split.fit)
    if parent is not None:
        statistics = parent.adapt(statistics, store.channels, store.grid)
    settings = config.train
    weighting = channel_weights(config.loss, store.channels)
    placement = place(config, processes)
    build = partial(
        build_stepper,
        config.model,
        store.channels,
        grid=store.grid,
        statistics=statistics,
        seed=settings.seed,
        static=list(static.values()),
        lead_times=settings.lead_times,
        forcings=forcing.count,
    )
    stepper = build()
    if parent is not None:
        inputs = Layout(
            store.channels,
            stepper.window,
            forcing.names,
            store.grid,
            list(static),
            masked=not bool(stepper.mask.all()),
            noise=stepper.noise_channels,
            lead_time=bool(stepper.lead_times),
        )
        parent.initialise(stepper, inputs, config.model)
    stepper = stepper.to(device)
    stored = forcing.open(split.fit, config.data.cache_bytes)
    reader = BatchReader(
        fields,
        statistics.cycle,
        store.grid,
        store.step,
        pin=device.startswith("cuda"),
        names=forcing.computed,
        stored=stored,
    )
    source = StoreBatches(
        reader,
        split.train,
        split.validation,
        gaps=store.gaps,
        window=config.model.window,
        batch_size=settings.batch_size,
        seed=settings.seed,
        samples_per_epoch=config.data.samples_per_epoch,
        block=block_length(fields, config, forcing.nbytes),
        sampler=sampler,
        rank=placement.part,
        ranks=placement.parts,
    )
    log.info(
        "training %d parameters on %d steps of %s",
        sum(p.numel() for p in stepper.parameters()),
        split.train.stop - split.train.start,
        config.data.store,
    )
    weights = torch.from_numpy(store.grid.area_weights).float()[:, None] * stepper.mask.cpu()
    physics = physics_terms(config, store)
    if placement.bands > 1:
        bands = Bands(placement.group(), len(store.grid.area_weights))
        divide_latitudes(stepper, bands.group, bands.rows)
        objective: ForecastObjective = BandForecastObjective(
            stepper,
            weights,
            settings.noise,
            noise_spectrum=settings.noise_spectrum,
            bands=bands,
            channel_weights=weighting,
            pushforward=settings.pushforward,
        )
        batches: BatchSource = BandBatches(source, bands)
    else:
        objective = build_objective(config, stepper, store, weights=weights, physics=physics)
        objective.average = processes.mean
        batches = source
    objective.labels = field_labels(store)
    hours = float(store.step / np.timedelta64(1, "h"))
    # A sharded model, and one on a part of the grid, cannot forecast in one process.
    alone = processes.count == 1 or (placement.bands == 1 and settings.parallel == "ddp")
    sample = ValidationSample(objective, source, store, steps=settings.validation_steps) if alone else None
    pictures = RunPictures(output / "state", settings.pictures, lead_hours=hours, sample=sample)
    with saving_when_stopped(output / "state", processes) as guard:
        record = fit(
            stepper,
            objective,
            batches,
            settings=settings,
            folder=output / "state",
            fingerprint=identity.digest,
            description=identity.description,
            progress=progress,
            stop=guard.stop,
            watch=guard.watch,
            processes=processes,
            pictures=pictures,
            lead_hours=hours,
        )
    comparison = {}
    if physics is not None and control is not None:
        control_stepper = load_checkpoint(control.checkpoint, device).stepper
        control_objective = ForecastObjective(control_stepper, weights, 0.0, physics=physics)
        comparison = {
            "data_only": {
                "validation_score": control.best_score,
                **_balance_errors(control_objective, source, settings, processes=processes),
            },
            "data_and_physics": {
                "validation_score": record.best_score,
                **_balance_errors(objective, source, settings, processes=processes),
            },
        }
    provenance = _provenance(store, split, record, digest=identity.digest)
    if static:
        provenance["static_fields"] = list(static)
    if comparison:
        provenance["comparison"] = comparison
    if parent is not None:
        provenance["parents"] = parent.chain
    tensors = whole_tensors(stepper.state_dict())
    if processes.leads:
        if processes.count > 1:  # the model may be sharded, or have a band of its constants
            stepper = build()
            stepper.load_state_dict(tensors)
        checkpoint = _checkpoint(config, store, stepper, statistics=statistics, provenance=provenance)
        checkpoint = replace(
            checkpoint,
            attrs=with_attributes(checkpoint.attrs, forcing),
            forcings=forcing.computed,
            stored_forcings=None if stored is None else stored.scales,
        )
        save_checkpoint(checkpoint, output / "checkpoint")
    processes.wait()
    return TrainResult(output / "checkpoint", False, record.best_score, comparison=comparison)


def _provenance(store: Store, split: Split, record: TrainingRecord, *, digest: str) -> dict[str, Any]:
    """Return where the data came from, which periods were used for what, and the result of training."""
    times = store.dataset["time"].values
    described = ("title", "source", "references", "history")
    has_validation = split.validation.stop > split.validation.start
    origin = {} if record.origin is None else {"forked_from": dict(record.origin)}
    return {
        "fingerprint": digest,
        "source": {k: str(v) for k, v in store.dataset.attrs.items() if k in described},
        "train_period": [str(times[split.train][i]) for i in (0, -1)],
        "validation_period": [str(times[split.validation][i]) for i in (0, -1)] if has_validation else None,
        "validation_score": record.best_score,
        "best_epoch": record.best_epoch,
        "steps": record.steps,
        **origin,
    }


def _checkpoint(
    config: WeatherConfig,
    store: Store,
    stepper: Stepper,
    *,
    statistics: Statistics,
    provenance: dict[str, Any],
) -> Checkpoint:
    """Return the checkpoint of a trained model, with the attributes of the store's variables and axes."""
    names = [*map(str, store.dataset.data_vars), *store.grid.axes]
    attrs = {
        name: {k: v if isinstance(v, float) else str(v) for k, v in store.dataset[name].attrs.items()}
        for name in names
    }
    first, second = (str(store.dataset[axis].dtype) for axis in store.grid.axes)
    return Checkpoint(
        stepper=stepper,
        channels=store.channels,
        attrs=attrs,
        grid=store.grid,
        dtypes=(first, second),
        step=store.step,
        cycle=statistics.cycle,
        config=config,
        provenance=provenance,
        ranges=np.stack([statistics.minimum, statistics.maximum]),
    )


def _balance_errors(
    objective: ForecastObjective, source: StoreBatches, settings: TrainSettings, *, processes: Processes
) -> dict[str, float | None]:
    """Return the root mean square errors of the balances, by name with units.

    The forecasts are those of the validation period.
    """
    objective.stepper.eval()
    sums: dict[str, float] = {}
    samples = 0
    units = objective.physics.balances.units if objective.physics else {}
    for batch in source.validation(settings.validation_steps, settings.validation_samples):
        for name, square in objective.balance_errors(batch.to(str(objective.weights.device))).items():
            sums[name] = sums.get(name, 0.0) + (len(batch) * float(square) if len(batch) else 0.0)
        samples += len(batch)
    samples = int(processes.sums({"samples": samples})["samples"])
    sums = processes.sums(sums)
    return {f"{name} [{units[name]}]": (total / samples) ** 0.5 for name, total in sums.items()}
