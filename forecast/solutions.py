"""What a trained solution operator says of given instances, and how far it is from the truth."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from ..datasets.adapters.opening import open_raw
from ..datasets.pde.loaders import Simulations, open_simulations
from ..datasets.store import atomic
from ..datasets.store.open import write_dataset
from ..datasets.store.recorded import recorded
from ..fno.batch import Instances
from ..fno.grids import same_axis
from ..fno.models.operators import EvolutionOperator
from ..fno.physics import equations
from ..fno.physics.evolution import EvolutionEquation
from ..fno.physics.steady import SteadyEquation
from ..fno.progress import Progress
from ..fno.training.objectives.operator import interpolate_in_time
from ..fno.training.refine import refine_evolution, refine_steady
from .checkpoint.meta import identity, read_meta
from .device import pick_device
from .operators import Operator, load_operator

BATCH = 16
NAMED = 3  # departures from training that a warning names

log = logging.getLogger(__name__)


def solve(
    checkpoint: str | Path,
    init: str | Path | xr.Dataset,
    output: str | Path | None = None,
    refine: int = 0,
    device: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    *,
    follow_links: bool = False,
) -> xr.Dataset:
    """Return the solutions that an operator gives for the initial states or coefficients of a store of
    simulations.

    Inputs whose mean, variance, spectrum or numbers lie outside of those of training are named in a warning
    and in the attribute ``outside_training``, as are parameters in which their law differs.

    Args:
        checkpoint: folder that training made.
        init: store or data set such as ``forecast simulate`` makes, at any resolution. Its times are those of
            the result; where it has but the initial one, they are those of training. Solutions in it are not
            looked at.
        output: write them there too: netCDF if it ends in .nc, else zarr.
        refine: steps of L-BFGS on the residual of each instance, window by window (test-time optimisation); 0
            for none.
        device: ``cpu`` or ``cuda``; refinement runs on the CPU.
        overwrite: replace an existing file.
        progress: called with (samples done, samples in all, text).
        follow_links: follow links within the store of initial states that lead outside of it.

    Returns:
        Data set with the solved variables on ``sample``, ``time`` and the axes of space.

    Raises:
        FileNotFoundError: no checkpoint or store there.
        FileExistsError: ``output`` exists and may not be replaced.
        ValueError: they do not fit each other, or a residual is asked of an equation that has none here.
    """
    if output is None:
        return _solutions(checkpoint, init, refine, device, progress, follow_links)
    with atomic.reserved(output, "solution", overwrite, [init, checkpoint]) as path:
        dataset = _solutions(checkpoint, init, refine, device, progress, follow_links)
        write_dataset(dataset, path, overwrite, "solution")
    return dataset


def _solutions(
    checkpoint: str | Path,
    init: str | Path | xr.Dataset,
    refine: int,
    device: str | None,
    progress: Progress | None,
    follow_links: bool,
) -> xr.Dataset:
    device = "cpu" if refine else pick_device(device)
    operator, given = load_operator(checkpoint, device), open_simulations(init, follow_links=follow_links)
    _check(operator, given, str(checkpoint))
    if refine < 0:
        raise ValueError(f"--refine must not be negative, got {refine}")
    times = given.layout.times or operator.layout.times
    made: list[np.ndarray] = []
    invariants: list[dict[str, torch.Tensor]] = []
    for first in range(0, len(given), 1 if refine else BATCH):
        samples = np.arange(first, min(first + (1 if refine else BATCH), len(given)))
        batch = given.read(samples, solution=False, double=bool(refine))
        invariants.append(operator.invariants(batch))
        made.append(_solve(operator, batch.to(device), np.asarray(times), refine))
        if progress:
            progress(int(samples[-1]) + 1, len(given), "refined" if refine else "solved")
    dataset = _dataset(operator, given, np.concatenate(made), times)
    dataset.attrs |= {"checkpoint": identity(read_meta(checkpoint)), "refine": refine}
    if departures := _outside(operator, given, invariants):
        dataset.attrs["outside_training"] = departures
        log.warning(
            "these inputs are unlike those of training, so errors may be far larger than in validation: %s",
            departures,
        )
    return dataset


def _check(operator: Operator, given: Simulations, checkpoint: str) -> None:
    ours, theirs = operator.layout, given.layout
    held = recorded(given.dataset.attrs, "system", str)
    if held != operator.config.equation.name:
        raise ValueError(
            f"{checkpoint} solves {operator.config.equation.name}, the initial states are of {held}"
        )
    equation = equations.get(operator.config.equation.name)
    names = equation.coefficient_names if equation.collocatable or equation.steady else ()
    own, others = operator.system.model_dump(), given.system.model_dump()
    for name in (*names, "length", "start", "side"):
        if name in own and name not in ours.parameters and own[name] != others.get(name):
            raise ValueError(
                f"{checkpoint} was trained with {name}={own[name]}, the initial states belong to {name}={others.get(name)}"
            )
    if (ours.axes, ours.edges) != (theirs.axes, theirs.edges) or not np.allclose(
        ours.lengths, theirs.lengths
    ):
        raise ValueError(
            f"{checkpoint} was trained on axes {', '.join(ours.axes)} of lengths {ours.lengths}, these are {theirs.axes} of {theirs.lengths}"
        )


def _outside(operator: Operator, given: Simulations, batches: list[dict[str, torch.Tensor]]) -> str:
    """Return in what the inputs of a run lie outside of training, as text; empty where in nothing or where
    that is not known.
    """
    if operator.ranges is None:
        return ""
    invariants = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    departures = operator.system.differences(given.system) + operator.ranges.departures(invariants)
    more = len(departures) - NAMED
    return "; ".join(departures[:NAMED]) + (f"; and {more} more" if more > 0 else "")


def _solve(operator: Operator, batch: Instances, times: np.ndarray, refine: int) -> np.ndarray:
    model = operator.model
    if not isinstance(model, EvolutionOperator):
        if refine:
            equation = operator.equation()
            if not isinstance(equation, SteadyEquation):
                raise ValueError("no residual to refine by")
            return _numpy(refine_steady(model, equation, batch, refine)[:, 0])
        with torch.no_grad():
            return _numpy(model(batch.state, batch.inputs, batch.parameters)[:, 0])
    windows = int(np.ceil(times[-1] / model.window - 1e-9))
    if refine:
        equation = operator.equation()
        if not isinstance(equation, EvolutionEquation):
            raise ValueError("no residual to refine by")
        solved: Iterator[torch.Tensor] = refine_evolution(model, equation, batch, windows, refine)
    else:
        solved = _marched(model, batch, windows)
    shares, parts = torch.from_numpy(times / model.window), [batch.state[:, None]]
    for w, u in enumerate(solved):
        parts.append(interpolate_in_time(u, shares[(shares > w + 1e-9) & (shares <= w + 1 + 1e-9)] - w))
    return _numpy(torch.cat(parts, dim=1))


def _numpy(x: torch.Tensor) -> np.ndarray:
    return np.asarray(x.cpu().numpy())


@torch.no_grad()
def _marched(model: EvolutionOperator, batch: Instances, windows: int) -> Iterator[torch.Tensor]:
    yield from model.integrate_windows(batch.state, batch.inputs, batch.parameters, windows)


def _dataset(
    operator: Operator, given: Simulations, values: np.ndarray, times: tuple[float, ...]
) -> xr.Dataset:
    layout, source = operator.layout, given.dataset
    dims = ("sample", *(("time",) if layout.evolves else ()), *layout.axes)
    coords = {str(d): source.coords[d] for d in ("sample", *layout.axes) if d in source.coords}
    if layout.evolves:
        start = float(source["time"].values[0]) if "time" in source.coords else 0.0
        held = source["time"].values if given.layout.times else start + np.concatenate([[0.0], times])
        coords["time"] = xr.DataArray(held, dims="time", attrs={"long_name": "time", "axis": "T"})
    template = operator.system.template()
    fields = {
        name: (dims, np.moveaxis(values, -1 - len(layout.axes), 0)[i], template[name].attrs)
        for i, name in enumerate(layout.fields)
    }
    attrs = {n: source.attrs[n] for n in ("system", "parameters") if n in source.attrs}
    return xr.Dataset(fields, coords, {"Conventions": "CF-1.11", "title": "solved by an operator", **attrs})


def score(
    solution: str | Path | xr.Dataset, truth: str | Path | xr.Dataset, *, follow_links: bool = False
) -> xr.Dataset:
    """Return the relative L2 error of solutions, ``|u - t| / |t|`` over all times and places, and of each
    time.

    Args:
        solution: what ``solve`` made.
        truth: simulations of the same instances on the same grid and times.
        follow_links: follow links within the stores that lead outside of them.

    Returns:
        Data set with ``relative_l2`` (sample) and, of evolutions, ``relative_l2_at`` (time), a mean over the
        samples; for each variable.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: samples, times or grids differ.
    """
    ours, theirs = (open_simulations(path, follow_links=follow_links) for path in (solution, truth))
    found: dict[str, xr.DataArray] = {}
    for name in ours.layout.fields:
        if name not in theirs.dataset:
            raise ValueError(
                f"the truth has no {name}; it has {', '.join(map(str, theirs.dataset.data_vars))}"
            )
        u, t = ours.dataset[name], theirs.dataset[name]
        for d in u.dims:
            if not same_axis(ours.dataset[d].values, theirs.dataset[d].values):
                raise ValueError(
                    f"solution and truth differ in {d}; solve for the initial states of the truth itself"
                )
        inside = [d for d in u.dims if d != "sample"]
        square = ((u - t) ** 2, t**2)
        error, size = (s.sum(inside) for s in square)
        found[f"{name}_relative_l2"] = (error / size) ** 0.5
        if "time" in u.dims:
            space = [d for d in inside if d != "time"]
            found[f"{name}_relative_l2_at"] = ((square[0].sum(space) / square[1].sum(space)) ** 0.5).mean(
                "sample"
            )
    return xr.Dataset(found, attrs={"title": "scores of solutions"}).load()


def is_solution(path: str | Path, *, follow_links: bool = False) -> bool:
    """Whether there is what ``solve`` makes."""
    return "system" in open_raw(str(path), follow_links=follow_links).attrs


def report(
    solution: str | Path,
    truth: str | Path,
    output: str | Path | None = None,
    overwrite: bool = False,
    *,
    follow_links: bool = False,
) -> dict[str, float]:
    """Return the mean and the largest error over the samples, and write all of ``score`` to a file.

    Raises:
        FileExistsError: ``output`` exists and may not be replaced.
        ValueError: as ``score`` does.
    """
    if output is None:
        scores = score(solution, truth, follow_links=follow_links)
    else:
        with atomic.reserved(output, "file of scores", overwrite, [solution, truth]) as path:
            scores = score(solution, truth, follow_links=follow_links)
            write_dataset(scores, path, overwrite, "file of scores")
    each = [str(n) for n, v in scores.data_vars.items() if v.dims == ("sample",)]
    count = scores.sizes["sample"]
    found: dict[str, float] = {}
    for n in each:
        found |= {
            f"{n}, mean of {count} samples": float(scores[n].mean()),
            f"{n}, largest of {count} samples": float(scores[n].max()),
        }
    return found
