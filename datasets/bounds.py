"""Physical bounds of quantities of limited range: humidity, precipitation, fractions, contents, speeds."""

import re
from collections.abc import Mapping
from typing import Any

from .adapters.vocabulary import ECMWF, WEATHERBENCH

Bounds = tuple[float | None, float | None]
"""Smallest and largest value in the variable's units; None where there is no such bound."""

# Parts of standard names, or of names where there is no standard name.
_CHANGES = re.compile(
    r"tendency|change|increment|anomal|difference|minus|convergence|divergence|error|logarithm|evaporation|_flux_due|correction"
)
_FRACTIONS = re.compile(
    r"(cloud|ice|snow|land|vegetation|lake|sea)_?(area|binary)?_?(fraction|cover|mask|concentration)|fraction_of_cloud_cover|"
    r"cloud_area_fraction|volume_fraction_of|volumetric_soil"
)
_POSITIVE = re.compile(
    r"humidity|mixing_ratio|precipitation|precipitable|rainfall|snowfall|hail|graupel|total_column|total_rain|"
    r"(water|ice|snow|rain|vapou?r|ozone|aerosol|liquid)_(content|path|column|thickness|amount|depth|mass_mixing_ratio|water_content)|"
    r"thickness_of_.*(snow|ice|precipitation|rainfall)|mass_content_of|snow_depth|soil_moisture|moisture_content|mass_fraction_of|mole_fraction_of|"
    r"mass_concentration_of|cloud_(ice|liquid)_water|wind_speed|speed_of_gust|_gust|incident_solar|incoming_shortwave|"
    r"downwelling_shortwave|downwards?_(short_?wave|solar)|visibility|significant_height|ozone"
)
# Short names of CMIP, GFS and common use that are not in ECMWF's vocabulary.
_SHORT = {
    short: words
    for words, names in {
        "specific_humidity": "hus huss sh2 q2m q2",
        "relative_humidity": "hur hurs rh r2 rh2m",
        "precipitation": "pr precip prate apcp tprate cp lsp",
        "rainfall": "rain",
        "snowfall": "sf prsn snow",
        "cloud_cover": "clt lcc mcc hcc",
        "cloud_liquid_water": "clw",
        "cloud_ice_water": "cli",
        "rain_water_content": "crwc",
        "snow_water_content": "cswc",
        "precipitable_water": "prw pwat",
        "total_column": "tciw tclw tco3",
        "ice_cover": "sic",
        "snow_depth": "snd",
        "snow_amount": "snw",
        "soil_moisture": "mrso",
        "wind_speed": "ws wspd si10",
        "_gust": "gust fg10",
        "visibility": "vis",
        "downward_solar": "ssrd",
        "downwelling_shortwave": "rsds",
        "significant_height": "swh",
    }.items()
    for short in names.split()
}
_MASS_RATIO = re.compile(r"[kmu]?g\s*/?\s*kg(\*\*|\^)?(-1)?")


def physical_bounds(name: str, attrs: Mapping[str, Any], units: str) -> Bounds:
    """Return the bounds of a variable, by its standard name, otherwise by its name, otherwise by its units.

    Fractions and covers lie between 0 and 1 (100 where the units are %). Humidity, precipitation, contents of
    water and other matter, speeds and downward sunlight are not negative, nor are ratios of masses (kg/kg) of
    any name. Changes and differences of these quantities have no bounds.

    Args:
        name: name of the variable.
        attrs: its CF attributes, of which ``standard_name`` and ``long_name`` are used.
        units: its units.
    """
    standard = str(attrs.get("standard_name", "")).lower()
    if "_" in standard or standard in WEATHERBENCH:
        words = standard
    else:
        words = f"{_spelled(name.lower())} {attrs.get('long_name', '')}".lower()
        words = words.replace(" ", "_").replace("-", "_")
    if _CHANGES.search(words):
        return None, None
    if _FRACTIONS.search(words):
        largest = {"1": 1.0, "m**3 m**-3": 1.0, "m3 m-3": 1.0, "%": 100.0, "percent": 100.0}
        return 0.0, largest.get(units.strip())
    if _POSITIVE.search(words) or (words != standard and _MASS_RATIO.fullmatch(units.strip())):
        return 0.0, None
    return None, None


def _spelled(name: str) -> str:
    """Return the long form of a short name such as ``q850``, ``tp_6h`` or ``2t``; other names as they are."""
    bare = re.sub(r"_?\d+(hpa|h|hr|m)?$", "", name)
    for short in (name, bare):
        if short in ECMWF:
            return ECMWF[short].name
        if short in _SHORT:
            return _SHORT[short]
    return name
