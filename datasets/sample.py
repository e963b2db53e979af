"""Sample data of a first run: a local file, one named by the environment, a download, or a
simulation.
"""

import hashlib
import logging
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from .adapters.private import private_folder
from .errors import DataError
from .pde.barotropic import simulate
from .store import atomic
from .store.netcdf import write_netcdf

if TYPE_CHECKING:
    from ..fno.progress import Progress


log = logging.getLogger(__name__)

NAME = "air_temperature.nc"
# Of the values in hundredths of a kelvin, not of the file, so that the field passes in any container.
SHA256 = "9ba623768b5a0bf3c553612be29f1585fe82f093c0c7ebaf5c8009029eca871d"
CONNECT_SECONDS = 5.0
SIMULATED_DAYS = 730
_LARGEST = 2**27  # bytes of the file


@dataclass(frozen=True)
class Sample:
    """A source to ingest: its path, how it came about, and whether it is simulated."""

    path: Path
    origin: str
    simulated: bool = False


def find_sample(data: str | Path | None, folder: Path, progress: "Progress | None" = None) -> Sample:
    """Return the sample, by the first way that works.

    ``data``, else the file that the environment variable ``FOURCASTER_SAMPLE`` names, else a download of the
    NCEP air-temperature series (kept in the user's cache), else a simulated flow, which is logged.

    Args:
        data: local file or store.
        folder: where a simulation is written.
        progress: called with (done, total, text).

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: what was downloaded is not the expected field.
    """
    for path, origin in ((data, "argument data"), (os.environ.get("FOURCASTER_SAMPLE"), "FOURCASTER_SAMPLE")):
        if path:
            if not Path(path).exists():
                raise FileNotFoundError(f"{path} (from {origin}) does not exist; check the path")
            return Sample(Path(path), origin)
    try:
        return Sample(download(), "download")
    except OSError as error:
        log.warning(
            "no download (%s): SIMULATED data is used instead, not observations",
            " ".join(str(error).split())[:200],
        )
    path = folder / "simulated.nc"
    if not path.exists():
        dataset = simulate(SIMULATED_DAYS, progress=progress)
        with atomic.replacing(path, overwrite=False, kind="sample") as temporary:
            write_netcdf(dataset, temporary)
    return Sample(path, "simulation", simulated=True)


def download(url: str | None = None, cache: Path | None = None) -> Path:
    """Return the NCEP air-temperature series that ``xarray.tutorial`` offers, downloading it on the first
    call.

    What is in the cache is used only if its values have the expected checksum; else it is fetched again.

    Args:
        url: where from; the address that xarray knows by default.
        cache: folder to keep it in; the user's cache by default, which must be the user's own.

    Raises:
        OSError: no connection, or the download failed.
        ValueError: what came is not the expected field; it is removed.
    """
    import pooch
    from xarray import tutorial

    pooch.get_logger().setLevel("WARNING")
    folder = cache or Path(pooch.os_cache("fourcaster"))
    if cache is None and (reason := private_folder(folder)):
        raise OSError(f"{folder} cannot keep downloads: {reason}")
    path = folder / NAME
    if os.path.lexists(path):
        if not (wrong := _wrong(path)):
            return path
        log.warning("%s %s and is fetched again", path, wrong)
        path.unlink(missing_ok=True)
    source = url or f"{tutorial.base_url}/raw/{tutorial.version}/{NAME}"
    downloader = pooch.HTTPDownloader(timeout=(CONNECT_SECONDS, 60))
    path = Path(pooch.retrieve(source, None, fname=NAME, path=folder, downloader=downloader))
    if wrong := _wrong(path):
        path.unlink(missing_ok=True)
        raise DataError(
            f"{path} {wrong} and was removed; try again later, or use a local file (FOURCASTER_SAMPLE)",
            option="data",
        )
    return path


def _wrong(path: Path) -> str:
    """Return in what a file is not the expected field; empty where it is."""
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
        return "is not the expected field (it is no ordinary file of its size)"
    try:
        differs = checksum(path) != SHA256
    except Exception as error:  # noqa: BLE001 (whatever the reader raises, it is not the field)
        return f"cannot be read ({(str(error).splitlines() or [''])[0]})"
    return "is not the expected field (checksum differs)" if differs else ""


def checksum(path: Path) -> str:
    """Return the SHA-256 of the series' values: hundredths of a kelvin as 16-bit integers, then times in
    hours.
    """
    with xr.open_dataset(path) as dataset:
        values = np.rint(dataset["air"].values.astype(np.float64) * 100).astype("<i2")
        hours = dataset["time"].values.astype("datetime64[h]").astype("<i8")
    return hashlib.sha256(values.tobytes() + hours.tobytes()).hexdigest()
