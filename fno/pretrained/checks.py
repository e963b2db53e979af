"""Checks of state dicts of unknown origin that the readers of all formats share."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import WeightsError

_LONGEST_NAME = 1_000


@dataclass(frozen=True)
class ModelDescription:
    """A model of this package as read from a file.

    Attributes:
        kind: name in the registry of models.
        arguments: arguments of its constructor.
        tensors: its parameters, by their name in this package.
    """

    kind: str
    arguments: dict[str, Any]
    tensors: dict[str, Tensor]


def check_names(state: dict[Any, Any], source: str) -> dict[str, Any]:
    """Return a state dict whose keys are all names of reasonable length.

    Raises:
        WeightsError: a key is not a string, or is too long.
    """
    if wrong := [name for name in state if not isinstance(name, str) or len(name) > _LONGEST_NAME]:
        raise WeightsError(f"{source} has no state dict: {str(wrong[0])[:80]!r} is not the name of a tensor")
    return state


def first_names(state: Mapping[str, Any]) -> str:
    """Return the first few names of a state dict, for errors."""
    return ", ".join(str(name)[:80] for name in list(state)[:5])


def count_blocks(numbers: Iterable[str], name: str, source: str) -> int:
    """Return the number of blocks.

    Args:
        numbers: numbers of blocks in the names of their tensors.
        name: prefix of these names, for errors.
        source: name of the file, for errors.

    Raises:
        WeightsError: blocks are not numbered from 0 without gaps.
    """
    seen = set(numbers)
    if unexpected := seen - {str(i) for i in range(len(seen))}:
        raise WeightsError(
            f"{source} has {name}.{min(unexpected)[:30]}, but {len(seen)} of its kind; "
            "they should be numbered from 0 without gaps"
        )
    return len(seen)


def check_dimensions(tensors: Mapping[str, Tensor], dimensions: Mapping[str, int], source: str) -> None:
    """Check that tensors exist, have the right number of dimensions, and are not empty.

    Args:
        tensors: tensors by name.
        dimensions: number of dimensions of each tensor to check.
        source: name of the file, for errors.

    Raises:
        WeightsError: a tensor is missing, empty or has another number of dimensions.
    """
    for name, count in dimensions.items():
        if name not in tensors:
            raise WeightsError(f"{source} lacks {name}")
        if tensors[name].ndim != count or not tensors[name].numel():
            raise WeightsError(
                f"{source}: {name} has shape {tuple(tensors[name].shape)}, expected {count} dimensions, "
                "none of them empty"
            )


def check_arguments(
    requested: Mapping[str, Any], stored: Mapping[str, Any], free: tuple[str, ...], *, source: str
) -> None:
    """Check arguments against those that a file determines.

    Args:
        requested: arguments to check.
        stored: arguments that the tensors determine.
        free: names of arguments that they do not determine.
        source: name of the file, for errors.

    Raises:
        WeightsError: an argument that does not exist, or that the file contradicts.
    """
    if unknown := [name for name in requested if name not in stored and name not in free]:
        raise WeightsError(
            f"{source}: unknown argument {', '.join(unknown)}; there are {', '.join([*free, *stored])}"
        )
    wrong = [
        f"{name} is {stored[name]}, not {value}"
        for name, value in requested.items()
        if name in stored and not _equal(stored[name], value)
    ]
    if wrong:
        raise WeightsError(f"{source}: {'; '.join(wrong)}")


def _equal(a: Any, b: Any) -> bool:
    return list(a) == list(b) if isinstance(a, tuple) and isinstance(b, tuple | list) else bool(a == b)
