"""Event files of TensorBoard."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from .base import RunInfo


class TensorBoardLogger:
    """Write event files to ``tensorboard`` in the folder of the run; view them with ``tensorboard --logdir``.

    Events of steps that are repeated after an interruption are purged.

    Args:
        info: the training run.
    """

    package: ClassVar[str] = "tensorboard"
    install: ClassVar[str] = "fourcaster[tensorboard]"

    def __init__(self, info: RunInfo) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = info.folder / "tensorboard"
        self.run = str(folder)
        earlier = folder.exists()
        # Untyped in torch.
        self._writer: Any = SummaryWriter(self.run, purge_step=info.step + 1 if earlier else None)
        if not earlier:
            text = json.dumps(info.settings, indent=1, default=str)
            self._writer.add_text("settings", "\n".join(f"    {line}" for line in text.splitlines()), 0)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Record values; arguments as for ``RunLogger``."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, name: str, path: Path, step: int) -> None:
        """Record a picture; arguments as for ``RunLogger``."""
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image(f"pictures/{name}", pixels, step, dataformats="HWC")

    def flush(self) -> None:
        """Write what was recorded."""
        self._writer.flush()

    def close(self, *, finished: bool) -> None:
        """Close the event file."""
        self._writer.close()
