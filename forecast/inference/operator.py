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
MAX_NAMED = 3  # departures from the training data in a warning

log = logging.getLogger(__name__)


class SolutionOperator:
    """A trained solution operator.

    Args:
        operator: model, system and configuration.
        device: device of the model; by default a GPU if there is one, and the CPU for refinement.
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
            source: folder written by training, or a checkpoint whose metadata was read before.
            device: ``cpu`` or ``cuda``; by default a GPU if there is one.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: it is damaged or of another task, or the device does not exist.
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
            return self._solve(init, refine, progress, follow_links=follow_links)
        with atomic.reserved(output, "solution", overwrite=overwrite, inputs=[init, self.path]) as path:
            dataset = self._solve(init, refine, progress, follow_links=follow_links)
            write_dataset(dataset, path, overwrite=overwrite, kind="solution")
        return dataset

    def _solve(
        self, init: str | Path | xr.Dataset, refine: int, progress: Progress | None, *, follow_links: bool
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
            solutions.append(_solve_batch(operator, batch.to(device), np.asarray(times), refine=refine))
            if progress:
                progress(int(samples[-1]) + 1, len(inputs), "refined" if refine else "solved")
        dataset = _dataset(operator, inputs, np.concatenate(solutions), times=times)
        dataset.attrs |= {"checkpoint": operator.identity, "refine": refine}
        if departures := _departures(operator, inputs, invariants):
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


def _check(operator: Operator, inputs: Simulations, checkpoint: str) -> None:
    """Raise ``ValueError`` unless equation, fixed coefficients and domain are those of the operator."""
    name = operator.config.equation.name
    system = recorded(inputs.dataset.attrs, "system", str)
    if system != name:
        raise ValueError(f"{checkpoint} solves {name}, the initial states are of {system}")
    equation = equations.get(name)
    coefficients = equation.coefficient_names if equation.collocatable or equation.steady else ()
    trained = operator.system.model_dump()
    received = inputs.system.model_dump()
    for key in (*coefficients, "length", "start", "side"):
        fixed = key in trained and key not in operator.layout.parameters
        if fixed and trained[key] != received.get(key):
            raise ValueError(
                f"{checkpoint} was trained with {key}={trained[key]}, the initial states belong to "
                f"{key}={received.get(key)}"
            )
    layout = operator.layout
    same_domain = np.allclose(layout.lengths, inputs.layout.lengths)
    if (layout.axes, layout.edges) != (inputs.layout.axes, inputs.layout.edges) or not same_domain:
        raise ValueError(
            f"{checkpoint} was trained on axes {', '.join(layout.axes)} of lengths {layout.lengths}, "
            f"these are {inputs.layout.axes} of {inputs.layout.lengths}"
        )


def _departures(operator: Operator, inputs: Simulations, batches: list[dict[str, torch.Tensor]]) -> str:
    """Return how the inputs depart from the training data; empty if they do not, or if unknown."""
    if operator.ranges is None:
        return ""
    invariants = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    departures = operator.system.differences(inputs.system) + operator.ranges.departures(invariants)
    more = len(departures) - MAX_NAMED
    return "; ".join(departures[:MAX_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _solve_batch(operator: Operator, batch: Instances, times: np.ndarray, *, refine: int) -> np.ndarray:
    """Return the solutions of a batch, shape (sample, [time], field, *grid), the first of them at time zero.

    Raises:
        ValueError: ``refine`` is positive, and the equation has no residual.
    """
    model = operator.model
    if not isinstance(model, EvolutionOperator):
        if refine:
            equation = operator.equation()
            if not isinstance(equation, SteadyEquation):
                raise ValueError("this equation has no residual to refine with")
            return _numpy(refine_steady(model, equation, batch, steps=refine)[:, 0])
        with torch.no_grad():
            return _numpy(model(batch.state, batch.inputs, batch.parameters)[:, 0])
    windows = int(np.ceil(times[-1] / model.window - 1e-9))
    if refine:
        equation = operator.equation()
        if not isinstance(equation, EvolutionEquation):
            raise ValueError("this equation has no residual to refine with")
        solved: Iterator[torch.Tensor] = refine_evolution(
            model, equation, batch, windows=windows, steps=refine
        )
    else:
        solved = _integrate(model, batch, windows)
    relative = torch.from_numpy(times / model.window)  # in units of windows
    parts = [batch.state[:, None]]
    for w, u in enumerate(solved):
        within = relative[(relative > w + 1e-9) & (relative <= w + 1 + 1e-9)] - w
        parts.append(interpolate_in_time(u, within))
    return _numpy(torch.cat(parts, dim=1))


def _numpy(x: torch.Tensor) -> np.ndarray:
    return np.asarray(x.cpu().numpy())


@torch.no_grad()
def _integrate(model: EvolutionOperator, batch: Instances, windows: int) -> Iterator[torch.Tensor]:
    yield from model.integrate_windows(batch.state, batch.inputs, batch.parameters, windows=windows)


def _dataset(
    operator: Operator, inputs: Simulations, values: np.ndarray, *, times: tuple[float, ...]
) -> xr.Dataset:
    """Return solutions, shape (sample, [time], field, *grid), on the coordinates of the inputs."""
    layout = operator.layout
    source = inputs.dataset
    dims = ("sample", *(("time",) if layout.evolves else ()), *layout.axes)
    coords = {str(d): source.coords[d] for d in ("sample", *layout.axes) if d in source.coords}
    if layout.evolves:
        start = float(source["time"].values[0]) if "time" in source.coords else 0.0
        time = source["time"].values if inputs.layout.times else start + np.concatenate([[0.0], times])
        coords["time"] = xr.DataArray(time, dims="time", attrs={"long_name": "time", "axis": "T"})
    template = operator.system.template()
    fields = {
        name: (dims, np.moveaxis(values, -1 - len(layout.axes), 0)[i], template[name].attrs)
        for i, name in enumerate(layout.fields)
    }
    attrs = {name: source.attrs[name] for name in ("system", "parameters") if name in source.attrs}
    return xr.Dataset(fields, coords, {"Conventions": "CF-1.11", "title": "solved by an operator", **attrs})


def score(
    solution: str | Path | xr.Dataset, truth: str | Path | xr.Dataset, *, follow_links: bool = False
) -> xr.Dataset:
    """Return the relative L2 errors ``|u - v| / |v|`` of solutions u, over all times and at each time.

    Args:
        solution: output of ``SolutionOperator.run``.
        truth: simulations with the same inputs on the same grid and times.
        follow_links: follow links within the stores that lead out of them.

    Returns:
        Data set with ``<variable>_relative_l2`` (sample) and, for evolutions, ``<variable>_relative_l2_at``
        (time), the mean over samples.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: samples, times or grids differ.
    """
    solved, expected = (open_simulations(path, follow_links=follow_links) for path in (solution, truth))
    scores: dict[str, xr.DataArray] = {}
    for name in solved.layout.fields:
        if name not in expected.dataset:
            variables = ", ".join(map(str, expected.dataset.data_vars))
            raise ValueError(f"the truth has no {name}; it has {variables}")
        u = solved.dataset[name]
        v = expected.dataset[name]
        for d in u.dims:
            if not same_axis(solved.dataset[d].values, expected.dataset[d].values):
                raise ValueError(
                    f"solution and truth differ in {d}; solve for the initial states of the truth itself"
                )
        square_error = (u - v) ** 2
        square = v**2
        dims = [d for d in u.dims if d != "sample"]
        scores[f"{name}_relative_l2"] = (square_error.sum(dims) / square.sum(dims)) ** 0.5
        if "time" in u.dims:
            space = [d for d in dims if d != "time"]
            at_time = (square_error.sum(space) / square.sum(space)) ** 0.5
            scores[f"{name}_relative_l2_at"] = at_time.mean("sample")
    return xr.Dataset(scores, attrs={"title": "scores of solutions"}).load()


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
