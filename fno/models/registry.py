"""Registry of models by name, and their construction for a grid."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..grids import Grid
from ..registry import Registry, subclass_of
from .afno import AFNO
from .base import Clipping, GridModel
from .fno import FNO, TFNO
from .precipitation import PrecipNet
from .sfno import SFNO

GROUP = "fourcaster.models"
"""Group of entry points in which other packages register models."""


class ModelRegistry(Registry[type[nn.Module]]):
    """Model classes by the name that a configuration uses; see ``Registry``.

    A model is a ``torch.nn.Module`` whose constructor takes ``in_channels``, ``out_channels`` and further
    options by keyword, and which maps (batch, in_channels, *grid) to (batch, out_channels, *grid). One that
    derives from ``GridModel`` can fit its options to a grid.

    Args:
        builtin: models of this package.

    Example:
        >>> REGISTRY["sfno"].__name__
        'SFNO'
        >>> "unet" in REGISTRY
        False
    """

    def __init__(self, builtin: Mapping[str, type[nn.Module]]) -> None:
        super().__init__(
            builtin,
            group=GROUP,
            noun="model",
            valid=subclass_of(nn.Module),
            expected="a subclass of torch.nn.Module",
        )


REGISTRY = ModelRegistry({"fno": FNO, "tfno": TFNO, "sfno": SFNO, "afno": AFNO, "precipnet": PrecipNet})
"""Models that configurations and checkpoints can name."""


def build_model(
    kind: str, grid: Grid, *, in_channels: int, out_channels: int, **options: Any
) -> tuple[nn.Module, list[Clipping]]:
    """Build a registered model for a grid.

    Args:
        kind: name in ``REGISTRY``, or ``module:Class``.
        grid: grid of the training data.
        in_channels: channels of the input.
        out_channels: channels of the output.
        **options: further arguments of its constructor.

    Returns:
        The model, and the options that were reduced because the grid cannot resolve them; see
        ``GridModel.for_grid``. Other modules take their options as they are.

    Raises:
        KeyError: no such model.
        ValueError: a model that cannot run on this grid.
    """
    model = REGISTRY[kind]
    if issubclass(model, GridModel):
        return model.for_grid(grid, in_channels, out_channels, **options)
    return model(in_channels=in_channels, out_channels=out_channels, **options), []


def count_layers(kind: str, options: Mapping[str, Any]) -> Any:
    """Return the number of layers among the options of a model, unchecked; 1 if it has no such option.

    Args:
        kind: name in ``REGISTRY``.
        options: arguments of the constructor.

    Raises:
        KeyError: no such model.
    """
    model = REGISTRY[kind]
    return model.count_layers(options) if issubclass(model, GridModel) else 1
