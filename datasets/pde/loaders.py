"""Batches of instances of an equation, from a store of simulations or drawn as they are needed.

The order and all draws depend on (seed, epoch) alone, as for other loaders.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import dask
import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ...fno.batch import Instances
from ...fno.grids import Box
from ..adapters.opening import open_raw
from ..loaders.batches import prefetch
from ..store.recorded import recorded
from .simulate import make_system
from .system import System

Edge = Literal["wrap", "node", "cell"]
VALIDATION = 2**32  # seeds of draws that no epoch makes start here


@dataclass(frozen=True)
class Layout:
    """What the variables of a system are, and its grid.

    Attributes:
        fields: variables that are solved for.
        inputs: fields that are given.
        parameters: numbers that are given, one for each sample.
        axes: dimensions of space.
        lengths: of the domain along each.
        edges: how the grid lies along each: it wraps, has nodes on both edges, or cells between them.
        times: of the solution after the initial state.
        evolves: whether there is time at all.
    """

    fields: tuple[str, ...]
    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    axes: tuple[str, ...]
    lengths: tuple[float, ...]
    edges: tuple[Edge, ...]
    times: tuple[float, ...]
    evolves: bool

    def box(self, points: Sequence[int]) -> Box:
        """Return the domain with so many points along each axis."""
        return Box(self.axes, tuple(points), self.lengths, tuple(edge == "wrap" for edge in self.edges))


def layout_of(dataset: xr.Dataset, given: Sequence[str], source: str) -> Layout:
    """Return the layout of simulated samples, or of the template of one.

    Args:
        dataset: variables with dimensions [sample], [time], and those of space.
        given: names of those that are not solved for; absent ones do not matter.
        source: name for errors.

    Raises:
        ValueError: nothing is solved for, or an axis has no even spacing.
    """
    solved = [str(n) for n in dataset.data_vars if n not in given]
    held = [str(n) for n in dataset.data_vars if n in given]
    if not solved:
        raise ValueError(
            f"{source} holds no solution; it has {', '.join(map(str, dataset.data_vars)) or 'no variables'}"
        )
    axes = tuple(str(d) for d in dataset[solved[0]].dims if d not in ("sample", "time"))
    lengths, edges = [], []
    for axis in axes:
        x, attrs = dataset[axis].values.astype(float), dataset[axis].attrs
        steps = np.diff(x)
        if len(x) < 2 or not np.allclose(steps, steps[0], rtol=1e-6):
            raise ValueError(
                f"{source}: {axis} is not evenly spaced; operators need simulations on a regular grid"
            )
        wraps = attrs.get("periodic") == "true"
        length = float(attrs.get("length", len(x) * steps[0] if wraps else x[-1] - x[0]))
        edge: Edge = "wrap" if wraps else "node" if np.isclose((len(x) - 1) * steps[0], length) else "cell"
        lengths.append(length)
        edges.append(edge)
    evolves = "time" in dataset[solved[0]].dims
    times = dataset["time"].values.astype(float) if evolves else np.zeros(0)
    inputs, numbers = (
        [n for n in held if ("y" in dataset[n].dims or "x" in dataset[n].dims) is spatial]
        for spatial in (True, False)
    )
    later = tuple((times[1:] - times[:1]).tolist())
    return Layout(
        tuple(solved), tuple(inputs), tuple(numbers), axes, tuple(lengths), tuple(edges), later, evolves
    )


@dataclass(frozen=True)
class Simulations:
    """An open store of simulations.

    Attributes:
        dataset: its variables, lazy.
        system: what was simulated, with its parameters.
        layout: of its variables.
    """

    dataset: xr.Dataset
    system: System
    layout: Layout

    def __len__(self) -> int:
        return self.dataset.sizes["sample"]

    def read(self, samples: NDArray[np.int64], solution: bool = True, double: bool = False) -> Instances:
        """Return some samples.

        Args:
            samples: their numbers.
            solution: whether the solution is read too.
            double: keep float64.
        """
        names, first = self.layout, self.dataset.isel(sample=samples)
        if not solution:
            first = first.isel(time=[0]) if names.evolves else first.drop_vars(names.fields)
        with dask.config.set(scheduler="threads"):
            held = first.load()
        return _instances(
            {str(n): v.values for n, v in held.data_vars.items()},
            names,
            tuple(held.sizes[a] for a in names.axes),
            double,
        )


def open_simulations(path: str | Path | xr.Dataset, *, follow_links: bool = False) -> Simulations:
    """Open a store that ``forecast simulate`` made, or a data set like it.

    Args:
        path: store, file or data set.
        follow_links: follow links within a store that lead outside of it.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: something else.
    """
    dataset, source = (
        (path, "the data set")
        if isinstance(path, xr.Dataset)
        else (open_raw(str(path), follow_links=follow_links), str(path))
    )
    try:
        name = recorded(dataset.attrs, "system", str)
        parameters = recorded(dataset.attrs, "parameters", dict)
    except ValueError as error:
        raise ValueError(
            f"{source} is no store of simulations; make one with forecast simulate ({error})"
        ) from error
    system = make_system(name, parameters)
    if "sample" not in dataset.dims:
        dataset = dataset.expand_dims("sample")
    return Simulations(dataset, system, layout_of(dataset, system.given, source))


def _instances(
    values: Mapping[str, NDArray[Any]], layout: Layout, grid: tuple[int, ...], double: bool
) -> Instances:
    kind = np.float64 if double else np.float32
    inputs = [values[n].astype(kind) for n in layout.inputs]
    numbers = {n: torch.from_numpy(values[n].astype(kind)) for n in layout.parameters}
    count = len(next(iter(values.values())))
    given = torch.from_numpy(np.stack(inputs, axis=1) if inputs else np.zeros((count, 0, *grid), kind))
    if not all(n in values for n in layout.fields):
        return Instances(torch.zeros(count, 0, *grid, dtype=given.dtype), given, numbers)
    fields = torch.from_numpy(
        np.stack([values[n].astype(kind) for n in layout.fields], axis=2 if layout.evolves else 1)
    )
    if not layout.evolves:
        return Instances(torch.zeros(count, 0, *grid, dtype=given.dtype), given, numbers, fields[:, None])
    return Instances(fields[:, 0], given, numbers, fields[:, 1:] if fields.shape[1] > 1 else None)


@dataclass(frozen=True)
class StoredInstances:
    """Batches of a store: a ``BatchSource``. The last samples are kept for validation.

    Attributes:
        simulations: the store.
        batch_size: samples of a batch.
        seed: seed of the order.
        validation_fraction: share of the samples that is kept.
    """

    simulations: Simulations
    batch_size: int
    seed: int = 0
    validation_fraction: float = 0.1

    @property
    def training(self) -> int:
        """Number of samples to train on."""
        return len(self.simulations) - round(len(self.simulations) * self.validation_fraction)

    def steps_per_epoch(self) -> int:
        """Return the batches of an epoch."""
        return max(1, -(-self.training // self.batch_size))

    def epoch(self, epoch: int, rollout: int, start: int = 0) -> Iterator[Instances]:
        """Yield the batches of an epoch from number ``start`` on."""
        order = np.random.default_rng((self.seed, epoch)).permutation(self.training)
        groups = [
            np.sort(order[i * self.batch_size : (i + 1) * self.batch_size])
            for i in range(start, self.steps_per_epoch())
        ]
        return prefetch(partial(self.simulations.read, group) for group in groups)

    def validation(self, steps: int, samples: int) -> Iterator[Instances]:
        """Yield batches of the samples that are kept."""
        kept = np.arange(self.training, len(self.simulations))[:samples]
        for i in range(0, len(kept), self.batch_size):
            yield self.simulations.read(kept[i : i + self.batch_size])


@dataclass(frozen=True)
class DrawnInstances:
    """Batches drawn from the law of a system, never solved: a ``BatchSource`` for training on the equation
    alone.

    Attributes:
        system: the law.
        layout: of its variables.
        batch_size: samples of a batch.
        samples: samples of an epoch.
        seed: seed of all draws.
    """

    system: System
    layout: Layout
    batch_size: int
    samples: int
    seed: int = 0

    def steps_per_epoch(self) -> int:
        """Return the batches of an epoch."""
        return max(1, self.samples // self.batch_size)

    def epoch(self, epoch: int, rollout: int, start: int = 0) -> Iterator[Instances]:
        """Yield the batches of an epoch from number ``start`` on."""
        firsts = [epoch * self.samples + i * self.batch_size for i in range(start, self.steps_per_epoch())]
        return prefetch(partial(self.draw, first, self.batch_size) for first in firsts)

    def validation(self, steps: int, samples: int) -> Iterator[Instances]:
        """Yield batches that no epoch draws."""
        for i in range(0, samples, self.batch_size):
            yield self.draw(VALIDATION + i, min(self.batch_size, samples - i))

    def draw(self, first: int, count: int) -> Instances:
        """Return so many draws, from number ``first`` on."""
        made = [self.system.instance(np.random.default_rng([self.seed, 1, first + i])) for i in range(count)]
        values = {name: np.stack([m[name] for m in made]) for name in made[0]}
        if self.layout.evolves:
            values |= {name: values[name][:, None] for name in self.layout.fields}
        return _instances(
            values, self.layout, (self.system.resolution,) * len(self.layout.axes), double=False
        )


def open_system(name: str, parameters: dict[str, Any]) -> tuple[System, Layout]:
    """Return a system and the layout of its samples.

    Raises:
        ValueError: no such system or parameter, or one that is not on a regular box.
    """
    system = make_system(name, parameters)
    return system, layout_of(system.template(), system.given, name)
