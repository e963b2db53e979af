"""The canonical zarr store: one chunk a time step, sharded, with statistics and climatology inside."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from ...fno.grids import Grid
from ..adapters.opening import fast_codecs, open_raw, open_zarr
from ..durations import to_timedelta64
from ..ingest.plan import STORE_VERSION
from ..loaders.split import Split, default_split, period, split_before, split_by_periods
from ..schema import Channel, axes_of, channels, grid_of
from ..statistics.moments import Statistics, compute_statistics
from ..suggestions import suggest
from . import atomic
from .fields import Fields
from .netcdf import write_netcdf
from .recorded import recorded

_LONGEST_STEP = 1e10  # seconds


@dataclass(frozen=True)
class Store:
    """An open canonical store.

    Attributes:
        path: folder of the store.
        dataset: its variables, lazy.
        step: time step.
        gaps: positions of the first times after gaps.
        follow_links: whether to follow links to files outside the store.
    """

    path: Path
    dataset: xr.Dataset
    step: np.timedelta64
    gaps: list[int]
    follow_links: bool = False

    @property
    def grid(self) -> Grid:
        """Grid of the store."""
        return grid_of(self.dataset)

    @property
    def channels(self) -> list[Channel]:
        """Channels of the store."""
        return channels(self.dataset)

    @property
    def train_period(self) -> tuple[str, str]:
        """First and last time of the period that statistics and climatology were computed on."""
        ends = recorded(self.dataset.attrs, "train_period", list)
        if len(ends) != 2 or not all(isinstance(end, str) for end in ends):
            raise ValueError(f"the attribute 'train_period' of {self.path} is damaged: it is not two times")
        return ends[0], ends[1]

    def static(self, names: Sequence[str] | None = None) -> dict[str, NDArray[np.floating]]:
        """Return fields that do not change with time, such as orography.

        Args:
            names: names of fields; all by default.

        Raises:
            ValueError: the store lacks one of them.
        """
        fields = {
            str(name): c
            for name, c in self.dataset.coords.items()
            if c.dims == axes_of(self.dataset) and c.dtype.kind in "fiub"
        }
        for name in names or ():
            if name not in fields:
                raise ValueError(
                    f"{self.path} has no static field {name!r}; "
                    f"{suggest(name, fields) if fields else 'it has none'}"
                )
        return {
            name: np.asarray(fields[name].values) for name in (sorted(fields) if names is None else names)
        }

    def split(
        self,
        train_period: str | None = None,
        validation_fraction: float = 0.1,
        gap: int = 0,
        *,
        validation_period: str | None = None,
    ) -> Split:
        """Return the split of the series, with all times after the training period for testing.

        Args:
            train_period: training and validation period, ``START:STOP``; by default the store's own.
            validation_fraction: fraction of that period to use for validation.
            gap: times to leave out before the validation and the test period.
            validation_period: validation period, ``START:STOP``, in place of the fraction and the gap.

        Raises:
            DataError: training and validation period overlap.
        """
        times = self.dataset["time"].values
        text = train_period or "/".join(self.train_period)
        if validation_period is not None:
            return split_by_periods(times, text, validation_period)
        fit = period(times, text)
        standard = default_split(times, validation_fraction) if len(times) >= 10 else None
        stop = standard.test.stop if standard and standard.test.start == fit.stop else len(times)
        return split_before(fit.stop, stop, fit.start, validation_fraction=validation_fraction, gap=gap)


def consolidate(path: Path) -> None:
    """Consolidate the metadata of a zarr store in one file, so that it opens fast and without a warning."""
    with warnings.catch_warnings():  # that consolidated metadata are not part of zarr format 3
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(path)


def write_dataset(dataset: xr.Dataset, path: Path, *, overwrite: bool, kind: str) -> None:
    """Write a data set atomically, as netCDF if the name ends in .nc, otherwise as zarr.

    Args:
        dataset: data set to write.
        path: file or folder to write.
        overwrite: replace an existing output of the same kind.
        kind: kind of output, see ``outputs.FORMATS``.

    Raises:
        FileExistsError: ``path`` exists and may not be replaced.
        OSError: writing failed, e.g. because the disk is full.
    """
    with atomic.replacing(path, overwrite=overwrite, kind=kind) as temporary:
        if path.suffix == ".nc":
            write_netcdf(dataset, temporary)
        else:
            dataset.to_zarr(temporary, mode="w", consolidated=False)
            consolidate(temporary)


def open_store(path: str | Path, whole_shards: bool = True, *, follow_links: bool = False) -> Store:
    """Open a store.

    Args:
        path: folder of the store.
        whole_shards: whether a dask chunk is a whole shard; otherwise it is a single time, for random access.
        follow_links: follow links to files outside the store.

    Raises:
        FileNotFoundError: the store does not exist.
        ValueError: it was not written by ``write_store``, is damaged, or was written by a newer version.
    """
    path = Path(path)
    atomic.recover(path)
    with fast_codecs():
        dataset = open_raw(str(path), whole_shards, follow_links=follow_links)
    if not {"time_step_seconds", "train_period", "gaps", "variables"} <= set(dataset.attrs):
        raise ValueError(f"{path} is not a store of this package; ingest it first")
    number = dataset.attrs.get("store_version", 1)
    if not isinstance(number, int | str) or not str(number).isdecimal() or not str(number).isascii():
        raise ValueError(f"{path} is damaged: its store_version is {str(number)[:80]!r}")
    if (number := int(str(number)[:10])) > STORE_VERSION:
        raise ValueError(
            f"{path} has store version {number}, this version of fourcaster reads up to {STORE_VERSION}; "
            "use a newer one, or ingest again"
        )
    try:
        return _from_attributes(path, dataset, follow_links)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _from_attributes(path: Path, dataset: xr.Dataset, follow_links: bool) -> Store:
    """Return a store according to its attributes; raise ``ValueError`` if they are not valid."""
    names = recorded(dataset.attrs, "variables", list)
    if not names or (
        missing := [name for name in names if not isinstance(name, str) or name not in dataset.data_vars]
    ):
        raise ValueError(
            f"there is no variable {str(missing[0] if names else '')[:80]!r} of its attribute 'variables'"
        )
    step = dataset.attrs["time_step_seconds"]
    if (
        isinstance(step, bool)
        or not isinstance(step, int | float | np.number)
        or not 0 < step < _LONGEST_STEP
    ):
        raise ValueError(f"its attribute 'time_step_seconds' is {str(step)[:80]!r}, not a number of seconds")
    dataset = dataset[names]
    if "time" not in dataset.dims or dataset["time"].dtype.kind != "M":
        raise ValueError("it has no times")
    times = dataset["time"].values.astype("datetime64[ns]")
    texts = recorded(dataset.attrs, "gaps", list)
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("its attribute 'gaps' is not a list of times")
    gaps = [int(np.searchsorted(times, np.datetime64(text))) for text in texts]
    return Store(path, dataset, to_timedelta64(float(step)), gaps, follow_links)


def read_group(store: Store, group: str) -> xr.Dataset:
    """Return a group of a store.

    Args:
        store: open store.
        group: ``statistics`` or ``climatology``.

    Raises:
        ValueError: the store lacks the group.
    """
    try:
        return open_zarr(store.path, group=group, follow_links=store.follow_links)
    except (KeyError, FileNotFoundError) as error:
        raise ValueError(
            f"{store.path} is damaged: it has no group {group!r}; ingest its source again"
        ) from error


def store_statistics(store: Store, fields: Fields, fit: slice) -> Statistics:
    """Compute statistics and seasonal cycle of a period of a store.

    Args:
        store: open store, for its grid and gaps.
        fields: fields of the store.
        fit: positions of the period.
    """
    return compute_statistics(fields, fit, store.grid, gaps=store.gaps)


def select_variables(store: Store, variables: Sequence[str] | None) -> Store:
    """Return the store with only some variables.

    Args:
        store: open store.
        variables: names of the variables to keep; None keeps all.

    Raises:
        ValueError: the store lacks one of them.
    """
    for name in variables or ():
        if name not in store.dataset.data_vars:
            raise ValueError(
                f"{store.path} has no variable {name!r}; {suggest(name, store.dataset.data_vars)}"
            )
    return store if variables is None else replace(store, dataset=store.dataset[list(variables)])
