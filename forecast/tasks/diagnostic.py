"""The task ``diagnostic``: a network that diagnoses a variable from the forecast of a frozen model."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from ...datasets.loaders.batches import BatchReader, StoreBatches
from ...datasets.schema import Channel
from ...datasets.stopping import requested
from ...datasets.store.fields import Fields
from ...datasets.store.open import Store, open_store, select_variables, store_statistics
from ...datasets.stored_forcings import ForcingScales, StoredForcings
from ...datasets.target_scales import LogTransform, TargetScales, check_not_negative
from ...fno.models.base import load_weights, mark_trained
from ...fno.progress import Progress
from ...fno.random import Stream, seeded_torch
from ...fno.training import train as train_network
from ...fno.training.objectives.diagnostic import DiagnosticObjective
from ...fno.training.settings import identifying
from ...fno.weights.blueprint import check_blueprint
from ..checkpoint.description import ChannelDescription, Checksum, Description, Provenance, validated_as
from ..checkpoint.folder import StoredCheckpoint, fingerprint, finished_run, write_checkpoint
from ..checkpoint.weather import Checkpoint, load_checkpoint
from ..config.diagnostic import DiagnosticConfig
from ..config.sections import identifying_keys
from ..device import pick_device
from ..inference.diagnostic import DiagnosticForecaster
from ..inference.forecaster import Forecaster
from ..interruption import saving_when_stopped
from ..model import build_network
from ..monitoring.pictures import RunPictures
from .base import MissingOptionError, Task, TrainResult
from .weather.parent import open_parent

_NAMES = ("fields.mask",)


class _DiagnosticProvenance(Provenance):
    """Training period and results."""

    train_period: list[str]
    validation_score: float | None
    parents: Annotated[list[dict[str, Any]], Field(default_factory=list, max_length=1_000)]


class DiagnosticDescription(Description):
    """A network that diagnoses a variable.

    Attributes:
        config: resolved configuration.
        target: the diagnosed channel.
        attrs: its CF attributes.
        backbone: checksum of the forecast model.
        provenance: training data and results.
    """

    task: Literal["diagnostic"]
    config: Annotated[DiagnosticConfig, validated_as(DiagnosticConfig)]
    target: ChannelDescription
    attrs: dict[str, str | float | int]
    backbone: Checksum
    provenance: _DiagnosticProvenance


class DiagnosticTask(Task):
    """Variables that are diagnosed from the forecast of a frozen model, such as precipitation."""

    name = "diagnostic"
    title = "diagnostic model"
    config = DiagnosticConfig
    description = DiagnosticDescription
    run_options = frozenset({"init", "time", "lead", "follow_links"})

    def inputs(self, config: DiagnosticConfig) -> list[Path | None]:
        """Return the store, the forecast model and the imported network."""
        return [config.data.store, config.backbone, config.parent]

    def train(
        self, config: DiagnosticConfig, *, device: str | None, progress: Progress | None
    ) -> TrainResult:
        """Train a network on the forecasts of a frozen model, or resume an interrupted run."""
        return _train(config, device=pick_device(device), progress=progress)

    def load(self, stored: StoredCheckpoint, device: str | None) -> DiagnosticForecaster:
        """Return the forecast model with the network.

        Raises:
            FileNotFoundError: the forecast model is missing.
            ValueError: the forecast model is another one than in training, or the checkpoint is damaged.
        """
        device = pick_device(device)
        description = stored.describe(DiagnosticDescription)
        config = description.config
        backbone = load_checkpoint(config.backbone, device)
        if backbone.identity != description.backbone:
            raise ValueError(
                f"{config.backbone} is not the forecast model that {stored.path} was trained with; restore it"
            )
        entries = stored.entries()
        own = {name.removeprefix("network."): e for name, e in entries.items() if name not in _NAMES}

        def build() -> nn.Module:
            return _build(config, backbone)

        with stored.noting_changes():
            check_blueprint(
                build, own, layers=config.model.members * config.model.layers, source=str(stored.path)
            )
        network = build()
        mask = stored.restore(network, entries, "network.")["fields.mask"]
        mark_trained(network, backbone.grid.shape)
        target = description.target
        return DiagnosticForecaster(
            Forecaster(backbone, device),
            network.to(device).eval(),
            target=Channel(target.variable, None, target.units, target.place),
            attrs=description.attrs,
            transform=LogTransform(config.target.epsilon),
            mask=mask.numpy(),
        )

    def run_arguments(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of ``DiagnosticForecaster.run``."""
        arguments = super().run_arguments(options)
        if arguments["init"] is None:
            raise MissingOptionError("init", "name the CF file or store that contains the input states")
        arguments["times"] = arguments.pop("time")
        return arguments


def _build(config: DiagnosticConfig, backbone: Checkpoint) -> nn.Module:
    """Return the untrained network."""
    return build_network(
        config.model, backbone.grid, in_channels=len(backbone.channels), out_channels=1, quiet=True
    )


def _open(config: DiagnosticConfig, backbone: Checkpoint) -> tuple[Store, Store]:
    """Return the stores of the variables of the forecast model, and of the stored forcings and the target.

    Raises:
        ValueError: the store does not fit the model, or lacks the target.
    """
    whole = open_store(config.data.store, whole_shards=False)
    name = config.target.variable
    names = list(dict.fromkeys(channel.variable for channel in backbone.channels))
    if name in names:
        raise ValueError(f"target.variable: {name!r} is forecast by {config.backbone} itself")
    scales = backbone.stored_forcings
    forcings = [] if scales is None else list(dict.fromkeys(c.variable for c in scales.channels))
    states = select_variables(whole, names)
    others = select_variables(whole, [*forcings, name])
    expected = [] if scales is None else scales.channels
    if states.channels != backbone.channels or others.channels[:-1] != expected:
        raise ValueError(
            f"{config.data.store} has other levels or units than {config.backbone}, or the target has levels"
        )
    axes = backbone.grid.coordinates
    if whole.step != backbone.step or not all(
        np.array_equal(points, whole.grid.coordinates.get(axis, ())) for axis, points in axes.items()
    ):
        raise ValueError(f"{config.data.store} has another grid or time step than {config.backbone}")
    return states, others


def _scales(
    others: Store, fields: Fields, fit: slice, *, backbone: Checkpoint, epsilon: float
) -> TargetScales:
    """Return the scales of the forcings of the forecast model, which stay as they are, and of the target."""
    statistics = store_statistics(others, fields, fit)
    own = ForcingScales.of(others.channels, statistics)
    known = backbone.stored_forcings
    count = 0 if known is None else len(known.channels)
    check_not_negative(own.channels[-1], statistics.minimum[-1], statistics.maximum[-1])
    mean = own.mean.copy()
    std = own.std.copy()
    mask = own.mask.copy()
    if known is not None:
        mean[:count] = known.mean
        std[:count] = known.std
        mask[:count] = known.mask
    return TargetScales(own.channels, mean, std, mask, targets=1, transform=LogTransform(epsilon))


def _train(config: DiagnosticConfig, *, device: str, progress: Progress | None) -> TrainResult:
    backbone = load_checkpoint(config.backbone, device)
    parent = None if config.parent is None else open_parent(config.parent)
    states, others = _open(config, backbone)
    content = config.model_dump(mode="json", exclude={"output": True, "data": {"store", "cache_bytes"}})
    content["model"] = identifying_keys(config.model)
    content["train"] = identifying(content["train"])
    times = states.dataset["time"].values.astype(str).tolist()
    identities = [backbone.identity, None if parent is None else parent.record["checksum"]]
    digest = fingerprint([content, identities, times, dict(states.dataset.attrs)])
    output = config.output
    if finished := finished_run(output, DiagnosticDescription, task="diagnostic", digest=digest):
        return TrainResult(output / "checkpoint", True, finished.provenance.validation_score)
    split = states.split(config.data.train_period, config.data.validation_fraction)
    fields = Fields(others.dataset, config.data.cache_bytes)
    scales = _scales(others, fields, split.fit, backbone=backbone, epsilon=config.target.epsilon)
    settings = config.train
    with seeded_torch(settings.seed, Stream.INITIAL_WEIGHTS):
        network = _build(config, backbone)
    if parent is not None:
        if parent.network is None:
            raise ValueError(f"parent: {config.parent} is a forecast model; name an imported network")
        weights = parent.network.state_dict()
        members = range(config.model.members)
        load_weights(
            network, {f"networks.{i}.{n}": t for i in members for n, t in weights.items()}, str(config.parent)
        )
    network = network.to(device)
    source = StoreBatches(
        BatchReader(
            Fields(states.dataset, config.data.cache_bytes),
            backbone.cycle,
            states.grid,
            states.step,
            pin=device.startswith("cuda"),
            names=backbone.forcings,
            stored=StoredForcings(fields, scales, str(config.data.store)),
        ),
        split.train,
        split.validation,
        gaps=states.gaps,
        window=backbone.stepper.window,
        batch_size=settings.batch_size,
        seed=settings.seed,
        samples_per_epoch=config.data.samples_per_epoch,
    )
    mask = torch.from_numpy(scales.mask[-1:])
    weights_of_area = torch.from_numpy(states.grid.area_weights).float()[:, None] * mask
    with saving_when_stopped(output / "state"):
        record = train_network(
            network,
            DiagnosticObjective(network, backbone.stepper, weights_of_area),
            source,
            settings=settings,
            folder=output / "state",
            fingerprint=digest,
            progress=progress,
            stop=requested,
            pictures=RunPictures(output / "state", settings.pictures),
            lead_hours=float(states.step / np.timedelta64(1, "h")),
        )
    target = others.channels[-1]
    attrs = others.dataset[target.variable].attrs
    tensors = {f"network.{name}": t for name, t in network.state_dict().items()} | {"fields.mask": mask}
    meta = {
        "config": config.model_dump(mode="json"),
        "target": asdict(target),
        "attrs": {k: v if isinstance(v, float) else str(v) for k, v in attrs.items()},
        "backbone": backbone.identity,
        "provenance": {
            "fingerprint": digest,
            "train_period": [str(states.dataset["time"].values[split.train][i]) for i in (0, -1)],
            "validation_score": record.best_score,
            "parents": [] if parent is None else parent.chain,
        },
    }
    write_checkpoint(output / "checkpoint", "diagnostic", tensors, meta=meta)
    return TrainResult(output / "checkpoint", False, record.best_score)
