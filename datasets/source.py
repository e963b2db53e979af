"""Results of adapters: a canonical data set, and metadata of its source."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import ParamSpec

import xarray as xr


@dataclass(frozen=True)
class Source:
    """One source as a canonical data set.

    Attributes:
        path: path, URL or description, for messages.
        dataset: canonical data set of the selected variables, times and area.
        names: names that any variable of the source is known by, before and after renaming.
        axes: dimensions of the source.
        levels: pressure levels of the source [hPa].
        members: members of an ensemble in the source.
        constants: fields of a source with a single time that may be static, by name; also in ``dataset``.
        regridded: whether a curvilinear grid was regridded.
        bytes_read: bytes that are read for each time, since whole chunks are read.
        bytes_kept: bytes of them that are selected.
    """

    path: str
    dataset: xr.Dataset
    names: frozenset[str] = frozenset()
    axes: frozenset[str] = frozenset()
    levels: tuple[int, ...] = ()
    members: tuple[str, ...] = ()
    constants: dict[str, xr.DataArray] = field(default_factory=dict)
    regridded: bool = False
    bytes_read: int = 0
    bytes_kept: int = 0


@dataclass(frozen=True)
class JoinedSources:
    """Several sources as one canonical data set.

    Attributes:
        paths: the first paths or URLs, for messages.
        dataset: canonical data set; closing it closes the files.
        regridded: whether the curvilinear grid of any source was regridded.
    """

    paths: str
    dataset: xr.Dataset
    regridded: bool = False


P = ParamSpec("P")


def dataset_only(read: Callable[P, Source | JoinedSources]) -> Callable[P, xr.Dataset]:
    """Return a function of the same arguments as ``read`` that returns only the canonical data set."""

    @wraps(read)
    def function(*args: P.args, **kwargs: P.kwargs) -> xr.Dataset:
        return read(*args, **kwargs).dataset

    return function
