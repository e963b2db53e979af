"""Train a forecast model on a store, from configuration to checkpoint."""

import importlib.util
import logging
from typing import Any

import numpy as np
import torch

from ....datasets.forcings import forcing_names
from ....datasets.loaders.batches import POOL, POOLS_IN_MEMORY, BatchReader, StoreBatches
from ....datasets.loaders.split import Split
from ....datasets.statistics.moments import Statistics
from ....datasets.store.direct import DirectFields
from ....datasets.store.fields import Fields
from ....datasets.store.locks import exclusive
from ....datasets.store.open import Store, open_store, select_variables, store_statistics
from ....fno.grids import LatLon
from ....fno.layers.spherical import largest_lmax
from ....fno.models.stepper import Stepper
from ....fno.physics.balances import Balances
from ....fno.physics.sphere import Sphere
from ....fno.progress import Progress
from ....fno.training import ForecastObjective, TrainSettings
from ....fno.training import train as fit
from ....fno.training.changes import summarise_values
from ....fno.training.diagnosis import FieldLabels
from ....fno.training.loop import TrainingRecord
from ....fno.training.objectives.forecast import BalanceTerms
from ...checkpoint.description import ForecastDescription
from ...checkpoint.folder import finished_run
from ...checkpoint.identity import RunIdentity, train_content
from ...checkpoint.weather import Checkpoint, load_checkpoint, save_checkpoint
from ...config.loss import LossConfig
from ...config.weather import WeatherConfig
from ...device import pick_device
from ...interruption import saving_when_stopped
from ...model import build_stepper
from ..base import TrainResult
from .checks import check_channels, check_samples
from .losses import build_loss, channel_weights

log = logging.getLogger(__name__)
Comparison = dict[str, dict[str, float | None]]
_BALANCE_DEGREE = 64  # of the spherical harmonics with which balances are evaluated


def train(config: WeatherConfig, *, device: str | None, progress: Progress | None) -> TrainResult:
    """Train a forecast model, or resume an interrupted run; see ``tasks.dispatch.train``."""
    device = pick_device(device)
    output = config.output
    store = select_variables(open_store(config.data.store, whole_shards=False), config.data.variables)
    identity = run_identity(config, store)
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
    control = None
    if compare:
        _balances(config, store)  # errors are raised before the control is trained
        without = {"loss": LossConfig(**config.loss.changed()), "output": output / "data_only"}
        with exclusive(output / "data_only"):
            control = train(config.model_copy(update=without), device=device, progress=progress)
    split = store.split(
        config.data.train_period,
        config.data.validation_fraction,
        config.data.gap_steps,
        validation_period=config.data.validation_period,
    )
    check_samples(store, split.train, window=config.model.window, batch_size=config.train.batch_size)
    fields = _open_fields(config, store)
    static = store.static(config.data.static)
    statistics = store_statistics(store, fields, split.fit)
    check_channels(store, fields, statistics=statistics, period=split.fit)
    settings = config.train
    weighting = channel_weights(config.loss, store.channels)
    stepper = build_stepper(
        config.model,
        store.channels,
        grid=store.grid,
        statistics=statistics,
        seed=settings.seed,
        static=list(static.values()),
        lead_times=settings.lead_times,
    ).to(device)
    reader = BatchReader(fields, statistics.cycle, store.grid, store.step, pin=device.startswith("cuda"))
    source = StoreBatches(
        reader,
        split.train,
        split.validation,
        gaps=store.gaps,
        window=config.model.window,
        batch_size=settings.batch_size,
        seed=settings.seed,
        samples_per_epoch=config.data.samples_per_epoch,
        block=_block_length(fields, config),
    )
    log.info(
        "training %d parameters on %d steps of %s",
        sum(p.numel() for p in stepper.parameters()),
        split.train.stop - split.train.start,
        config.data.store,
    )
    weights = torch.from_numpy(store.grid.area_weights).float()[:, None] * stepper.mask.cpu()
    physics = _balances(config, store)
    objective = ForecastObjective(
        stepper,
        weights,
        settings.noise,
        physics=physics,
        data_loss=build_loss(config.loss, stepper, store.grid, weights=weights),
        channel_weights=weighting,
        pushforward=settings.pushforward,
        lead_times=settings.lead_times,
    )
    objective.labels = field_labels(store)
    with saving_when_stopped(output / "state") as guard:
        record = fit(
            stepper,
            objective,
            source,
            settings=settings,
            folder=output / "state",
            fingerprint=identity.digest,
            description=identity.description,
            progress=progress,
            stop=guard.stop,
            watch=guard.watch,
        )
    comparison = {}
    if physics is not None and control is not None:
        control_stepper = load_checkpoint(control.checkpoint, device).stepper
        control_objective = ForecastObjective(control_stepper, weights, 0.0, physics=physics)
        comparison = {
            "data_only": {
                "validation_score": control.best_score,
                **_balance_errors(control_objective, source, settings),
            },
            "data_and_physics": {
                "validation_score": record.best_score,
                **_balance_errors(objective, source, settings),
            },
        }
    provenance = _provenance(store, split, record, digest=identity.digest)
    if static:
        provenance["static_fields"] = list(static)
    if comparison:
        provenance["comparison"] = comparison
    checkpoint = _checkpoint(config, store, stepper, statistics=statistics, provenance=provenance)
    save_checkpoint(checkpoint, output / "checkpoint")
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
        forcings=forcing_names(store.grid),
        ranges=np.stack([statistics.minimum, statistics.maximum]),
    )


def _balances(config: WeatherConfig, store: Store) -> BalanceTerms | None:
    """Return the physics terms, or None without any.

    Raises:
        ValueError: the grid is not one of latitudes and longitudes.
        InputError: the store lacks variables that the terms need.
    """
    if not config.loss.physics:
        return None
    grid = store.grid
    if not isinstance(grid, LatLon):
        raise ValueError(
            "balances of the atmosphere need a grid of latitudes and longitudes; leave out loss.physics"
        )
    sphere = None
    if grid.sphere is not None:
        degree = min(_BALANCE_DEGREE, largest_lmax(*grid.shape, grid.sphere))
        sphere = Sphere(*grid.shape, grid.sphere, degree)
    southward = bool(grid.latitude[0] > grid.latitude[-1])
    weights: dict[str, float] = {str(name): weight for name, weight in config.loss.physics.items()}
    channels = [(c.variable, c.level) for c in store.channels]
    balances = Balances(list(weights), channels, sphere, southward=southward)
    return BalanceTerms(balances, weights, config.loss.warmup)


def _balance_errors(
    objective: ForecastObjective, source: StoreBatches, settings: TrainSettings
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
            sums[name] = sums.get(name, 0.0) + len(batch) * float(square)
        samples += len(batch)
    return {f"{name} [{units[name]}]": (total / samples) ** 0.5 for name, total in sums.items()}


def _open_fields(config: WeatherConfig, store: Store) -> Fields:
    """Return the fields by the configured route.

    Through dask, whole shards are read, except where single times are drawn from a store that exceeds the
    cache.
    """
    data = config.data
    fields = Fields(store.dataset, data.cache_bytes)
    if data.route == "direct":
        if importlib.util.find_spec("zarrs") is None:
            raise ValueError(
                "the direct route needs one more package: pip install 'fourcaster[fast]', or set "
                "data.route=dask"
            )
        return DirectFields(store.dataset, store.path, data.cache_bytes)
    if fields.array.nbytes > data.cache_bytes and _block_length(fields, config) == 1:
        return fields
    return Fields(select_variables(open_store(data.store), data.variables).dataset, data.cache_bytes)


def _block_length(fields: Fields, config: WeatherConfig) -> int:
    """Return the length of shuffled blocks of times.

    It is 1 if the store fits into memory, or if a pool would contain only a few times.
    """
    if fields.array.nbytes <= config.data.cache_bytes:
        return 1
    return max(1, config.data.buffer_bytes // (POOLS_IN_MEMORY * POOL * int(fields.array[0].nbytes)))


def run_identity(config: WeatherConfig, store: Store) -> RunIdentity:
    """Return what the result of a run depends on: its settings and the metadata of the store."""
    # These keys affect the result only through the length of blocks.
    irrelevant = {"store", "cache_bytes", "buffer_bytes", "route"}
    excluded: Any = {"task": True, "output": True, "data": irrelevant, "loss": {"compare"}}
    settings: dict[str, Any] = config.model_dump(mode="json", exclude=excluded)
    if (block := _block_length(Fields(store.dataset), config)) > 1:
        settings["data"]["block"] = block
    settings["data"].pop("static")
    if static := store.static(config.data.static):
        settings["data"]["static"] = list(static)
    if not config.data.gap_steps:
        settings["data"].pop("gap_steps")
    if config.data.validation_period is None:
        settings["data"].pop("validation_period")
    balances = {name: settings["loss"][name] for name in ("physics", "warmup") if config.loss.physics}
    if not (loss := balances | config.loss.changed()):
        settings.pop("loss")
    else:
        settings["loss"] = loss
    if config.model.kind == "sfno":
        for key, default in (("analysis", "quadrature"), ("local", False)):
            if settings["model"][key] == default:
                settings["model"].pop(key)
    settings["train"] = train_content(settings["train"])
    if not config.model.noise_channels:
        settings["model"].pop("noise_channels")
    times = store.dataset["time"].values.astype(str).tolist()
    names = [str(c) for c in store.channels]
    axes = {axis: store.dataset[axis].values.astype(np.float64).tolist() for axis in store.grid.axes}
    content = [settings, [times, names, dict(store.dataset.attrs), *axes.values()]]
    described = {
        "times": summarise_values(times),
        "channels": names,
        **{axis: summarise_values(values) for axis, values in axes.items()},
        "attributes": {str(name): str(value) for name, value in store.dataset.attrs.items()},
    }
    return RunIdentity.of(content, {**settings, "store": described})


def field_labels(store: Store) -> FieldLabels:
    """Return the names of the channels and the coordinates of the points of a store, for messages."""
    first, second = store.grid.axes
    channels = tuple(str(channel) for channel in store.channels)
    rows, columns = (store.dataset[axis].values.astype(np.float64) for axis in (first, second))
    return FieldLabels(channels, (first, second), rows, columns)
