"""Throughput of a source of batches."""

import time
from collections.abc import Iterator
from typing import Generic, TypeVar

from .protocols import DeviceBatch

B = TypeVar("B", bound=DeviceBatch)


class ThroughputMeter(Generic[B]):
    """Iterate over batches and measure the data rate and the time spent waiting for data.

    The clock stops after the last batch.

    Args:
        batches: batches to pass on.
        parts: number of processes among which the samples of a batch are divided.

    Attributes:
        steps: number of batches so far.
    """

    def __init__(self, batches: Iterator[B], parts: int = 1) -> None:
        self.steps = 0
        self._batches = batches
        self._parts = parts
        self._started = time.monotonic()
        self._ended: float | None = None
        self._bytes = 0
        self._samples = 0
        self._waited = 0.0

    def __iter__(self) -> Iterator[B]:
        while True:
            requested = time.monotonic()
            batch = next(self._batches, None)
            received = time.monotonic()
            self._waited += received - requested
            if batch is None:
                self._ended = received
                return
            self.steps += 1
            self._bytes += batch.nbytes
            self._samples += len(batch) * self._parts
            yield batch

    @property
    def rate(self) -> float:
        """Data rate of this process since the first batch was requested [MB/s]."""
        return self._bytes / 1e6 / self.seconds

    @property
    def samples(self) -> float:
        """Samples per second of all processes together [1/s]."""
        return self._samples / self.seconds

    @property
    def waiting(self) -> float:
        """Fraction of the time spent waiting for data."""
        return self._waited / self.seconds

    @property
    def seconds(self) -> float:
        """Time since the first batch was requested, until the last one was used [s]."""
        now = time.monotonic() if self._ended is None else self._ended
        return max(1e-9, now - self._started)

    def to_dict(self) -> dict[str, float]:
        """Return the measurements for a log."""
        return {
            "samples_per_second": round(self.samples, 2),
            "megabytes_per_second": round(self.rate, 2),
            "waiting": round(self.waiting, 4),
        }

    def __str__(self) -> str:
        return f"{self.samples:.3g} samples/s, {self.rate:.3g} MB/s, {self.waiting:.0%} waiting for data"
