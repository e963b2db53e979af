"""Parameters that training leaves as they are."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from ..errors import SettingError


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Exclude parameters from training, and return their names.

    Args:
        model: model to change.
        patterns: patterns of names with ``*``, such as ``network.*.blocks.*``.

    Raises:
        SettingError: a pattern matches no parameter, or nothing remains to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            listed = ", ".join(names[:3])
            raise SettingError(f"freeze: {pattern!r} matches no parameter; their names are {listed}, ...")
    frozen = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if len(frozen) == len(names):
        raise SettingError("freeze matches all parameters, so nothing remains to train")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return frozen


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that are trained."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
