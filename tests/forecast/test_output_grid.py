"""Other grids: exact where points coincide, linear in between, round the globe, around missing values."""

import numpy as np
import pytest
import xarray as xr
from helpers import make_source

from fourcaster import forecast
from fourcaster.fno.grids import LatLon
from fourcaster.forecast.output_grid import output_grid

BOX = LatLon(np.arange(60.0, 19, -2.5), np.arange(200.0, 261, 2.5))
GLOBE = LatLon(np.linspace(-90, 90, 19), np.arange(0.0, 360, 10))
TYPES = ("float32", "float32")


def test_the_models_own_grid_is_left_alone():
    fields = np.random.rand(2, 3, *BOX.shape).astype("f4")
    own = output_grid(BOX, TYPES)
    assert own.apply(fields) is fields and own.along_rows.dtype == np.float32 and own.note == ""


@pytest.mark.parametrize("grid", [BOX, GLOBE])
def test_half_the_spacing_keeps_the_points_and_is_linear_between(grid):
    fine = output_grid(grid, TYPES, grid.spacing[1] / 2)
    fields = np.random.rand(2, *grid.shape).astype("f4")
    made = fine.apply(fields)
    assert np.allclose(made[:, ::2, ::2][:, :, : grid.shape[1]] if grid is BOX else made[..., ::2][:, ::2], fields, atol=1e-6)
    assert np.allclose(made[:, ::2, 1], fields[:, :, :2].mean(-1), atol=1e-6)
    if grid is GLOBE:
        assert len(fine.along_columns) == 72 and np.allclose(made[:, ::2, -1], (fields[..., -1] + fields[..., 0]) / 2, atol=1e-6)
    assert "no finer detail" in fine.note


def test_a_linear_field_is_reproduced_at_any_spacing():
    made = output_grid(BOX, TYPES, 0.7)
    plane = (BOX.latitude[:, None] + 2 * BOX.longitude).astype("f4")
    assert np.allclose(made.apply(plane), made.along_rows[:, None] + 2 * made.along_columns, rtol=1e-5)


def test_an_area_is_cut_out_bit_for_bit():
    part = output_grid(BOX, TYPES, area="50/-150/30/-120")
    rows, columns = (BOX.latitude <= 50) & (BOX.latitude >= 30), (BOX.longitude >= 210) & (BOX.longitude <= 240)
    fields = np.random.rand(3, *BOX.shape).astype("f4")
    assert np.array_equal(part.apply(fields), fields[:, rows][:, :, columns])
    assert np.array_equal(part.along_columns, BOX.longitude[columns])


def test_an_area_across_the_seam_stays_in_one_piece():
    part = output_grid(GLOBE, TYPES, area="60/-20/-60/30")
    assert part.along_columns.tolist() == [340, 350, 360, 370, 380, 390]
    fields = np.broadcast_to(GLOBE.longitude, GLOBE.shape).astype("f4")
    assert part.apply(fields)[0].tolist() == [340, 350, 0, 10, 20, 30]


def test_missing_values_stay_missing():
    fields = np.ones(BOX.shape, "f4")
    fields[3, 4] = np.nan
    made = output_grid(BOX, TYPES, 1.25).apply(fields)
    assert np.isnan(made[6, 8]) and np.isnan(made[5, 8]) and np.isfinite(made[4, 8]) and (made[np.isfinite(made)] == 1).all()


@pytest.mark.parametrize(
    ("spacing", "area", "said"),
    [(0, None, "between 0 and 45"), (None, "here", "is not an area"), (None, "10/0/20/30", "below north"), (None, "60/0/20/10", "fewer than two")],
)
def test_what_makes_no_sense_is_refused(spacing, area, said):
    with pytest.raises(ValueError, match=said):
        output_grid(BOX, TYPES, spacing, area)


def test_forecasts_on_another_grid_agree_on_disk_and_in_memory(tiny_checkpoint, tiny_store, tmp_path):
    model, arguments = forecast.load(tiny_checkpoint), {"times": "2001-02-03", "lead": "12h", "grid": 2.0, "area": "55/205/35/240"}
    memory = model.run(make_source(), **arguments)
    disk = model.run(make_source(), **arguments, output=tmp_path / "fc.zarr")
    assert np.allclose(memory["t2m"], disk["t2m"], atol=1e-4) and "no finer detail" in disk.attrs["comment"]
    whole = model.run(make_source(), times="2001-02-03", lead="12h")
    point = {"latitude": 50.0, "longitude": 230.0}
    assert np.allclose(memory["t2m"].interp(point), whole["t2m"].interp(point), atol=1e-2)
    with pytest.raises(ValueError, match="differ; verify on the grid"):
        forecast.verify(tmp_path / "fc.zarr", tiny_store)
    assert isinstance(disk, xr.Dataset)
