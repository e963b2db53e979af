"""Completeness of HDF5 virtual data sets, whose missing sources the library reads as fill values."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import h5py

_CELLS = 10**7  # of the grid spanned by the edges of all sources

Box = tuple[NDArray[np.int64], NDArray[np.int64]]
"""First and last index of a block along each axis, each of shape (axis,)."""


def missing_source(file: "h5py.File", properties: Any, index: int) -> str:
    """Return what a file lacks of one source of a virtual data set, empty if it is complete.

    Args:
        file: open source file.
        properties: creation properties of the virtual data set.
        index: index of the source among those of the virtual data set.
    """
    import h5py

    name = properties.get_virtual_dsetname(index)
    source = file.get(name) if name else None
    if not isinstance(source, h5py.Dataset):
        return f"has no {name!r}"
    if source.is_virtual:  # possibly of the same data set
        return f"has {name!r} as another virtual data set"
    space = properties.get_virtual_srcspace(index)
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        target = properties.get_virtual_vspace(index)
        too_small = target.get_select_type() != h5py.h5s.SEL_ALL and target.get_select_npoints() > source.size
        return f"has only {source.size} values of {name!r}" if too_small else ""
    _, last = space.get_select_bounds()
    beyond = len(last) != source.ndim or any(
        end >= size for end, size in zip(last, source.shape, strict=True)
    )
    return f"has only {source.shape} of {name!r}" if beyond else ""


def covers_data_set(dataset: "h5py.h5d.DatasetID", properties: Any) -> bool:
    """Return whether each value of a virtual data set comes from a source or is read as missing.

    Args:
        dataset: virtual data set.
        properties: its creation properties.
    """
    boxes = []
    for index in range(properties.get_virtual_count()):
        blocks = _boxes(properties.get_virtual_vspace(index), dataset.shape)
        if blocks is None:
            return _gaps_are_missing(dataset)
        boxes += blocks
    return _cover(boxes, dataset.shape) or _gaps_are_missing(dataset)


def _boxes(space: "h5py.h5s.SpaceID", shape: tuple[int, ...]) -> list[Box] | None:
    """Return the blocks of a selection, or None if it is unlimited or consists of points."""
    import h5py

    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return [(np.zeros(len(shape), np.int64), np.array(shape) - 1)]
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS:
        return None
    try:
        if space.get_select_hyper_nblocks() > 10**5:
            return None
        blocks = space.get_select_hyper_blocklist()
    except (ValueError, RuntimeError, OverflowError):  # raised for an unlimited selection
        return None
    return [(np.asarray(first, np.int64), np.asarray(last, np.int64)) for first, last in blocks]


def _cover(boxes: list[Box], shape: tuple[int, ...]) -> bool:
    """Return whether boxes cover all indices of a shape, computed on the grid of their edges."""
    edges = []
    for axis, size in enumerate(shape):
        ends = [first[axis] for first, _ in boxes] + [last[axis] + 1 for _, last in boxes]
        edges.append(np.unique(np.clip([0, size, *ends], 0, size)))
    cells = tuple(len(e) - 1 for e in edges)
    if int(np.prod(cells, dtype=object)) > _CELLS:
        return False
    covered = np.zeros(cells, dtype=bool)
    for first, last in boxes:
        within = tuple(
            slice(np.searchsorted(e, a), np.searchsorted(e, b + 1))
            for e, a, b in zip(edges, first, last, strict=True)
        )
        covered[within] = True
    return bool(covered.all())


def _gaps_are_missing(dataset: "h5py.h5d.DatasetID") -> bool:
    """Return whether values without a source are read as missing: as NaN, or as ``_FillValue``."""
    import h5py

    opened = h5py.Dataset(dataset)
    fill = opened.fillvalue
    if opened.dtype.kind == "f" and np.isnan(fill):
        return True
    return "_FillValue" in opened.attrs and bool(np.all(opened.attrs["_FillValue"] == fill))
