"""Damaged files and stores: a one-line error, exit code 2 and no output, or correct values."""

import json
import shutil
import warnings

import numpy as np
import pytest
from helpers import make_source
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fourcaster.datasets.store.open import open_store
from fourcaster.forecast.cli.main import app

SETTINGS = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


def call(*words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries about unusual data
        result = CliRunner().invoke(app, [str(w) for w in words])
    return result.exit_code, result.output.strip()


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """Write the same data in all supported formats."""
    folder, source = tmp_path_factory.mktemp("whole"), make_source(times=40, shape=(8, 16))
    source.to_netcdf(folder / "a4.nc")
    source.to_netcdf(folder / "a3.nc", format="NETCDF3_64BIT")
    for form in (2, 3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source.chunk(time=10).to_zarr(folder / f"z{form}.zarr", zarr_format=form, consolidated=True)
    return folder


def ingested_or_rejected(path, tmp_path, stored):
    """Ingest over an existing store, which must not change unless the ingest succeeds."""
    before = {p: p.read_bytes() for p in stored.rglob("*") if p.is_file()}
    code, text = call("ingest", path, "-o", stored, "--overwrite")
    if code == 0:
        assert open_store(stored).dataset.load().sizes["time"] > 1
        return True
    assert code == 2 and "Traceback" not in text, text
    message = [line for line in text.splitlines() if not line.startswith("ingest ")]
    assert (
        len(message) == 1
        and message[0].startswith("forecast: ")
        and (path.name in message[0] or "the source cannot be read between" in message[0])
    ), text
    assert {p: p.read_bytes() for p in stored.rglob("*") if p.is_file()} == before
    assert not [p for p in stored.parent.iterdir() if p.name.startswith(".")]
    return False


@pytest.fixture
def stored(tmp_path, intact):
    assert call("ingest", intact / "a3.nc", "-o", tmp_path / "stored.zarr")[0] == 0
    return tmp_path / "stored.zarr"


@pytest.mark.parametrize("name", ["a4.nc", "a3.nc"])
@given(fraction=st.floats(0, 0.999))
@SETTINGS
def test_a_truncated_file_is_rejected(intact, tmp_path, stored, name, fraction):
    content = (intact / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: int(fraction * len(content))])
    assert not ingested_or_rejected(path, tmp_path, stored)


@pytest.mark.parametrize("name", ["a4.nc", "a3.nc"])
@given(start=st.binary(min_size=4, max_size=8))
@SETTINGS
def test_a_file_with_a_wrong_signature_is_rejected(intact, tmp_path, stored, name, start):
    content = (intact / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(start + content[len(start) :])
    if start != content[: len(start)]:
        assert not ingested_or_rejected(path, tmp_path, stored)


@pytest.mark.parametrize("form", [2, 3])
@given(which=st.integers(0, 10**6), cut=st.floats(0, 0.99), delete=st.booleans())
@SETTINGS
def test_a_store_with_a_truncated_or_missing_file_is_rejected_or_correct(
    intact, tmp_path, stored, form, which, cut, delete
):
    path = tmp_path / f"z{form}.zarr"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(intact / path.name, path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    victim = files[which % len(files)]
    content = victim.read_bytes()
    if delete:
        victim.unlink()
    else:
        victim.write_bytes(content[: int(cut * len(content))])
    if ingested_or_rejected(path, tmp_path, stored):
        # Metadata that are redundant or not needed.
        assert victim.name in (".zattrs", ".zarray", ".zgroup", ".zmetadata", "zarr.json")
        expected = make_source(times=40, shape=(8, 16))
        assert np.allclose(open_store(stored).dataset["t2m"], expected["t2m"], atol=1e-4)


def test_a_store_of_an_unknown_version_is_rejected(stored, tmp_path):
    meta = json.loads((stored / "zarr.json").read_text())
    meta["attributes"]["store_version"] = 9
    (stored / "zarr.json").write_text(json.dumps(meta))
    code, text = call("inspect", stored)
    assert code == 2 and "store version 9" in " ".join(text.split())
    meta["zarr_format"] = 4
    (stored / "zarr.json").write_text(json.dumps(meta))
    code, text = call("inspect", stored)
    assert code == 2 and "Traceback" not in text
