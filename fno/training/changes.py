"""Differences between two runs, for the message that refuses to resume one as the other."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_LISTED = 6  # changes in a message
_LONGEST = 60  # characters of a value
_UNSET = "not set"


def summarise_values(values: Sequence[Any]) -> str:
    """Return a short text that differs for other values: their number, the ends and a checksum.

    >>> summarise_values([10, 20, 30])
    '3 from 10 to 30 (sha256 15d98dad)'
    """
    digest = hashlib.sha256(json.dumps(list(values), default=str).encode()).hexdigest()[:8]
    ends = f" from {values[0]} to {values[-1]}" if len(values) else ""
    return f"{len(values)}{ends} (sha256 {digest})"


def list_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the changes between nested values, each as text with its dotted key, sorted by key.

    >>> list_changes({"train": {"epochs": 3}}, {"train": {"epochs": 4, "patience": 2}})
    ['train.epochs was 3 and is 4', 'train.patience was not set and is 2']

    Args:
        old: JSON values of the earlier run.
        new: JSON values of the present one.
    """
    before = dict(_flatten(old))
    after = dict(_flatten(new))
    return [
        f"{key} was {_shown(before, key)} and is {_shown(after, key)}"
        for key in sorted(before.keys() | after.keys())
        if key not in before or key not in after or before[key] != after[key]
    ]


def explain_changes(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> str:
    """Return the changes as one text.

    Args:
        old: JSON values of the earlier run; None if they were not recorded.
        new: JSON values of the present one.
    """
    if old is None:
        return "an earlier version saved it, which did not record what it depends on"
    changes = list_changes(old, new)
    if not changes:
        return "what differs was not recorded"
    more = len(changes) - _LISTED
    return "; ".join(changes[:_LISTED]) + (f"; and {more} more" if more > 0 else "")


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values as JSON represents them."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{key}.")
        else:
            yield key, json.loads(json.dumps(value, default=str))


def _shown(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return _UNSET
    value = values[key]
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
