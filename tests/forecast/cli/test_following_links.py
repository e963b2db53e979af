"""Symbolic links that lead out of a store are rejected by default and followed on request."""

import shutil

import pytest
import xarray as xr
from typer.testing import CliRunner

from fourcaster.datasets.errors import UntrustedDataError
from fourcaster.datasets.store.open import open_store, read_group
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.jobs.spec import Files


def call(*args):
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture
def truth(tiny_store, tmp_path):
    """Return a store whose climatology is a symbolic link to another folder."""
    shutil.copytree(tiny_store, tmp_path / "truth.zarr")
    shutil.move(tmp_path / "truth.zarr" / "climatology", tmp_path / "elsewhere")
    (tmp_path / "truth.zarr" / "climatology").symlink_to(tmp_path / "elsewhere")
    return tmp_path / "truth.zarr"


def test_store_groups_inherit_the_link_policy(truth):
    name = "climatology is a link that leads out of the store"
    with pytest.raises(UntrustedDataError, match=name):
        read_group(open_store(truth), "climatology").load()
    assert isinstance(read_group(open_store(truth, follow_links=True), "climatology").load(), xr.Dataset)


@pytest.mark.parametrize("verb", ["ingest", "inspect", "run", "verify", "plot"])
def test_every_command_that_reads_stores_has_the_flag(verb):
    assert "--follow-links" in CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).output


def test_jobs_file_has_the_follow_links_key():
    assert (
        Files(files=["a.zarr"], follow_links=True).follow_links and not Files(files=["a.zarr"]).follow_links
    )
