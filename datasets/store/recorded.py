"""JSON in the attributes of a store of unknown origin."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

LONGEST = 2**24  # characters


def recorded(attributes: Mapping[Any, Any], name: str, kind: type[T], *, default: str | None = None) -> T:
    """Return the value of an attribute that is JSON.

    Args:
        attributes: attributes of a data set or variable.
        name: name of the attribute.
        kind: expected type of the value.
        default: JSON to use if the attribute is missing.

    Raises:
        ValueError: the attribute is missing, is not JSON, or has a value of another type.
    """
    text = attributes.get(name, default)
    if text is None:
        raise ValueError(
            f"the attribute {name!r} is missing, so this is not what `forecast` writes, or is damaged"
        )
    try:
        if not isinstance(text, str) or len(text) > LONGEST:
            raise ValueError("not a text")
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the attribute {name!r} is damaged ({str(error)[:80]})") from error
    if not isinstance(value, kind):
        raise ValueError(f"the attribute {name!r} is damaged: {text[:80]!r} is not a {kind.__name__}")
    return value
