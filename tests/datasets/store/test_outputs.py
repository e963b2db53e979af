"""Endings of outputs: those of their kind, and no other, by every verb that writes."""

import pytest
from typer.testing import CliRunner

from fourcaster.datasets.store.outputs import FORMATS, check_output
from fourcaster.forecast.cli.main import app


@pytest.mark.parametrize("kind", FORMATS)
def test_each_kind_takes_its_own_endings_and_no_other(kind, tmp_path):
    for ending in (*FORMATS[kind], ""):
        assert check_output(tmp_path / f"x{ending}", kind) == tmp_path / f"x{ending}"
    for ending in (".grib", ".nc4", ".gif", ".NC", ".h5", ".foo"):
        with pytest.raises(ValueError, match=rf"x\{ending}: a {kind} is not written as \{ending}"):
            check_output(tmp_path / f"x{ending}", kind)


def test_numbers_are_part_of_a_name():
    for name in ("era5_2.5", "sfno_0.25deg", "run.v2"):
        check_output(name, "store")
        check_output(name, "checkpoint")
    check_output("run.final", "checkpoint")
    with pytest.raises(ValueError, match=r"a folder, not a \.zarr"):
        check_output("run.zarr", "checkpoint")


def test_verbs_refuse_other_endings_before_they_write(tiny_store, tiny_checkpoint, tmp_path):
    for words in (
        ("ingest", tiny_store, "-o", tmp_path / "x.nc"),
        ("run", tiny_checkpoint, "--init", tiny_store, "--lead", "6h", "-o", tmp_path / "x.grib"),
        ("run", tiny_checkpoint, "--init", tiny_store, "--lead", "6h", "-o", tmp_path / "x.nc4"),
        ("simulate", "wave", "-o", tmp_path / "x.nc", "samples=1"),
        ("verify", tiny_store, "--truth", tiny_store, "--report", tmp_path / "x.pdf"),
        ("export", tiny_checkpoint, "--format", "torch-export", "-o", tmp_path / "x.onnx"),
        ("train", "quickstart", f"data.store={tiny_store}", f"output={tmp_path / 'x.nc'}"),
    ):
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert (
            done.exit_code == 2
            and ("is not written as" in done.output or "is a folder" in done.output)
            and len(done.output.strip().splitlines()) == 1
        ), done.output
    assert not list(tmp_path.iterdir())


def test_a_forecast_without_ending_is_a_zarr_folder(tiny_store, tiny_checkpoint, tmp_path):
    done = CliRunner().invoke(
        app,
        ["run", str(tiny_checkpoint), "--init", str(tiny_store), "--lead", "6h", "-o", str(tmp_path / "fc")],
    )
    assert done.exit_code == 0 and (tmp_path / "fc" / "zarr.json").is_file()
