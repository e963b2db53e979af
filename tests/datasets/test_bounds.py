"""Physical bounds by standard name, name and units."""

import pytest

from fourcaster.datasets.bounds import physical_bounds


@pytest.mark.parametrize(
    ("name", "attrs", "units", "bounds"),
    [
        ("q850", {"standard_name": "specific_humidity"}, "kg kg**-1", (0, None)),
        ("specific_humidity", {}, "kg kg**-1", (0, None)),
        ("q700", {}, "g/kg", (0, None)),
        ("x", {}, "kg kg-1", (0, None)),
        ("tp12", {"standard_name": "lwe_thickness_of_precipitation_amount"}, "m", (0, None)),
        ("total_precipitation_6hr", {}, "m", (0, None)),
        ("tp", {"standard_name": "unknown", "long_name": "Total precipitation"}, "m", (0, None)),
        ("pr", {"standard_name": "precipitation_flux"}, "kg m-2 s-1", (0, None)),
        ("total_cloud_cover", {}, "1", (0, 1)),
        ("tcc", {"standard_name": "cloud_area_fraction"}, "%", (0, 100)),
        ("siconc", {}, "1", (0, 1)),
        ("sea_ice_cover", {"standard_name": "sea_ice_area_fraction"}, "1", (0, 1)),
        ("tcwv", {}, "kg m**-2", (0, None)),
        ("w", {"standard_name": "atmosphere_mass_content_of_water_vapor"}, "kg m-2", (0, None)),
        ("r", {}, "%", (0, None)),
        ("10m_wind_speed", {"standard_name": "wind_speed"}, "m s**-1", (0, None)),
        ("swvl1", {}, "m**3 m**-3", (0, 1)),
        (
            "air",
            {"standard_name": "air_temperature", "long_name": "Temperature of humid air, humidity corrected"},
            "K",
            (None, None),
        ),
        ("t2m", {"long_name": "2 metre temperature"}, "K", (None, None)),
        ("d2m", {"long_name": "2 metre dewpoint temperature"}, "K", (None, None)),
        ("u10", {}, "m s**-1", (None, None)),
        ("w", {}, "Pa s**-1", (None, None)),
        ("z500", {"standard_name": "geopotential"}, "m**2 s**-2", (None, None)),
        ("e", {"long_name": "Evaporation"}, "m", (None, None)),
        ("dq", {"standard_name": "tendency_of_specific_humidity"}, "kg kg-1 s-1", (None, None)),
        ("qa", {"long_name": "Specific humidity anomaly"}, "kg kg**-1", (None, None)),
        ("msl", {}, "Pa", (None, None)),
    ],
)
def test_bounds_follow_from_standard_name_name_and_units(name, attrs, units, bounds):
    assert physical_bounds(name, attrs, units) == bounds
