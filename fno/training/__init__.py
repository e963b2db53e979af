"""Training: the loop, objectives, schedules, averaged weights and the saved state."""

from .fit import fit
from .iterables import IterableBatches
from .loop import TrainingRecord, train
from .objectives.forecast import ForecastObjective
from .objectives.supervised import SupervisedObjective
from .protocols import BatchSource, DeviceBatch, Loss, Objective
from .settings import TrainSettings

__all__ = [
    "BatchSource",
    "DeviceBatch",
    "ForecastObjective",
    "IterableBatches",
    "Loss",
    "Objective",
    "SupervisedObjective",
    "TrainSettings",
    "TrainingRecord",
    "fit",
    "train",
]
