"""Many samples of a system in one zarr store, in bounded memory, from where an earlier run stopped, here or
on a Dask cluster.

Sample i is drawn from a generator seeded by (seed, i), so it is the same whoever makes it and whatever else
is made.
"""

import io
import json
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import xarray as xr
from pydantic import ValidationError

from ...fno.progress import Progress
from ..cluster import connected
from ..schema import nearest
from ..stopping import Stopped
from ..store import atomic
from ..store.journal import Journal
from ..store.open import consolidate
from ..store.outputs import check_output
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
SHARD_BYTES = 2**25
MOST_SAMPLES = 10**7
REVISION = 2  # of the solvers; raised when they give other values for the same parameters and seed


def make_system(name: str, parameters: dict[str, Any] | None = None) -> System:
    """Return a system with the given parameters.

    Raises:
        ValueError: no such system, no such parameter, or a value that does not fit.
    """
    if name not in SYSTEMS:
        raise ValueError(f"no system {name!r}; {nearest(name, SYSTEMS)}")
    kind, given = SYSTEMS[name], parameters or {}
    for key in given:
        if key not in kind.model_fields:
            raise ValueError(
                f"{name} has no parameter {key!r}; {nearest(key, [*kind.model_fields, 'samples', 'seed'])}"
            )
    try:
        return kind(**given)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        raise ValueError(
            f"{name}: {first['loc'][0]}: {said}, got {first['input']!r}"
            if first["loc"]
            else f"{name}: {said}"
        ) from None


def simulate(
    name: str,
    path: str | Path,
    parameters: dict[str, Any] | None = None,
    samples: int = 1,
    seed: int = 0,
    scheduler: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Make a store of samples, with dimension ``sample`` before those of the system.

    A run that is stopped leaves no store but what it had made, and the same call goes on from there.

    Args:
        name: one of ``SYSTEMS``.
        path: store to make.
        parameters: of the system, see its class.
        samples: number of samples.
        seed: seed of them all.
        scheduler: address of a Dask scheduler whose workers see ``path``, or ``local:N`` for N processes
            here.
        overwrite: replace an existing store.
        progress: called with (samples done, samples in all, text).

    Raises:
        FileExistsError: the store exists and may not be replaced.
        ValueError: an argument that does not fit, or a sample that could not be solved; what was made is
            kept.
        OSError: no room, or no scheduler at the address.
    """
    system, path = make_system(name, parameters), check_output(path, "simulation").absolute()
    if samples < 1 or seed < 0:
        raise ValueError(
            f"samples must be at least 1 and seed not negative, got samples={samples} seed={seed}"
        )
    if samples > MOST_SAMPLES or seed >= 2**63:
        raise ValueError(
            f"samples may be {MOST_SAMPLES} at most and seed below 2**63, got samples={samples} seed={seed}"
        )
    if samples > 1 and not system.random():
        raise ValueError(
            f"all samples of {name} would be the same with these parameters; use samples=1, or a random start"
        )
    identity = {
        "system": name,
        "parameters": system.model_dump(mode="json"),
        "samples": samples,
        "seed": seed,
    }
    identity["revision"] = (
        REVISION  # so that a run which an older version began is not resumed with other values
    )
    with atomic.replacing(path, overwrite, "simulation", keep_partial=True) as temporary:
        journal = Journal(temporary, identity)
        length = _prepare(system, journal, identity, samples)
        todo = [s for s in range(0, samples, length) if not journal.done(s)]
        done = sum(min(length, samples - s) for s in range(0, samples, length) if s not in todo)
        if progress:
            progress(done, samples, name)
        try:
            shards = [(s, min(s + length, samples)) for s in todo]
            with closing(_run(system, journal, shards, length, seed, scheduler)) as counts:
                for count in counts:
                    done += count
                    if progress:
                        progress(done, samples, name)
        except KeyboardInterrupt as error:
            raise Stopped(
                f"{done} of {samples} samples are written; the same command resumes after them"
            ) from error
        except (ValueError, OSError):
            if not any(journal.done(s) for s in range(0, samples, length)):
                journal.clear()
                atomic.remove(temporary)
            raise
        journal.sweep()
        consolidate(temporary)
    return path


def _prepare(system: System, journal: Journal, identity: dict[str, Any], samples: int) -> int:
    """Write the empty store, unless it is there, and return the number of samples in a shard."""
    template = system.template()
    evolving = {str(n): v for n, v in template.data_vars.items()}
    length = max(1, min(samples, SHARD_BYTES // (8 * max(v.size for v in evolving.values()))))
    if journal.begun():
        return length
    lazy, encoding = {}, {}
    for n, v in evolving.items():
        # One field a chunk; series of lines in one.
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
    journal.begin()
    return length


def _make(system: System, journal: Journal, first: int, stop: int, length: int, seed: int) -> Iterator[int]:
    """Solve a shard of samples; yields 1 after each, the last one once all are written.

    Those of an unfinished shard are saved where a signal ends the run.
    """
    unfinished = journal.folder / f"samples-{first}.npz"
    made = _read_samples(unfinished)
    try:
        for sample in range(first, stop):
            if sample - first >= min((len(values) for values in made.values()), default=0):
                try:
                    fields = system.solve(np.random.default_rng([seed, sample]))
                except ValueError as error:
                    raise ValueError(f"sample {sample}: {error}") from error
                for name, values in fields.items():
                    made.setdefault(name, []).append(values)
            if sample < stop - 1:
                yield 1
    except (KeyboardInterrupt, GeneratorExit):
        _save_samples(unfinished, made)
        raise
    dims = system.template().data_vars
    block = xr.Dataset(
        {name: (("sample", *dims[name].dims), np.stack(values)) for name, values in made.items()}
    )
    block.to_zarr(journal.path, region={"sample": slice(first, stop)}, consolidated=False)
    journal.mark(first, [f"{name}/c/{first // length}" for name in made])
    yield 1


def _save_samples(path: Path, samples: dict[str, list[np.ndarray]]) -> None:
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


def _make_all(system: System, journal: Journal, first: int, stop: int, length: int, seed: int) -> int:
    return sum(_make(system, journal, first, stop, length, seed))


def _run(
    system: System,
    journal: Journal,
    shards: list[tuple[int, int]],
    length: int,
    seed: int,
    scheduler: str | None,
) -> Generator[int, None, None]:
    """Make the shards and yield how many samples were finished."""
    if scheduler is None:
        for first, stop in shards:
            yield from _make(system, journal, first, stop, length, seed)
        return
    from distributed import as_completed

    with connected(scheduler) as client:
        futures = [
            client.submit(_make_all, system, journal, first, stop, length, seed, pure=False)
            for first, stop in shards
        ]
        for future in as_completed(futures):
            yield future.result()
