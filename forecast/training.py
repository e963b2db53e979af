"""Train a model on a store, from configuration to checkpoint."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..datasets.fields import Fields
from ..datasets.loaders import BatchReader, StoreBatches
from ..datasets.stores import Store, open_store, select_variables, store_statistics
from ..fno.training import Forecasting
from ..fno.training import train as fit
from .checkpoint import Checkpoint, save_checkpoint
from .config import AnyConfig, Config
from .device import keep_freed_memory, pick_device
from .model import build_stepper
from .operators import train as train_operator
from .physics_config import OperatorConfig, PinnConfig
from .pinn import train as train_pinn

log = logging.getLogger(__name__)
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class TrainResult:
    """Where the checkpoint is, whether it was there before, and the best validation score (of a PINN the held-out residual)."""

    checkpoint: Path
    already_done: bool
    best_score: float | None
    score: str = "validation score"


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
    if isinstance(config, PinnConfig):
        if device not in (None, "cpu"):
            raise ValueError(f"physics-informed networks are trained on the CPU, not on {device}; leave out --device")
        return TrainResult(*train_pinn(config, progress), "held-out residual")
    if isinstance(config, OperatorConfig):
        return TrainResult(*train_operator(config, device, progress))
    device, output = pick_device(device), config.output
    store = select_variables(open_store(config.data.store, whole_shards=False), config.data.variables)
    fingerprint = _fingerprint(config, store)
    done = output / "checkpoint" / "meta.json"
    if done.exists():
        held = json.loads(done.read_text())
        if held["provenance"]["fingerprint"] != fingerprint:
            raise ValueError(
                f"{output} holds a finished run with other settings or data; choose another output, or start afresh (quickstart: --fresh)"
            )
        return TrainResult(output / "checkpoint", True, held["provenance"]["validation_score"])
    split = store.split(config.data.train_period, config.data.validation_fraction)
    fields = Fields(_readable(config, store).dataset, config.data.cache_bytes)
    statistics = store_statistics(store, fields, split.fit)
    settings, window = config.train, config.model.window
    stepper = build_stepper(config.model, store.channels, store.grid, statistics, settings.seed).to(device)
    source = StoreBatches(
        BatchReader(fields, statistics.cycle, store.grid, store.step), split.train, split.validation, store.gaps, window,
        settings.batch_size, settings.seed, config.data.samples_per_epoch, _block(store, fields, config.data.cache_bytes),
    )  # fmt: skip
    weights = torch.from_numpy(store.grid.area_weights).float()[:, None] * stepper.mask.cpu()
    log.info(
        "training %d parameters on %d steps of %s",
        sum(p.numel() for p in stepper.parameters()),
        split.train.stop - split.train.start,
        config.data.store,
    )
    record = fit(stepper, Forecasting(stepper, weights, settings.noise), source, settings, output / "state", fingerprint, progress)
    times = store.dataset["time"].values
    provenance = {
        "fingerprint": fingerprint,
        "source": {k: str(v) for k, v in store.dataset.attrs.items() if k in ("title", "source", "references", "history")},
        "train_period": [str(times[split.train][i]) for i in (0, -1)],
        "validation_period": [str(times[split.validation][i]) for i in (0, -1)] if split.validation.stop > split.validation.start else None,
        "validation_score": record.best_score,
        "best_epoch": record.best_epoch,
        "steps": record.steps,
    }
    attrs = {str(name): {k: str(v) for k, v in variable.attrs.items()} for name, variable in store.dataset.data_vars.items()}
    dtypes = (str(store.dataset["latitude"].dtype), str(store.dataset["longitude"].dtype))
    checkpoint = Checkpoint(stepper, store.channels, attrs, store.grid, dtypes, store.step, statistics.cycle, config, provenance)
    save_checkpoint(checkpoint, output / "checkpoint")
    return TrainResult(output / "checkpoint", False, record.best_score)


def _readable(config: Config, store: Store) -> Store:
    """Return the store opened in the way that suits how it will be read: whole shards where it is kept in memory."""
    if store.dataset.nbytes > config.data.cache_bytes:
        return store
    return select_variables(open_store(config.data.store), config.data.variables)


def _block(store: Store, fields: Fields, cache_bytes: int) -> int:
    """Return the length of shuffled blocks: a shard where the store is read from disk, 1 where it is in memory."""
    if fields.array.nbytes <= cache_bytes:
        return 1
    return max(int(v.encoding.get("shards", (1,))[0]) for v in store.dataset.data_vars.values())


def _fingerprint(config: Config, store: Store) -> str:
    """Return a hash of all that the result depends on: settings, and the store's contents as far as its metadata tells."""
    settings: dict[str, Any] = config.model_dump(mode="json", exclude={"output": True, "data": {"store", "cache_bytes"}})
    for harmless in ("checkpoint_minutes",):
        settings["train"].pop(harmless)
    data = [store.dataset["time"].values.astype(str).tolist(), [str(c) for c in store.channels], dict(store.dataset.attrs)]
    data += [store.grid.latitude.tolist(), store.grid.longitude.tolist()]
    return hashlib.sha256(json.dumps([settings, data], default=str, sort_keys=True).encode()).hexdigest()
