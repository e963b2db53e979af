"""Registry of models by name: those of this package, those of entry points, and those added in Python."""

from collections.abc import Iterator, Mapping, MutableMapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from torch import nn

from ..errors import RegistryError
from ..grids import Grid
from .afno import AFNO
from .base import Clipping, GridModel
from .fno import FNO, TFNO
from .sfno import SFNO

GROUP = "fourcaster.models"
"""Group of entry points in which other packages register models."""


class ModelRegistry(MutableMapping[str, type[nn.Module]]):
    """Model classes by the name that a configuration uses.

    A model is a ``torch.nn.Module`` whose constructor takes ``in_channels``, ``out_channels`` and further
    options by keyword, and which maps (batch, in_channels, *grid) to (batch, out_channels, *grid). One that
    derives from ``GridModel`` can fit its options to a grid. Another package adds a model with one class and
    one entry in its ``pyproject.toml``::

        [project.entry-points."fourcaster.models"]
        unet = "mypackage.unet:UNet"

    Entry points are listed at the first access and imported when their model is first used. In Python,
    ``REGISTRY["unet"] = UNet`` adds a model for the current process. A name that is taken is an error.

    Args:
        builtin: models of this package.

    Raises:
        RegistryError: on access or assignment, if a name is taken or does not refer to a model.

    Example:
        >>> REGISTRY["sfno"].__name__
        'SFNO'
        >>> "unet" in REGISTRY
        False
    """

    def __init__(self, builtin: Mapping[str, type[nn.Module]]) -> None:
        self._models = dict(builtin)
        self._entries: dict[str, EntryPoint] | None = None

    def __getitem__(self, name: str) -> type[nn.Module]:
        entries = self._external()
        if name not in self._models:
            if name not in entries:
                raise KeyError(name)
            self._models[name] = _check(name, entries[name].load(), entries[name].value)
        return self._models[name]

    def __setitem__(self, name: str, model: type[nn.Module]) -> None:
        _check(name, model, repr(model))
        if name in self and _origin(self[name]) != _origin(model):
            raise RegistryError(f"cannot register {model!r}: the name {name!r} is taken")
        self._models[name] = model

    def __delitem__(self, name: str) -> None:
        del self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._models, **self._external()})

    def __len__(self) -> int:
        return len({**self._models, **self._external()})

    def __contains__(self, name: object) -> bool:
        return name in self._models or name in self._external()

    def _external(self) -> dict[str, EntryPoint]:
        """Return the entry points by name, listed once."""
        if self._entries is None:
            entries: dict[str, EntryPoint] = {}
            for entry in entry_points(group=GROUP):
                if entry.name in self._models or entry.name in entries:
                    raise RegistryError(
                        f"entry point {entry.value} of {GROUP} uses the name {entry.name!r}, which is taken; "
                        "rename it or remove its package"
                    )
                entries[entry.name] = entry
            self._entries = entries
        return self._entries


def _check(name: str, model: object, source: str) -> type[nn.Module]:
    if not (isinstance(model, type) and issubclass(model, nn.Module)):
        raise RegistryError(f"model {name!r} ({source}) is not a subclass of torch.nn.Module")
    return model


def _origin(model: type) -> tuple[str, str]:
    """Return where a class is defined.

    A class of the same origin may replace another, so that a module or notebook cell can be executed again.
    """
    return model.__module__, model.__qualname__


REGISTRY = ModelRegistry({"fno": FNO, "tfno": TFNO, "sfno": SFNO, "afno": AFNO})
"""Models that configurations and checkpoints can name."""


def build_model(
    kind: str, grid: Grid, *, in_channels: int, out_channels: int, **options: Any
) -> tuple[nn.Module, list[Clipping]]:
    """Build a registered model for a grid.

    Args:
        kind: name in ``REGISTRY``.
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
