"""Sample data for a first run: a local file, a download, or a simulation."""

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
# Of the values in hundredths of a kelvin, see ``checksum``, so that it does not depend on the file format.
SHA256 = "9ba623768b5a0bf3c553612be29f1585fe82f093c0c7ebaf5c8009029eca871d"
CONNECT_SECONDS = 5.0
SIMULATED_DAYS = 730
_LARGEST = 2**27  # bytes of the file


@dataclass(frozen=True)
class Sample:
    """A source to ingest.

    Attributes:
        path: path of the file or store.
        origin: how it was obtained, for messages.
        simulated: whether it is simulated rather than observed.
    """

    path: Path
    origin: str
    simulated: bool = False


def find_sample(data: str | Path | None, folder: Path, progress: "Progress | None" = None) -> Sample:
    """Return the first sample that is available.

    That is ``data``, otherwise the file that the environment variable ``FOURCASTER_SAMPLE`` names, otherwise
    a download of the NCEP air-temperature series (kept in the user's cache), otherwise a simulated flow, with
    a warning in the log.

    Args:
        data: local file or store.
        folder: folder that a simulation is written to.
        progress: called with (done, total, text).

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the downloaded file is not the expected field.
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
    """Return the NCEP air-temperature series of ``xarray.tutorial``, downloading it on the first call.

    A cached file is used only if its values have the expected checksum; otherwise it is downloaded again.

    Args:
        url: address; that of ``xarray.tutorial`` by default.
        cache: folder to keep the file in; by default the user's cache, which must be private.

    Raises:
        OSError: no connection, or the download failed.
        ValueError: the downloaded file is not the expected field; it is removed.
    """
    import pooch
    from xarray import tutorial

    pooch.get_logger().setLevel("WARNING")
    folder = cache or Path(pooch.os_cache("fourcaster"))
    if cache is None and (reason := private_folder(folder)):
        raise OSError(f"{folder} cannot keep downloads: {reason}")
    path = folder / NAME
    if os.path.lexists(path):
        if not (defect := _defect(path)):
            return path
        log.warning("%s %s and is fetched again", path, defect)
        path.unlink(missing_ok=True)
    source = url or f"{tutorial.base_url}/raw/{tutorial.version}/{NAME}"
    downloader = pooch.HTTPDownloader(timeout=(CONNECT_SECONDS, 60))
    path = Path(pooch.retrieve(source, None, fname=NAME, path=folder, downloader=downloader))
    if defect := _defect(path):
        path.unlink(missing_ok=True)
        raise DataError(
            f"{path} {defect} and was removed; try again later, or use a local file (FOURCASTER_SAMPLE)",
            option="data",
        )
    return path


def _defect(path: Path) -> str:
    """Return why a file is not the expected field; empty if it is."""
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
        return "is not the expected field (it is no ordinary file of its size)"
    try:
        differs = checksum(path) != SHA256
    except Exception as error:  # noqa: BLE001 (whatever the reader raises, it is not the field)
        return f"cannot be read ({(str(error).splitlines() or [''])[0]})"
    return "is not the expected field (checksum differs)" if differs else ""


def checksum(path: Path) -> str:
    """Return the SHA-256 of the values of the series.

    These are hundredths of a kelvin as 16-bit integers, then times in hours as 64-bit integers.
    """
    with xr.open_dataset(path) as dataset:
        values = np.rint(dataset["air"].values.astype(np.float64) * 100).astype("<i2")
        hours = dataset["time"].values.astype("datetime64[h]").astype("<i8")
    return hashlib.sha256(values.tobytes() + hours.tobytes()).hexdigest()
