"""Units as CF and COARDS files spell them."""

import logging
from functools import lru_cache
from typing import Any

import numpy as np

# Spellings that files use and UDUNITS-like parsers do not know, or read as something else (mb as millibarn).
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
    "DU": "DU",
    "m of water equivalent": "m",
    "1e-3": "1e-3",
    "psu": "1e-3",
}
_UNPARSED = {"1", "1e-3", "DU"}


@lru_cache(maxsize=1)
def _registry() -> Any:
    logging.getLogger("pint.util").setLevel(logging.ERROR)  # it tells of each unit that CF defines otherwise
    from cf_xarray.units import units  # a second of import, so not at the top

    return units


@lru_cache(maxsize=256)
def _parse(text: str) -> Any:
    return _registry().Unit(text)


def normalise(text: object) -> str:
    """Return the units in a spelling that can be compared, temperatures' aliases as ``K`` and ``degC``.

    Raises:
        ValueError: missing, or not units.
    """
    text = str(text if text is not None else "").strip()
    if not text:
        raise ValueError("has no units")
    text = _SPELLINGS.get(text, text)
    if text in _UNPARSED:
        return text
    try:
        unit = _parse(text)
    except Exception as error:  # the parser raises many types
        raise ValueError(f"has units {text!r}, which are not units") from error
    return {"kelvin": "K", "degree_Celsius": "degC"}.get(str(unit), text)


def conversion(source: str, target: str) -> tuple[float, float]:
    """Return ``(factor, offset)`` with ``target value = factor * source value + offset``.

    Raises:
        ValueError: the two measure different things.
    """
    source, target = normalise(source), normalise(target)
    if source == target:
        return 1.0, 0.0
    if source in _UNPARSED or target in _UNPARSED:
        raise ValueError(f"has units {source!r}, which cannot become {target!r}")
    units = _registry()
    a, b = _parse(source), _parse(target)
    if not a.is_compatible_with(b):
        raise ValueError(f"has units {source!r}, which cannot become {target!r}")
    zero, one = (float(units.Quantity(v, a).to(b).magnitude) for v in (0.0, 1.0))
    return float(np.round(one - zero, 12)) if abs(one - zero) > 1e-3 else one - zero, zero


def conversion_or_none(source: str, target: str) -> tuple[float, float] | None:
    """Return ``conversion``, or None where the two measure different things or either is not units."""
    try:
        return conversion(source, target)
    except ValueError:
        return None
