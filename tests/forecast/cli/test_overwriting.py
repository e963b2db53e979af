"""``--overwrite`` replaces only outputs of the same kind that this package wrote, and never inputs."""

import hashlib
import os
import shutil
import sqlite3

import numpy as np
import pytest
import xarray as xr
from helpers import make_source
from typer.testing import CliRunner

from fourcaster.datasets.store.outputs import check_separate, is_output
from fourcaster.forecast.cli.main import app


def command(*args):
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    return result.exit_code, result.output


def error_text(*args):
    code, text = command(*args)
    assert code == 2 and text.strip().splitlines()[-1].startswith("forecast: "), text
    return text


def snapshot(folder):
    """Return names, content hashes and link targets of everything in a folder."""
    entries = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        entries[name] = os.readlink(path) if path.is_symlink() else ""
        if path.is_file():
            entries[name] += hashlib.sha256(path.read_bytes()).hexdigest()
    return entries


@pytest.fixture(scope="module")
def outputs(tiny_checkpoint, tiny_store, tmp_path_factory):
    """Return a folder with one output of each kind."""
    folder = tmp_path_factory.mktemp("outputs")
    shutil.copytree(tiny_checkpoint, folder / "checkpoint")
    shutil.copytree(tiny_store, folder / "store.zarr")
    make_source().to_netcdf(folder / "source.nc")
    run = ("run", tiny_checkpoint, "--init", tiny_store, "--lead", "12h", "--time", "2001-01-20")
    for args in (
        (*run, "-o", folder / "forecast.zarr"),
        (*run, "-o", folder / "forecast.nc"),
        (
            "verify",
            folder / "forecast.zarr",
            "--truth",
            tiny_store,
            "-o",
            folder / "scores.nc",
            "--report",
            folder / "report.html",
        ),
        ("plot", folder / "forecast.zarr", "--variable", "t2m", "--lead", "6h", "-o", folder / "map.png"),
        ("plot", folder / "forecast.zarr", "--variable", "t2m", "--lead", "6h", "-o", folder / "map.svg"),
        ("plot", folder / "forecast.zarr", "--variable", "t2m", "--lead", "6h", "-o", folder / "map.pdf"),
        ("simulate", "wave", "-o", folder / "waves.zarr", "samples=1"),
    ):
        assert command(*args)[0] == 0, args
    return folder


KINDS = {
    "checkpoint": "checkpoint",
    "store.zarr": "store",
    "forecast.zarr": "forecast",
    "forecast.nc": "forecast",
    "scores.nc": "file of scores",
    "report.html": "report",
    "map.png": "picture",
    "map.svg": "picture",
    "map.pdf": "picture",
    "waves.zarr": "simulation",
}


def test_each_output_is_recognised_as_its_own_kind_only(outputs):
    for name, kind in KINDS.items():
        for other in set(KINDS.values()):
            assert is_output(outputs / name, other) == (other == kind), (name, other)


def writers(folder, checkpoint, store):
    """Return the commands that accept --overwrite, each with the suffix of its output."""
    forecast = folder / "forecast.zarr"
    run = ("run", checkpoint, "--init", store, "--lead", "12h", "--time", "2001-01-20", "--overwrite", "-o")
    return {
        "ingest": (("ingest", folder / "source.nc", "--overwrite", "-o"), ".zarr"),
        "run": (run, ".zarr"),
        "run to netCDF": (run, ".nc"),
        "simulate": (("simulate", "wave", "samples=1", "--overwrite", "-o"), ".zarr"),
        "verify": (("verify", forecast, "--truth", store, "--overwrite", "-o"), ".nc"),
        "report": (("verify", forecast, "--truth", store, "--overwrite", "--report"), ".html"),
        "plot": (("plot", forecast, "--variable", "t2m", "--lead", "6h", "--overwrite", "-o"), ".png"),
        "export": (("export", checkpoint, "--format", "torch-export", "--overwrite", "-o"), ".pt2"),
    }


def create_foreign_files(path):
    """Create files of other programs at ``path`` one after another; yield a description of each."""
    path.write_text("notes about fourcaster, weights and forecasts\n")
    yield "text"
    path.unlink()
    xr.Dataset({"x": ("t", np.arange(3.0))}, attrs={"title": "measurements"}).to_netcdf(
        path, engine="netcdf4"
    )
    yield "netCDF"
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (x)")
    yield "database"
    path.unlink()
    (path / "photos").mkdir(parents=True)
    (path / "photos" / "cat.jpg").write_bytes(b"cat")
    yield "home folder"
    shutil.rmtree(path)
    xr.Dataset({"x": ("t", np.arange(3.0))}).to_zarr(path, consolidated=False)
    yield "zarr"
    shutil.rmtree(path)
    (path.parent / "precious").mkdir(exist_ok=True)
    (path.parent / "precious" / "file").write_text("x")
    path.symlink_to(path.parent / "precious")
    yield "link"
    path.unlink()
    path.symlink_to(path.parent / "nowhere")
    yield "dangling link"
    path.unlink()


@pytest.mark.parametrize("name", ["", ".", "..", "/", "x/.."])
def test_invalid_output_names_are_rejected_by_every_command(
    outputs, tiny_checkpoint, tiny_store, tmp_path, monkeypatch, name
):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "x").mkdir()
    for args, _ in writers(outputs, tiny_checkpoint, tiny_store).values():
        error_text(*args, name)
    error_text("train", "quickstart", f"data.store={tiny_store}", f"output={name}")
    assert snapshot(tmp_path) == {"here": "", "here/x": ""}


def test_foreign_files_are_not_overwritten_by_any_command(outputs, tiny_checkpoint, tiny_store, tmp_path):
    for verb, (args, suffix) in writers(outputs, tiny_checkpoint, tiny_store).items():
        for description in create_foreign_files(tmp_path / f"x{suffix}"):
            before = snapshot(tmp_path)
            text = error_text(*args, tmp_path / f"x{suffix}")
            assert "overwriting does not replace" in text, (verb, description, text)
            assert snapshot(tmp_path) == before, (verb, description)


def test_outputs_of_another_kind_are_not_overwritten(outputs, tiny_checkpoint, tiny_store, tmp_path):
    for verb, (args, suffix) in writers(outputs, tiny_checkpoint, tiny_store).items():
        for name, own in KINDS.items():
            path = tmp_path / f"x{suffix}"
            copy = shutil.copytree if (outputs / name).is_dir() else shutil.copy2
            copy(outputs / name, path)
            before = snapshot(tmp_path)
            kind = {
                "run to netCDF": "forecast",
                "run": "forecast",
                "ingest": "store",
                "simulate": "simulation",
                "verify": "file of scores",
                "export": "torch-export program",
                "plot": "picture",
            }.get(verb, verb)
            if kind != own:
                assert "does not replace it" in error_text(*args, path), (verb, name)
                assert snapshot(tmp_path) == before
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_outputs_of_the_same_kind_are_overwritten_unless_they_contain_other_files(
    outputs, tiny_checkpoint, tiny_store, tmp_path
):
    run = (
        "run",
        tiny_checkpoint,
        "--init",
        tiny_store,
        "--lead",
        "6h",
        "--overwrite",
        "-o",
        tmp_path / "f.zarr",
    )
    shutil.copytree(outputs / "forecast.zarr", tmp_path / "f.zarr")
    assert command(*run)[0] == 0
    with xr.open_zarr(tmp_path / "f.zarr") as replaced:
        assert replaced.sizes["prediction_timedelta"] == 2
    for path in (tmp_path / "f.zarr" / "notes.txt", tmp_path / "f.zarr" / "t2m" / "notes.txt"):
        path.write_text("do not lose me")
        assert "contains other files" in error_text(*run)
        assert path.read_text() == "do not lose me"
        path.unlink()
    for name in ("t2m", "zarr.json"):
        (tmp_path / "f.zarr" / name).rename(tmp_path / name)
        (tmp_path / "f.zarr" / name).symlink_to(tmp_path / name)
        before = snapshot(tmp_path)
        assert "contains other files" in error_text(*run) and snapshot(tmp_path) == before
        (tmp_path / "f.zarr" / name).unlink()
        (tmp_path / name).rename(tmp_path / "f.zarr" / name)
    (tmp_path / "alias.zarr").symlink_to("f.zarr")
    before = snapshot(tmp_path)
    assert (
        "is a link, which overwriting does not replace" in error_text(*run[:-1], tmp_path / "alias.zarr")
        and snapshot(tmp_path) == before
    )
    assert command(*run)[0] == 0


def test_outputs_that_overlap_an_input_are_rejected(outputs, tmp_path):
    store, checkpoint = tmp_path / "in" / "store.zarr", tmp_path / "in" / "checkpoint"
    shutil.copytree(outputs / "store.zarr", store)
    shutil.copytree(outputs / "checkpoint", checkpoint)
    shutil.copytree(outputs / "forecast.zarr", tmp_path / "f.zarr")
    shutil.copy(outputs / "source.nc", tmp_path / "in" / "a.nc")
    (tmp_path / "alias").symlink_to(tmp_path / "in")
    before = snapshot(tmp_path)
    run = ("run", checkpoint, "--init", store, "--lead", "6h", "--overwrite", "-o")
    verify = ("verify", tmp_path / "f.zarr", "--truth", store, "--overwrite")
    plot = (
        "plot",
        tmp_path / "f.zarr",
        "--variable",
        "t2m",
        "--lead",
        "6h",
        "--truth",
        store,
        "--overwrite",
        "-o",
    )
    alias = tmp_path / "alias"
    for args, relation in (
        ((*run, store), "is"),
        ((*run, alias / "store.zarr"), "is"),
        ((*run, alias / ".." / "in" / "store.zarr"), "is"),
        ((*run, tmp_path / "in"), "contains"),
        ((*run, store / "f.zarr"), "lies in"),
        ((*run, store / "t2m" / "f.nc"), "lies in"),
        ((*run, checkpoint), "is"),
        ((*run, checkpoint / "f.zarr"), "lies in"),
        (("ingest", tmp_path / "f.zarr", "--overwrite", "-o", tmp_path / "f.zarr"), "is"),
        (("ingest", tmp_path / "in" / "*.nc", "--overwrite", "-o", tmp_path / "in"), "contains"),
        (("ingest", store, "--overwrite", "-o", store), "is"),
        (("ingest", store, "--overwrite", "-o", store / "b.zarr"), "lies in"),
        (("ingest", tmp_path / "in" / "a.nc", "--grid", store, "--overwrite", "-o", store), "is"),
        ((*verify, "-o", store / "scores.nc"), "lies in"),
        ((*verify, "-o", tmp_path / "f.zarr" / "scores.nc"), "lies in"),
        ((*verify, "--report", store / "report.html"), "lies in"),
        ((*plot, store / "map.png"), "lies in"),
        (("export", checkpoint, "--format", "torch-export", "-o", checkpoint / "m.pt2"), "lies in"),
        (("train", "quickstart", f"data.store={tmp_path}/run/state/s.zarr", f"output={tmp_path}/run"), None),
        (("quickstart", "--data", store, "--out", tmp_path / "in", "--fresh"), "is"),
    ):
        text = error_text(*args)
        assert relation is None or f" {relation} the input" in text, (args, text)
        assert snapshot(tmp_path) == before, args


def test_hard_links_to_an_input_are_rejected(tmp_path):
    (tmp_path / "a.nc").write_bytes(b"x")
    os.link(tmp_path / "a.nc", tmp_path / "b.nc")
    with pytest.raises(ValueError, match="is the input"):
        check_separate(tmp_path / "b.nc", [tmp_path / "a.nc"])
    check_separate(tmp_path / "c.nc", [tmp_path / "a.nc", "s3://bucket/a", None])


def test_source_file_of_an_open_data_set_is_not_overwritten(outputs, tiny_checkpoint, tmp_path):
    from fourcaster import forecast

    shutil.copytree(outputs / "store.zarr", tmp_path / "s.zarr")
    with xr.open_zarr(tmp_path / "s.zarr") as opened, pytest.raises(ValueError, match="is the input"):
        opened.encoding.setdefault("source", str(tmp_path / "s.zarr"))
        forecast.load(tiny_checkpoint).run(opened, lead="6h", output=tmp_path / "s.zarr", overwrite=True)


def test_quickstart_keeps_foreign_files(tmp_path):
    make_source().to_netcdf(tmp_path / "a.nc")
    (tmp_path / "home" / "state").mkdir(parents=True)
    (tmp_path / "home" / "state" / "diary.txt").write_text("mine")
    (tmp_path / "home" / "map.png").write_bytes(b"a picture of mine")
    before = snapshot(tmp_path)
    error_text("quickstart", "--data", tmp_path / "a.nc", "--out", tmp_path / "home", "--fresh")
    assert snapshot(tmp_path) == before


def test_training_rejects_a_foreign_checkpoint_folder(tiny_store, tmp_path):
    (tmp_path / "run" / "checkpoint").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint" / "notes.txt").write_text("mine")
    before = snapshot(tmp_path)
    text = error_text("train", "quickstart", f"data.store={tiny_store}", f"output={tmp_path / 'run'}")
    assert "is not a checkpoint" in text and "--overwrite" not in text
    assert snapshot(tmp_path) == before
