"""Check of the machine: versions, device, threads, accuracy of the transforms."""

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .. import __version__

PACKAGES = (
    "torch",
    "numpy",
    "xarray",
    "zarr",
    "dask",
    "netCDF4",
    "h5py",
    "cartopy",
    "matplotlib",
    "pydantic",
    "safetensors",
)


@dataclass(frozen=True)
class MachineReport:
    """Report on a machine and what is installed on it.

    Attributes:
        fourcaster: version of this package.
        python: version of Python.
        machine: operating system and architecture.
        cores: number of CPU cores, None if it is unknown.
        threads: number of threads that torch uses.
        device: ``cpu``, or ``cuda`` and the names of the GPUs.
        memory_gib: memory of the machine [GiB].
        versions: versions of the installed dependencies by name.
        round_trip_errors: maximum absolute error of a Fourier transform and its inverse on normal random
            numbers, by method and grid.
        problems: problems and how to solve them; empty if there are none.
    """

    fourcaster: str
    python: str
    machine: str
    cores: int | None
    threads: int
    device: str
    memory_gib: float
    versions: dict[str, str]
    round_trip_errors: dict[str, float]
    problems: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, as JSON can represent them."""
        return asdict(self)


def doctor() -> MachineReport:
    """Return versions, device, round-trip errors of the transforms, and problems."""
    import torch

    from ..fno.transforms.fourier import from_modes, to_modes

    problems: list[str] = []
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            problems.append(f"{name} is not installed; run pip install fourcaster again")
    errors = {}
    generator = torch.Generator().manual_seed(0)
    for size in ((25, 53), (32, 64), (121, 240)):
        x = torch.randn(1, *size, 2, generator=generator)
        for method in ("dft", "fft"):
            back = from_modes(to_modes(x, size, method), size, size, method=method)  # type: ignore[arg-type]
            errors[f"{method} {size[0]}x{size[1]}"] = float((back - x).abs().max())
    if worst := [name for name, error in errors.items() if error > 1e-4]:
        problems.append(
            f"Fourier round trips are inaccurate: {', '.join(worst)}; reinstall torch {versions.get('torch')}"
        )
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return MachineReport(
        fourcaster=__version__,
        python=platform.python_version(),
        machine=f"{platform.system()} {platform.machine()}",
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        device=f"cuda: {', '.join(gpus)}" if gpus else "cpu",
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        versions=versions,
        round_trip_errors=errors,
        problems=problems,
    )
