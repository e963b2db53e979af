"""Registry of source layouts: vocabularies of names, and functions that rearrange a data set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import entry_points

import xarray as xr

from ..suggestions import suggest
from . import anemoi, fourcastnet, grib, weatherbench
from .vocabulary import ECMWF, WEATHERBENCH, Term

ENTRY_POINTS = "fourcaster.layouts"


def _unchanged(dataset: xr.Dataset, source: str) -> xr.Dataset:
    return dataset


@dataclass(frozen=True)
class Layout:
    """Layout of a kind of source.

    Packages add layouts by an entry point of the group ``fourcaster.layouts`` that refers to an instance.

    Attributes:
        name: name that selects the layout.
        matches: function that returns whether a data set, as opened by xarray, has the layout.
        vocabulary: terms by variable name; variables without a term keep their name and need units.
        arrange: function of a data set and its path that rearranges the data set lazily to the axes time,
            [level], latitude, longitude.
    """

    name: str
    matches: Callable[[xr.Dataset], bool]
    vocabulary: Mapping[str, Term] = field(default_factory=dict)
    arrange: Callable[[xr.Dataset, str], xr.Dataset] = _unchanged

    def read(self, dataset: xr.Dataset, source: str) -> xr.Dataset:
        """Return a data set with canonical axes, WeatherBench2 names, and missing units added.

        Args:
            dataset: data set as opened by xarray.
            source: path, for error messages.
        """
        dataset = self.arrange(dataset, source)
        names = {}
        for name in map(str, dataset.data_vars):
            short = str(dataset[name].attrs.get("GRIB_shortName", name))
            if (term := self.vocabulary.get(short)) is not None:
                own = {k: v for k, v in dataset[name].attrs.items() if str(v).strip()}
                defaults = {"units": term.units, "source_name": name}
                if term.standard_name:
                    defaults["standard_name"] = term.standard_name
                dataset[name].attrs = defaults | own
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
    """Return all layouts by name, those of other packages first, since the built-in cf matches anything."""
    added = [point.load() for point in entry_points(group=ENTRY_POINTS)]
    return {layout.name: layout for layout in (*added, *BUILT_IN)}


def find_layout(dataset: xr.Dataset, name: str | None = None) -> Layout:
    """Return a layout by name, or the first one that matches a data set.

    Args:
        dataset: data set as opened by xarray.
        name: name of the layout; recognised by default.

    Raises:
        ValueError: there is no layout of that name.
    """
    known = layouts()
    if name is None:
        return next(layout for layout in known.values() if layout.matches(dataset))
    if name not in known:
        raise ValueError(f"no layout {name!r}; {suggest(name, known)}")
    return known[name]
