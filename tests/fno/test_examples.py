"""The examples in docstrings of fno run and give the output that they show."""

import doctest
import importlib

import pytest
from helpers import ROOT

MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for path in (ROOT / "fno").rglob("*.py")
    if ">>>" in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name):
    result = doctest.testmod(importlib.import_module(f"fourcaster.{name}"))
    assert result.attempted and not result.failed


def test_public_models_layers_and_grids_have_examples():
    import fourcaster.fno as fno

    for name in ("FNO", "SFNO", "AFNO", "SpectralConv", "RealSHT", "InverseRealSHT", "LatLon", "Box"):
        assert ">>>" in (getattr(fno, name).__doc__ or ""), name
