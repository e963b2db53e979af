"""Layouts that sources come in, recognised by their content. One is a vocabulary and at most one function
that rearranges.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import entry_points

import xarray as xr

from ..schema import nearest
from . import anemoi, fourcastnet, grib, weatherbench
from .vocabulary import ECMWF, WEATHERBENCH, Term

ENTRY_POINTS = "fourcaster.layouts"


def _as_it_is(dataset: xr.Dataset, source: str) -> xr.Dataset:
    return dataset


@dataclass(frozen=True)
class Layout:
    """How a source lays out its data.

    Packages add layouts of their own by an entry point of the group ``fourcaster.layouts`` that names an
    instance.

    Attributes:
        name: by which it is selected.
        matches: whether a data set, as xarray opens it, is laid out so.
        vocabulary: what its names for variables mean; others keep their names and bring their units.
        arrange: (data set, its path) -> one with latitude, longitude, [level] and time as axes; lazy.
    """

    name: str
    matches: Callable[[xr.Dataset], bool]
    vocabulary: Mapping[str, Term] = field(default_factory=dict)
    arrange: Callable[[xr.Dataset, str], xr.Dataset] = _as_it_is

    def read(self, dataset: xr.Dataset, source: str) -> xr.Dataset:
        """Return the data set with axes, WeatherBench2's names, and units where it has none."""
        dataset = self.arrange(dataset, source)
        names = {}
        for name in map(str, dataset.data_vars):
            short = str(dataset[name].attrs.get("GRIB_shortName", name))
            if (term := self.vocabulary.get(short)) is not None:
                said = {k: v for k, v in dataset[name].attrs.items() if str(v).strip()}
                told = {"units": term.units, "source_name": name} | (
                    {"standard_name": term.standard_name} if term.standard_name else {}
                )
                dataset[name].attrs = told | said
                names[name] = term.name
        return dataset.rename({old: new for old, new in names.items() if old != new and new not in dataset})


BUILT_IN = (
    Layout("anemoi", anemoi.matches, ECMWF, anemoi.arrange),
    Layout("fourcastnet", fourcastnet.matches, ECMWF, fourcastnet.arrange),
    Layout("arco-era5", weatherbench.is_arco, WEATHERBENCH, weatherbench.arrange_arco),
    Layout("weatherbench2", weatherbench.matches, WEATHERBENCH),
    Layout("grib", grib.matches, ECMWF, grib.arrange),
    Layout("cf", lambda dataset: True),
)


@lru_cache(maxsize=1)
def layouts() -> dict[str, Layout]:
    """Return all layouts by name, those of other packages first, since what is built in takes anything."""
    added = [point.load() for point in entry_points(group=ENTRY_POINTS)]
    return {layout.name: layout for layout in (*added, *BUILT_IN)}


def find_layout(dataset: xr.Dataset, name: str | None = None) -> Layout:
    """Return the layout of a data set: the one named, or the first that recognises it.

    Raises:
        ValueError: no layout of that name.
    """
    known = layouts()
    if name is not None and name not in known:
        raise ValueError(f"no layout {name!r}; {nearest(name, known)}")
    return (
        known[name]
        if name is not None
        else next(layout for layout in known.values() if layout.matches(dataset))
    )
