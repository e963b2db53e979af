"""Classes named as module:Class, and which modules may be imported for them."""

import sys

import pytest
from torch import nn

from fourcaster.fno.errors import RegistryError, UntrustedCodeError
from fourcaster.fno.models import REGISTRY, build_model
from fourcaster.fno.references import is_reference, load_reference, reference_of, trusting
from fourcaster.fno.registry import Registry

NETS = """
from pathlib import Path
import torch
Path(__file__).with_name("imported").touch()

class Point(torch.nn.Conv2d):
    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, out_channels, 1)

NUMBER = 3
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "code"
    package = folder / "own_parts_of_test"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(NETS)
    (package / "broken.py").write_text("raise OSError('no licence')")
    (package / "__main__.py").write_text(NETS)
    yield folder
    for name in [name for name in sys.modules if name.startswith("own_parts_of_test")]:
        del sys.modules[name]


def test_references_are_recognised():
    assert is_reference("a.b:C") and is_reference("nets:UNet")
    for other in ("fno", "a:b:c", "a.b", ":C", "a:", "a b:C", "1a:C", "a/b:C", "a" * 300 + ":C", 3, None):
        assert not is_reference(other)


def test_code_outside_of_trusted_folders_is_never_run(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)  # found, as in the working folder of ``python -m``
    for module in ("nets", "broken", "__main__", "missing"):
        with pytest.raises(UntrustedCodeError, match=r"^own_parts_of_test.\w+:Point: "):
            load_reference(f"own_parts_of_test.{module}:Point")
    with pytest.raises(UntrustedCodeError, match="trust the folder that contains it"):
        REGISTRY["own_parts_of_test.nets:Point"]
    assert not (folder / "own_parts_of_test" / "imported").exists()
    assert "own_parts_of_test" not in sys.modules


@pytest.mark.parametrize("reference", ["os:system", "antigravity:geohash", "pip.__main__:main", "sys:exit"])
def test_the_standard_library_and_programs_are_no_packages_of_parts(reference):
    with pytest.raises(UntrustedCodeError):
        load_reference(reference)
    assert "antigravity" not in sys.modules and "pip.__main__" not in sys.modules


def test_a_trusted_folder_is_trusted_inside_the_context_only(folder):
    before = list(sys.path)
    with trusting(folder):
        kind = load_reference("own_parts_of_test.nets:Point")
        model, clipped = build_model("own_parts_of_test.nets:Point", None, in_channels=2, out_channels=3)
    assert sys.path == before
    assert isinstance(model, kind) and model.weight.shape == (3, 2, 1, 1) and not clipped
    assert reference_of(kind) == "own_parts_of_test.nets:Point"
    with pytest.raises(UntrustedCodeError):
        load_reference("own_parts_of_test.nets:Point")


def test_installed_packages_need_no_trust():
    assert load_reference("torch.nn.modules.linear:Linear") is nn.Linear
    assert load_reference("fourcaster.fno.models.fno:FNO") is REGISTRY["fno"]
    assert REGISTRY["torch.nn:Conv2d"] is nn.Conv2d


def test_a_trusted_folder_cannot_replace_an_installed_package(folder):
    (folder / "typer.py").write_text("raise OSError")
    with trusting(folder):
        assert load_reference("typer:Option").__module__.startswith("typer")


def test_what_a_trusted_folder_lacks_is_reported(folder):
    with trusting(folder):
        with pytest.raises(RegistryError, match=r"broken failed with OSError: no licence"):
            load_reference("own_parts_of_test.broken:Point")
        with pytest.raises(RegistryError, match=r"nets \(.*nets.py\) has no Missing"):
            load_reference("own_parts_of_test.nets:Missing")
        with pytest.raises(RegistryError, match=r"not a subclass of torch.nn.Module"):
            REGISTRY["own_parts_of_test.nets:NUMBER"]
        with pytest.raises(UntrustedCodeError, match=r"no module own_parts_of_test.missing"):
            load_reference("own_parts_of_test.missing:Point")
    with pytest.raises(NotADirectoryError, match="missing is not a folder"), trusting(folder / "missing"):
        pass


def test_classes_that_no_import_can_find_have_no_reference():
    class Local(nn.Module):
        pass

    for kind in (Local, type("Top", (), {"__module__": "__main__"})):
        with pytest.raises(RegistryError, match="cannot be imported"):
            reference_of(kind)


def test_a_registry_checks_options():
    registry = Registry({"damped": lambda factor=1.0: factor}, group="fourcaster.none", noun="loss")
    assert registry.build("damped", factor=0.5) == 0.5
    with pytest.raises(RegistryError, match="loss damped has no option 'rate'; it has factor"):
        registry.build("damped", rate=1)
    with pytest.raises(
        RegistryError, match="there is no loss 'demped'; choose one of damped, or module:Class"
    ):
        registry.build("demped")
