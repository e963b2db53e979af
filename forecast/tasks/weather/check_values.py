"""Check of the values of a store: missing and constant ones."""

import numpy as np
import xarray as xr

from ....datasets.loaders.split import Split
from ....datasets.schema import Channel
from ....datasets.store.fields import Fields
from ....datasets.store.open import Store, read_group, store_statistics
from ...model import channel_problems
from ..check import Findings
from .checks import channel_defects, constant_message
from .parent import Parent

STATISTICS_BYTES = 2**25
"""Largest training period whose statistics are computed [bytes]."""

_PROBED_TIMES = 8  # whose missing values are compared in a longer one


def check_values(store: Store, split: Split, parent: Parent | None, *, findings: Findings) -> bool:
    """Check each channel for constant and missing values, and return whether points are masked.

    A short training period is read whole. Of a longer one, the statistics that are stored with it are
    compared, and where a channel has missing values, some of its times.
    """
    fields = Fields(store.dataset)
    fit = split.fit
    if states_bytes(store, fit.stop - fit.start) <= STATISTICS_BYTES:
        statistics = store_statistics(store, fields, fit)
        problems = channel_problems(store.channels, statistics)
        problems |= dict(channel_defects(store, fields, statistics=statistics, period=fit))
        for problem in problems.values():
            findings.add(problem)
        if parent is not None:
            with findings.collecting():
                parent.adapt(statistics, store.channels, store.grid)
        return not statistics.mask.all()
    findings.notes.append("missing and constant values are looked up in the statistics of the store")
    masked = False
    stored = read_group(store, "statistics")
    positions = np.unique(np.linspace(fit.start, fit.stop - 1, _PROBED_TIMES).astype(np.int64))
    for index, channel in enumerate(store.channels):
        low, high, missing = (_stored(stored, channel, name) for name in ("minimum", "maximum", "missing"))
        if low == high:
            findings.add(constant_message(channel, low))
        if missing:
            masked = True
            finite = np.isfinite(fields.part(slice(index, index + 1)).read(positions)[:, 0])
            if changing := int((finite.any(axis=0) & ~finite.all(axis=0)).sum()):
                findings.add(
                    f"{channel} has intermittently missing values at {changing} points or more; fill them "
                    "before ingesting, or leave the variable out with data.variables"
                )
    return masked


def _stored(statistics: xr.Dataset, channel: Channel, name: str) -> float:
    """Return a stored statistic of a channel; NaN where there is none."""
    key = f"{channel.variable}_{name}"
    if key not in statistics:
        return float("nan")
    values = statistics[key]
    return float(values.sel(level=channel.level) if "level" in values.dims else values)


def states_bytes(store: Store, times: int) -> int:
    """Return the size of the states at a number of times, as float32."""
    rows, columns = store.grid.shape
    return 4 * times * len(store.channels) * rows * columns
