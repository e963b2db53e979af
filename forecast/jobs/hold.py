"""The hold on a claimed cycle: renewed for as long as it is worked on, whatever that work is."""

import threading
import time
from contextlib import suppress

from .ledger import Ledger
from .rows import Row

_OFTEN = 5.0  # seconds between two renewals, at the most; also how soon a cancellation is heard of


class Hold:
    """Renews the claim to a cycle from a thread of its own until it is left.

    Args:
        ledger: where the claim is entered.
        row: the cycle, as claimed.

    Attributes:
        state: ``ours``; ``cancel`` where the cycle is to be cancelled; ``lost`` where another has taken it,
            or may have.
    """

    def __init__(self, ledger: Ledger, row: Row) -> None:
        self._ledger, self._row, self._left = ledger, row, threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self.state = "ours"

    def __enter__(self) -> "Hold":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()
        self._ledger.drop(self._row)

    def ours(self) -> bool:
        """Return whether the claim still holds, by asking the ledger, and by its last answer where it cannot
        be asked.
        """
        with suppress(OSError):
            self.state = self._ledger.renew(self._row)
        return self.state != "lost"

    def _renew(self) -> None:
        renewed = time.monotonic()
        while not self._left.wait(min(self._ledger.lease / 3, _OFTEN)):
            try:
                self.state = self._ledger.renew(self._row)
                renewed = time.monotonic()
            except OSError:  # locked, or no room: another try before the lease is over
                if time.monotonic() - renewed > self._ledger.lease:
                    self.state = "lost"
