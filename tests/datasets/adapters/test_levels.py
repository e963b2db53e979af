"""Vertical axes: pressures become levels in hPa, hybrid levels are interpolated, others are rejected."""

import numpy as np
import pytest
import xarray as xr

from fourcaster.datasets.adapters.cf import canonical
from fourcaster.datasets.adapters.hybrid import at_pressures
from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.ingest.select import Selection

RNG = np.random.default_rng(4)
HYAM = np.array([0.003, 0.02, 0.12, 0.15, 0.08, 0.01])
HYBM = np.array([0.0, 0.0, 0.02, 0.25, 0.60, 0.985])
ON_LEVELS = ("time", "level", "latitude", "longitude")


def on_axis(source, name, values, attrs, variable="ta"):
    """Return the source with air temperature along a vertical axis: t2m plus the level number."""
    field = (source["t2m"] + xr.DataArray(np.arange(len(values), dtype="f4"), dims=name)).transpose(
        "time", name, ...
    )
    field.attrs = {"units": "K", "standard_name": "air_temperature"}
    return source.assign({variable: field}).assign_coords({name: (name, np.asarray(values), attrs)})


def hybrid(source, descending=False, attrs=None, coefficients=True):
    """Return a CAM history file: temperature on hybrid levels with nominal pressures in hPa."""
    nominal = 1000 * (HYAM + HYBM)
    attrs = attrs or {
        "units": "hPa",
        "long_name": "hybrid level at midpoints (1000*(A+B))",
        "standard_name": "atmosphere_hybrid_sigma_pressure_coordinate",
        "formula_terms": "a: hyam b: hybm p0: P0 ps: PS",
    }
    data = on_axis(source, "lev", nominal, attrs)
    data["ta"] = (
        (data["ta"] + 10 * RNG.standard_normal(data["ta"].shape)).astype("f4").assign_attrs(data["ta"].attrs)
    )
    surface = 9e4 + 1.2e4 * RNG.random(source["t2m"].shape)
    data["PS"] = (source["t2m"].dims, surface.astype("f4"), {"units": "Pa"})
    if coefficients:
        data = data.assign(hyam=("lev", HYAM), hybm=("lev", HYBM), P0=((), 1e5, {"units": "Pa"}))
    return data.isel(lev=slice(None, None, -1)) if descending else data


def interpolate_columns(data, a, b, levels):
    """Return temperature at pressures, interpolated column by column in float64 by ``numpy.interp``."""
    field = data["ta"].transpose("time", "lat", "lon", "lev").values.astype("f8")
    surface = data["PS"].values.astype("f8")
    expected = np.full((*surface.shape, len(levels)), np.nan)
    for at in np.ndindex(surface.shape):
        pressure = a + b * surface[at]
        order = np.argsort(pressure)
        expected[at] = np.interp(
            np.log(100.0 * np.array(levels)),
            np.log(pressure[order]),
            field[at][order],
            left=np.nan,
            right=np.nan,
        )
    return np.moveaxis(expected, -1, 1)


@pytest.mark.parametrize("descending", [False, True])
def test_hybrid_levels_agree_with_columnwise_interpolation(source, tmp_path, descending):
    data = hybrid(source, descending).isel(time=slice(0, 12))
    data.to_netcdf(tmp_path / "cam.nc")
    levels = (850, 500, 1, 1000)
    result = open_sources([tmp_path / "cam.nc"], Selection(levels=levels))
    assert (
        result["temperature"].dims == ON_LEVELS
        and result["level"].values.tolist() == list(levels)
        and result["temperature"].chunks is not None
    )
    order = slice(None, None, -1) if descending else slice(None)
    expected = interpolate_columns(data, 1e5 * HYAM[order], HYBM[order], levels)
    assert np.array_equal(np.isnan(result["temperature"]), np.isnan(expected))
    assert np.isnan(expected[:, 2]).all() and 0 < np.isnan(expected[:, 3]).mean() < 1
    assert np.allclose(result["temperature"], expected, rtol=1e-6, equal_nan=True)
    assert result["PS"].dims == ("time", "latitude", "longitude")


def test_hybrid_levels_without_pressures_or_coefficients_are_rejected(source, tmp_path):
    hybrid(source).to_netcdf(tmp_path / "cam.nc")
    with pytest.raises(
        ValueError, match=r"cam\.nc: 'lev' counts hybrid or sigma levels.*e\.g\. 850 and 500 hPa"
    ):
        open_sources([tmp_path / "cam.nc"])
    hybrid(source, coefficients=False).to_netcdf(tmp_path / "bare.nc")
    for select in (None, Selection(levels=(850, 500))):
        with pytest.raises(
            ValueError,
            match=(
                r"cannot be interpolated without the coefficients hyam and hybm.*cdo ml2pl.*"
                r"select one of them, e\.g\. lev="
            ),
        ):
            open_sources([tmp_path / "bare.nc"], select)
    assert set(open_sources([tmp_path / "bare.nc"], Selection(("PS", "t2m"))).data_vars) == {"t2m", "PS"}
    for missing, message in (("P0", "without the pressure P0"), ("PS", "without the surface pressure PS")):
        with pytest.raises(ValueError, match=message):
            canonical(hybrid(source).drop_vars(missing), "memory", select=Selection(("ta",), levels=(500,)))
    narrow = hybrid(source)
    narrow["PS"] = narrow["PS"].isel(lat=0, drop=True).expand_dims(place=3).assign_attrs(units="Pa")
    with pytest.raises(
        ValueError, match=r"memory: 'lev' cannot be interpolated without the surface pressure on time"
    ):
        canonical(narrow, "memory", select=Selection(("ta",), levels=(500,)))
    unknown = hybrid(source)
    unknown["PS"].attrs = {}
    with pytest.raises(ValueError, match="without the surface pressure's units"):
        canonical(unknown, "memory", select=Selection(("ta",), levels=(500,)))


BOUNDS = (np.stack([HYAM - 0.001, HYAM + 0.001], axis=1), np.stack([HYBM, HYBM], axis=1))
EDGES = tuple(
    np.concatenate([[0.0], 2 * np.cumsum(c * (-1) ** np.arange(6)) * (-1) ** np.arange(6)])
    for c in (HYAM, HYBM)
)
LEVEL_NUMBER_ATTRS = {"units": "1", "long_name": "hybrid level at layer midpoints"}


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.assign_coords(
            lev=(
                "lev",
                d["lev"].values,
                {"units": "1", "standard_name": "atmosphere_hybrid_sigma_pressure_coordinate"},
            )
        ),
        lambda d: d.assign_coords(lev=("lev", d["lev"].values, {"units": "hPa"})),  # only the coefficients
        lambda d: d.drop_vars(["hyam", "hybm", "P0"]).assign(
            ap=("lev", 1e5 * HYAM, {"units": "Pa"}), b=("lev", HYBM)
        ),
        lambda d: d.drop_vars(["hyam", "hybm"]).assign(
            hyam=("nhym", 1e5 * HYAM, {"units": "Pa"}), hybm=("nhym", HYBM)
        ),
        lambda d: d.drop_vars(["hyam", "hybm"]).assign(hyai=("ilev", EDGES[0]), hybi=("ilev", EDGES[1])),
        lambda d: (
            d.drop_vars(["hyam", "hybm"])
            .assign_coords(lev=("lev", d["lev"].values, {"units": "1", "bounds": "lev_bnds"}))
            .assign(
                lev_bnds=(
                    ("lev", "bnds"),
                    np.zeros((6, 2)),
                    {"formula_terms": "p0: P0 a: a_bnds b: b_bnds ps: PS"},
                )
            )
            .assign(a_bnds=(("lev", "bnds"), BOUNDS[0]), b_bnds=(("lev", "bnds"), BOUNDS[1]))
        ),
        lambda d: (
            d.assign_coords(lev=("lev", np.arange(3.0, 9), LEVEL_NUMBER_ATTRS))
            .drop_vars(["hyam", "hybm"])
            .assign(
                hyam=("nhym", np.concatenate([[7e3, 7e3], 1e5 * HYAM]), {"units": "Pa"}),
                hybm=("nhym", np.concatenate([[0, 0], HYBM])),
            )
        ),
        lambda d: d.drop_vars("PS").assign(lnsp=(d["PS"].dims, np.log(d["PS"].values.astype("f8")))),
        lambda d: d.drop_vars("PS").assign(lnsp=np.log(d["PS"].astype("f8")).expand_dims(lev_2=1, axis=1)),
        lambda d: d.assign(PS=(d["PS"] / 100).assign_attrs(units="hPa")),
    ],
)
def test_coefficients_and_surface_pressure_are_recognised_under_other_names(source, change):
    data = hybrid(source.isel(time=slice(0, 3)))
    expected = interpolate_columns(data, 1e5 * HYAM, HYBM, (700, 400))
    result = canonical(change(data), "memory", select=Selection(("ta",), levels=(700, 400)))
    assert np.allclose(result["temperature"], expected, rtol=1e-5, equal_nan=True)


def test_sigma_levels_are_interpolated(source):
    sigma = np.array([0.1, 0.3, 0.6, 0.9, 0.97, 0.995])
    attrs = {
        "units": "1",
        "standard_name": "atmosphere_sigma_coordinate",
        "formula_terms": "sigma: lev ps: PS ptop: ptop",
    }
    data = hybrid(source.isel(time=slice(0, 3)), coefficients=False)
    data = data.assign_coords(lev=("lev", sigma, attrs)).assign(ptop=((), 10.0, {"units": "hPa"}))
    result = canonical(data, "memory", select=Selection(("ta",), levels=(700, 400)))
    expected = interpolate_columns(data, 1e3 * (1 - sigma), sigma, (700, 400))
    assert np.allclose(result["temperature"], expected, rtol=1e-6, equal_nan=True)


def test_a_profile_linear_in_the_logarithm_of_pressure_is_exact():
    surface = np.array([1e5, 7e4])
    pressure = 1e5 * HYAM + HYBM * surface[:, None]
    inside = np.array([6e4, 2e4])
    for order in (slice(None), slice(None, None, -1)):
        actual = at_pressures(
            200 + 15 * np.log(pressure)[:, order],
            surface,
            a=1e5 * HYAM[order],
            b=HYBM[order],
            pressures=inside,
        )
        assert np.allclose(actual, 200 + 15 * np.log(inside), rtol=1e-7)


@pytest.mark.parametrize(
    ("name", "attrs", "values"),
    [
        ("isobaric", {"units": "Pa", "long_name": "Isobaric surface"}, [85000.0, 50000.0]),
        ("isobaric1", {"units": "Pa"}, np.array([85000, 50000], "f4")),
        ("lv_ISBL0", {"units": "hPa", "long_name": "isobaric level"}, [850.0, 500.0]),
        ("lv_ISBL7", {}, [850, 500]),
        ("levelist", {"units": "millibars", "long_name": "pressure_level"}, [850.0, 500.0]),
        ("levelist", {}, [850, 500]),
        ("z", {"standard_name": "air_pressure", "units": "mbar"}, [850.0, 500.0]),
        ("P", {"units": "kPa"}, [85.0, 50.0]),
        ("vertical", {"units": "bar"}, [0.85, 0.5]),
        ("level", {"units": "millibar"}, [850.0, 500.0]),
        ("plev8", {"units": "Pa"}, [85000.0, 50000.0]),
        ("isobaricInPa", {}, [85000, 50000]),
    ],
)
def test_pressures_are_recognised_by_standard_name_units_or_name(source, tmp_path, name, attrs, values):
    on_axis(source, name, values, attrs).to_netcdf(tmp_path / "a.nc")
    result = open_sources([tmp_path / "a.nc"], Selection(levels=(500, 850)))
    assert (
        result["temperature"].dims == ON_LEVELS
        and result["level"].values.tolist() == [500, 850]
        and result["level"].dtype == np.int32
    )
    assert np.allclose(result["temperature"].sel(level=850), source["t2m"]) and np.allclose(
        result["temperature"].sel(level=500), source["t2m"] + 1
    )


def several_axes(source, other):
    data = on_axis(source, "isobaric", [100000.0, 85000.0, 50000.0], {"units": "Pa"})
    wind = on_axis(source, "isobaric1", other, {"units": "Pa"}, "ua")
    wind["ua"].attrs = {"units": "m/s", "standard_name": "eastward_wind"}
    return data.assign(ua=wind["ua"])


def test_several_pressure_axes_become_one(source):
    result = canonical(several_axes(source, [50000.0, 85000.0, 100000.0]), "memory")
    assert result["level"].values.tolist() == [1000, 850, 500]
    assert np.allclose(result["temperature"].sel(level=500), source["t2m"] + 2)
    assert np.allclose(result["u_component_of_wind"].sel(level=500), source["t2m"])
    other = several_axes(source, [85000.0, 70000.0, 50000.0, 20000.0])
    with pytest.raises(
        ValueError,
        match=(
            r"several axes of different pressures \(isobaric of 3, isobaric1 of 4\).*"
            r"select levels that all of them have, e\.g\. 850,500"
        ),
    ):
        canonical(other, "memory")
    result = canonical(other, "memory", select=Selection(levels=(500, 850)))
    assert np.allclose(result["u_component_of_wind"].sel(level=500), source["t2m"] + 2)
    assert np.allclose(result["temperature"].sel(level=850), source["t2m"] + 1)
    with pytest.raises(ValueError, match="no level 700 hPa along isobaric; it has 1000, 850, 500"):
        canonical(other, "memory", select=Selection(levels=(700,)))
    assert canonical(other, "memory", select=Selection(("ua",)))["level"].values.tolist() == [
        850,
        700,
        500,
        200,
    ]


@pytest.mark.parametrize(
    ("name", "attrs", "values", "message"),
    [
        (
            "level",
            {"units": "hPa"},
            [850.0, 7.5, 2.5],
            r"'level' has a level of 7\.5 hPa.*select others, e\.g\. 850",
        ),
        ("plev", {"units": "Pa"}, [50.0, 20.0], r"a level of 0\.5 hPa.*select one position, e\.g\. plev=50"),
        ("plev", {"units": "Pa"}, [50000.0, 50000.01], "the level 500 hPa twice"),
        (
            "lev",
            {"units": "level"},
            [1.0, 2.0, 3.0],
            "'lev' has units 'level', which cannot be converted to 'hPa'",
        ),
        ("level", {}, [1, 2, 3], "look like level numbers"),
        ("plev", {}, [85000, 50000], "look like pressures in Pa"),
        (
            "level",
            {"units": "millibars", "long_name": "model_level_number"},
            [135.0, 136.0, 137.0],
            "counts hybrid or sigma levels",
        ),
        ("hybrid", {"units": "1"}, [1.0, 2.0], "counts hybrid or sigma levels"),
        (
            "lev",
            {"units": "1", "standard_name": "atmosphere_hybrid_height_coordinate"},
            [0.1, 0.9],
            "without a formula for atmosphere_hybrid_height",
        ),
        ("height", {"units": "m"}, [10.0, 100.0], "dimension 'height' of size 2; select one"),
        (
            "theta",
            {"units": "K", "standard_name": "air_potential_temperature"},
            [300.0, 350.0],
            "dimension 'theta' of size 2",
        ),
        ("depth", {"units": "dbar"}, [5.0, 10.0], "dimension 'depth' of size 2"),
        (
            "pressure",
            {"units": "dbar", "standard_name": "sea_water_pressure"},
            [5.0, 10.0],
            "do not measure air pressure.*select one of these, e.g. pressure=5",
        ),
    ],
)
def test_axes_that_are_not_integer_pressures_in_hpa_are_rejected(source, name, attrs, values, message):
    with pytest.raises(ValueError, match=message):
        canonical(on_axis(source, name, values, attrs), "memory")


def test_levels_without_coordinate_values_are_rejected(source):
    data = on_axis(source, "level", [850, 500], {}).drop_vars("level")
    with pytest.raises(ValueError, match=r"'level' has no coordinate values.*e\.g\. level=0"):
        canonical(data, "memory")
    assert canonical(data, "memory", select=Selection(at=(("level", "1"),)))["ta"].dims == (
        "time",
        "latitude",
        "longitude",
    )


def test_fractional_levels_are_dropped_if_others_are_selected(source):
    data = on_axis(source, "level", [850.0, 7.5, 2.5, 500.0], {"units": "hPa"})
    result = canonical(data, "memory", select=Selection(levels=(500, 850), variables=("ta",)))
    assert np.allclose(result["temperature"].sel(level=500), source["t2m"] + 3) and np.allclose(
        result["temperature"].sel(level=850), source["t2m"]
    )
    with pytest.raises(ValueError, match="has no level 7 hPa"):
        canonical(data, "memory", select=Selection(levels=(7,)))


def test_single_levels_of_different_pressures_become_scalars(source):
    data = on_axis(source, "isobaric", [50000.0], {"units": "Pa"}, "t500")
    data["t850"] = on_axis(source, "isobaric1", [85000.0], {"units": "Pa"}, "t850")["t850"]
    result = canonical(data, "memory")
    assert result["t500"].dims == result["t850"].dims == ("time", "latitude", "longitude")
