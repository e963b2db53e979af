"""Opening of netCDF, HDF5, GRIB and zarr sources, recognised by their content and validated before use."""

import warnings
from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from math import prod
from pathlib import Path

# Before xarray, which loads cfgrib: eccodes brings a PROJ library that must not be loaded first.
import pyproj  # noqa: F401
import xarray as xr
import zarr
from zarr.abc.store import Store

from ..errors import InvalidDataError, MemoryLimitError, UntrustedDataError
from ..memory import format_bytes, limited
from . import grib
from .attributes import InvalidAttributeError
from .classic import check_classic
from .fast import preferred_pipeline
from .grib_messages import check_messages
from .hdf5 import check_hdf5
from .missing import decode, decode_zarr
from .pipelines import CHECKED_PIPELINE
from .regular import check_regular
from .remote import CheckedStore, check_url, open_source
from .untrusted import (
    CHUNKS_AT_OPENING,
    STRING_BYTES,
    limit_advice,
    max_coordinate_bytes,
    memory_limit,
)
from .vocabulary import DEGREES

_CLASSIC = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_PIPELINE = "codec_pipeline.path"


def open_raw(path: str, whole_shards: bool = True, *, follow_links: bool = False) -> xr.Dataset:
    """Open a file or store as dask arrays.

    Args:
        path: file, folder or URL.
        whole_shards: see ``open_zarr``.
        follow_links: see ``open_lazily``.

    Raises:
        FileNotFoundError: the source does not exist.
        ValueError: the source cannot be read.
    """
    return _chunked(open_lazily(path, follow_links=follow_links), whole_shards)


def open_lazily(
    path: str,
    complete: bool = False,
    variables: Sequence[str] | None = None,
    *,
    follow_links: bool = False,
    memory: int | None = None,
) -> xr.Dataset:
    """Open a file or store lazily, without dask arrays, so that selections create no task graph.

    Args:
        path: file, folder or URL.
        complete: whether reading a missing chunk raises ``ValueError`` instead of returning fill values.
        variables: variables that will be used, whose common times are read from a GRIB file; all by default.
        follow_links: whether to follow links that lead out of the source.
        memory: memory limit [bytes] for chunks and coordinates; ``memory_limit()`` by default.

    Raises:
        FileNotFoundError: the source does not exist.
        OSError: a URL cannot be reached.
        ValueError: the source cannot be read.
    """
    if "://" not in path and not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist; check the path")
    if "://" not in path and not Path(path).is_dir():
        check_regular(path)
    # Warnings about what is corrected here, or rejected with a reason, are suppressed.
    with _explain_errors(path), warnings.catch_warnings():
        warnings.simplefilter("ignore", xr.SerializationWarning)
        warnings.filterwarnings("ignore", message="Duplicate dimension names")
        if Path(path).is_dir() or "://" in path:
            return _open_zarr(open_source(path, complete, follow_links=follow_links, memory=memory))
        with limited(memory_limit() if memory is None else memory):
            return _open_file(path, variables, follow_links)


def open_zarr(
    path: str | Path | Store,
    whole_shards: bool = True,
    group: str | None = None,
    *,
    follow_links: bool = False,
) -> xr.Dataset:
    """Open a zarr store as dask arrays.

    Args:
        path: folder, URL or zarr store.
        whole_shards: whether a dask chunk is a whole shard, which is much faster to read than its inner
            chunks one by one if all are used.
        group: group within the store.
        follow_links: see ``open_lazily``.
    """
    return _chunked(_open_zarr(_source(path, follow_links), group), whole_shards)


def open_group(path: str | Path | Store, *, follow_links: bool = False) -> zarr.Group:
    """Open a zarr store read only with the zarr library, decoded by ``zarrs`` where that is possible.

    Args:
        path: folder, URL or zarr store.
        follow_links: see ``open_lazily``.
    """
    with fast_codecs(), _explain_metadata(path):
        return zarr.open_group(_source(path, follow_links), mode="r")


def fast_codecs() -> AbstractContextManager[object]:
    """Return a context in which zarr arrays are opened with the pipeline of ``zarrs``, if it is installed."""
    return zarr.config.set({_PIPELINE: preferred_pipeline()})  # type: ignore[no-any-return]


def _source(path: str | Path | Store, follow_links: bool) -> Store:
    return path if isinstance(path, Store) else open_source(path, complete=False, follow_links=follow_links)


def _name(source: str | Path | Store) -> str:
    """Return the name of a source in error messages."""
    return str(getattr(source, "name", source))


def _open_zarr(source: Store, group: str | None = None) -> xr.Dataset:
    fast = zarr.config.get(_PIPELINE) == preferred_pipeline()
    pipeline = preferred_pipeline() if fast else CHECKED_PIPELINE
    with warnings.catch_warnings(), zarr.config.set({_PIPELINE: pipeline}), _explain_metadata(source):
        warnings.filterwarnings("ignore", message="Failed to open Zarr store with consolidated")
        warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3")
        warnings.filterwarnings("ignore", message="The data type .* does not have a Zarr V3 specification")
        store = xr.backends.ZarrStore.open_group(
            source, mode="r", group=group, consolidated=None, use_zarr_fill_value_as_mask=True
        )
        memory = source.memory if isinstance(source, CheckedStore) else memory_limit()
        _check_coordinates([array for _, array in store.arrays() if array.ndim < 2], memory)
        with _name_source(_name(source)):
            dataset = decode_zarr(xr.open_dataset(store, decode_cf=False), store.zarr_group)
        _check_coordinates(
            [store.zarr_group[str(name)] for name in _curvilinear_coordinates(dataset)], memory
        )
        return dataset


def _curvilinear_coordinates(dataset: xr.Dataset) -> list[Hashable]:
    """Return the names of coordinates with several dimensions, which are read as a whole."""
    units = {*DEGREES["latitude"], *DEGREES["longitude"]}
    return [
        n
        for n, v in dataset.variables.items()
        if v.ndim > 1 and (n in dataset.coords or str(v.attrs.get("units")) in units)
    ]


def _check_coordinates(arrays: Sequence[zarr.Array], memory: int) -> None:
    """Raise ``UntrustedDataError`` if the coordinates, read at opening, take too much memory or time.

    Args:
        arrays: arrays of the coordinates.
        memory: memory limit [bytes].
    """
    size = sum(
        prod(array.shape) * (STRING_BYTES if array.dtype.kind in "OT" else array.dtype.itemsize)
        for array in arrays
    )
    if size > max_coordinate_bytes(memory):
        largest = max(arrays, key=lambda array: prod(array.shape))
        raise MemoryLimitError(
            f"{_name(largest.store)}: its coordinates, such as {largest.path}, are {format_bytes(size)}, "
            f"{limit_advice(memory)}"
        )
    count = sum(
        prod(-(-n // max(c, 1)) for n, c in zip(array.shape, array.shards or array.chunks, strict=True))
        for array in arrays
    )
    if count > CHUNKS_AT_OPENING:
        largest = max(arrays, key=lambda array: prod(array.shape))
        raise UntrustedDataError(
            f"{_name(largest.store)}: its coordinates, such as {largest.path}, are in {count} files; "
            "rewrite them in fewer chunks"
        )


def _chunked(dataset: xr.Dataset, whole_shards: bool) -> xr.Dataset:
    """Return a data set as dask arrays with the chunks of the source, or its shards if not too large."""
    for name, variable in dataset.data_vars.items():
        sizes = variable.encoding.get("chunks")
        shards = variable.encoding.get("shards") if whole_shards else None
        if shards and prod(shards) * variable.dtype.itemsize <= max_coordinate_bytes(memory_limit()):
            sizes = shards
        dataset[name] = variable.chunk(dict(zip(variable.dims, sizes, strict=True)) if sizes else {})
    return dataset


def _open_file(path: str, variables: Sequence[str] | None, follow_links: bool = False) -> xr.Dataset:
    """Open a file of the format that its first bytes state."""
    with open(path, "rb") as file:
        start = file.read(8)
    if start[:4] in _CLASSIC:
        check_classic(path)
    elif start[:4] == b"GRIB":
        return _open_grib(path, variables)
    elif start != _HDF5:
        raise ValueError(f"it begins with {start[:4]!r}" if start else "it is empty")
    unreadable = check_hdf5(path, follow_links=follow_links) if start == _HDF5 else []
    with warnings.catch_warnings():  # about dropped variables of other types
        warnings.simplefilter("ignore", UserWarning)
        try:
            opened = xr.open_dataset(path, engine="netcdf4", decode_cf=False, drop_variables=unreadable)
        except AttributeError as error:  # netCDF4 has no dimensions for a variable in another file
            if not follow_links:
                raise
            raise InvalidDataError(
                f"{path} links to variables of another file, but not to their dimensions; link those too"
            ) from error
        with _name_source(path):
            return decode(opened)


def _open_grib(path: str, variables: Sequence[str] | None) -> xr.Dataset:
    try:
        import cfgrib
    except ImportError as error:
        raise ValueError("GRIB needs two more packages: pip install 'fourcaster[grib]'") from error
    check_messages(path)
    with warnings.catch_warnings():  # of xarray about cfgrib
        warnings.simplefilter("ignore", FutureWarning)
        parts = cfgrib.open_datasets(path, backend_kwargs={"indexpath": ""}, errors="raise")
    return grib.join(parts, path, variables)


@contextmanager
def _name_source(source: object) -> Iterator[None]:
    """Add the source to errors about attributes, which name only the variable."""
    try:
        yield
    except InvalidAttributeError as error:
        raise InvalidDataError(f"{source}: {error}") from error


@contextmanager
def _explain_metadata(store: str | Path | Store) -> Iterator[None]:
    """Convert the many errors that zarr and xarray raise for invalid metadata to ``InvalidDataError``."""
    try:
        yield
    except (
        TypeError,
        AttributeError,
        IndexError,
        OverflowError,
        NotImplementedError,
        AssertionError,
    ) as error:
        reason = " ".join(str(error).split())[:160]
        raise InvalidDataError(
            f"{_name(store)} has invalid array metadata ({reason}); download it again"
        ) from error


@contextmanager
def _explain_errors(path: str) -> Iterator[None]:
    """Add the path to errors, and convert those of xarray's engines to ``ValueError``."""
    if "://" in path:
        check_url(path)
    try:
        yield
    except InvalidDataError:
        raise
    except Exception as error:  # engines raise many types
        if "://" in path and isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} cannot be read as netCDF, HDF5, GRIB or zarr ({reason[:160]}); "
            "it may be truncated: download it again"
        ) from error
