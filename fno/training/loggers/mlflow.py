"""Runs of MLflow."""

import os
import time
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from .base import RunInfo

_LARGEST_BATCH = 1000  # metrics in a request
_MOST_PARAMETERS = 100  # in a request
_LONGEST_PARAMETER = 500  # characters that all versions of the server accept


class MlflowLogger:
    """Record a run with MLflow, in ``mlflow.db`` in the folder of the run unless a server is configured.

    Environment variables of MLflow apply: ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME``
    (``fourcaster`` if not set). No active run of the process is created or changed.

    Args:
        info: the training run.
    """

    package: ClassVar[str] = "mlflow"
    install: ClassVar[str] = "fourcaster[mlflow]"

    def __init__(self, info: RunInfo) -> None:
        mlflow: Any = import_module("mlflow")
        self._entities: Any = import_module("mlflow.entities")
        folder = info.folder.resolve()
        server = os.environ.get("MLFLOW_TRACKING_URI")
        self._client = mlflow.MlflowClient(tracking_uri=server or f"sqlite:///{folder / 'mlflow.db'}")
        self._metrics: list[Any] = []
        if info.run is not None:
            self.run = info.run
            self._client.update_run(self.run, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "fourcaster"
        experiment = self._client.get_experiment_by_name(name)
        if experiment is not None:
            number = experiment.experiment_id
        elif server:
            number = self._client.create_experiment(name)
        else:
            location = (folder / "mlartifacts").as_uri()
            number = self._client.create_experiment(name, artifact_location=location)
        self.run = str(self._client.create_run(number, run_name=info.name).info.run_id)
        parameters = [
            self._entities.Param(key, value[:_LONGEST_PARAMETER]) for key, value in _flat(info.settings)
        ]
        for start in range(0, len(parameters), _MOST_PARAMETERS):
            self._client.log_batch(self.run, params=parameters[start : start + _MOST_PARAMETERS])

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Record values; arguments as for ``RunLogger``."""
        now = int(1000 * time.time())
        self._metrics += [self._entities.Metric(name, value, now, step) for name, value in values.items()]

    def picture(self, name: str, path: Path, step: int) -> None:
        """Record a picture, in place of an earlier one; arguments as for ``RunLogger``."""
        self._client.log_artifact(self.run, str(path), "pictures")

    def flush(self) -> None:
        """Send what was recorded."""
        metrics = self._metrics
        self._metrics = []
        for start in range(0, len(metrics), _LARGEST_BATCH):
            self._client.log_batch(self.run, metrics=metrics[start : start + _LARGEST_BATCH])

    def close(self, *, finished: bool) -> None:
        """End the run, as killed if training was interrupted."""
        self._client.set_terminated(self.run, "FINISHED" if finished else "KILLED")


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested values as texts with dotted keys."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
