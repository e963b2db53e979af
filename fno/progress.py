"""The callback through which long functions report their progress."""

from typing import Protocol


class Progress(Protocol):
    """A function called as work advances: ``progress(done, total, text)``.

    Long functions take one as their argument ``progress`` and call it from the thread that called them.
    """

    def __call__(self, done: int, total: int, text: str, /) -> None:
        """Report progress.

        Args:
            done: number of steps done, in the unit of the caller: training steps, fields, samples.
            total: number of steps overall; may change from call to call.
            text: short description of the current state, without a line break.
        """
