"""Checks that the values a training run uses, saves and resumes from are finite."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import NonFiniteError

_LISTED = 3  # names in a message


def non_finite(tensors: Iterable[tuple[str, Tensor | None]]) -> list[str]:
    """Return the names of the tensors with a NaN or an infinity, in order."""
    candidates = [(n, t) for n, t in tensors if t is not None and (t.is_floating_point() or t.is_complex())]
    # The norm of all tensors, finite in nearly every call, is a single number to wait for on a GPU.
    if not candidates or bool(torch.isfinite(torch.nn.utils.get_total_norm([t for _, t in candidates]))):
        return []
    return [name for name, t in candidates if not bool(torch.isfinite(t).all())]


def list_names(names: list[str]) -> str:
    """Return the first few names as text."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def check_gradient(parameters: Iterable[tuple[str, nn.Parameter]], where: str) -> Tensor:
    """Return the norm of the gradient after checking that it is finite.

    Args:
        parameters: names and parameters, with the gradient in ``grad``.
        where: position in the training, e.g. ``at step 12``.

    Raises:
        NonFiniteError: the norm is not finite; the message names the first parameters concerned.
    """
    gradients = [(name, p.grad) for name, p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([g for _, g in gradients])
    if bool(torch.isfinite(norm)):
        return norm
    if names := non_finite(gradients):
        raise NonFiniteError(f"the gradient of {list_names(names)} is not finite {where}")
    # Every entry is finite, but the sum of their squares is not.
    largest = max(gradients, key=lambda pair: float(pair[1].abs().max()))
    raise NonFiniteError(
        f"the norm of the gradient overflows {where}, with its largest entry in {largest[0]}"
    )


def check_tensors(tensors: Mapping[str, Tensor], kind: str, when: str) -> None:
    """Check that weights, averages or optimizer moments are finite.

    Args:
        tensors: tensors by name.
        kind: plural noun for them in the message, e.g. ``weights``.
        when: position in the training, e.g. ``after step 12``.

    Raises:
        NonFiniteError: some are not, e.g. ``the averages of lift.weight are not finite after step 12``.
    """
    if names := non_finite(tensors.items()):
        raise NonFiniteError(f"the {kind} of {list_names(names)} are not finite {when}")


def check_saved(path: Path, groups: Mapping[str, Mapping[str, Tensor]], step: int) -> None:
    """Check that a saved state is finite; older versions could write one that is not.

    Args:
        path: file of the state.
        groups: its tensors by group and name. The group "best" is not checked.
        step: number of completed steps, for the message.

    Raises:
        NonFiniteError: a value is not finite; the message says to remove the state.
    """
    if names := non_finite(
        (name, t) for group, tensors in groups.items() if group != "best" for name, t in tensors.items()
    ):
        raise NonFiniteError(
            f"{path} (step {step}) has values that are not finite in {list_names(names)} and cannot be "
            f"resumed; remove {path.parent} to start over, with a lower learning_rate if training diverged"
        )
