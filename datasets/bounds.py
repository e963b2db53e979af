"""Physical bounds of quantities that cannot take any value: humidity, precipitation, fractions, contents, speeds."""

import re
from collections.abc import Mapping
from typing import Any

from .adapters.vocabulary import ECMWF, WEATHERBENCH

Bounds = tuple[float | None, float | None]
"""Least and largest value in the variable's units; None where there is no such bound."""

# Words of a standard name, or of a name where there is none.
_CHANGES = re.compile(r"tendency|change|increment|anomal|difference|minus|convergence|divergence|error|logarithm|evaporation|_flux_due|correction")
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
# Short names of CMIP, GFS and common use that the vocabulary of ECMWF lacks.
_SHORT = {
    "hus": "specific_humidity", "huss": "specific_humidity", "sh2": "specific_humidity", "q2m": "specific_humidity", "q2": "specific_humidity",
    "hur": "relative_humidity", "hurs": "relative_humidity", "rh": "relative_humidity", "r2": "relative_humidity", "rh2m": "relative_humidity",
    "pr": "precipitation", "precip": "precipitation", "prate": "precipitation", "apcp": "precipitation", "rain": "rainfall", "tprate": "precipitation",
    "cp": "precipitation", "lsp": "precipitation", "sf": "snowfall", "prsn": "snowfall", "snow": "snowfall", "clt": "cloud_cover",
    "lcc": "cloud_cover", "mcc": "cloud_cover", "hcc": "cloud_cover", "clw": "cloud_liquid_water", "cli": "cloud_ice_water",
    "crwc": "rain_water_content", "cswc": "snow_water_content", "prw": "precipitable_water", "pwat": "precipitable_water",
    "tciw": "total_column", "tclw": "total_column", "tco3": "total_column", "sic": "ice_cover", "snd": "snow_depth", "snw": "snow_amount",
    "mrso": "soil_moisture", "ws": "wind_speed", "wspd": "wind_speed", "si10": "wind_speed", "gust": "_gust", "fg10": "_gust", "vis": "visibility",
    "ssrd": "downward_solar", "rsds": "downwelling_shortwave", "swh": "significant_height",
}  # fmt: skip
_MASS_RATIO = re.compile(r"[kmu]?g\s*/?\s*kg(\*\*|\^)?(-1)?")


def physical_bounds(name: str, attrs: Mapping[str, Any], units: str) -> Bounds:
    """Return what values of a variable lie between by its standard name, else by its name, else by its units.

    Fractions and covers lie between 0 and 1 (100 where the units are %); humidity, precipitation, contents of water and other matter, speeds and
    downward sunlight are not negative, nor are ratios of masses (kg/kg) of any name. Changes and differences of them have no bounds.
    """
    standard = str(attrs.get("standard_name", "")).lower()
    if "_" in standard or standard in WEATHERBENCH:
        words = standard
    else:
        words = f"{_spelled(name.lower())} {attrs.get('long_name', '')}".lower().replace(" ", "_").replace("-", "_")
    if _CHANGES.search(words):
        return None, None
    if _FRACTIONS.search(words):
        return 0.0, 100.0 if units.strip() in ("%", "percent") else 1.0 if units.strip() in ("1", "", "m**3 m**-3", "m3 m-3") else None
    if _POSITIVE.search(words) or (words != standard and _MASS_RATIO.fullmatch(units.strip())):
        return 0.0, None
    return None, None


def _spelled(name: str) -> str:
    """Return the words of a short name such as ``q850``, ``tp_6h`` or ``2t``; any other name as it is."""
    bare = re.sub(r"_?\d+(hpa|h|hr|m)?$", "", name)
    for short in (name, bare):
        if short in ECMWF:
            return ECMWF[short].name
        if short in _SHORT:
            return _SHORT[short]
    return name
