"""Attributes of CF that are not of the type that CF gives them, mended where they have a meaning and refused
where they have none.
"""

import re
from typing import Any

import numpy as np
import xarray as xr

from ..errors import InvalidDataError
from ..scalars import ATTRIBUTE as PLACES

_TEXTS = ("units", "standard_name", "long_name", "calendar", "axis", "positive", "cell_methods", PLACES)
_REFERENCES = (
    "coordinates",
    "grid_mapping",
    "formula_terms",
    "bounds",
    "ancillary_variables",
    "cell_measures",
)
_PACKING = ("scale_factor", "add_offset")
_PLACE = re.compile(
    r"(?!level=)[^=;]+=[^;]*|level=-?\d{1,9}(\.\d{1,20})?([eE][+-]?\d)?( hPa)?"
)  # see ``scalars``
_LONGEST = 100  # characters of units of time, and of calendars


def plain(dataset: xr.Dataset) -> xr.Dataset:
    """Return an undecoded data set whose attributes have the types of CF; lazy, but for axes of time.

    Texts that are something else become text, references that are no text are dropped, and so are variables
    with one dimension twice, which xarray does not support.

    Args:
        dataset: as it was opened with ``decode_cf=False``.

    Raises:
        InvalidDataError: a scale or offset that is no finite number, or units of time that are no units.
    """
    twice = [
        name for name, variable in dataset.variables.items() if len(set(variable.dims)) < len(variable.dims)
    ]
    dataset = dataset.drop_vars(twice)
    for name, variable in dataset.variables.items():
        attrs = variable.attrs
        for key in [key for key in _TEXTS if key in attrs]:
            attrs[key] = _text(attrs[key])
        for key in [key for key in _REFERENCES if key in attrs and not isinstance(attrs[key], str)]:
            del attrs[key]
        if PLACES in attrs:
            _check_places(str(name), attrs)
        if variable.dtype.kind in "fiu":
            _check_packing(str(name), attrs)
            _check_times(str(name), variable)
    return dataset


def explain_times(dataset: xr.Dataset, error: Exception) -> None:
    """Raise ``InvalidDataError`` for the variable whose units of time cannot be decoded; nothing where it is another
    fault.

    Args:
        dataset: undecoded.
        error: what decoding all of it raised.
    """
    for name, variable in dataset.variables.items():
        if "since" in str(variable.attrs.get("units", "")):
            try:
                xr.conventions.decode_cf_variable(name, variable.copy(deep=False))
            except Exception:  # noqa: BLE001 (decoders raise many types)
                calendar = (
                    f" of the calendar {variable.attrs['calendar']!r}" if "calendar" in variable.attrs else ""
                )
                raise InvalidDataError(
                    f"{name!r} has the units {variable.attrs['units']!r}{calendar}, by which its values are no dates; "
                    "write e.g. 'hours since 2000-01-01', with dates from 1678 to 2262"
                ) from error


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)[:1000]


def _check_places(name: str, attrs: dict[Any, Any]) -> None:
    """Drop places that are none, and refuse a pressure that is no number."""
    parts = [part for part in attrs[PLACES].split("; ") if "=" in part]
    if wrong := [part for part in parts if not _PLACE.fullmatch(part)]:
        raise InvalidDataError(
            f"{name!r} has the {PLACES} {_shown(wrong[0])}, which is no place; delete the attribute"
        )
    if not parts:
        del attrs[PLACES]


def _check_packing(name: str, attrs: dict[Any, Any]) -> None:
    for key in [key for key in _PACKING if key in attrs]:
        number = np.asarray(attrs[key])
        if number.size != 1 or number.dtype.kind not in "fiu" or not np.isfinite(number).all():
            raise InvalidDataError(
                f"{name!r} has the {key} {_shown(attrs[key])}, which is no finite number; set or delete the attribute"
            )
        attrs[key] = number.reshape(())[()]
    if (
        attrs.get("scale_factor", 1) == 0 and "add_offset" not in attrs
    ):  # with an offset, a constant is packed so
        raise InvalidDataError(
            f"{name!r} has the scale_factor 0, so all its values would be 0; set or delete the attribute"
        )


def _check_times(name: str, variable: xr.Variable) -> None:
    units = str(variable.attrs.get("units", ""))
    if "since" not in units:
        return
    for key in ("units", "calendar"):
        if len(str(variable.attrs.get(key, ""))) > _LONGEST:
            raise InvalidDataError(
                f"{name!r} has the {key} {_shown(variable.attrs[key])} of {len(variable.attrs[key])} characters, which are no {key} of time"
            )
    if variable.dtype.kind == "f" and variable.dims == (name,) and np.isinf(variable.values).any():
        raise InvalidDataError(f"{name!r} has times that are infinite; drop those records")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
