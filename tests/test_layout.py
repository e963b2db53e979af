"""The shape of the house: who may import whom, what the links and the wheel hold."""

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers import make_source

ROOT = Path(__file__).parent.parent
PACKAGES = ("fno", "datasets", "forecast")
ALLOWED = {"fno": {"fno"}, "datasets": {"datasets", "fno"}, "forecast": {"forecast", "datasets", "fno"}}
# What datasets may take from fno, and the order of rooms within fno: each may import only what stands before
# it.
FROM_FNO = ("fno.grids", "fno.transforms", "fno.batch", "fno.progress", "fno.random")
ROOMS = (
    "errors",
    "progress",
    "random",
    "grids",
    "batch",
    "transforms",
    "layers",
    "models",
    "physics",
    "losses",
    "weights",
    "training",
)
FORBIDDEN = {
    "fno": {"xarray", "dask", "zarr", "netCDF4", "matplotlib", "cartopy", "pydantic", "typer"},
    "datasets": {"typer", "matplotlib", "cartopy"},
}


def imports(path: Path) -> list[str]:
    """Return the modules that a file imports, ours as ``package.module``, others by their first name."""
    here = list(path.relative_to(ROOT).with_suffix("").parts)
    if here[-1] == "__init__":
        here = [*here[:-1], ""]
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name.removeprefix("fourcaster.") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])]).removeprefix("fourcaster.")
            found += (
                [module] if node.module else [f"{module}.{alias.name}".strip(".") for alias in node.names]
            )
    return found


def files(package: str) -> list[Path]:
    return sorted(p for p in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package):
    for path in files(package):
        for name in imports(path):
            first = name.split(".")[0]
            assert first not in set(PACKAGES) - ALLOWED[package], f"{path} imports {name}"
            assert first not in FORBIDDEN.get(package, set()), f"{path} imports {name}"
            if package == "datasets" and first == "fno":
                assert name.startswith(FROM_FNO), f"{path} imports {name}"
            if package == "datasets" and first == "torch":
                assert path.name == "loaders.py" or path.parent.name == "loaders", f"{path} imports torch"


def test_no_file_imports_a_bare_package():
    """Bare ``datasets`` is another project's package; bare ``fno`` would load our modules twice."""
    for path in [*(p for package in PACKAGES for p in files(package)), *(ROOT / "tests").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {n.split(".")[0] for n in names} & set(PACKAGES), f"{path} imports {names}"


def test_rooms_of_fno_stand_in_order():
    for path in files("fno"):
        room = path.relative_to(ROOT / "fno").parts[0].removesuffix(".py")
        for name in imports(path):
            parts = name.split(".")
            if room in ROOMS and parts[0] == "fno" and len(parts) > 1 and parts[1] in ROOMS:
                assert ROOMS.index(parts[1]) <= ROOMS.index(room), f"{path} imports {name}"
            if room == "training" and parts[:2] == ["fno", "models"]:
                assert parts[2] == "stepper", f"{path} imports a concrete model: {name}"


def test_the_checker_sees_a_forbidden_import(tmp_path, monkeypatch):
    (tmp_path / "fno").mkdir()
    (tmp_path / "fno" / "bad.py").write_text(
        "from ..datasets.suggestions import suggest\nimport xarray as xr\nfrom . import grids\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert imports(tmp_path / "fno" / "bad.py") == ["datasets.suggestions", "xarray", "fno.grids"]


def test_links_are_relative_and_datasets_has_no_init():
    for name in (*PACKAGES, "configs"):
        link = ROOT / "fourcaster" / name
        assert link.is_symlink() and str(link.readlink()) == f"../{name}"
    assert not (ROOT / "datasets" / "__init__.py").exists()


def test_nothing_below_the_command_prints():
    for package in PACKAGES:
        for path in files(package):
            calls = [
                n.func.id
                for n in ast.walk(ast.parse(path.read_text()))
                if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
            ]
            assert "print" not in calls or path.parent.name == "cli", f"{path} prints"


def test_modules_stay_small():
    for package in PACKAGES:
        for path in files(package):
            assert len(path.read_text().splitlines()) <= 350, f"{path} is longer than 350 lines"


def test_help_does_not_import_the_heavy_packages():
    code = "import sys, fourcaster.forecast.cli.main; print([m for m in ('torch', 'xarray', 'numpy', 'matplotlib', 'dask', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wheel_holds_exactly_the_tree_and_works(tmp_path):
    copy = tmp_path / "tree"  # a build leaves files behind, and takes up those that an earlier one left
    shutil.copytree(
        ROOT,
        copy,
        symlinks=True,
        ignore=shutil.ignore_patterns(
            ".*", "build", "dist", "*.egg-info", "quickstart", "runs", "__pycache__"
        ),
    )
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(copy),
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    held = {n for n in names if ".dist-info/" not in n}
    tree = {"fourcaster/__init__.py", "fourcaster/py.typed"}
    for package in PACKAGES:
        tree |= {f"fourcaster/{p.relative_to(ROOT).as_posix()}" for p in files(package)}
    tree |= {f"fourcaster/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "configs").rglob("*.yaml")}
    tree |= {f"fourcaster/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "forecast" / "data").iterdir()}
    assert held == tree
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    make_source(times=400, step_hours=12).to_netcdf(tmp_path / "data.nc")
    code = (
        "import fourcaster; from fourcaster.forecast.cli.main import main; print(fourcaster.__file__); main()"
    )
    arguments = [
        "quickstart",
        "--data",
        "data.nc",
        "train.epochs=1",
        "model.members=1",
        "train.validation_samples=4",
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.startswith(str(tmp_path / "installed")) and (tmp_path / "quickstart" / "map.png").exists()
    )
