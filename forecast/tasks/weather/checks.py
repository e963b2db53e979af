"""Checks of training data that would train a useless model: too few samples, bad channels."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ....datasets.durations import format_time
from ....datasets.errors import DataError
from ....datasets.schema import Channel
from ....datasets.statistics.moments import Statistics
from ....datasets.store.fields import Fields, runs
from ....datasets.store.open import Store

_LISTED = 2  # runs of missing times in a message
_SHARE = 1.001e-6  # of the standard deviation; the tendencies have at least 1e-6, see ``compute_statistics``


def check_samples(store: Store, train: slice, *, window: int, batch_size: int) -> None:
    """Check that a batch is not larger than the training data, whose samples it would repeat.

    Args:
        store: open store.
        train: positions of the training period.
        window: number of input states.
        batch_size: samples per batch.

    Raises:
        DataError: it is larger.
    """
    edges = [train.start, *(gap for gap in store.gaps if train.start < gap < train.stop), train.stop]
    samples = sum(max(0, stop - start - window) for start, stop in zip(edges[:-1], edges[1:], strict=True))
    if 0 < samples < batch_size:
        raise DataError(
            f"train.batch_size is {batch_size}, but the training period has only {samples} samples of "
            f"{window + 1} consecutive times; lower it to {samples} or less, or extend the period"
        )


def check_channels(store: Store, fields: Fields, *, statistics: Statistics, period: slice) -> None:
    """Check that each channel changes with time and has values throughout the training period.

    Args:
        store: open store.
        fields: fields of the store.
        statistics: statistics of the period.
        period: positions of the period.

    Raises:
        DataError: a channel does not change, or lacks values at some times.
    """
    for _, defect in channel_defects(store, fields, statistics=statistics, period=period):
        raise DataError(defect)


def channel_defects(
    store: Store, fields: Fields, *, statistics: Statistics, period: slice
) -> Iterator[tuple[Channel, str]]:
    """Yield each channel that does not change or lacks values at some times, with the message of the error.

    Args:
        store: open store.
        fields: fields of the store.
        statistics: statistics of the period.
        period: positions of the period.
    """
    for index, channel in enumerate(store.channels):
        if statistics.partly_missing[index]:
            missing = _missing_times(fields, index, period)
            if missing.any():
                yield channel, _missing_message(channel, missing, fields.times[period])
        still = statistics.tendency_std[index] <= _SHARE * statistics.std[index]
        constant = still or statistics.minimum[index] == statistics.maximum[index]
        if constant and statistics.mask[index].any() and _is_constant(fields, index, period):
            yield channel, constant_message(channel, float(statistics.mean[index]))


def constant_message(channel: Channel, mean: float) -> str:
    """Return the message for a channel that does not change.

    Args:
        channel: the channel.
        mean: its mean.
    """
    value = f"{mean:g} {channel.units}".strip()
    return (
        f"{channel} does not change during the training period (its mean is {value}), so there is "
        "nothing to forecast; leave it out with data.variables"
    )


def _missing_times(fields: Fields, index: int, period: slice) -> NDArray[np.bool_]:
    """Return at which times of the period a channel has no values at all."""
    channel = fields.part(slice(index, index + 1))
    blocks = [channel.read(positions) for positions in channel.blocks(period)]
    return np.concatenate([~np.isfinite(block).any(axis=(1, 2, 3)) for block in blocks])


def _is_constant(fields: Fields, index: int, period: slice) -> bool:
    """Return whether the values of a channel are the same at all times of the period."""
    channel = fields.part(slice(index, index + 1))
    first = channel.read(slice(period.start, period.start + 1))
    return all(
        np.array_equal(block, np.broadcast_to(first, block.shape), equal_nan=True)
        for block in map(channel.read, channel.blocks(period))
    )


def _missing_message(channel: Channel, missing: NDArray[np.bool_], times: NDArray[np.datetime64]) -> str:
    """Return the message for a channel without values at some times."""
    parts = runs(np.flatnonzero(missing))
    spans = [f"{format_time(times[part.start])} to {format_time(times[part.stop - 1])}" for part in parts]
    more = len(spans) - _LISTED
    listed = ", ".join(spans[:_LISTED]) + (f" and {more} more times" if more > 0 else "")
    return (
        f"{channel} has no values at {int(missing.sum())} of {len(times)} times of the training period "
        f"({listed}); choose another data.train_period, or leave the variable out with data.variables"
    )
