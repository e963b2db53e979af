"""CF attributes of wrong types: converted if their meaning is clear, otherwise rejected."""

import re
from typing import Any

import numpy as np
import xarray as xr

from ..errors import InvalidDataError
from ..scalars import ATTRIBUTE as SCALARS

_TEXT_ATTRIBUTES = (
    "units",
    "standard_name",
    "long_name",
    "calendar",
    "axis",
    "positive",
    "cell_methods",
    SCALARS,
)
_REFERENCE_ATTRIBUTES = (
    "coordinates",
    "grid_mapping",
    "formula_terms",
    "bounds",
    "ancillary_variables",
    "cell_measures",
)
_PACKING_ATTRIBUTES = ("scale_factor", "add_offset")
# A scalar coordinate, see ``scalars``.
_SCALAR = re.compile(r"(?!level=)[^=;]+=[^;]*|level=-?\d{1,9}(\.\d{1,20})?([eE][+-]?\d)?( hPa)?")
_LONGEST = 100  # characters of units of time, and of calendars


class InvalidAttributeError(InvalidDataError):
    """A CF attribute has no valid meaning; the message names its variable, but not the source."""


def normalise_attributes(dataset: xr.Dataset) -> xr.Dataset:
    """Return an undecoded data set whose attributes have the types of CF; lazy except for time axes.

    Text attributes of other types are converted to text. References that are not text are dropped, and so are
    variables with a repeated dimension, which xarray does not support.

    Args:
        dataset: data set opened with ``decode_cf=False``.

    Raises:
        InvalidAttributeError: a scale or offset is not a finite number, or units of time are not valid.
    """
    repeated = [
        name for name, variable in dataset.variables.items() if len(set(variable.dims)) < len(variable.dims)
    ]
    dataset = dataset.drop_vars(repeated)
    for name, variable in dataset.variables.items():
        attrs = variable.attrs
        for key in [key for key in _TEXT_ATTRIBUTES if key in attrs]:
            attrs[key] = _text(attrs[key])
        for key in [key for key in _REFERENCE_ATTRIBUTES if key in attrs and not isinstance(attrs[key], str)]:
            del attrs[key]
        if SCALARS in attrs:
            _check_scalars(str(name), attrs)
        if variable.dtype.kind in "fiu":
            _check_packing(str(name), attrs)
            _check_times(str(name), variable)
    return dataset


def explain_times(dataset: xr.Dataset, error: Exception) -> None:
    """Raise ``InvalidAttributeError`` if there is a variable whose units of time cannot be decoded.

    Args:
        dataset: undecoded data set.
        error: error raised when all variables were decoded.

    Raises:
        InvalidAttributeError: the units of time of a variable cannot be decoded.
    """
    for name, variable in dataset.variables.items():
        if "since" in str(variable.attrs.get("units", "")):
            try:
                xr.conventions.decode_cf_variable(name, variable.copy(deep=False))
            except Exception:  # noqa: BLE001  decoders raise many types
                calendar = ""
                if "calendar" in variable.attrs:
                    calendar = f" of the calendar {variable.attrs['calendar']!r}"
                raise InvalidAttributeError(
                    f"{name!r} has the units {variable.attrs['units']!r}{calendar}, which do not convert its "
                    "values to dates; write e.g. 'hours since 2000-01-01', with dates from 1678 to 2262"
                ) from error


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)[:1000]


def _check_scalars(name: str, attrs: dict[Any, Any]) -> None:
    """Drop an empty list of scalar coordinates, and reject one that cannot be parsed."""
    parts = [part for part in attrs[SCALARS].split("; ") if "=" in part]
    if wrong := [part for part in parts if not _SCALAR.fullmatch(part)]:
        raise InvalidAttributeError(
            f"{name!r} has the {SCALARS} {_shorten(wrong[0])}, expected NAME=VALUE; delete the attribute"
        )
    if not parts:
        del attrs[SCALARS]


def _check_packing(name: str, attrs: dict[Any, Any]) -> None:
    for key in [key for key in _PACKING_ATTRIBUTES if key in attrs]:
        number = np.asarray(attrs[key])
        if number.size != 1 or number.dtype.kind not in "fiu" or not np.isfinite(number).all():
            raise InvalidAttributeError(
                f"{name!r} has the {key} {_shorten(attrs[key])}, which is not a finite number; "
                "correct or delete the attribute"
            )
        attrs[key] = number.reshape(())[()]
    # A scale factor of 0 is valid with an offset, as the encoding of a constant field.
    if attrs.get("scale_factor", 1) == 0 and "add_offset" not in attrs:
        raise InvalidAttributeError(
            f"{name!r} has the scale_factor 0, so all its values would be 0; correct or delete the attribute"
        )


def _check_times(name: str, variable: xr.Variable) -> None:
    units = str(variable.attrs.get("units", ""))
    if "since" not in units:
        return
    for key in ("units", "calendar"):
        if len(str(variable.attrs.get(key, ""))) > _LONGEST:
            raise InvalidAttributeError(
                f"{name!r} has the {key} {_shorten(variable.attrs[key])} of {len(variable.attrs[key])} "
                f"characters, which is not a valid {key} of time"
            )
    if variable.dtype.kind == "f" and variable.dims == (name,) and np.isinf(variable.values).any():
        raise InvalidAttributeError(f"{name!r} has infinite times; drop those records")


def _shorten(value: Any) -> str:
    """Return a value as text for a message, cut after 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
