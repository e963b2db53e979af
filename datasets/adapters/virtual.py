"""Virtual data sets of HDF5: whether their parts are there, since the library takes missing ones for a
constant.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import h5py

_CELLS = 10**7  # of the grid that the edges of all parts make

Box = tuple[NDArray[np.int64], NDArray[np.int64]]
"""First and last place of a part along each axis, each of shape (axis,)."""


def lacks(file: "h5py.File", properties: Any, part: int) -> str:
    """Return what a source file lacks of one part of a virtual data set; empty where it has all of it.

    Args:
        file: source file, open.
        properties: creation properties of the virtual data set.
        part: number of the part.
    """
    import h5py

    name = properties.get_virtual_dsetname(part)
    source = file.get(name) if name else None
    if not isinstance(source, h5py.Dataset):
        return f"has no {name!r}"
    if source.is_virtual:  # perhaps of this one
        return f"has {name!r} as a virtual data set itself"
    space = properties.get_virtual_srcspace(part)
    if space.get_select_type() == h5py.h5s.SEL_ALL:
        wanted = properties.get_virtual_vspace(part)
        missing = wanted.get_select_type() != h5py.h5s.SEL_ALL and wanted.get_select_npoints() > source.size
        return f"has only {source.size} values of {name!r}" if missing else ""
    _, last = space.get_select_bounds()
    beyond = len(last) != source.ndim or any(
        end >= size for end, size in zip(last, source.shape, strict=True)
    )
    return f"has only {source.shape} of {name!r}" if beyond else ""


def covered(dataset: "h5py.h5d.DatasetID", properties: Any) -> bool:
    """Return whether each value of a virtual data set comes from a part, or is marked as missing.

    Args:
        dataset: virtual data set.
        properties: its creation properties.
    """
    boxes = []
    for part in range(properties.get_virtual_count()):
        found = _boxes(properties.get_virtual_vspace(part), dataset.shape)
        if found is None:
            return _gaps_are_missing(dataset, properties)
        boxes += found
    return _fill(boxes, dataset.shape) or _gaps_are_missing(dataset, properties)


def _boxes(space: "h5py.h5s.SpaceID", shape: tuple[int, ...]) -> list[Box] | None:
    """Return the blocks of a selection; None where they are unlimited or single points."""
    import h5py

    if space.get_select_type() == h5py.h5s.SEL_ALL:
        return [(np.zeros(len(shape), np.int64), np.array(shape) - 1)]
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS:
        return None
    try:
        if space.get_select_hyper_nblocks() > 10**5:
            return None
        blocks = space.get_select_hyper_blocklist()
    except (ValueError, RuntimeError, OverflowError):  # of an unlimited selection
        return None
    return [(np.asarray(first, np.int64), np.asarray(last, np.int64)) for first, last in blocks]


def _fill(boxes: list[Box], shape: tuple[int, ...]) -> bool:
    """Return whether boxes cover all places of a shape: on the grid of their edges, however large they are."""
    edges = []
    for axis, size in enumerate(shape):
        ends = [b[axis] for b, _ in boxes] + [e[axis] + 1 for _, e in boxes]
        edges.append(np.unique(np.clip([0, size, *ends], 0, size)))
    cells = tuple(len(e) - 1 for e in edges)
    if int(np.prod(cells, dtype=object)) > _CELLS:
        return False
    full = np.zeros(cells, dtype=bool)
    for first, last in boxes:
        full[
            tuple(
                slice(np.searchsorted(e, a), np.searchsorted(e, b + 1))
                for e, a, b in zip(edges, first, last, strict=True)
            )
        ] = True
    return bool(full.all())


def _gaps_are_missing(dataset: "h5py.h5d.DatasetID", properties: Any) -> bool:
    """Return whether values that no part gives are read as missing: as NaN, or as the attribute
    ``_FillValue``.
    """
    import h5py

    opened = h5py.Dataset(dataset)
    fill = opened.fillvalue
    if opened.dtype.kind == "f" and np.isnan(fill):
        return True
    return "_FillValue" in opened.attrs and bool(np.all(opened.attrs["_FillValue"] == fill))
