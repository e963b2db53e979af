"""The training loop and what it needs: schedules, averaged weights, the saved state."""

from .loop import BatchSource, TrainingRecord, train
from .settings import TrainSettings

__all__ = ["BatchSource", "TrainSettings", "TrainingRecord", "train"]
