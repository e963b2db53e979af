"""Check of the machine: versions, device, threads, accuracy of the transforms."""

import os
import platform
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


def doctor() -> dict[str, Any]:
    """Return versions, device and round-trip errors of the transforms; ``problems`` is empty if none."""
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
    return {
        "fourcaster": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": f"cuda: {', '.join(gpus)}" if gpus else "cpu",
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "versions": versions,
        "round_trip_errors": errors,
        "problems": problems,
    }
