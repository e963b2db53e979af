"""The training loop and what it needs: schedules, averaged weights, the saved state."""

from .loop import BatchSource, TrainingRecord, train
from .resolution import MixedResolution
from .settings import TrainSettings

__all__ = ["BatchSource", "MixedResolution", "TrainSettings", "TrainingRecord", "train"]
