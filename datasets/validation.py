"""The first error of a validation by pydantic, for messages."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError


@dataclass(frozen=True)
class Problem:
    """An invalid value.

    Attributes:
        location: keys and positions of the value, from the outermost.
        message: what is wrong with it.
        kind: type of the error by pydantic, such as ``missing`` or ``extra_forbidden``.
        value: the value; for a missing key, that of the section.
        cause: exception of the validator that rejected it, or None.
    """

    location: tuple[str, ...]
    message: str
    kind: str
    value: Any
    cause: Exception | None


def first_problem(error: ValidationError, tags: Collection[str] = ()) -> Problem:
    """Return the first invalid value.

    Args:
        error: error of the validation.
        tags: names of the alternatives of a union, which pydantic inserts in locations and which are no keys.
    """
    first = error.errors(include_url=False)[0]
    return Problem(
        location=tuple(str(part) for part in first["loc"] if part not in tags),
        message=first["msg"].removeprefix("Value error, "),
        kind=first["type"],
        value=first["input"],
        cause=first.get("ctx", {}).get("error"),
    )
