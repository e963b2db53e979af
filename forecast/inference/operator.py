"""Solutions of a trained operator for given inputs, and their errors."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from ...datasets.pde.loaders import Simulations, open_simulations
from ...datasets.store import atomic
from ...datasets.store.open import write_dataset
from ...datasets.store.recorded import recorded
from ...fno.batch import Instances
from ...fno.grids import same_axis
from ...fno.models.operators import EvolutionOperator
from ...fno.physics import equations
from ...fno.physics.evolution import EvolutionEquation
from ...fno.physics.steady import SteadyEquation
from ...fno.progress import Progress
from ...fno.training.objectives.operator import interpolate_in_time
from ...fno.training.refine import refine_evolution, refine_steady
from ..checkpoint.folder import StoredCheckpoint
from ..checkpoint.solution import Operator, load_operator
from ..device import pick_device

BATCH = 16
NAMED = 3  # departures from training that a warning names

log = logging.getLogger(__name__)


class SolutionOperator:
    """A trained solution operator.

    Args:
        operator: model, system and configuration.
        device: where the model is; None if any would do, so that refinement may move it to the CPU.
        path: folder that it was loaded from, which no output replaces.
    """

    def __init__(self, operator: Operator, device: str | None = None, path: Path | None = None) -> None:
        self.operator = operator
        self.device = device
        self.path = path

    @classmethod
    def load(cls, source: str | Path | StoredCheckpoint, device: str | None = None) -> "SolutionOperator":
        """Load a checkpoint.

        Args:
            source: folder, or one whose metadata was read before.
            device: ``cpu`` or ``cuda``; a GPU where there is one by default.

        Raises:
            FileNotFoundError: no checkpoint there.
            ValueError: of another task, or damaged.
        """
        path = source.path if isinstance(source, StoredCheckpoint) else Path(source)
        return cls(load_operator(source, pick_device(device)), device, path)

    def run(
        self,
        init: str | Path | xr.Dataset,
        output: str | Path | None = None,
        *,
        refine: int = 0,
        overwrite: bool = False,
        progress: Progress | None = None,
        follow_links: bool = False,
    ) -> xr.Dataset:
        """Solve for the initial states or coefficients of a store of simulations.

        Inputs whose mean, variance, spectrum or parameters lie outside the training data are named in a
        warning and in the attribute ``outside_training``, as are parameters of the system that differ.

        Args:
            init: store or data set as written by ``forecast simulate``, at any resolution. Its times are
                those of the result; if it has only the initial one, they are those of training. Solutions in
                it are not read.
            output: file to write: netCDF if it ends in .nc, else zarr.
            refine: steps of L-BFGS on the residual of each sample, window by window (test-time optimisation,
                on the CPU); 0 for none.
            overwrite: replace an existing file.
            progress: called with (samples done, total samples, text).
            follow_links: follow links within ``init`` that lead out of it.

        Returns:
            Data set with the solved variables on ``sample``, ``time`` and the axes of space.

        Raises:
            FileNotFoundError: no store there.
            FileExistsError: ``output`` exists and may not be replaced.
            ValueError: the inputs do not match the operator, or the equation has no residual to refine with.
        """
        check_refinement(refine, self.device)
        if output is None:
            return self._solve(init, refine, progress, follow_links)
        with atomic.reserved(output, "solution", overwrite=overwrite, inputs=[init, self.path]) as path:
            dataset = self._solve(init, refine, progress, follow_links)
            write_dataset(dataset, path, overwrite=overwrite, kind="solution")
        return dataset

    def _solve(
        self, init: str | Path | xr.Dataset, refine: int, progress: Progress | None, follow_links: bool
    ) -> xr.Dataset:
        operator = self.operator
        device = "cpu" if refine else pick_device(self.device)
        operator.model.to(device)
        inputs = open_simulations(init, follow_links=follow_links)
        _check(operator, inputs, str(self.path or "the operator"))
        times = inputs.layout.times or operator.layout.times
        batch_size = 1 if refine else BATCH
        solutions: list[np.ndarray] = []
        invariants: list[dict[str, torch.Tensor]] = []
        for first in range(0, len(inputs), batch_size):
            samples = np.arange(first, min(first + batch_size, len(inputs)))
            batch = inputs.read(samples, solution=False, double=bool(refine))
            invariants.append(operator.invariants(batch))
            solutions.append(_solve_batch(operator, batch.to(device), np.asarray(times), refine))
            if progress:
                progress(int(samples[-1]) + 1, len(inputs), "refined" if refine else "solved")
        dataset = _dataset(operator, inputs, np.concatenate(solutions), times)
        dataset.attrs |= {"checkpoint": operator.identity, "refine": refine}
        if departures := _outside(operator, inputs, invariants):
            dataset.attrs["outside_training"] = departures
            log.warning(
                "these inputs differ from those of training, so errors may be far larger than in validation: "
                "%s",
                departures,
            )
        return dataset


def check_refinement(steps: int, device: str | None) -> None:
    """Raise ``ValueError`` for a negative number of refinement steps, or another device than the CPU."""
    if steps < 0:
        raise ValueError(f"refine must not be negative, got {steps}")
    if steps and device not in (None, "cpu"):
        raise ValueError(f"refinement runs on the CPU, not on {device}")


def solve(
    checkpoint: str | Path,
    init: str | Path | xr.Dataset,
    output: str | Path | None = None,
    *,
    refine: int = 0,
    device: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    follow_links: bool = False,
) -> xr.Dataset:
    """Solve with the operator of a checkpoint; see ``SolutionOperator.run``."""
    return SolutionOperator.load(checkpoint, device).run(
        init, output, refine=refine, overwrite=overwrite, progress=progress, follow_links=follow_links
    )


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
                f"{checkpoint} was trained with {name}={own[name]}, the initial states belong to "
                f"{name}={others.get(name)}"
            )
    if (ours.axes, ours.edges) != (theirs.axes, theirs.edges) or not np.allclose(
        ours.lengths, theirs.lengths
    ):
        raise ValueError(
            f"{checkpoint} was trained on axes {', '.join(ours.axes)} of lengths {ours.lengths}, these are "
            f"{theirs.axes} of {theirs.lengths}"
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


def _solve_batch(operator: Operator, batch: Instances, times: np.ndarray, refine: int) -> np.ndarray:
    model = operator.model
    if not isinstance(model, EvolutionOperator):
        if refine:
            equation = operator.equation()
            if not isinstance(equation, SteadyEquation):
                raise ValueError("no residual to refine by")
            return _numpy(refine_steady(model, equation, batch, steps=refine)[:, 0])
        with torch.no_grad():
            return _numpy(model(batch.state, batch.inputs, batch.parameters)[:, 0])
    windows = int(np.ceil(times[-1] / model.window - 1e-9))
    if refine:
        equation = operator.equation()
        if not isinstance(equation, EvolutionEquation):
            raise ValueError("no residual to refine by")
        solved: Iterator[torch.Tensor] = refine_evolution(
            model, equation, batch, windows=windows, steps=refine
        )
    else:
        solved = _integrate(model, batch, windows)
    shares, parts = torch.from_numpy(times / model.window), [batch.state[:, None]]
    for w, u in enumerate(solved):
        parts.append(interpolate_in_time(u, shares[(shares > w + 1e-9) & (shares <= w + 1 + 1e-9)] - w))
    return _numpy(torch.cat(parts, dim=1))


def _numpy(x: torch.Tensor) -> np.ndarray:
    return np.asarray(x.cpu().numpy())


@torch.no_grad()
def _integrate(model: EvolutionOperator, batch: Instances, windows: int) -> Iterator[torch.Tensor]:
    yield from model.integrate_windows(batch.state, batch.inputs, batch.parameters, windows=windows)


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


def score_solutions(
    solution: str | Path,
    truth: str | Path,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    follow_links: bool = False,
) -> dict[str, float]:
    """Return the mean and the maximum error over the samples, and write all of ``score`` to a file.

    Raises:
        FileExistsError: ``output`` exists and may not be replaced.
        ValueError: as ``score``.
    """
    if output is None:
        scores = score(solution, truth, follow_links=follow_links)
    else:
        with atomic.reserved(output, "file of scores", overwrite=overwrite, inputs=[solution, truth]) as path:
            scores = score(solution, truth, follow_links=follow_links)
            write_dataset(scores, path, overwrite=overwrite, kind="file of scores")
    count = scores.sizes["sample"]
    summary: dict[str, float] = {}
    for name, values in scores.data_vars.items():
        if values.dims == ("sample",):
            summary[f"{name}, mean of {count} samples"] = float(values.mean())
            summary[f"{name}, largest of {count} samples"] = float(values.max())
    return summary
