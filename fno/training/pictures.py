"""Pictures of a run, whose failure is of no consequence for the training."""

import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from .protocols import Pictures

log = logging.getLogger(__name__)


def draw(
    pictures: Pictures, *, last: bool, weights: AbstractContextManager[None] | None = None
) -> dict[str, Path] | None:
    """Draw the pictures of a run if they are due.

    Args:
        pictures: pictures of the run.
        last: whether training ends with the present validation.
        weights: context in which the model has the weights to predict with; the present ones by default.

    Returns:
        The new files by name; None after a failure, which is logged.
    """
    try:
        if not pictures.due(last=last):
            return {}
        if pictures.predicts:
            with weights or nullcontext():
                pictures.predict()
        return pictures.draw()
    except Exception as error:  # noqa: BLE001  no picture may end the training
        reason = " ".join(str(error).split())[:200]
        log.warning(
            "drawing failed (%s: %s); training goes on without pictures", type(error).__name__, reason
        )
        return None
