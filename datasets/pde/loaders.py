"""Batches of samples of an equation, read from a store of simulations or drawn on demand.

As with other loaders, the order and all draws depend only on (seed, epoch).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from ...fno.batch import Instances
from ...fno.grids import AxisEdge, Box
from ...fno.random import Stream, numpy_generator
from ..adapters.opening import open_raw
from ..loaders.batches import prefetch
from ..store.recorded import recorded
from .simulate import make_system
from .system import System

FIRST_VALIDATION_SAMPLE = 2**32  # number of the first validation sample; no epoch reaches it


@dataclass(frozen=True)
class SolutionLayout:
    """The variables of a system and its grid.

    Attributes:
        fields: variables that are solved for.
        inputs: prescribed fields.
        parameters: coefficients with one value per sample.
        axes: dimensions of space.
        origins: lowest coordinate of the domain along each axis.
        lengths: length of the domain along each axis.
        edges: grid along each axis: ``periodic``, with nodes on both edges (``node``), or cell centres
            (``cell``).
        times: times of the solution after the initial state.
        evolves: whether the solution depends on time.
    """

    fields: tuple[str, ...]
    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    axes: tuple[str, ...]
    origins: tuple[float, ...]
    lengths: tuple[float, ...]
    edges: tuple[AxisEdge, ...]
    times: tuple[float, ...]
    evolves: bool

    def box(self, points: Sequence[int]) -> Box:
        """Return the domain with a number of points along each axis."""
        return Box(self.axes, tuple(points), self.lengths, tuple(edge == "periodic" for edge in self.edges))


def layout_of(dataset: xr.Dataset, input_variables: Sequence[str], source: str) -> SolutionLayout:
    """Return the layout of simulated samples, or of the template of one.

    Args:
        dataset: variables with the dimensions [sample], [time] and those of space.
        input_variables: names of variables that are not solved for; absent ones are ignored.
        source: name of the data set for errors.

    Raises:
        ValueError: there is no solution, or an axis is not evenly spaced.
    """
    solved = [str(n) for n in dataset.data_vars if n not in input_variables]
    prescribed = [str(n) for n in dataset.data_vars if n in input_variables]
    if not solved:
        raise ValueError(
            f"{source} contains no solution; it has "
            f"{', '.join(map(str, dataset.data_vars)) or 'no variables'}"
        )
    axes = tuple(str(d) for d in dataset[solved[0]].dims if d not in ("sample", "time"))
    origins = []
    lengths = []
    edges = []
    for axis in axes:
        x = dataset[axis].values.astype(float)
        attrs = dataset[axis].attrs
        steps = np.diff(x)
        if len(x) < 2 or not np.allclose(steps, steps[0], rtol=1e-6):
            raise ValueError(
                f"{source}: {axis} is not evenly spaced; operators need simulations on a regular grid"
            )
        periodic = attrs.get("periodic") == "true"
        length = float(attrs.get("length", len(x) * steps[0] if periodic else x[-1] - x[0]))
        on_nodes = np.isclose((len(x) - 1) * steps[0], length)
        edge: AxisEdge = "periodic" if periodic else "node" if on_nodes else "cell"
        origins.append(float(x[0] - steps[0] / 2 if edge == "cell" else x[0]))
        lengths.append(length)
        edges.append(edge)
    evolves = "time" in dataset[solved[0]].dims
    times = dataset["time"].values.astype(float) if evolves else np.zeros(0)
    inputs = [n for n in prescribed if {"y", "x"} & set(dataset[n].dims)]
    return SolutionLayout(
        fields=tuple(solved),
        inputs=tuple(inputs),
        parameters=tuple(n for n in prescribed if n not in inputs),
        axes=axes,
        origins=tuple(origins),
        lengths=tuple(lengths),
        edges=tuple(edges),
        times=tuple((times[1:] - times[:1]).tolist()),
        evolves=evolves,
    )


@dataclass(frozen=True)
class Simulations:
    """An open store of simulations.

    Attributes:
        dataset: variables, lazy.
        system: simulated system with its parameters.
        layout: layout of the variables.
    """

    dataset: xr.Dataset
    system: System
    layout: SolutionLayout

    def __len__(self) -> int:
        return self.dataset.sizes["sample"]

    def read(self, samples: NDArray[np.int64], *, solution: bool = True, double: bool = False) -> Instances:
        """Return some samples.

        Args:
            samples: indices of the samples.
            solution: whether to read the solution after the initial state.
            double: return float64 rather than float32.
        """
        layout = self.layout
        selected = self.dataset.isel(sample=samples)
        if not solution:
            selected = selected.isel(time=[0]) if layout.evolves else selected.drop_vars(layout.fields)
        with dask.config.set(scheduler="threads"):
            loaded = selected.load()
        values = {str(n): v.values for n, v in loaded.data_vars.items()}
        grid = tuple(loaded.sizes[axis] for axis in layout.axes)
        return _to_instances(values, layout, grid, double=double)


def open_simulations(path: str | Path | xr.Dataset, *, follow_links: bool = False) -> Simulations:
    """Open a store of simulations, or a data set of the same layout.

    Args:
        path: store, file or data set.
        follow_links: follow links within a store that lead outside of it.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ValueError: the path is not a store of simulations.
    """
    if isinstance(path, xr.Dataset):
        dataset = path
        source = "the data set"
    else:
        dataset = open_raw(str(path), follow_links=follow_links)
        source = str(path)
    try:
        name = recorded(dataset.attrs, "system", str)
        parameters = recorded(dataset.attrs, "parameters", dict)
    except ValueError as error:
        raise ValueError(
            f"{source} is not a store of simulations; create one with forecast simulate ({error})"
        ) from error
    system = make_system(name, parameters)
    if "sample" not in dataset.dims:
        dataset = dataset.expand_dims("sample")
    return Simulations(dataset, system, layout_of(dataset, system.input_variables, source))


def _to_instances(
    values: Mapping[str, NDArray[Any]], layout: SolutionLayout, grid: tuple[int, ...], *, double: bool
) -> Instances:
    """Return samples as tensors.

    Args:
        values: values of each variable, the samples first.
        layout: layout of the variables.
        grid: number of points along each axis.
        double: return float64 rather than float32.
    """
    dtype = np.float64 if double else np.float32
    coefficients = {n: torch.from_numpy(values[n].astype(dtype)) for n in layout.parameters}
    count = len(next(iter(values.values())))
    stacked = [values[n].astype(dtype) for n in layout.inputs]
    inputs = torch.from_numpy(np.stack(stacked, axis=1) if stacked else np.zeros((count, 0, *grid), dtype))
    no_state = torch.zeros(count, 0, *grid, dtype=inputs.dtype)
    if not all(n in values for n in layout.fields):
        return Instances(no_state, inputs, coefficients)
    fields = torch.from_numpy(
        np.stack([values[n].astype(dtype) for n in layout.fields], axis=2 if layout.evolves else 1)
    )
    if not layout.evolves:
        return Instances(no_state, inputs, coefficients, fields[:, None])
    return Instances(fields[:, 0], inputs, coefficients, fields[:, 1:] if fields.shape[1] > 1 else None)


@dataclass(frozen=True)
class StoredInstances:
    """Batches of a store: a ``BatchSource`` whose last samples are reserved for validation.

    Attributes:
        simulations: the store.
        batch_size: samples per batch.
        seed: seed of the order.
        validation_fraction: fraction of the samples that is reserved for validation.
    """

    simulations: Simulations
    batch_size: int
    seed: int = 0
    validation_fraction: float = 0.1

    @property
    def training(self) -> int:
        """Number of training samples."""
        return len(self.simulations) - round(len(self.simulations) * self.validation_fraction)

    def steps_per_epoch(self) -> int:
        """Return the number of batches in an epoch."""
        return max(1, -(-self.training // self.batch_size))

    def epoch(self, epoch: int, rollout: int, start: int = 0) -> Iterator[Instances]:
        """Yield the batches of an epoch from index ``start`` on."""
        order = numpy_generator(self.seed, Stream.SAMPLE_ORDER, epoch).permutation(self.training)
        groups = [
            np.sort(order[i * self.batch_size : (i + 1) * self.batch_size])
            for i in range(start, self.steps_per_epoch())
        ]
        return prefetch(partial(self.simulations.read, group) for group in groups)

    def validation(self, steps: int, samples: int) -> Iterator[Instances]:
        """Yield batches of the first ``samples`` validation samples."""
        reserved = np.arange(self.training, len(self.simulations))[:samples]
        for i in range(0, len(reserved), self.batch_size):
            yield self.simulations.read(reserved[i : i + self.batch_size])


@dataclass(frozen=True)
class DrawnInstances:
    """Batches drawn from the distribution of a system and never solved: a ``BatchSource``.

    It serves training on the residual of the equation alone.

    Attributes:
        system: system whose inputs are drawn.
        layout: layout of the variables.
        batch_size: samples per batch.
        samples: samples per epoch; a single batch if there are fewer than ``batch_size``, otherwise whole
            batches only.
        seed: seed of all draws.
    """

    system: System
    layout: SolutionLayout
    batch_size: int
    samples: int
    seed: int = 0

    def steps_per_epoch(self) -> int:
        """Return the number of batches in an epoch."""
        return max(1, self.samples // self.batch_size)

    def epoch(self, epoch: int, rollout: int, start: int = 0) -> Iterator[Instances]:
        """Yield the batches of an epoch from index ``start`` on."""
        firsts = [epoch * self.samples + i * self.batch_size for i in range(start, self.steps_per_epoch())]
        count = min(self.batch_size, self.samples)
        return prefetch(partial(self.draw, first, count) for first in firsts)

    def validation(self, steps: int, samples: int) -> Iterator[Instances]:
        """Yield batches of samples that no epoch draws."""
        for i in range(0, samples, self.batch_size):
            yield self.draw(FIRST_VALIDATION_SAMPLE + i, min(self.batch_size, samples - i))

    def draw(self, first: int, count: int) -> Instances:
        """Return samples.

        Args:
            first: index of the first sample.
            count: number of samples.
        """
        numbers = range(first, first + count)
        generators = [numpy_generator(self.seed, Stream.DRAWN_INSTANCES, number) for number in numbers]
        samples = [self.system.sample_inputs(rng) for rng in generators]
        values = {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
        if self.layout.evolves:
            values |= {name: values[name][:, None] for name in self.layout.fields}
        grid = (self.system.resolution,) * len(self.layout.axes)
        return _to_instances(values, self.layout, grid, double=False)


def open_system(name: str, parameters: dict[str, Any]) -> tuple[System, SolutionLayout]:
    """Return a system and the layout of its samples.

    Raises:
        ValueError: the system or a parameter is unknown, or the system is not on a regular box.
    """
    system = make_system(name, parameters)
    return system, layout_of(system.template(), system.input_variables, name)
