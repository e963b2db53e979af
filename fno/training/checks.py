"""Checks of settings: ranges and finite numbers."""

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ..errors import SettingError


def check_range(settings: Any, **ranges: tuple[float, float]) -> None:
    """Check that settings lie within their ranges.

    Args:
        settings: dataclass of settings.
        ranges: smallest and largest value by name of the setting.

    Raises:
        SettingError: a setting is out of its range.
    """
    for name, (smallest, largest) in ranges.items():
        value = getattr(settings, name)
        if not smallest <= value <= largest:
            limit = f"at least {smallest:g}" if value < smallest else f"at most {largest:g}"
            raise SettingError(f"{name} must be {limit}, got {value}")


def check_finite(settings: Any) -> None:
    """Check that all numbers of a dataclass of settings are finite.

    Raises:
        SettingError: a number is not finite.
    """
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise SettingError(f"{field.name} must be a finite number, got {value}")


def check_loggers_differ(names: Sequence[str]) -> None:
    """Check that no logger occurs twice.

    Raises:
        SettingError: one does.
    """
    if len(set(names)) < len(names):
        raise SettingError(f"loggers must differ from one another, got {list(names)[:20]}")
