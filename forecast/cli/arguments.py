"""Parsing of option values of the command."""

from collections.abc import Sequence
from datetime import timedelta

from ...datasets.durations import parse_clock, parse_duration
from .process import process_age


def parse_names(option: str, text: str | None) -> list[str] | None:
    """Return comma-separated names.

    >>> parse_names("variables", "t2m, u10")
    ['t2m', 'u10']

    Raises:
        ValueError: a name is empty.
    """
    names = None if text is None else [name.strip() for name in text.split(",")]
    if names is not None and not all(names):
        raise ValueError(f"--{option} {text!r} is not understood; write names separated by commas")
    return names


def parse_levels(text: str | None) -> tuple[int, ...] | None:
    """Return comma-separated pressures [hPa]; raises ``ValueError`` if one is not an integer."""
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--levels {text} is not understood; write pressures in hPa, e.g. --levels 850,500"
        ) from None


def parse_pairs(option: str, pairs: Sequence[str], example: str) -> dict[str, str]:
    """Return the values by name of texts NAME=VALUE.

    Raises:
        ValueError: not of this form, or a name appears twice.
    """
    values = dict(pair.partition("=")[::2] for pair in pairs)
    names = [pair.partition("=")[0] for pair in pairs]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"--{option} names {repeated[0]} twice; give it once")
    if incomplete := [name for name, value in values.items() if not value]:
        raise ValueError(
            f"--{option} {incomplete[0]} is not understood; write --{option} NAME=..., "
            f"e.g. --{option} {example}"
        )
    return values


def parse_hours(text: str | None) -> float | None:
    """Return the duration in ``--step`` [h]; raises ``ValueError`` if it is not one."""
    if text is None:
        return None
    try:
        return parse_duration(text) / timedelta(hours=1)
    except ValueError as error:
        raise ValueError(f"--step {error}") from None


def parse_time_limit(text: str | None) -> float | None:
    """Return the time that is left of ``--time-limit`` since the start of the process [s].

    Raises:
        ValueError: it is not a time limit, or the process is older already.
    """
    if text is None:
        return None
    try:
        remaining = parse_clock(text) - process_age()
    except ValueError as error:
        raise ValueError(f"--time-limit {error}") from None
    if remaining <= 0:
        raise ValueError(f"--time-limit {text} was over before training began; allow for more")
    return remaining
