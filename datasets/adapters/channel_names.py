"""Recognition of the quantity and pressure level of a variable by the names that packages use."""

import re
from collections.abc import Mapping
from typing import Any

from .vocabulary import ALIASES, ON_LEVELS, SHORT_NAMES

# Names of earth2studio and others that the vocabulary lacks.
_OTHER = {
    "u10m": "10m_u_component_of_wind",
    "v10m": "10m_v_component_of_wind",
    "u100m": "100m_u_component_of_wind",
    "v100m": "100m_v_component_of_wind",
    "mslp": "mean_sea_level_pressure",
    "sic": "sea_ice_cover",
    "tp06": "total_precipitation_6hr",
    "tp12": "total_precipitation_12hr",
    "tp24": "total_precipitation_24hr",
}
_AMBIGUOUS = ("u100", "v100")  # winds at 100 m in some data sets, at 100 hPa in others
_TERMS = {name: term.name for name, term in ALIASES.items() if name not in _AMBIGUOUS} | _OTHER
_ON_LEVEL = re.compile(r"(.+?)_?(\d{2,4})(?:_?(?:hpa|mb))?")
_MIN_LEVEL = 20  # hPa; smaller numbers in a name are heights [m], or part of the name


def identify(name: str, attrs: Mapping[Any, Any]) -> tuple[str, int | None]:
    """Return the WeatherBench2 name of a variable, or its own if unknown, and the level [hPa] in its name.

    Args:
        name: name of the variable, e.g. ``t2m``, ``z500`` or ``temperature_850``.
        attrs: attributes of the variable, of which ``GRIB_shortName`` and ``source_name`` are also used.

    >>> identify("z500", {}), identify("10u", {}), identify("air", {})
    (('geopotential', 500), ('10m_u_component_of_wind', None), ('air', None))
    """
    for candidate in (attrs.get("GRIB_shortName"), name, attrs.get("source_name")):
        if candidate and (match := _match(str(candidate).lower())) is not None:
            return match
    return name, None


def _match(name: str) -> tuple[str, int | None] | None:
    if name in _TERMS:
        return _TERMS[name], None
    if (parts := _ON_LEVEL.fullmatch(name)) is None or name in _AMBIGUOUS:
        return None
    base = SHORT_NAMES.get(parts[1], parts[1])
    level = int(parts[2])
    return (base, level) if base in ON_LEVELS and _MIN_LEVEL <= level <= 1100 else None
