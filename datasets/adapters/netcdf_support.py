"""Features of HDF5 as the netCDF library uses them: dimensions without coordinates, and filters."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import h5py

_BUILT_IN_FILTERS = range(1, 7)  # deflate, shuffle, fletcher32, szip, nbit, scaleoffset
_OPTIONAL_FILTERS = {307: "has_bzip2_filter", 32001: "has_blosc_filter", 32015: "has_zstd_filter"}


def is_dimension_only(dataset: "h5py.h5d.DatasetID") -> bool:
    """Return whether a data set represents a dimension without coordinate values."""
    import h5py

    if not (h5py.h5ds.is_scale(dataset) and h5py.h5a.exists(dataset, b"NAME")):
        return False
    attribute = h5py.h5a.open(dataset, b"NAME")
    if (
        attribute.shape != ()
        or not isinstance(attribute.get_type(), h5py.h5t.TypeStringID)
        or attribute.get_storage_size() > 1000
    ):
        return False
    value = h5py.Dataset(dataset).attrs["NAME"]
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text.startswith("This is a netCDF dimension but not")


def has_filter(code: int) -> bool:
    """Return whether the netCDF library has a filter, or the user set a folder of filter plugins."""
    import netCDF4

    if code in _BUILT_IN_FILTERS:
        return True
    own = os.path.join(os.path.dirname(netCDF4.__file__), "plugins")
    if os.environ.get("HDF5_PLUGIN_PATH", own) != own:
        return True
    if code not in _OPTIONAL_FILTERS:
        return False
    with netCDF4.Dataset("none", "w", diskless=True) as empty:
        return bool(getattr(empty, _OPTIONAL_FILTERS[code])())
