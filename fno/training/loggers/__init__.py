"""Loggers of training runs: TensorBoard, Weights & Biases, MLflow, and those of other packages."""

from .base import RunInfo, RunLogger
from .group import LoggerGroup
from .registry import LOGGERS, check_loggers

__all__ = ["LOGGERS", "LoggerGroup", "RunInfo", "RunLogger", "check_loggers"]
