"""FourCastNet's training files: HDF5, one a year, ``fields`` (time, channel, latitude, longitude), nothing
said about what is in them.

Channels and their order are those of Pathak et al. 2022 (arXiv:2202.11214), 20 of them, and of the later
model of 26; times are six-hourly from 1 January of the year in the file's name, rows from the north pole
down, with or without the last one.
"""

import re
from pathlib import Path

import numpy as np
import xarray as xr

from .vocabulary import ECMWF

_20 = [
    *("10u", "10v", "2t", "sp", "msl", "t850", "u1000", "v1000", "z1000", "u850", "v850", "z850"),
    *("u500", "v500", "z500", "t500", "z50", "r500", "r850", "tcwv"),
]
CHANNELS = {20: _20, 21: [*_20, "sst"], 26: [*_20, "100u", "100v", "u250", "v250", "z250", "t250"]}


def matches(dataset: xr.Dataset) -> bool:
    """Return whether there is an array ``fields`` of four axes without coordinates."""
    return "fields" in dataset and dataset["fields"].ndim == 4 and not dataset.coords


def arrange(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return one variable a channel on (time, latitude, longitude); those on one level keep names such as
    z500.

    Raises:
        ValueError: channels, rows or year are not those of FourCastNet's files.
    """
    fields = dataset["fields"]
    times, channels, rows, columns = fields.shape
    year = re.search(r"(19|20)\d\d", Path(source).stem)
    if channels not in CHANNELS:
        raise ValueError(f"{source}: fields have {channels} channels; those of FourCastNet have 20, 21 or 26")
    if year is None:
        raise ValueError(f"{source}: the year is told by the name of the file alone; call it e.g. 2015.h5")
    if columns % 2 or rows not in (columns // 2, columns // 2 + 1):
        raise ValueError(
            f"{source}: {rows} x {columns} points are no global grid with both poles, or without the south pole"
        )
    step = 360 / columns
    coords = {
        "time": np.datetime64(year[0], "ns") + np.arange(times) * np.timedelta64(6, "h"),
        "latitude": 90 - step * np.arange(rows),
        "longitude": step * np.arange(columns),
    }
    variables = {}
    for i, name in enumerate(CHANNELS[channels]):
        one = fields.isel({fields.dims[1]: i}).variable
        one.dims = ("time", "latitude", "longitude")
        on_level = re.fullmatch(r"([tuvzr])\d+", name)
        one.attrs = {"units": ECMWF[on_level[1]].units} if on_level else {}
        variables[name] = one
    return xr.Dataset(variables, coords)
