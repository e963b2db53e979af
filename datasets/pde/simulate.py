"""Simulation of many samples of a system into one zarr store, resumable, locally or on a Dask cluster.

Memory is bounded by a shard. Sample i is drawn from a generator seeded by (seed, i), so it depends neither on
the process that solves it nor on the other samples.
"""

import io
import json
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import xarray as xr
from pydantic import ValidationError

from ...fno.progress import Progress
from ..cluster import connected
from ..stopping import Stopped
from ..store import atomic
from ..store.journal import Journal
from ..store.open import consolidate
from ..store.outputs import check_output
from ..suggestions import suggest
from ..validation import first_problem
from .barotropic import BetaPlane
from .darcy import Darcy, HeatConduction
from .heat_sink import HeatSink
from .line import Advection, AllenCahn, Burgers, CahnHilliard, Reaction, ReactionDiffusion, Wave
from .shallow_water import ShallowWater
from .shock_pipe import ShockPipe
from .system import System
from .torus import NavierStokes

SYSTEMS: dict[str, type[System]] = {
    "advection": Advection,
    "burgers": Burgers,
    "reaction": Reaction,
    "reaction_diffusion": ReactionDiffusion,
    "allen_cahn": AllenCahn,
    "cahn_hilliard": CahnHilliard,
    "wave": Wave,
    "darcy": Darcy,
    "heat_conduction": HeatConduction,
    "heat_sink": HeatSink,
    "shock_pipe": ShockPipe,
    "navier_stokes": NavierStokes,
    "barotropic": BetaPlane,
    "shallow_water": ShallowWater,
}
SHARD_BYTES = 2**25  # largest size of a shard, before compression
MAX_SAMPLES = 10**7
REVISION = 3  # of the solvers; incremented when results for the same parameters and seed change


def make_system(name: str, parameters: dict[str, Any] | None = None) -> System:
    """Return a system.

    Args:
        name: one of ``SYSTEMS``.
        parameters: parameters of the system by name; the others take their defaults.

    Raises:
        ValueError: the system or a parameter is unknown, or a value is invalid.
    """
    if name not in SYSTEMS:
        raise ValueError(f"no system {name!r}; {suggest(name, SYSTEMS)}")
    kind = SYSTEMS[name]
    parameters = parameters or {}
    for key in parameters:
        if key not in kind.model_fields:
            raise ValueError(
                f"{name} has no parameter {key!r}; {suggest(key, [*kind.model_fields, 'samples', 'seed'])}"
            )
    try:
        return kind(**parameters)
    except ValidationError as error:
        problem = first_problem(error)
        message = problem.message
        if problem.location:
            message = f"{problem.location[0]}: {message}, got {problem.value!r}"
        raise ValueError(f"{name}: {message}") from None


def simulate(
    name: str,
    path: str | Path,
    parameters: dict[str, Any] | None = None,
    *,
    samples: int = 1,
    seed: int = 0,
    scheduler: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Simulate samples of a system into a store, with the dimension ``sample`` before those of the system.

    An interrupted run leaves its finished samples but no store; the same call resumes it.

    Args:
        name: one of ``SYSTEMS``.
        path: store to write.
        parameters: parameters of the system by name, see its class.
        samples: number of samples.
        seed: seed of all samples.
        scheduler: address of a Dask scheduler whose workers can access ``path``, or ``local:N`` for N local
            processes.
        overwrite: replace an existing store.
        progress: called with (samples done, total samples, text).

    Raises:
        FileExistsError: the store exists and ``overwrite`` is False.
        ValueError: an argument is invalid, or a sample could not be solved; finished samples are kept.
        OSError: the disk is full, or no scheduler answers at the address.
        Stopped: the run was interrupted; the message says how many samples are written.
    """
    system = make_system(name, parameters)
    path = check_output(path, "simulation").absolute()
    if samples < 1 or seed < 0:
        raise ValueError(
            f"samples must be at least 1 and seed not negative, got samples={samples} seed={seed}"
        )
    if samples > MAX_SAMPLES or seed >= 2**63:
        raise ValueError(
            f"samples may be {MAX_SAMPLES} at most and seed below 2**63, got samples={samples} seed={seed}"
        )
    if samples > 1 and not system.is_random():
        raise ValueError(
            f"all samples of {name} would be the same with these parameters; "
            "use samples=1, or a random initial state"
        )
    identity = {
        "system": name,
        "parameters": system.model_dump(mode="json"),
        "samples": samples,
        "seed": seed,
        "revision": REVISION,  # a run of an older version whose results differ is not resumed
    }
    with atomic.replacing(path, overwrite=overwrite, kind="simulation", keep_partial=True) as temporary:
        journal = Journal(temporary, identity)
        length = _prepare(system, journal, identity)
        pending = [s for s in range(0, samples, length) if not journal.is_complete(s)]
        done = sum(min(length, samples - s) for s in range(0, samples, length) if s not in pending)
        if progress:
            progress(done, samples, name)
        try:
            shards = [(s, min(s + length, samples)) for s in pending]
            run = _Run(system, journal, length, seed)
            with closing(run.solve(shards, scheduler)) as counts:
                for count in counts:
                    done += count
                    if progress:
                        progress(done, samples, name)
        except KeyboardInterrupt as error:
            raise Stopped(
                f"{done} of {samples} samples are written; the same command resumes after them"
            ) from error
        except (ValueError, OSError):
            if not any(journal.is_complete(s) for s in range(0, samples, length)):
                journal.clear()
                atomic.remove(temporary)
            raise
        journal.sweep()
        consolidate(temporary)
    return path


def _prepare(system: System, journal: Journal, identity: dict[str, Any]) -> int:
    """Write the empty store unless it exists, and return the number of samples in a shard."""
    samples: int = identity["samples"]
    template = system.template()
    variables = {str(n): v for n, v in template.data_vars.items()}
    length = max(1, min(samples, SHARD_BYTES // (8 * max(v.size for v in variables.values()))))
    if journal.resume():
        return length
    lazy = {}
    encoding = {}
    for n, v in variables.items():
        # One field per chunk, or one series of lines.
        one = (1, *(1 if d == "time" and v.ndim > 2 else v.sizes[d] for d in v.dims))
        shard = (length, *v.shape)
        lazy[n] = (("sample", *v.dims), dask.array.zeros((samples, *v.shape), chunks=shard), v.attrs)
        encoding[n] = {"chunks": one, "shards": shard, "dtype": "float64"}
    attrs = {"Conventions": "CF-1.11", "title": f"simulated {identity['system']}"} | {
        k: json.dumps(v) for k, v in identity.items()
    }
    dataset = xr.Dataset(lazy, {**template.coords, "sample": np.arange(samples)}, attrs)
    dataset.to_zarr(
        journal.path, mode="w", compute=False, encoding=encoding, consolidated=False, zarr_format=3
    )
    journal.start()
    return length


@dataclass(frozen=True)
class _Run:
    """A simulation into a prepared store.

    Attributes:
        system: system to solve.
        journal: record of the finished shards.
        length: number of samples in a shard.
        seed: seed of all samples.
    """

    system: System
    journal: Journal
    length: int
    seed: int

    def solve(self, shards: list[tuple[int, int]], scheduler: str | None) -> Generator[int, None, None]:
        """Solve shards, and yield the number of samples finished since the last yield.

        Args:
            shards: first sample of each shard, and the one after its last.
            scheduler: see ``simulate``.
        """
        if scheduler is None:
            for first, stop in shards:
                yield from self.solve_shard(first, stop)
            return
        from distributed import as_completed

        with connected(scheduler) as client:
            futures = [client.submit(self.solve_all, first, stop, pure=False) for first, stop in shards]
            for future in as_completed(futures):
                yield future.result()

    def solve_all(self, first: int, stop: int) -> int:
        """Solve a shard and return its number of samples."""
        return sum(self.solve_shard(first, stop))

    def solve_shard(self, first: int, stop: int) -> Iterator[int]:
        """Solve a shard, yielding 1 after each sample, the last one once all are written.

        If a signal ends the run, the samples of an unfinished shard are saved.
        """
        unfinished = self.journal.folder / f"samples-{first}.npz"
        solved = _read_samples(unfinished)
        try:
            for sample in range(first, stop):
                if sample - first >= min((len(values) for values in solved.values()), default=0):
                    try:
                        fields = self.system.solve(np.random.default_rng([self.seed, sample]))
                    except ValueError as error:
                        raise ValueError(f"sample {sample}: {error}") from error
                    for name, values in fields.items():
                        solved.setdefault(name, []).append(values)
                if sample < stop - 1:
                    yield 1
        except (KeyboardInterrupt, GeneratorExit):
            _save_samples(unfinished, solved)
            raise
        template = self.system.template()
        block = xr.Dataset(
            {name: (("sample", *template[name].dims), np.stack(values)) for name, values in solved.items()}
        )
        block.to_zarr(self.journal.path, region={"sample": slice(first, stop)}, consolidated=False)
        self.journal.mark_complete(first, [f"{name}/c/{first // self.length}" for name in solved])
        yield 1


def _save_samples(path: Path, samples: dict[str, list[np.ndarray]]) -> None:
    """Save the samples of which all variables are there."""
    count = min((len(values) for values in samples.values()), default=0)
    if count:
        content = io.BytesIO()
        arrays: dict[str, Any] = {name: np.stack(values[:count]) for name, values in samples.items()}
        np.savez(content, **arrays)
        atomic.write_file(path, content.getvalue())


def _read_samples(path: Path) -> dict[str, list[np.ndarray]]:
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as saved:
        return {name: list(saved[name]) for name in saved.files}
