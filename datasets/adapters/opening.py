"""Files and stores as they are, recognised by their content, with an error that says what is wrong with one."""

import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pyproj  # noqa: F401  (xarray loads cfgrib where there is one, whose eccodes brings a PROJ of its own that must not come first)
import xarray as xr
import zarr
from zarr.abc.store import Store

from ..repository import is_repository, stored
from ..schema import Refused
from . import grib
from .classic import check_classic
from .grib_messages import check_messages
from .hdf5 import check_hdf5
from .missing import decode, decode_zarr
from .regular import check_regular
from .remote import check_url, open_source

_CLASSIC = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
_HDF5 = b"\x89HDF\r\n\x1a\n"


def open_raw(path: str, whole_shards: bool = True) -> xr.Dataset:
    """Open one file or store as dask arrays.

    Args:
        path: file, folder or URL.
        whole_shards: as in ``open_zarr``.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it cannot be read.
    """
    return _chunked(open_lazily(path), whole_shards)


def open_lazily(path: str, complete: bool = False, variables: Sequence[str] | None = None, *, follow_links: bool = False) -> xr.Dataset:
    """Open one file or store; values are read when they are asked for, and selecting makes no task graph.

    Args:
        path: file, folder or URL.
        complete: raise ``ValueError`` where a chunk that is read is missing, instead of taking it for fill values.
        variables: those that will be used, whose times a GRIB file is read at; all by default.
        follow_links: read also what links within it lead to outside of it.

    Raises:
        FileNotFoundError: it does not exist.
        OSError: a URL cannot be reached.
        ValueError: it cannot be read.
    """
    if "://" not in path and not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist; check the path")
    if "://" not in path and not Path(path).is_dir():
        check_regular(path)
    with _explained(path), warnings.catch_warnings():  # of what is mended here, or refused with a reason
        warnings.simplefilter("ignore", xr.SerializationWarning)
        warnings.filterwarnings("ignore", message="Duplicate dimension names")
        if Path(path).is_dir() or "://" in path:
            return _open_zarr(open_source(path, complete) if (complete and not is_repository(path)) or "://" in path else path)
        return _open_file(path, variables, follow_links)


def open_zarr(path: str | Path | Store, whole_shards: bool = True, group: str | None = None) -> xr.Dataset:
    """Open a zarr store as dask arrays.

    Args:
        path: folder, URL or zarr store.
        whole_shards: read a shard at a time, many times faster than its chunks one by one where all are wanted.
        group: group within the store.
    """
    return _chunked(_open_zarr(path, group), whole_shards)


def fast_codecs() -> AbstractContextManager[object]:
    """Return a context in which zarr arrays that are opened decode by the package ``zarrs``, where it is installed."""
    found = importlib.util.find_spec("zarrs") is not None
    return zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}) if found else nullcontext()


def _open_zarr(path: str | Path | Store, group: str | None = None) -> xr.Dataset:
    path = path if isinstance(path, Store) or "://" in str(path) else stored(path)
    with warnings.catch_warnings():  # a store without consolidated metadata is not worth a warning
        warnings.filterwarnings("ignore", message="Failed to open Zarr store with consolidated")
        store = xr.backends.ZarrStore.open_group(path, mode="r", group=group, consolidated=None, use_zarr_fill_value_as_mask=True)
        return decode_zarr(xr.open_dataset(store, decode_cf=False), store.zarr_group)


def _chunked(dataset: xr.Dataset, whole_shards: bool) -> xr.Dataset:
    for name, variable in dataset.data_vars.items():
        sizes = (variable.encoding.get("shards") if whole_shards else None) or variable.encoding.get("chunks")
        dataset[name] = variable.chunk(dict(zip(variable.dims, sizes, strict=True)) if sizes else {})
    return dataset


def _open_file(path: str, variables: Sequence[str] | None, follow_links: bool = False) -> xr.Dataset:
    with open(path, "rb") as file:
        start = file.read(8)
    if start[:4] in _CLASSIC:
        check_classic(path)
    elif start[:4] == b"GRIB":
        return _open_grib(path, variables)
    elif start != _HDF5:
        raise ValueError(f"it begins with {start[:4]!r}" if start else "it is empty")
    unreadable = check_hdf5(path, follow_links=follow_links) if start == _HDF5 else []
    with warnings.catch_warnings():  # of types that are no numbers, and left out
        warnings.simplefilter("ignore", UserWarning)
        try:
            opened = xr.open_dataset(path, engine="netcdf4", decode_cf=False, drop_variables=unreadable)
        except AttributeError as error:  # netCDF4 has no dimensions for a variable of another file
            if not follow_links:
                raise
            raise Refused(f"{path} links to variables of another file, but not to their dimensions; link these too") from error
        return decode(opened)


def _open_grib(path: str, variables: Sequence[str] | None) -> xr.Dataset:
    try:
        import cfgrib
    except ImportError as error:
        raise ValueError("GRIB needs two more packages: pip install 'fourcaster[grib]'") from error
    check_messages(path)
    with warnings.catch_warnings():  # of xarray, to cfgrib
        warnings.simplefilter("ignore", FutureWarning)
        parts = cfgrib.open_datasets(path, backend_kwargs={"indexpath": ""}, errors="raise")
    return grib.join(parts, path, variables)


@contextmanager
def _explained(path: str) -> Iterator[None]:
    if "://" in path:
        check_url(path)
    try:
        yield
    except Refused as error:
        if path in str(error):
            raise
        raise Refused(f"{path}: {error}") from error
    except Exception as error:  # engines raise many types
        if "://" in path and isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read as netCDF, HDF5, GRIB or zarr ({reason[:160]}); it may be cut short: fetch it again") from error
