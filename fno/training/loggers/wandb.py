"""Runs of Weights & Biases."""

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from .base import RunInfo


class WandbLogger:
    """Record a run for Weights & Biases in the folder of the run, without network unless it is requested.

    Environment variables of wandb apply: ``WANDB_MODE`` (``offline`` if it is not set), ``WANDB_PROJECT``
    (``fourcaster`` if not set), ``WANDB_ENTITY`` and others. Each start of an offline run writes a folder of
    its own with the same run identifier, and ``wandb sync --append`` joins them.

    Args:
        info: the training run.
    """

    package: ClassVar[str] = "wandb"
    install: ClassVar[str] = "fourcaster[wandb]"

    def __init__(self, info: RunInfo) -> None:
        self._wandb: Any = import_module("wandb")
        mode = os.environ.get("WANDB_MODE") or "offline"
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "fourcaster",
            name=info.name,
            id=info.run,
            resume="allow" if info.run is not None and mode == "online" else None,
            dir=str(info.folder),
            mode=mode,
            config=dict(info.settings),
            settings=self._wandb.Settings(console="off", silent=True),
        )
        self.run = str(self._run.id)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Record values; arguments as for ``RunLogger``."""
        self._run.log(dict(values), step=step)

    def picture(self, name: str, path: Path, step: int) -> None:
        """Record a picture; arguments as for ``RunLogger``."""
        self._run.log({f"pictures/{name}": self._wandb.Image(str(path))}, step=step)

    def flush(self) -> None:
        """Do nothing: a process of wandb writes what was recorded."""

    def close(self, *, finished: bool) -> None:
        """End the run, as failed if training was interrupted."""
        self._run.finish(exit_code=0 if finished else 1)
