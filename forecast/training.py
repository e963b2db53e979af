"""Train a model on a store, from configuration to checkpoint."""

import hashlib
import importlib.util
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..datasets.forcings import forcing_names
from ..datasets.loaders.batches import POOL, POOLS_HELD, BatchReader, StoreBatches
from ..datasets.stopping import requested
from ..datasets.store.direct import DirectFields
from ..datasets.store.fields import Fields
from ..datasets.store.locks import exclusive
from ..datasets.store.open import Store, open_store, select_variables, store_statistics
from ..datasets.store.outputs import check_apart, check_output
from ..fno.grids import LatLon
from ..fno.layers.spherical import largest_lmax
from ..fno.physics.balances import Balances
from ..fno.physics.sphere import Sphere
from ..fno.progress import Progress
from ..fno.training import ForecastObjective, TrainSettings
from ..fno.training import train as fit
from ..fno.training.objectives.forecast import BalanceTerms
from .checkpoint.folder import Checkpoint, finished, load_checkpoint, save_checkpoint
from .config.load import AnyConfig, Config, LossConfig
from .config.physics_config import OperatorConfig, PinnConfig
from .device import keep_freed_memory, pick_device
from .interruption import saving_when_stopped
from .model import build_stepper
from .operators import train as train_operator
from .pinn import train as train_pinn

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """Where the checkpoint is, whether it was there before, and the best validation score (of a PINN the
    held-out residual).

    With balances in the loss, ``comparison`` holds score and balances of the model beside those of one
    trained on the data alone.
    """

    checkpoint: Path
    already_done: bool
    best_score: float | None
    score: str = "validation score"
    comparison: dict[str, Any] = field(default_factory=dict)


def train(config: AnyConfig, device: str | None = None, progress: Progress | None = None) -> TrainResult:
    """Train the model of a configuration, or go on where a run of it stopped.

    Leaves ``output/checkpoint``; the state for a resume and the log lie in ``output/state``.

    Args:
        config: what to train.
        device: ``cpu`` or ``cuda``; a GPU where there is one by default.
        progress: called with (step, steps in all, text).

    Raises:
        FileNotFoundError: no store.
        ValueError: store and configuration do not fit, or ``output`` holds another run.
    """
    keep_freed_memory()
    with _reserved(config):
        return _train(config, device, progress)


@contextmanager
def _reserved(config: AnyConfig) -> Iterator[None]:
    """Keep others from training in the output folder, in which nothing that is read may lie.

    Raises:
        FileExistsError: the folder contains a ``checkpoint`` that no training wrote.
    """
    output = check_output(config.output, "checkpoint")
    data: Any = getattr(config, "data", None)
    inputs = [getattr(data, "store", None), getattr(data, "experiment", None)]
    with exclusive(output):
        for name in ("checkpoint", "state"):
            check_apart(output / name, inputs)
        checkpoint = output / "checkpoint"
        if os.path.lexists(checkpoint) and not (checkpoint / "meta.json").is_file():
            raise FileExistsError(f"{checkpoint} is not a checkpoint; move it away, or choose another output")
        yield


def _train(config: AnyConfig, device: str | None, progress: Progress | None) -> TrainResult:
    if isinstance(config, PinnConfig):
        if device not in (None, "cpu"):
            raise ValueError(
                f"physics-informed networks are trained on the CPU, not on {device}; leave out --device"
            )
        return TrainResult(*train_pinn(config, progress), "held-out residual")
    if isinstance(config, OperatorConfig):
        return TrainResult(*train_operator(config, device, progress))
    device, output = pick_device(device), config.output
    store = select_variables(open_store(config.data.store, whole_shards=False), config.data.variables)
    fingerprint = _fingerprint(config, store)
    control = None
    if config.loss.physics and config.loss.compare:
        _balances(config, store)  # refused before the control is trained
        control = train(
            config.model_copy(update={"loss": LossConfig(), "output": output / "data_only"}), device, progress
        )
    if held := finished(output, None, fingerprint):
        return TrainResult(
            output / "checkpoint", True, held["validation_score"], comparison=held.get("comparison", {})
        )
    split = store.split(config.data.train_period, config.data.validation_fraction, config.data.gap_steps)
    fields, static = _fields(config, store), store.static(config.data.static)
    statistics = store_statistics(store, fields, split.fit)
    settings, window = config.train, config.model.window
    stepper = build_stepper(
        config.model, store.channels, store.grid, statistics, settings.seed, list(static.values())
    ).to(device)
    source = StoreBatches(
        BatchReader(fields, statistics.cycle, store.grid, store.step, pin=device.startswith("cuda")),
        split.train,
        split.validation,
        store.gaps,
        window,
        settings.batch_size,
        settings.seed,
        config.data.samples_per_epoch,
        _block(fields, config),
    )
    weights = torch.from_numpy(store.grid.area_weights).float()[:, None] * stepper.mask.cpu()
    log.info(
        "training %d parameters on %d steps of %s",
        sum(p.numel() for p in stepper.parameters()),
        split.train.stop - split.train.start,
        config.data.store,
    )
    physics = _balances(config, store)
    objective = ForecastObjective(stepper, weights, settings.noise, physics)
    with saving_when_stopped(output / "state"):
        record = fit(stepper, objective, source, settings, output / "state", fingerprint, progress, requested)
    comparison = {}
    if physics is not None and control is not None:
        other = ForecastObjective(load_checkpoint(control.checkpoint, device).stepper, weights, 0.0, physics)
        found = {
            "data_only": _unbalanced(other, source, settings),
            "data_and_physics": _unbalanced(objective, source, settings),
        }
        scores = {"data_only": control.best_score, "data_and_physics": record.best_score}
        comparison = {name: {"validation_score": scores[name], **left} for name, left in found.items()}
    times = store.dataset["time"].values
    provenance: dict[str, Any] = {
        "fingerprint": fingerprint,
        "source": {
            k: str(v)
            for k, v in store.dataset.attrs.items()
            if k in ("title", "source", "references", "history")
        },
        "train_period": [str(times[split.train][i]) for i in (0, -1)],
        "validation_period": [str(times[split.validation][i]) for i in (0, -1)]
        if split.validation.stop > split.validation.start
        else None,
        "validation_score": record.best_score,
        "best_epoch": record.best_epoch,
        "steps": record.steps,
    }
    if static:
        provenance["static_fields"] = list(static)
    if comparison:
        provenance["comparison"] = comparison
    described = [*map(str, store.dataset.data_vars), *store.grid.axes]
    attrs = {
        name: {k: v if isinstance(v, float) else str(v) for k, v in store.dataset[name].attrs.items()}
        for name in described
    }
    dtypes = tuple(str(store.dataset[axis].dtype) for axis in store.grid.axes)
    checkpoint = Checkpoint(
        stepper,
        store.channels,
        attrs,
        store.grid,
        (dtypes[0], dtypes[1]),
        store.step,
        statistics.cycle,
        config,
        provenance,
        forcing_names(store.grid),
        np.stack([statistics.minimum, statistics.maximum]),
    )
    save_checkpoint(checkpoint, output / "checkpoint")
    return TrainResult(output / "checkpoint", False, record.best_score, comparison=comparison)


def _balances(config: Config, store: Store) -> BalanceTerms | None:
    """Return the balances that a configuration asks for; raises ``InputError`` where the store does not let
    them be computed.
    """
    if not config.loss.physics:
        return None
    grid = store.grid
    if not isinstance(grid, LatLon):
        raise ValueError("balances of the atmosphere need latitudes and longitudes; leave out loss.physics")
    sphere = (
        None
        if grid.sphere is None
        else Sphere(*grid.shape, grid.sphere, min(64, largest_lmax(*grid.shape, grid.sphere)))
    )
    southward = bool(grid.latitude[0] > grid.latitude[-1])
    names: dict[str, float] = {str(name): weight for name, weight in config.loss.physics.items()}
    balances = Balances(
        list(names), [(c.variable, c.level) for c in store.channels], sphere, southward=southward
    )
    return BalanceTerms(balances, names, config.loss.warmup)


def _unbalanced(
    objective: ForecastObjective, source: StoreBatches, settings: TrainSettings
) -> dict[str, float]:
    """Return how far forecasts of the validation period are from the truth in each balance, as root mean
    squares with units.
    """
    objective.stepper.eval()
    sums: dict[str, float] = {}
    samples, units = 0, objective.physics.balances.units if objective.physics else {}
    for batch in source.validation(settings.validation_steps, settings.validation_samples):
        for name, square in objective.balance_errors(batch.to(str(objective.weights.device))).items():
            sums[name] = sums.get(name, 0.0) + len(batch) * float(square)
        samples += len(batch)
    return {f"{name} [{units[name]}]": (total / samples) ** 0.5 for name, total in sums.items()}


def _fields(config: Config, store: Store) -> Fields:
    """Return the fields by the route asked for; read a shard at a time unless it is single times that will be
    wanted.
    """
    data = config.data
    fields = Fields(store.dataset, data.cache_bytes)
    if data.route == "direct":
        if importlib.util.find_spec("zarrs") is None:
            raise ValueError(
                "the direct route needs one more package: pip install 'fourcaster[fast]', or set data.route=dask"
            )
        return DirectFields(store.dataset, store.path, data.cache_bytes)
    if fields.array.nbytes > data.cache_bytes and _block(fields, config) == 1:
        return fields
    return Fields(select_variables(open_store(data.store), data.variables).dataset, data.cache_bytes)


def _block(fields: Fields, config: Config) -> int:
    """Return the length of shuffled blocks: 1 where the store is in memory, or where a time is so large that
    pools would hold few.
    """
    if fields.array.nbytes <= config.data.cache_bytes:
        return 1
    return max(1, config.data.buffer_bytes // (POOLS_HELD * POOL * int(fields.array[0].nbytes)))


def _fingerprint(config: Config, store: Store) -> str:
    """Return a hash of all that the result depends on: settings, and the store's contents as far as its
    metadata tells.
    """
    told = {
        "store",
        "cache_bytes",
        "buffer_bytes",
        "route",
    }  # of which the length of blocks is all that matters
    settings: dict[str, Any] = config.model_dump(
        mode="json", exclude={"output": True, "data": told, "loss": {"compare"}}
    )
    if (block := _block(Fields(store.dataset), config)) > 1:
        settings["data"]["block"] = block
    settings["data"].pop("static")
    if static := store.static(config.data.static):
        settings["data"]["static"] = list(static)
    if not config.data.gap_steps:
        settings["data"].pop("gap_steps")
    if not config.loss.physics:
        settings.pop("loss")
    for harmless in ("checkpoint_minutes",):
        settings["train"].pop(harmless)
    data = [
        store.dataset["time"].values.astype(str).tolist(),
        [str(c) for c in store.channels],
        dict(store.dataset.attrs),
    ]
    data += [store.dataset[axis].values.astype(np.float64).tolist() for axis in store.grid.axes]
    return hashlib.sha256(json.dumps([settings, data], default=str, sort_keys=True).encode()).hexdigest()
