"""Parsing and conversion of units, in the spellings of CF and COARDS files."""

import logging
import re
from functools import lru_cache
from typing import Any

import numpy as np

from .errors import UnknownUnitsError

# Spellings in files that parsers of UDUNITS reject, or read as another unit (mb as millibarn).
_SPELLINGS = {
    "mb": "hPa",
    "mbar": "hPa",
    "Kelvin": "K",
    "kelvins": "K",
    "deg K": "K",
    "degrees K": "K",
    "Celsius": "degC",
    "deg C": "degC",
    "degrees C": "degC",
    "degree_C": "degC",
    "degrees_C": "degC",
    "deg_C": "degC",
    "C": "degC",
    "gpm": "m",
    "(0 - 1)": "1",
    "0-1": "1",
    "fraction": "1",
    "unitless": "1",
    "dimensionless": "1",
    "~": "1",
    "none": "1",
    "dobson": "DU",
    "m of water equivalent": "m",
    "psu": "1e-3",
}
_UNPARSED = {"1", "1e-3", "DU"}

LONGEST = 100  # characters
_DIGITS = 20  # of a number
_LARGEST = 50  # exponent, of a unit or of ten
_SHOWN = 40  # characters of units in an error
_PLAIN = r"(?:\d+\.?\d*|\.\d+)"
_NUMBER = re.compile(rf"(?<![\w.])(?<![^\W\d_][+-]){_PLAIN}(?:[eE][+-]?\d+)?")
_RAISED = re.compile(r"([^\W\d_])[+-]?(\d+)")  # a name and its exponent, as in m-2
_OPERATOR = re.compile(r"(\)?)\s*(?:\*\*|\^)")
_EXPONENT = re.compile(
    rf"\s*(?:[+-]?({_PLAIN})|\(\s*[+-]?({_PLAIN})\s*\)|{{\s*[+-]?({_PLAIN})\s*}})(?![\w.])(?!\s*(?:\*\*|\^))"
)
_ODD = re.compile(r"[^\w\s.,*/^+\-(){}\[\]%°·′″'\"~#&:|<>=]|(?![0-9])\d")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789", "⁻")


@lru_cache(maxsize=1)
def _registry() -> Any:
    logging.getLogger("pint.util").setLevel(logging.ERROR)  # it reports each unit that CF redefines
    from cf_xarray.units import units  # a second of import, so not at the top

    return units


@lru_cache(maxsize=256)
def _parse(text: str) -> Any:
    return _registry().Unit(text)


def normalise(text: object) -> str:
    """Return units in a spelling that can be compared, those of temperature as ``K`` or ``degC``.

    Args:
        text: units as in a file.

    Raises:
        ValueError: the units are missing, or are not units.
    """
    text = str(text if text is not None else "").strip()
    if not text:
        raise UnknownUnitsError("has no units")
    text = _SPELLINGS.get(text, text)
    if text in _UNPARSED:
        return text
    _check(text)
    try:
        unit = _parse(text)
    except Exception as error:  # the parser raises many types
        raise UnknownUnitsError(f"has units {text!r}, which are not units") from error
    return {"kelvin": "K", "degree_Celsius": "degC"}.get(str(unit), text)


def _check(text: str) -> None:
    """Raise ``ValueError`` for text that is not units, or with powers that the parser evaluates slowly."""
    shown = repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
    if len(text) > LONGEST:
        raise UnknownUnitsError(
            f"has units {shown} of {len(text)} characters, which are not units (at most {LONGEST} characters)"
        )
    text = text.translate(_SUPERSCRIPTS)
    if odd := _ODD.search(text):
        raise UnknownUnitsError(f"has units {shown} with the character {odd[0]!r}, which are not units")
    for number in _NUMBER.findall(text):
        mantissa, _, exponent = number.lower().partition("e")
        if len(mantissa) > _DIGITS or abs(int(exponent or 0)) > _LARGEST:
            raise ValueError(f"has units {shown}, whose number {number} is out of bounds")
    for _, exponent in _RAISED.findall(_NUMBER.sub(" ", text)):
        if int(exponent) > _LARGEST:
            raise ValueError(f"has units {shown}, whose exponent {exponent} is out of bounds")
    total = 1.0  # product of the exponents of brackets, which bounds that of nested ones
    for operator in _OPERATOR.finditer(text):
        power = _EXPONENT.match(text, operator.end())
        exponent = next((group for group in power.groups() if group), "") if power else ""
        total *= max(1.0, float(exponent or 0)) if operator[1] else 1.0
        if not exponent or max(total, float(exponent)) > _LARGEST:
            raise ValueError(f"has units {shown}, which have a power that is no small number")


def conversion(source: str, target: str) -> tuple[float, float]:
    """Return ``(factor, offset)`` with ``target value = factor * source value + offset``.

    Args:
        source: units to convert from.
        target: units to convert to.

    Raises:
        ValueError: either is not units, or the two measure different quantities.
    """
    source = normalise(source)
    target = normalise(target)
    if source == target:
        return 1.0, 0.0
    if source in _UNPARSED or target in _UNPARSED:
        raise ValueError(f"has units {source!r}, which cannot become {target!r}")
    units = _registry()
    a, b = _parse(source), _parse(target)
    try:
        compatible = a.is_compatible_with(b)
        zero, one = (
            (float(units.Quantity(v, a).to(b).magnitude) for v in (0.0, 1.0))
            if compatible
            else (np.nan, np.nan)
        )
    except Exception as error:  # the parser raises many types, such as for decibels in a product
        raise ValueError(f"has units {source!r}, which cannot become {target!r}") from error
    if not np.isfinite([zero, one]).all() or zero == one:
        raise ValueError(f"has units {source!r}, which cannot become {target!r}")
    return float(np.round(one - zero, 12)) if abs(one - zero) > 1e-3 else one - zero, zero


def conversion_or_none(source: str, target: str) -> tuple[float, float] | None:
    """Return ``conversion``, or None if the two measure different quantities or either is not units."""
    try:
        return conversion(source, target)
    except ValueError:
        return None
