"""Renewal of the lease on a claimed cycle for as long as it is worked on."""

import threading
import time
from contextlib import suppress

from .ledger import Ledger
from .records import CycleRecord
from .states import ClaimState

_LONGEST_INTERVAL = 5.0  # s between two renewals, after which a cancellation is noticed at the latest


class LeaseKeeper:
    """Context that renews the claim to a cycle in a separate thread.

    Args:
        ledger: ledger in which the claim is recorded.
        record: the claimed cycle.

    Attributes:
        state: last known state of the claim.
    """

    def __init__(self, ledger: Ledger, record: CycleRecord) -> None:
        self._ledger = ledger
        self._record = record
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self.state = ClaimState.HELD

    def __enter__(self) -> "LeaseKeeper":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        self._thread.join()
        self._ledger.forget(self._record)

    def is_held(self) -> bool:
        """Return whether the ledger still has the claim; its last answer where it cannot be read."""
        with suppress(OSError):
            self.state = self._ledger.renew(self._record)
        return self.state is not ClaimState.LOST

    def _renew(self) -> None:
        renewed = time.monotonic()
        while not self._finished.wait(min(self._ledger.lease / 3, _LONGEST_INTERVAL)):
            try:
                self.state = self._ledger.renew(self._record)
                renewed = time.monotonic()
            except OSError:  # locked, or no room: another try before the lease expires
                if time.monotonic() - renewed > self._ledger.lease:
                    self.state = ClaimState.LOST
