"""Grids of options and files are size-checked before construction; memory is linear in their rows."""

import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from fourcaster.datasets.adapters.grib_messages import check_messages
from fourcaster.datasets.adapters.opening import open_lazily
from fourcaster.datasets.ingest.curvilinear import CurvilinearGrid, CurvilinearRegridder
from fourcaster.datasets.ingest.regrid import Regridder, linear, parse_grid
from fourcaster.datasets.memory import limited
from fourcaster.fno.grids import LatLon, colatitudes, sphere_nodes
from fourcaster.fno.quadrature import MOST_ROWS
from fourcaster.fno.transforms.legendre import legendre
from fourcaster.forecast.inference.output_grid import output_grid

GLOBAL = LatLon(np.linspace(90, -90, 37), 5.0 * np.arange(72))
GAUSS = LatLon(90 - np.rad2deg(sphere_nodes(32, "legendre-gauss")[0]), 5.625 * np.arange(64))
REGION = LatLon(np.linspace(60, 40, 11), np.linspace(0, 20, 11))
TEXTS = [
    "0.001",
    "1e-9",
    "1e-300",
    "5e-324",
    "40000x80000",
    "1000000000x1000000000",
    "2x1000000000",
    "1000000000x2",
    "9" * 30 + "x2",
    "9" * 5000 + "x2",
]


def dataset(grid):
    return xr.Dataset(coords={"latitude": grid.latitude, "longitude": grid.longitude})


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:20])
@pytest.mark.parametrize("grid", [GLOBAL, GAUSS, REGION], ids=["global", "gauss", "region"])
def test_a_grid_of_too_many_points_is_refused_before_it_is_built(grid, text):
    started = time.monotonic()
    with pytest.raises(ValueError, match="grid"):
        output_grid(grid, ("float32", "float32"), text)
    with pytest.raises(ValueError, match="grid"):
        parse_grid(text, dataset(grid))
    assert time.monotonic() - started < 5


def test_the_error_states_points_and_bytes():
    with pytest.raises(
        ValueError,
        match=r"40000 x 80000 points, so a field would take 47.7 GiB of memory, more than the limit of 2 GiB",
    ):
        output_grid(GLOBAL, ("float32", "float32"), "40000x80000")
    with limited(10**6), pytest.raises(ValueError, match="more than the limit of 977 KiB"):
        parse_grid("0.25", dataset(GLOBAL))
    assert parse_grid("0.25", dataset(GLOBAL)).shape == (721, 1440)


def test_a_small_area_of_a_fine_grid_does_not_require_the_whole_grid():
    grid = output_grid(GLOBAL, ("float64", "float64"), "0.005", area="50/0/49/1")
    assert grid.rows is not None and grid.rows.shape == (201, 37)
    assert np.allclose(grid.along_rows, np.linspace(50, 49, 201))


def reference(old, new, periodic=False):
    n = len(old)
    points = np.append(old, old[0] + 360) if periodic else old
    eye = np.eye(n)[np.arange(len(points)) % n]
    order = np.argsort(points)
    at = points.min() + (new - points.min()) % 360 if periodic else new
    return np.stack([np.interp(at, points[order], column) for column in eye[order].T], axis=1)


def test_weights_of_linear_interpolation_equal_those_of_numpy_bit_for_bit():
    random = np.random.default_rng(0)
    for _ in range(200):
        n = int(random.integers(2, 40))
        periodic = bool(random.integers(2))
        old = (
            np.arange(n) * 360 / n + random.uniform(-180, 180)
            if periodic
            else np.sort(random.uniform(-90, 90, n))[:: random.choice([-1, 1])]
        )
        new = np.concatenate([random.uniform(-200, 400, 20), old[:3]])
        assert np.array_equal(linear(old, new, periodic), reference(old, new, periodic))


def test_weights_between_long_axes_are_refused():
    tall = LatLon(np.linspace(90, -90, 40_000), 90.0 * np.arange(4))
    with pytest.raises(ValueError, match="interpolating from 40000 to 40000 points"):
        linear(tall.latitude, tall.latitude)
    with pytest.raises(ValueError, match="regridding from 40000 to 40000 latitudes"):
        Regridder.between(dataset(tall), tall)
    with pytest.raises(ValueError, match="spectral regridding from 9001 to 9001 latitudes"):
        fine = LatLon(np.linspace(90, -90, 9001), 0.02 * np.arange(18000))
        Regridder.between(dataset(fine), fine, "spectral")


def test_memory_of_a_tall_grid_is_linear_in_its_rows():
    code = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30,) * 2)
import numpy as np
from fourcaster.fno.grids import LatLon, colatitudes, sphere_nodes
from fourcaster.fno.quadrature import sphere_nodes
from fourcaster.forecast.inference.output_grid import output_grid
first = int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
for start in (90, 89.9):
    tall = LatLon(np.linspace(start, -start, 40_000), 90.0 * np.arange(4))
    tall.area_weights, tall.sphere, tall.edges
    output_grid(tall, ("float32", "float32"))
    output_grid(tall, ("float32", "float32"), "10")
sphere_nodes(40_000, "equiangular"), sphere_nodes(40_000, "equiangular-no-poles")
print(int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) - first)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    )
    assert int(result.stdout) < 200_000  # kB


@pytest.mark.parametrize("rows", [2, 3, 4, 5, 32, 33, 180, 181, 721])
@pytest.mark.parametrize("kind", ["equiangular", "equiangular-no-poles"])
def test_weights_of_evenly_spaced_latitudes_integrate_cosines(rows, kind):
    theta, weights = sphere_nodes(rows, kind)
    degrees = np.arange(rows)
    exact = np.where(
        degrees % 2 == 0, 2 / (1 - degrees.astype(float) ** 2 + (degrees == 1)), 0
    )  # of cos(k theta) over cos(theta)
    assert np.allclose(np.cos(np.outer(degrees, theta)) @ weights, exact, atol=1e-13)


@pytest.mark.parametrize("rows", [401, 402])
def test_gauss_nodes_of_many_rows_are_accurate(rows, monkeypatch):
    monkeypatch.setattr("fourcaster.fno.quadrature._EIGENVALUES", 400)
    theta, weights = sphere_nodes(rows, "legendre-gauss")
    x, w = np.polynomial.legendre.leggauss(rows)
    assert np.allclose(theta, np.arccos(x[::-1]), atol=1e-12)
    assert np.allclose(weights, w[::-1], rtol=1e-6)
    assert np.allclose(weights @ np.cos(theta)[:, None] ** [0, 2, 10], [2, 2 / 3, 2 / 11], atol=1e-13)
    assert np.allclose(colatitudes(rows, "legendre-gauss"), theta, atol=1e-12)


@pytest.mark.parametrize("rows", [8, 64, 101, 160, 721])
def test_gauss_latitudes_are_recognised(rows):
    latitude = 90 - np.rad2deg(sphere_nodes(rows, "legendre-gauss")[0])
    assert LatLon(latitude, 5.0 * np.arange(72)).sphere == "legendre-gauss"
    assert LatLon(latitude + np.where(np.arange(rows) == 3, 0.005, 0), 5.0 * np.arange(72)).sphere is None


def test_quadrature_of_too_many_rows_is_refused():
    with pytest.raises(ValueError, match="at most 200000 latitudes"):
        sphere_nodes(MOST_ROWS + 1, "equiangular")
    with pytest.raises(
        ValueError, match=r"Legendre functions of 20000 degrees, 20000 orders and 40000 latitudes take 1\.19e"
    ):
        legendre(20_000, 20_000, np.linspace(0, np.pi, 40_000))


def test_points_within_cells_of_a_coarse_grid_are_bounded():
    y, x = np.meshgrid(np.arange(40, 41, 1e-2), np.arange(0, 1, 1e-2), indexing="ij")
    fine = CurvilinearGrid(y, x)
    coarse = LatLon(np.linspace(60, 20, 5), np.linspace(-20, 20, 5))
    with pytest.raises(ValueError, match="points within the cells"):
        CurvilinearRegridder.between(CurvilinearGrid(40 + (y - 40) * 1e-4, x * 1e-4), coarse, "conservative")
    with limited(10**4), pytest.raises(ValueError, match="regridding from 10000 to 25 points"):
        CurvilinearRegridder.between(fine, coarse, "bilinear")


def test_a_smaller_area_reduces_the_points_within_cells_and_a_finer_grid_does_not(monkeypatch):
    """The points are half the source's spacing apart in all cells, whatever the size of the cells."""
    monkeypatch.setattr("fourcaster.datasets.ingest.curvilinear._MAX_SUB_POINTS", 5000)
    y, x = np.meshgrid(np.arange(0, 1, 1e-2), np.arange(0, 1, 1e-2), indexing="ij")
    source = CurvilinearGrid(y, x)
    coarse = LatLon(0.2 + 0.1 * np.arange(6), 0.2 + 0.1 * np.arange(6))
    fine = LatLon(0.2 + 0.05 * np.arange(11), 0.2 + 0.05 * np.arange(11))
    for grid in (coarse, fine):
        with pytest.raises(ValueError, match=r"; select a smaller area, or the method bilinear$"):
            CurvilinearRegridder.between(source, grid, "conservative")
        assert CurvilinearRegridder.between(source, grid, "bilinear").covered.all()
    area = LatLon(coarse.latitude[:3], coarse.longitude[:3])
    assert CurvilinearRegridder.between(source, area, "conservative").covered.all()


@pytest.mark.parametrize("text", ["9" * 400 + "x2", "2x0", "1x5", "x", "2.5x5", "nan", "inf", "-1"])
def test_descriptions_of_impossible_grids_are_refused(text):
    for grid in (GLOBAL, REGION):
        with pytest.raises(ValueError, match="grid"):
            parse_grid(text, dataset(grid))


eccodes = pytest.importorskip("eccodes")


def message(edition, day=1, columns=8, rows=5, bits=0):
    handle = eccodes.codes_grib_new_from_samples(f"regular_ll_sfc_grib{edition}")
    for key, value in {"Ni": columns, "Nj": rows, "dataDate": 20010100 + day, "bitsPerValue": bits}.items():
        eccodes.codes_set(handle, key, value)
    eccodes.codes_set_values(
        handle, np.full(columns * rows, 280.0) + bits * np.random.default_rng(0).normal(size=columns * rows)
    )
    content = bytearray(eccodes.codes_get_message(handle))
    eccodes.codes_release(handle)
    return content


def with_points(content, edition, columns, rows):
    if edition == 1:
        offset = 8 + int.from_bytes(content[8:11], "big")
        content[offset + 6 : offset + 10] = columns.to_bytes(2, "big") + rows.to_bytes(2, "big")
    else:
        offset = 16
        while content[offset + 4] != 3:
            offset += int.from_bytes(content[offset : offset + 4], "big")
        content[offset + 6 : offset + 10] = min(columns * rows, 2**32 - 2).to_bytes(4, "big")
        content[offset + 30 : offset + 38] = columns.to_bytes(4, "big") + rows.to_bytes(4, "big")
    return content


@pytest.mark.parametrize("edition", [1, 2])
def test_grids_of_grib_messages_are_compared_with_memory(tmp_path, edition):
    path = tmp_path / "a.grib"
    path.write_bytes(message(edition, 1) + bytes(8) + message(edition, 2))
    check_messages(str(path))
    path.write_bytes(message(edition, 1) + with_points(message(edition, 2), edition, 65000, 65000))
    with pytest.raises(
        ValueError,
        match=r"a field of message 2, on 42\d+ points, would take 12\d GiB of memory.*argument memory",
    ):
        open_lazily(str(path))


def test_damaged_grib_messages_are_one_line_errors(tmp_path, monkeypatch):
    whole = bytes(message(2))
    cases = {
        "section": (whole[:16] + bytes(4) + whole[20:], "a section of 0 bytes"),
        "length": (whole[:8] + bytes(8) + whole[16:], "cut off"),
        "long": (whole[:8] + b"\xff" * 8 + whole[16:], "cannot be read"),
        "cut": (whole[:-3], "cut off"),
        "head": (whole + whole[:10], "cut off"),
        "other": (whole + b"x" * 100, "are not GRIB"),
    }
    for name, (content, word) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=word):
            open_lazily(str(tmp_path / name))
    (tmp_path / "many").write_bytes(whole * 20)
    monkeypatch.setattr("fourcaster.datasets.adapters.grib_messages.MESSAGES", 10)
    with pytest.raises(ValueError, match="more than 10 messages"):
        open_lazily(str(tmp_path / "many"))


def test_long_messages_of_edition_1_are_read(tmp_path):
    path = tmp_path / "a.grib"
    content = bytes(message(1, 1, 2500, 1201, 24) + message(1, 2, 2500, 1200, 24))
    assert len(content) > 2 * 2**23
    path.write_bytes(content)
    check_messages(str(path))
    path.write_bytes(content[:-5])
    with pytest.raises(ValueError, match="message 2 is cut off"):
        check_messages(str(path))
