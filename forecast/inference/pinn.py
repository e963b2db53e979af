"""Solutions of physics-informed networks on grids of times and places."""

import json
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from ...datasets.adapters.opening import open_raw
from ...datasets.store import atomic
from ...datasets.store.open import write_dataset
from ...fno.grids import same_axis
from ...fno.progress import Progress
from ..checkpoint.folder import StoredCheckpoint
from ..checkpoint.pinn import PinnCheckpoint, load_pinn

DEFAULT_GRID = "101x256"
MAX_POINTS = 2**24


class PinnSolution:
    """A trained physics-informed network.

    Args:
        checkpoint: network, problem and configuration.
        path: folder that it was loaded from, which no output replaces.
    """

    def __init__(self, checkpoint: PinnCheckpoint, path: Path | None = None) -> None:
        self.checkpoint = checkpoint
        self.path = path

    @classmethod
    def load(cls, source: str | Path | StoredCheckpoint) -> "PinnSolution":
        """Load a checkpoint.

        Raises:
            FileNotFoundError: no checkpoint there.
            ValueError: of another task, or damaged.
        """
        path = source.path if isinstance(source, StoredCheckpoint) else Path(source)
        return cls(load_pinn(source), path)

    def run(
        self,
        grid: str | None = None,
        output: str | Path | None = None,
        *,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> xr.Dataset:
        """Evaluate the network on a grid of times by places.

        Args:
            grid: number of times, both ends included, by number of places, such as ``101x256``; the right end
                of a periodic axis is left out.
            output: file to write: netCDF if it ends in .nc, else zarr.
            overwrite: replace an existing file.
            progress: called with (steps done, total steps, text).

        Returns:
            Data set with the variable ``u`` (t, x).

        Raises:
            FileExistsError: ``output`` exists and may not be replaced.
            ValueError: the grid is not understood, or too large.
        """
        times, places = parse_grid(grid or DEFAULT_GRID)
        if output is None:
            return self._evaluate(times, places, progress)
        with atomic.reserved(output, "solution", overwrite=overwrite, inputs=[self.path]) as path:
            dataset = self._evaluate(times, places, progress)
            write_dataset(dataset, path, overwrite=overwrite, kind="solution")
        return dataset

    def _evaluate(self, times: int, places: int, progress: Progress | None) -> xr.Dataset:
        problem = self.checkpoint.problem
        t = torch.linspace(0, 1, times, dtype=torch.float64)
        fraction = torch.arange(places, dtype=torch.float64) / (places - (not problem.periodic))
        x = problem.low + (problem.high - problem.low) * fraction
        rows = []
        with torch.no_grad():
            for i, time in enumerate(t):
                rows.append(self.checkpoint.model(torch.stack([time.expand(places), x], dim=1)))
                if progress:
                    progress(i + 1, times, "evaluated")
        attrs = {"long_name": "place", "periodic": str(problem.periodic).lower()}
        return xr.Dataset(
            {"u": (("t", "x"), torch.stack(rows).numpy(), {"long_name": "solution", "units": "1"})},
            {"t": ("t", t.numpy(), {"long_name": "time"}), "x": ("x", x.numpy(), attrs)},
            {
                "Conventions": "CF-1.11",
                "equation": self.checkpoint.config.equation.name,
                "parameters": json.dumps(dict(problem.coefficients)),
                "checkpoint": self.checkpoint.identity,
            },
        )


def evaluate(
    checkpoint: str | Path,
    grid: str = DEFAULT_GRID,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
) -> xr.Dataset:
    """Evaluate the physics-informed network of a checkpoint; see ``PinnSolution.run``."""
    return PinnSolution.load(checkpoint).run(grid, output, overwrite=overwrite)


def relative_error(
    solution: str | Path | xr.Dataset, truth: str | Path | xr.Dataset, *, follow_links: bool = False
) -> float:
    """Return the relative L2 error ``|u - v| / |v|`` of a solution u over all times and places.

    Args:
        solution: output of ``PinnSolution.run``.
        truth: data set with the variable ``u`` on the same times ``t`` and places ``x``.
        follow_links: follow links within the data sets that lead out of them.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: ``u`` is missing, or the coordinates differ.
    """
    datasets = [
        data if isinstance(data, xr.Dataset) else open_raw(str(data), follow_links=follow_links)
        for data in (solution, truth)
    ]
    for dataset, name in zip(datasets, ("the solution", "the truth"), strict=True):
        if "u" not in dataset or set(dataset["u"].dims) != {"t", "x"}:
            raise ValueError(f"{name} has no variable u (t, x)")
    computed, expected = (dataset["u"].transpose("t", "x") for dataset in datasets)
    for axis in ("t", "x"):
        if not same_axis(computed[axis].values, expected[axis].values):
            raise ValueError(
                f"solution and truth differ in {axis}; evaluate the network on the grid of the truth"
            )
    error = np.linalg.norm(computed.values - expected.values)
    return float(error / np.linalg.norm(expected.values))


def parse_grid(text: str) -> tuple[int, int]:
    """Return the numbers of times and places of a text such as 101x256.

    Raises:
        ValueError: not two integers of at least 2, or too many points.
    """
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and len(part) < 10 and int(part) >= 2 for part in parts):
        raise ValueError(f"grid {text[:80]} is not understood; write times by places, e.g. 101x256")
    times = int(parts[0])
    places = int(parts[1])
    if times * places > MAX_POINTS:
        raise ValueError(
            f"grid {text} has {times * places} points, the maximum is {MAX_POINTS}; take fewer times or "
            "places"
        )
    return times, places
