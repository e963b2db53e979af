"""The command that writes stores: options that name variables."""

import numpy as np
import pytest
from helpers import make_source
from typer.testing import CliRunner

from fourcaster.datasets.store.open import open_store
from fourcaster.forecast.cli.main import app


def command(*words):
    return CliRunner().invoke(app, ["ingest", *map(str, words)])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = make_source()
    source.to_netcdf("a.nc")
    source[["t2m"]].isel(time=[0]).rename(t2m="roughness").to_netcdf("rough.nc")
    return tmp_path


def test_case_08_variables_are_renamed(folder):
    done = command("a.nc", "-o", "s.zarr", "--rename", "t2m=temperature_2m", "--rename", "u10=wind")
    assert done.exit_code == 0, done.output
    dataset = open_store("s.zarr").dataset
    assert list(dataset.data_vars) == ["wind", "temperature_2m"] and np.array_equal(
        dataset["wind"], make_source()["u10"]
    )


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (
            ["--rename", "t2n=temperature_2m"],
            "rename names 't2n', which a.nc does not contain; did you mean t2m",
        ),
        (["--rename", "t2m=u10"], "both become 'u10'"),
        (["--rename", "t2m"], "--rename t2m is not understood"),
        (["--rename", "t2m=a/b"], "cannot be the name of a variable"),
        (["--static", "t2m"], "'t2m' changes with time"),
        (["--static", "orography"], "static names 'orography'"),
        (["--levels", "500"], "has no level 500 hPa; it has no pressure levels"),
        (["--member", "-1"], "has no members to select"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder, option, said):
    done = command("a.nc", "-o", "s.zarr", *option)
    assert done.exit_code == 2 and said in " ".join(done.output.split())
    assert not list(folder.glob("*s.zarr*"))


def test_case_16_a_static_field_by_name(folder):
    assert command("a.nc", "rough.nc", "-o", "s.zarr").exit_code == 2
    done = command("a.nc", "rough.nc", "-o", "s.zarr", "--static", "roughness")
    assert done.exit_code == 0, done.output
    assert list(open_store("s.zarr").static()) == ["roughness"]
