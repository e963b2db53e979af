"""Checks that a training run steps from, saves and resumes finite numbers alone."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import NonFiniteError

_NAMED = 3


def non_finite(tensors: Iterable[tuple[str, Tensor | None]]) -> list[str]:
    """Return the names of the tensors that have a NaN or an infinity, in order."""
    given = [(name, t) for name, t in tensors if t is not None and (t.is_floating_point() or t.is_complex())]
    # The norm of all is one number to wait for on a GPU; it is finite in nearly every call.
    if not given or bool(torch.isfinite(torch.nn.utils.get_total_norm([t for _, t in given]))):
        return []
    return [name for name, t in given if not bool(torch.isfinite(t).all())]


def listed(names: list[str]) -> str:
    """Return the first few names as text."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def check_gradient(parameters: Iterable[tuple[str, nn.Parameter]], where: str) -> Tensor:
    """Return the norm of the gradient, and refuse one that is not finite before an optimizer takes it.

    Args:
        parameters: names and parameters, with the gradient in ``grad``.
        where: in the training, e.g. ``at step 12``.

    Raises:
        NonFiniteError: the norm is not finite; the first parameters concerned are named.
    """
    gradients = [(name, p.grad) for name, p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([g for _, g in gradients])
    if bool(torch.isfinite(norm)):
        return norm
    if names := non_finite(gradients):
        raise NonFiniteError(f"the gradient of {listed(names)} is not finite {where}")
    largest = max(
        gradients, key=lambda pair: float(pair[1].abs().max())
    )  # entries are finite, the sum of their squares is not
    raise NonFiniteError(
        f"the norm of the gradient overflows {where}, with its largest entry in {largest[0]}"
    )


def check_tensors(tensors: Mapping[str, Tensor], kind: str, when: str) -> None:
    """Refuse weights, averages or moments that are not finite.

    Args:
        tensors: by name.
        kind: of tensors, in the plural.
        when: e.g. ``after step 12``.

    Raises:
        NonFiniteError: the first of them are named, e.g. ``the averages of lift.weight are not finite after
            step 12``.
    """
    if names := non_finite(tensors.items()):
        raise NonFiniteError(f"the {kind} of {listed(names)} are not finite {when}")


def check_saved(path: Path, groups: Mapping[str, Mapping[str, Tensor]], step: int) -> None:
    """Refuse a saved state that is not finite, as older versions could write; "best" is not looked at.

    Raises:
        NonFiniteError: the way out is to remove the state.
    """
    if names := non_finite(
        (name, t) for group, tensors in groups.items() if group != "best" for name, t in tensors.items()
    ):
        raise NonFiniteError(
            f"{path} (step {step}) has values that are not finite in {listed(names)} and cannot be resumed; remove {path.parent} to start over, "
            f"with a lower train.learning_rate if the training diverged"
        )
