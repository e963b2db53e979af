"""Throughput of a source of batches."""

import time
from collections.abc import Iterator
from typing import Generic, TypeVar

from .protocols import DeviceBatch

B = TypeVar("B", bound=DeviceBatch)


class ThroughputMeter(Generic[B]):
    """Iterate over batches and measure the data rate and the time spent waiting for data.

    Args:
        batches: batches to pass on.
    """

    def __init__(self, batches: Iterator[B]) -> None:
        self._batches = batches
        self._started = time.monotonic()
        self._bytes = 0
        self._waited = 0.0

    def __iter__(self) -> Iterator[B]:
        while True:
            requested = time.monotonic()
            batch = next(self._batches, None)
            self._waited += time.monotonic() - requested
            if batch is None:
                return
            self._bytes += batch.nbytes
            yield batch

    @property
    def rate(self) -> float:
        """Data rate since the first batch was requested [MB/s]."""
        return self._bytes / 1e6 / self._elapsed

    @property
    def waiting(self) -> float:
        """Fraction of the time spent waiting for data."""
        return self._waited / self._elapsed

    @property
    def _elapsed(self) -> float:
        return max(1e-9, time.monotonic() - self._started)

    def __str__(self) -> str:
        return f"{self.rate:.3g} MB/s, {self.waiting:.0%} of the time waiting for data"
