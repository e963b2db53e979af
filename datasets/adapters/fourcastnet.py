"""Layout of FourCastNet's training files: HDF5, one per year, with an array ``fields`` and no metadata.

The array has the axes (time, channel, latitude, longitude). Channels and their order are the 20 of Pathak et
al. 2022 (arXiv:2202.11214), optionally followed by the sea surface temperature, or the 26 of the later model.
Times are six-hourly from 1 January of the year in the file name, and rows go from the north pole southward,
with or without the south pole.
"""

import re
from pathlib import Path

import numpy as np
import xarray as xr

from .vocabulary import ECMWF

_PATHAK = (
    "10u",
    "10v",
    "2t",
    "sp",
    "msl",
    "t850",
    "u1000",
    "v1000",
    "z1000",
    "u850",
    "v850",
    "z850",
    "u500",
    "v500",
    "z500",
    "t500",
    "z50",
    "r500",
    "r850",
    "tcwv",
)
CHANNELS = {
    20: [*_PATHAK],
    21: [*_PATHAK, "sst"],
    26: [*_PATHAK, "100u", "100v", "u250", "v250", "z250", "t250"],
}


def matches(dataset: xr.Dataset) -> bool:
    """Return whether a data set has a four-dimensional array ``fields`` and no coordinates."""
    return "fields" in dataset and dataset["fields"].ndim == 4 and not dataset.coords


def arrange(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return one variable per channel on (time, latitude, longitude), with names such as z500.

    Args:
        dataset: data set as opened.
        source: path, whose file name contains the year.

    Raises:
        ValueError: the number of channels or rows differs from FourCastNet's files, or the file name has no
            year.
    """
    fields = dataset["fields"]
    times, channels, rows, columns = fields.shape
    year = re.search(r"(19|20)\d\d", Path(source).stem)
    if channels not in CHANNELS:
        raise ValueError(f"{source}: fields have {channels} channels; FourCastNet files have 20, 21 or 26")
    if year is None:
        raise ValueError(f"{source}: the file name must contain the year; rename it, e.g. to 2015.h5")
    if columns % 2 or rows not in (columns // 2, columns // 2 + 1):
        raise ValueError(
            f"{source}: {rows} x {columns} points are not a global grid with both poles, "
            "or without the south pole"
        )
    step = 360 / columns
    coords = {
        "time": np.datetime64(year[0], "ns") + np.arange(times) * np.timedelta64(6, "h"),
        "latitude": 90 - step * np.arange(rows),
        "longitude": step * np.arange(columns),
    }
    variables = {}
    for i, name in enumerate(CHANNELS[channels]):
        variable = fields.isel({fields.dims[1]: i}).variable
        variable.dims = ("time", "latitude", "longitude")
        on_level = re.fullmatch(r"([tuvzr])\d+", name)
        variable.attrs = {"units": ECMWF[on_level[1]].units} if on_level else {}
        variables[name] = variable
    return xr.Dataset(variables, coords)
