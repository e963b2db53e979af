"""The ingest command: options that select and rename variables."""

import numpy as np
import pytest
from helpers import make_source
from typer.testing import CliRunner

from fourcaster.datasets.store.open import open_store
from fourcaster.forecast.cli.main import app


def command(*args):
    return CliRunner().invoke(app, ["ingest", *map(str, args)])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = make_source()
    source.to_netcdf("a.nc")
    source[["t2m"]].isel(time=[0]).rename(t2m="roughness").to_netcdf("rough.nc")
    return tmp_path


def test_variables_are_renamed(folder):
    result = command("a.nc", "-o", "s.zarr", "--rename", "t2m=temperature_2m", "--rename", "u10=wind")
    assert result.exit_code == 0, result.output
    dataset = open_store("s.zarr").dataset
    assert list(dataset.data_vars) == ["wind", "temperature_2m"] and np.array_equal(
        dataset["wind"], make_source()["u10"]
    )


@pytest.mark.parametrize(
    ("option", "message"),
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
def test_invalid_options_are_rejected(folder, option, message):
    result = command("a.nc", "-o", "s.zarr", *option)
    assert result.exit_code == 2 and message in " ".join(result.output.split())
    assert not list(folder.glob("*s.zarr*"))


def test_static_field_is_selected_by_name(folder):
    assert command("a.nc", "rough.nc", "-o", "s.zarr").exit_code == 2
    result = command("a.nc", "rough.nc", "-o", "s.zarr", "--static", "roughness")
    assert result.exit_code == 0, result.output
    assert list(open_store("s.zarr").static()) == ["roughness"]
