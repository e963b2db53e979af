"""The checkpoint from which the training of a forecast model starts.

Of a forecast model, channels that parent and child share keep their weights, scales and seasonal cycle, so
that an untrained child forecasts them as its parent does. Of an imported network, which has no scales, all
weights but those of the last layer are initial values: its input channels are the present state.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ....datasets.forcings import static_fields
from ....datasets.schema import Channel
from ....datasets.statistics.climatology import SeasonalCycle
from ....datasets.statistics.moments import NAMES, Statistics
from ....fno.grids import Grid
from ....fno.models.afno import AFNO
from ....fno.models.stepper import Stepper
from ....fno.models.transfer import ChannelOrigin, transfer_weights
from ....fno.pretrained import construct
from ...checkpoint.description import NetworkDescription
from ...checkpoint.folder import StoredCheckpoint
from ...checkpoint.weather import Checkpoint, load_checkpoint
from ...config.weather import ModelConfig
from ...model import build_network

_SCALES = {"mean": "mean", "std": "std", "anomaly_std": "anomaly_std", "anomaly_tendency_std": "tendency_std"}
_TOLERANCE = 1e-3  # relative difference of the outputs of parent and child


@dataclass(frozen=True)
class Layout:
    """What the input channels of the network of a forecast model are.

    Attributes:
        channels: channels of the state.
        window: number of input states.
        forcings: names of the forcings.
        grid: grid.
        static: names of the static fields of the store.
        masked: whether the masks of the channels are inputs.
        noise: number of noise fields.
        lead_time: whether the lead time is an input.
    """

    channels: Sequence[Channel]
    window: int
    forcings: Sequence[str]
    grid: Grid
    static: Sequence[str]
    masked: bool
    noise: int = 0
    lead_time: bool = False

    @property
    def outputs(self) -> list[Hashable]:
        """Keys of the output channels."""
        return [_key(channel) for channel in self.channels]

    @property
    def static_inputs(self) -> list[Hashable]:
        """Keys of the static inputs, in the order of ``forecast.model.build_stepper``."""
        positions = [("position", i) for i in range(len(static_fields(self.grid)))]
        means = [("mean", key) for key in self.outputs]
        masks = [("mask", key) for key in self.outputs] if self.masked else []
        return [*positions, *means, *(("static", name) for name in self.static), *masks]

    @property
    def inputs(self) -> list[Hashable]:
        """Keys of the input channels, in the order of ``fno.models.stepper.Stepper``; age 0 is now."""
        states = [("state", age, key) for age in reversed(range(self.window)) for key in self.outputs]
        cycle = [("cycle", end, key) for end in (0, 1) for key in self.outputs]
        forcings = [("forcing", end, name) for end in (0, 1) for name in self.forcings]
        noise = [("noise", i) for i in range(self.noise)]
        lead: list[Hashable] = [("lead time",)] if self.lead_time else []
        return [*states, *cycle, *forcings, *self.static_inputs, *noise, *lead]


@dataclass(frozen=True)
class Parent:
    """A checkpoint to start from.

    Attributes:
        source: its folder, for errors.
        record: its checksum and origin.
        ancestors: the records of those that it started from itself, the nearest first.
        checkpoint: the forecast model; None for an imported network.
        network: the imported network; None for a forecast model.
    """

    source: str
    record: dict[str, Any]
    ancestors: list[dict[str, Any]]
    checkpoint: Checkpoint | None = None
    network: nn.Module | None = None

    @property
    def chain(self) -> list[dict[str, Any]]:
        """Records of this checkpoint and of those that it started from, the nearest first."""
        return [self.record, *self.ancestors]

    def adapt(self, statistics: Statistics, channels: Sequence[Channel], grid: Grid) -> Statistics:
        """Return statistics with the scales and the seasonal cycle of the parent for the channels it has.

        Args:
            statistics: statistics of the new data.
            channels: their channels.
            grid: their grid.

        Raises:
            ValueError: another grid, or other units of a channel.
        """
        checkpoint = self.checkpoint
        if checkpoint is None:
            return statistics
        if not _same_grid(checkpoint.grid, grid):
            raise ValueError(f"{self.source} has another grid than the data; regrid the data to its grid")
        units = {_key(c): c.units for c in checkpoint.channels}
        for channel in channels:
            if units.get(_key(channel), channel.units) != channel.units:
                raise ValueError(
                    f"{self.source} has {channel} in {units[_key(channel)]}, the data in {channel.units}; "
                    "ingest them in the same units"
                )
        origin = ChannelOrigin.match(list(units), [_key(c) for c in channels]).positions
        values = statistics.values.copy()
        known = [i for i, old in enumerate(origin) if old is not None]
        old = [position for position in origin if position is not None]
        for name, scale in _SCALES.items():
            stored = getattr(checkpoint.stepper, scale).flatten().cpu().numpy().astype(np.float64)
            values[NAMES.index(name), known] = stored[old]
        if checkpoint.ranges is not None:
            for row, name, widest in ((0, "minimum", np.minimum), (1, "maximum", np.maximum)):
                at = NAMES.index(name)
                values[at, known] = widest(values[at, known], checkpoint.ranges[row, old])
        cycle = merged_cycle(checkpoint.cycle, statistics.cycle, origin)
        return replace(statistics, values=values, cycle=cycle)

    def initialise(self, stepper: Stepper, layout: Layout, model: ModelConfig) -> None:
        """Set the weights and the static fields of a new model.

        Args:
            stepper: the new model.
            layout: its inputs.
            model: its configuration.

        Raises:
            WeightsError: the networks differ in more than their channels.
        """
        if self.network is not None:
            self._initialise_from_network(stepper, layout, model)
            return
        checkpoint = self.checkpoint
        assert checkpoint is not None
        old = parent_layout(checkpoint)
        inputs = ChannelOrigin.match(old.inputs, layout.inputs)
        outputs = ChannelOrigin.match(old.outputs, layout.outputs)
        stored = checkpoint.stepper
        for i, key in enumerate(layout.static_inputs):
            if key in old.static_inputs:
                stepper.static[i] = stored.static[old.static_inputs.index(key)]
        weights = transfer_weights(
            lambda i, o: build_network(model, layout.grid, in_channels=i, out_channels=o, quiet=True),
            stored.network.state_dict(),
            inputs=inputs,
            outputs=outputs,
            source=self.source,
        )
        stepper.network.load_state_dict(weights)
        networks = (stored.network, stepper.network)
        check_outputs(*networks, inputs=inputs, outputs=outputs, shape=layout.grid.shape, source=self.source)

    def _initialise_from_network(self, stepper: Stepper, layout: Layout, model: ModelConfig) -> None:
        """Take the weights of an imported network, whose last layer stays as it was initialised."""
        network: Any = self.network
        keys = layout.outputs
        for name, count in (("input", network.in_channels), ("output", network.out_channels)):
            if count != len(keys):
                raise ValueError(
                    f"{self.source} has {count} {name} channels, the data {len(keys)}: choose as many "
                    "variables, in the order of the network"
                )
        if isinstance(network, AFNO) and network.inp_shape != layout.grid.shape:
            height, width = layout.grid.shape
            rows, columns = model.model_dump()["patch_size"]
            network = network.resized((height, width), (rows, columns))
        present = [("state", 0, key) for key in keys]
        inputs = ChannelOrigin.match(present, layout.inputs)
        weights = {
            f"networks.{i}.{name}": t
            for i in range(model.members)
            for name, t in network.state_dict().items()
        }
        outputs = ChannelOrigin(len(keys), range(len(keys)))
        new = transfer_weights(
            lambda i, o: build_network(model, layout.grid, in_channels=i, out_channels=o, quiet=True),
            weights,
            inputs=inputs,
            outputs=outputs,
            source=self.source,
        )
        last: set[str] = set()
        for i, member in enumerate(stepper.network.networks):  # type: ignore[arg-type]
            layer = member.output_layer
            last |= {
                f"networks.{i}.{name}.{own}"
                for name, module in member.named_modules()
                if module is layer
                for own, _ in module.named_parameters(recurse=False)
            }
        initial = stepper.network.state_dict()
        stepper.network.load_state_dict({n: initial[n] if n in last else t for n, t in new.items()})


def open_parent(path: Path) -> Parent:
    """Return the checkpoint to start from.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: damaged, or of another task.
    """
    stored = StoredCheckpoint.open(path)
    stored.verify()
    stored.require("weather", "network")
    record: dict[str, Any] = {"checksum": stored.identity, "task": stored.task}
    if stored.task == "network":
        description = stored.describe(NetworkDescription)
        entries = stored.entries()
        with stored.noting_changes():
            network = construct(
                description.model.model, description.model.arguments, entries, source=str(path)
            )
        stored.restore(network, entries)
        if description.source is not None:
            record["source"] = description.source.model_dump()
        return Parent(str(path), record, [], network=network)
    checkpoint = load_checkpoint(stored)
    provenance = checkpoint.provenance
    record |= {name: provenance[name] for name in ("train_period", "steps") if name in provenance}
    return Parent(str(path), record, list(provenance.get("parents", [])), checkpoint=checkpoint)


def parent_layout(checkpoint: Checkpoint) -> Layout:
    """Return the inputs of the network of a checkpoint."""
    stored = checkpoint.stored_forcings
    forcings = [*checkpoint.forcings, *(str(c) for c in ([] if stored is None else stored.channels))]
    layout = Layout(
        checkpoint.channels,
        checkpoint.stepper.window,
        forcings,
        checkpoint.grid,
        checkpoint.provenance.get("static_fields", []),
        masked=not bool(checkpoint.stepper.mask.all()),
        noise=checkpoint.stepper.noise_channels,
        lead_time=bool(checkpoint.stepper.lead_times),
    )
    if len(layout.static_inputs) != len(checkpoint.stepper.static):
        raise ValueError(
            f"{checkpoint.path} has static inputs whose names it does not record; train it again"
        )
    return layout


def merged_cycle(old: SeasonalCycle, new: SeasonalCycle, origin: Sequence[int | None]) -> SeasonalCycle:
    """Return a seasonal cycle that is the old one for channels with an origin, otherwise the new one.

    It is fitted at the times of day of both; harmonics that one of them lacks are zero.
    """
    if None not in origin:
        index = [position for position in origin if position is not None]
        return SeasonalCycle(old.minutes, old.coefficients[:, :, index])
    minutes = np.union1d(old.minutes, new.minutes)
    terms = max(old.coefficients.shape[1], new.coefficients.shape[1])
    parts = [_expanded(cycle, minutes, terms) for cycle in (old, new)]
    fields = [parts[1][:, :, i] if at is None else parts[0][:, :, at] for i, at in enumerate(origin)]
    return SeasonalCycle(minutes, np.stack(fields, axis=2))


def _expanded(cycle: SeasonalCycle, minutes: NDArray[np.int64], terms: int) -> NDArray[np.float32]:
    """Return the coefficients at other times of day, by the nearest one, and with more harmonics."""
    distance = np.abs(minutes[:, None] - cycle.minutes)
    nearest = np.minimum(distance, 1440 - distance).argmin(axis=1)
    coefficients = cycle.coefficients[nearest]
    missing = terms - coefficients.shape[1]
    return np.pad(coefficients, ((0, 0), (0, missing), (0, 0), (0, 0), (0, 0)))


def check_outputs(
    old: nn.Module,
    new: nn.Module,
    *,
    inputs: ChannelOrigin,
    outputs: ChannelOrigin,
    shape: tuple[int, ...],
    source: str,
) -> None:
    """Check on random inputs that common outputs did not change, where all old inputs remain.

    Args:
        old: network of the parent.
        new: network of the child.
        inputs: origin of the input channels.
        outputs: origin of the output channels.
        shape: shape of the grid.
        source: name of the parent, for errors.

    Raises:
        ValueError: they did: the network is not one whose channels can be extended.
    """
    kept = {position for position in inputs.positions if position is not None}
    if len(kept) < inputs.old:
        return
    x = torch.randn(1, inputs.new, *shape, generator=torch.Generator().manual_seed(0))
    before = torch.zeros(1, inputs.old, *shape)
    for i, position in enumerate(inputs.positions):
        if position is not None:
            before[:, position] = x[:, i]
    common = [(i, position) for i, position in enumerate(outputs.positions) if position is not None]
    with torch.no_grad():
        expected = old.eval()(before)[:, [position for _, position in common]]
        actual = new.eval()(x)[:, [i for i, _ in common]]
    if not bool((actual - expected).abs().max() <= _TOLERANCE * expected.abs().max() + 1e-6):
        raise ValueError(
            f"{source}: its network does not give the same outputs with further channels, so it cannot be "
            "extended; keep its variables, forcings and window"
        )


def _same_grid(a: Grid, b: Grid) -> bool:
    return a.periodic == b.periodic and all(
        axis in b.coordinates and np.array_equal(points, b.coordinates[axis])
        for axis, points in a.coordinates.items()
    )


def _key(channel: Channel) -> Hashable:
    return channel.variable, channel.level, channel.place
