"""The training loop and what it needs: schedules, averaged weights, the saved state."""

from .loop import BatchSource, Loss, Objective, TrainingRecord, train
from .objectives.forecast import ForecastObjective
from .resolution import MixedResolution
from .settings import TrainSettings

__all__ = [
    "BatchSource",
    "ForecastObjective",
    "Loss",
    "MixedResolution",
    "Objective",
    "TrainSettings",
    "TrainingRecord",
    "train",
]
