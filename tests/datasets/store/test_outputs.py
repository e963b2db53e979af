"""Output extensions: each kind accepts its own and no other, in every verb that writes."""

import pytest
from typer.testing import CliRunner

from fourcaster.datasets.store.outputs import FORMATS, check_output
from fourcaster.forecast.cli.main import app


@pytest.mark.parametrize("kind", FORMATS)
def test_each_kind_accepts_only_its_own_extensions(kind, tmp_path):
    for extension in (*FORMATS[kind], ""):
        assert check_output(tmp_path / f"x{extension}", kind) == tmp_path / f"x{extension}"
    for extension in (".grib", ".nc4", ".gif", ".NC", ".h5", ".foo"):
        with pytest.raises(ValueError, match=rf"x\{extension}: a {kind} is not written as \{extension}"):
            check_output(tmp_path / f"x{extension}", kind)


def test_decimal_points_in_names_are_not_extensions():
    for name in ("era5_2.5", "sfno_0.25deg", "run.v2"):
        check_output(name, "store")
        check_output(name, "checkpoint")
    check_output("run.final", "checkpoint")
    with pytest.raises(ValueError, match=r"a folder, not a \.zarr"):
        check_output("run.zarr", "checkpoint")


def test_verbs_refuse_other_extensions_before_writing(tiny_store, tiny_checkpoint, tmp_path):
    for words in (
        ("ingest", tiny_store, "-o", tmp_path / "x.nc"),
        ("run", tiny_checkpoint, "--init", tiny_store, "--lead", "6h", "-o", tmp_path / "x.grib"),
        ("run", tiny_checkpoint, "--init", tiny_store, "--lead", "6h", "-o", tmp_path / "x.nc4"),
        ("simulate", "wave", "-o", tmp_path / "x.nc", "samples=1"),
        ("verify", tiny_store, "--truth", tiny_store, "--report", tmp_path / "x.pdf"),
        ("export", tiny_checkpoint, "--format", "torch-export", "-o", tmp_path / "x.onnx"),
        ("train", "quickstart", f"data.store={tiny_store}", f"output={tmp_path / 'x.nc'}"),
    ):
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert (
            result.exit_code == 2
            and ("is not written as" in result.output or "is a folder" in result.output)
            and len(result.output.strip().splitlines()) == 1
        ), result.output
    assert not list(tmp_path.iterdir())


def test_a_forecast_without_extension_is_a_zarr_store(tiny_store, tiny_checkpoint, tmp_path):
    result = CliRunner().invoke(
        app,
        ["run", str(tiny_checkpoint), "--init", str(tiny_store), "--lead", "6h", "-o", str(tmp_path / "fc")],
    )
    assert result.exit_code == 0 and (tmp_path / "fc" / "zarr.json").is_file()
