"""Loggers by name, and the check that their packages are installed."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec

from ...errors import RegistryError
from ...registry import Registry
from .base import RunLogger
from .mlflow import MlflowLogger
from .tensorboard import TensorBoardLogger
from .wandb import WandbLogger

_BUILTIN: dict[str, type[RunLogger]] = {
    "tensorboard": TensorBoardLogger,
    "wandb": WandbLogger,
    "mlflow": MlflowLogger,
}

LOGGERS: Registry[type[RunLogger]] = Registry(_BUILTIN, group="fourcaster.loggers", noun="logger")
"""Loggers by name; other packages add theirs as entry points in the group ``fourcaster.loggers``."""


def check_loggers(names: Sequence[str]) -> None:
    """Check that loggers exist and that what they need is installed.

    Args:
        names: registered names, or ``module:Class``.

    Raises:
        RegistryError: there is no such logger, it cannot be imported, or its package is not installed.
    """
    for name in names:
        try:
            logger = LOGGERS.find(name)
        except (ImportError, AttributeError) as error:
            raise RegistryError(
                f"the logger {name} cannot be imported ({error}); install what it needs, or leave it out"
            ) from error
        package = getattr(logger, "package", "")
        if package and package not in sys.modules and find_spec(package) is None:
            install = getattr(logger, "install", package)
            raise RegistryError(
                f"the logger {name} needs the package {package}, which is not installed; run pip install "
                f"'{install}', or leave out the logger"
            )
