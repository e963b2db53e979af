"""Options without an effect are refused, in one line, before anything is read or written."""

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
USED = {
    "pinn": {"--grid", "--device"},
    "operator": {"--init", "--refine", "--device"},
    None: set(RUN) - {"--refine"},
}


def refused(*arguments):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    message = [line for line in done.stderr.splitlines() if line.startswith("forecast: ")]
    assert done.exit_code == 2 and len(message) == 1 and not done.stdout, (done.output, done.exception)
    return message[0]


@pytest.mark.parametrize(
    ("kind", "option"),
    [(kind, option) for kind, used in USED.items() for option in RUN if option not in used],
)
def test_run_takes_only_what_its_kind_of_model_uses(kind, option, tmp_path):
    (tmp_path / "meta.json").write_text(json.dumps({"format_version": 1} | ({"kind": kind} if kind else {})))
    words = [option] if RUN[option] is None else [option, RUN[option]]
    name = "--bounds" if option == "--no-bounds" else option
    assert f"{name} does not apply to" in refused("run", tmp_path, "-o", tmp_path / "x.zarr", *words).replace(
        "--no-bounds", "--bounds"
    )
    assert not (tmp_path / "x.zarr").exists()


def test_run_refuses_times_and_names_that_say_nothing(tiny_checkpoint, tiny_store, tmp_path):
    run = ("run", tiny_checkpoint, "--init", tiny_store, "-o", tmp_path / "x.zarr", "--lead", "6h")
    for words, message in (
        (("--variables", ""), "the model has no variable ''"),
        (("--variables", "t2m,"), "the model has no variable ''"),
        (("--time", "2001-02-01", "--time", "2001-02-01T00"), "is given twice"),
        (("--time", "2001-02-03/2001-02-01/6h"), "contains no time"),
        (("--seed", "1"), "seed has no effect"),
        (("--amplitude", "0.5"), "amplitude has no effect"),
        (("--members", "3", "--amplitude", "0"), "must be a positive number"),
    ):
        assert message in refused(*run, *words), words
    assert not (tmp_path / "x.zarr").exists()


def test_a_device_that_would_not_be_used_is_refused(tmp_path):
    for kind, words, message in (
        ("pinn", (), "evaluated on the CPU, not on cuda"),
        ("operator", ("--init", "x", "--refine", "2"), "refinement runs on the CPU"),
    ):
        (tmp_path / "meta.json").write_text(json.dumps({"format_version": 1, "kind": kind}))
        assert message in refused("run", tmp_path, "-o", tmp_path / "x.zarr", "--device", "cuda", *words)


def test_ingest_refuses_options_without_an_effect(tmp_path):
    make_source().isel(time=slice(100)).to_netcdf(tmp_path / "a.nc")
    make_source().isel(time=slice(100, 160)).to_netcdf(tmp_path / "b.nc")
    first = ("ingest", tmp_path / "a.nc", "-o", tmp_path / "s.zarr")
    more = ("ingest", tmp_path / "b.nc", "-o", tmp_path / "s.zarr", "--append")
    assert "method bilinear does not apply without a grid" in refused(*first, "--method", "bilinear")
    assert "method conservative does not apply without a grid" in refused(*first, "--method", "conservative")
    assert "has no level 500 hPa" in refused(*first, "--levels", "500")
    assert "has no members to select" in refused(*first, "--member", "-1")
    assert "--units names t2m twice" in refused(*first, "--units", "t2m=K", "--units", "t2m=degC")
    assert not (tmp_path / "s.zarr").exists()
    assert CliRunner().invoke(app, [str(word) for word in first]).exit_code == 0
    shutil.copytree(tmp_path / "s.zarr", tmp_path / "before.zarr")
    assert "train_period 2001-01-05:2001-01-09 does not apply to append" in refused(
        *more, "--train-period", "2001-01-05:2001-01-09"
    )
    assert "icechunk does not apply to append" in refused(*more, "--store", "icechunk")
    old, new = (
        sorted(p.relative_to(tmp_path / n) for p in (tmp_path / n).rglob("*"))
        for n in ("before.zarr", "s.zarr")
    )
    assert old == new
    assert CliRunner().invoke(app, [str(word) for word in (*more, "--store", "zarr")]).exit_code == 0
