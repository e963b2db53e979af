"""Options without effect are rejected in one line, before anything is read or written."""

import json
import shutil

import pytest
from helpers import make_source
from typer.testing import CliRunner

from fourcaster.forecast.cli.main import app

RUN = {
    "--init": "x.zarr",
    "--time": "2001-01-01",
    "--lead": "12h",
    "--grid": "9x9",
    "--refine": "2",
    "--area": "60/0/20/30",
    "--variables": "u",
    "--batch-size": "4",
    "--members": "3",
    "--seed": "1",
    "--amplitude": "0.2",
    "--clip": "u=0,1",
    "--bounds": None,
    "--no-bounds": None,
    "--device": "cpu",
}
APPLICABLE = {
    "pinn": {"--grid", "--device"},
    "operator": {"--init", "--refine", "--device"},
    None: set(RUN) - {"--refine"},
}


def error_line(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    message = [line for line in result.stderr.splitlines() if line.startswith("forecast: ")]
    assert result.exit_code == 2 and len(message) == 1 and not result.stdout, (
        result.output,
        result.exception,
    )
    return message[0]


@pytest.mark.parametrize(
    ("kind", "option"),
    [(kind, option) for kind, used in APPLICABLE.items() for option in RUN if option not in used],
)
def test_run_rejects_options_that_its_task_does_not_use(kind, option, tmp_path):
    (tmp_path / "meta.json").write_text(json.dumps({"format_version": 1} | ({"kind": kind} if kind else {})))
    args = [option] if RUN[option] is None else [option, RUN[option]]
    name = "--bounds" if option == "--no-bounds" else option
    assert f"{name} does not apply to" in error_line(
        "run", tmp_path, "-o", tmp_path / "x.zarr", *args
    ).replace("--no-bounds", "--bounds")
    assert not (tmp_path / "x.zarr").exists()


def test_run_rejects_empty_and_redundant_selections(tiny_checkpoint, tiny_store, tmp_path):
    run = ("run", tiny_checkpoint, "--init", tiny_store, "-o", tmp_path / "x.zarr", "--lead", "6h")
    for args, message in (
        (("--variables", ""), "the model has no variable ''"),
        (("--variables", "t2m,"), "the model has no variable ''"),
        (("--time", "2001-02-01", "--time", "2001-02-01T00"), "is given twice"),
        (("--time", "2001-02-03/2001-02-01/6h"), "contains no time"),
        (("--seed", "1"), "seed has no effect"),
        (("--amplitude", "0.5"), "amplitude has no effect"),
        (("--members", "3", "--amplitude", "0"), "must be a positive number"),
    ):
        assert message in error_line(*run, *args), args
    assert not (tmp_path / "x.zarr").exists()


def test_unused_device_is_rejected(tmp_path):
    for kind, args, message in (
        ("pinn", (), "evaluated on the CPU, not on cuda"),
        ("operator", ("--init", "x", "--refine", "2"), "refinement runs on the CPU"),
    ):
        (tmp_path / "meta.json").write_text(json.dumps({"format_version": 1, "kind": kind}))
        assert message in error_line("run", tmp_path, "-o", tmp_path / "x.zarr", "--device", "cuda", *args)


def test_ingest_rejects_options_without_effect(tmp_path):
    make_source().isel(time=slice(100)).to_netcdf(tmp_path / "a.nc")
    make_source().isel(time=slice(100, 160)).to_netcdf(tmp_path / "b.nc")
    first = ("ingest", tmp_path / "a.nc", "-o", tmp_path / "s.zarr")
    more = ("ingest", tmp_path / "b.nc", "-o", tmp_path / "s.zarr", "--append")
    assert "method bilinear does not apply without a grid" in error_line(*first, "--method", "bilinear")
    assert "method conservative does not apply without a grid" in error_line(
        *first, "--method", "conservative"
    )
    assert "has no level 500 hPa" in error_line(*first, "--levels", "500")
    assert "has no members to select" in error_line(*first, "--member", "-1")
    assert "--units names t2m twice" in error_line(*first, "--units", "t2m=K", "--units", "t2m=degC")
    assert not (tmp_path / "s.zarr").exists()
    assert CliRunner().invoke(app, [str(arg) for arg in first]).exit_code == 0
    shutil.copytree(tmp_path / "s.zarr", tmp_path / "before.zarr")
    assert "train_period 2001-01-05:2001-01-09 does not apply to append" in error_line(
        *more, "--train-period", "2001-01-05:2001-01-09"
    )
    assert "icechunk does not apply to append" in error_line(*more, "--store", "icechunk")
    old, new = (
        sorted(p.relative_to(tmp_path / n) for p in (tmp_path / n).rglob("*"))
        for n in ("before.zarr", "s.zarr")
    )
    assert old == new
    assert CliRunner().invoke(app, [str(arg) for arg in (*more, "--store", "zarr")]).exit_code == 0
