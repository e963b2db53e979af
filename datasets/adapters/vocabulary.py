"""Names and units of variables: WeatherBench2 long names, ECMWF short names, and aliases."""

from dataclasses import dataclass

from ..schema import LEVEL_VARIABLES


@dataclass(frozen=True)
class Term:
    """A quantity.

    Attributes:
        name: WeatherBench2 name.
        units: CF units.
        standard_name: CF standard name, empty if there is none.
    """

    name: str
    units: str
    standard_name: str = ""


ON_LEVELS = {name: Term(name, units, standard) for standard, (name, units) in LEVEL_VARIABLES.items()} | {
    name: Term(name, units)
    for name, units in (
        ("wind_speed", "m s**-1"),
        ("potential_vorticity", "K m**2 kg**-1 s**-1"),
        ("fraction_of_cloud_cover", "1"),
        ("ozone_mass_mixing_ratio", "kg kg**-1"),
        ("specific_cloud_ice_water_content", "kg kg**-1"),
        ("specific_cloud_liquid_water_content", "kg kg**-1"),
    )
}
_SINGLE = (
    Term("2m_temperature", "K", "air_temperature"),
    Term("2m_dewpoint_temperature", "K", "dew_point_temperature"),
    Term("10m_u_component_of_wind", "m s**-1", "eastward_wind"),
    Term("10m_v_component_of_wind", "m s**-1", "northward_wind"),
    Term("100m_u_component_of_wind", "m s**-1", "eastward_wind"),
    Term("100m_v_component_of_wind", "m s**-1", "northward_wind"),
    Term("10m_wind_speed", "m s**-1", "wind_speed"),
    Term("mean_sea_level_pressure", "Pa", "air_pressure_at_mean_sea_level"),
    Term("surface_pressure", "Pa", "surface_air_pressure"),
    Term("sea_surface_temperature", "K", "sea_surface_temperature"),
    Term("skin_temperature", "K", "surface_temperature"),
    Term("sea_ice_cover", "1", "sea_ice_area_fraction"),
    Term("snow_depth", "m", "lwe_thickness_of_surface_snow_amount"),
    Term("total_cloud_cover", "1", "cloud_area_fraction"),
    Term("total_column_water", "kg m**-2"),
    Term("total_column_water_vapour", "kg m**-2"),
    Term("total_precipitation", "m"),
    Term("total_precipitation_6hr", "m"),
    Term("total_precipitation_12hr", "m"),
    Term("total_precipitation_24hr", "m"),
    Term("toa_incident_solar_radiation", "J m**-2"),
    Term("volumetric_soil_water_layer_1", "m**3 m**-3"),
    Term("soil_temperature_level_1", "K"),
    # Constant fields.
    Term("geopotential_at_surface", "m**2 s**-2", "surface_geopotential"),
    Term("land_sea_mask", "1", "land_binary_mask"),
    Term("soil_type", "1"),
    Term("angle_of_sub_gridscale_orography", "radian"),
    Term("anisotropy_of_sub_gridscale_orography", "1"),
    Term("slope_of_sub_gridscale_orography", "1"),
    Term("standard_deviation_of_orography", "m"),
    Term("standard_deviation_of_filtered_subgrid_orography", "m"),
    Term("high_vegetation_cover", "1"),
    Term("low_vegetation_cover", "1"),
    Term("lake_cover", "1"),
    Term("lake_depth", "m"),
)
SINGLE = {term.name: term for term in _SINGLE}
WEATHERBENCH = ON_LEVELS | SINGLE

# Short names of the ECMWF parameter database, used by GRIB files and anemoi-datasets.
SHORT_NAMES = {
    "t": "temperature",
    "z": "geopotential",
    "u": "u_component_of_wind",
    "v": "v_component_of_wind",
    "q": "specific_humidity",
    "r": "relative_humidity",
    "w": "vertical_velocity",
    "vo": "vorticity",
    "d": "divergence",
    "pv": "potential_vorticity",
    "cc": "fraction_of_cloud_cover",
    "o3": "ozone_mass_mixing_ratio",
    "ciwc": "specific_cloud_ice_water_content",
    "clwc": "specific_cloud_liquid_water_content",
    "2t": "2m_temperature",
    "2d": "2m_dewpoint_temperature",
    "10u": "10m_u_component_of_wind",
    "10v": "10m_v_component_of_wind",
    "100u": "100m_u_component_of_wind",
    "100v": "100m_v_component_of_wind",
    "10si": "10m_wind_speed",
    "msl": "mean_sea_level_pressure",
    "sp": "surface_pressure",
    "sst": "sea_surface_temperature",
    "skt": "skin_temperature",
    "ci": "sea_ice_cover",
    "siconc": "sea_ice_cover",
    "sd": "snow_depth",
    "tcc": "total_cloud_cover",
    "tcw": "total_column_water",
    "tcwv": "total_column_water_vapour",
    "tp": "total_precipitation",
    "tisr": "toa_incident_solar_radiation",
    "swvl1": "volumetric_soil_water_layer_1",
    "stl1": "soil_temperature_level_1",
    "lsm": "land_sea_mask",
    "slt": "soil_type",
    "sdor": "standard_deviation_of_orography",
    "slor": "slope_of_sub_gridscale_orography",
    "anor": "angle_of_sub_gridscale_orography",
    "isor": "anisotropy_of_sub_gridscale_orography",
    "cvh": "high_vegetation_cover",
    "cvl": "low_vegetation_cover",
    "cl": "lake_cover",
    "dl": "lake_depth",
}
ECMWF = {short: WEATHERBENCH[name] for short, name in SHORT_NAMES.items()}

# Names in netCDF files of the Climate Data Store (cfgrib's ``cfVarName``) that differ from the short name.
CDS_NAMES = {
    "t2m": "2m_temperature",
    "d2m": "2m_dewpoint_temperature",
    "u10": "10m_u_component_of_wind",
    "v10": "10m_v_component_of_wind",
    "u100": "100m_u_component_of_wind",
    "v100": "100m_v_component_of_wind",
    "si10": "10m_wind_speed",
}
# All known names of quantities.
ALIASES = WEATHERBENCH | ECMWF | {name: WEATHERBENCH[long] for name, long in CDS_NAMES.items()}

# Fields that do not change with time, by WeatherBench2 name, standard name, and names of files.
CONSTANT_TERMS = frozenset(list(SINGLE)[list(SINGLE).index("geopotential_at_surface") :])
CONSTANT_STANDARD_NAMES = frozenset(
    (
        "surface_geopotential",
        "surface_altitude",
        "land_binary_mask",
        "land_area_fraction",
        "soil_type",
        "cell_area",
        "sea_floor_depth_below_geoid",
    )
)
CONSTANT_FILE_NAMES = frozenset(
    {
        "orography",
        "orog",
        "topography",
        "topo",
        "terrain",
        "elevation",
        "hsurf",
        "hgtsfc",
        "phis",
        "zs",
        "land_sea_mask",
        "landmask",
        "lsm",
        "fr_land",
        "sftlf",
        "areacella",
        "soiltyp",
        "slt",
        "sdfor",
        "tvh",
        "tvl",
    }
)
# Short names of single-level fields that do not change with time.
CONSTANT_SHORT_NAMES = ("z", "lsm", "sdor", "slor", "anor", "isor", "slt", "cl", "dl", "cvh", "cvl")

# Units that identify latitudes and longitudes, all those of CF.
DEGREES = {
    "latitude": ("degrees_north", "degree_north", "degrees_N", "degree_N", "degreesN", "degreeN"),
    "longitude": ("degrees_east", "degree_east", "degrees_E", "degree_E", "degreesE", "degreeE"),
}
