"""Training: the loop, objectives, schedules, averaged weights and the saved state."""

from .loop import TrainingRecord, train
from .objectives.forecast import ForecastObjective
from .protocols import BatchSource, DeviceBatch, Loss, Objective
from .settings import TrainSettings

__all__ = [
    "BatchSource",
    "DeviceBatch",
    "ForecastObjective",
    "Loss",
    "Objective",
    "TrainSettings",
    "TrainingRecord",
    "train",
]
