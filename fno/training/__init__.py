"""The training loop and what it needs: schedules, averaged weights, the saved state."""

from .loop import BatchSource, Loss, Objective, TrainingRecord, train
from .objectives.forecast import Forecasting
from .resolution import MixedResolution
from .settings import TrainSettings

__all__ = [
    "BatchSource",
    "Forecasting",
    "Loss",
    "MixedResolution",
    "Objective",
    "TrainSettings",
    "TrainingRecord",
    "train",
]
