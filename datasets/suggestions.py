"""Suggestions for names that are not known."""

import difflib
from collections.abc import Hashable, Iterable

_MOST_LISTED = 30


def suggest(name: str, choices: Iterable[Hashable]) -> str:
    """Return a hint with the choices most similar to ``name``, or all choices if none is similar."""
    names = [str(choice) for choice in choices]
    similar = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    if similar:
        return f"did you mean {' or '.join(similar)}?"
    more = f" ... and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return f"there are: {', '.join(names[:_MOST_LISTED])}{more}"
