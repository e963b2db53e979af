"""Layout of the code: import directions, module sizes, symbolic links and contents of the wheel."""

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from helpers import ROOT, make_source

PACKAGES = ("fno", "datasets", "forecast")
ALLOWED = {"fno": {"fno"}, "datasets": {"datasets", "fno"}, "forecast": {"forecast", "datasets", "fno"}}
FROM_FNO = ("fno.grids", "fno.transforms", "fno.batch", "fno.progress", "fno.random", "fno.registry")
"""Modules of fno that datasets may import."""

ORDER = {
    "fno": (
        "errors",
        "references",
        "registry",
        "memory",
        "progress",
        "random",
        "precision",
        "quadrature",
        "grids",
        "batch",
        "transforms",
        "layers",
        "weights",
        "models",
        "pretrained",
        "physics",
        "losses",
        "parallel",
        "training",
    ),
    "datasets": ("durations", "suggestions", "units", "scalars", "loaders", "pde"),
    "forecast": (
        "text",
        "config",
        "checkpoint",
        "inference",
        "verification",
        "monitoring",
        "tasks",
        "jobs",
        "cli",
    ),
}
"""Directories and modules of each package; each may import only those listed before it."""

EXCEPTIONS: set[tuple[str, str]] = set()
"""Permitted imports against this order."""

INDEPENDENT = {
    "datasets/adapters": {"statistics", "loaders", "pde"},
    "datasets/store": {"pde"},
    "datasets/ingest": {"pde"},
    "datasets/statistics": {"loaders", "pde"},
    "datasets/loaders": {"adapters", "ingest", "pde"},
    "datasets/pde": {"ingest", "statistics"},
    "fno/physics": {"layers", "models", "losses", "training"},
    "fno/losses": {"layers", "models", "training"},
}
"""Directories that must not import certain others of their package."""

FORBIDDEN = {
    "fno": {"xarray", "dask", "zarr", "netCDF4", "matplotlib", "cartopy", "pydantic", "typer"},
    "datasets": {"typer", "matplotlib", "cartopy"},
}


def imports(path: Path, members: bool = False) -> list[str]:
    """Return the modules that a file imports: ours as ``package.module``, others by full name.

    Args:
        path: Python source file.
        members: also return names imported from a module as ``module.member``: they may be modules.
    """
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts = [*parts[:-1], ""]
    result = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            result += [alias.name.removeprefix("fourcaster.") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])]).removeprefix("fourcaster.")
            names = [f"{module}.{alias.name}".strip(".") for alias in node.names]
            result += [module] if node.module else names
            result += names if members else []
    return result


def source_files(package: str) -> list[Path]:
    return sorted(p for p in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_package_dependencies_are_one_way(package):
    for path in source_files(package):
        for name in imports(path):
            first = name.split(".")[0]
            assert first not in set(PACKAGES) - ALLOWED[package], f"{path} imports {name}"
            assert first not in FORBIDDEN.get(package, set()), f"{path} imports {name}"
            if package == "datasets" and first == "fno":
                assert name.startswith(FROM_FNO), f"{path} imports {name}"
            if package == "datasets" and first == "torch":
                assert path.name == "loaders.py" or path.parent.name == "loaders", f"{path} imports torch"


def test_packages_are_not_imported_by_bare_name():
    """Bare ``datasets`` is another project's package; bare ``fno`` would load our modules twice."""
    for path in [
        *(p for package in PACKAGES for p in source_files(package)),
        *(ROOT / "tests").rglob("*.py"),
    ]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {n.split(".")[0] for n in names} & set(PACKAGES), f"{path} imports {names}"


def directory(module: str) -> str:
    """Return the top-level directory or module within the package of, e.g., ``fno.layers.blocks``."""
    return module.split(".")[1] if "." in module else ""


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("package", PACKAGES)
def test_directories_import_only_lower_layers(package):
    order = ORDER[package]
    for path in source_files(package):
        importer = directory(module_of(path))
        for name in imports(path):
            imported = directory(name) if name.split(".")[0] == package else ""
            if importer in order and imported in order and importer != imported:
                allowed = order.index(imported) < order.index(importer)
                assert allowed or (module_of(path), name) in EXCEPTIONS, f"{path} imports {name}"


@pytest.mark.parametrize(("importer", "forbidden"), INDEPENDENT.items())
def test_directories_are_independent(importer, forbidden):
    package = importer.split("/")[0]
    for path in sorted((ROOT / importer).rglob("*.py")):
        for name in imports(path):
            assert name.split(".")[0] != package or directory(name) not in forbidden, f"{path} imports {name}"


def test_training_imports_no_concrete_model():
    for path in source_files("fno"):
        for name in imports(path):
            if directory(module_of(path)) == "training" and name.startswith("fno.models"):
                assert name.startswith("fno.models.stepper"), f"{path} imports a concrete model: {name}"


def import_graph() -> dict[str, set[str]]:
    """Return the modules that each module of the three packages imports, at its top or inside functions."""
    paths = {module_of(path): path for package in PACKAGES for path in source_files(package)}
    graph = {}
    for module, path in paths.items():
        names = imports(path, members=True)
        graph[module] = {name for name in names if name in paths} - {module}
    return graph


def test_there_are_no_circular_imports():
    graph = import_graph()
    assert all(graph[name] for name in ("forecast.inference.forecaster", "forecast.verification.verify"))
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"circular import: {' <- '.join(error.args[1])}")


def test_import_scan_detects_forbidden_imports(tmp_path, monkeypatch):
    (tmp_path / "fno").mkdir()
    (tmp_path / "fno" / "bad.py").write_text(
        "from ..datasets.suggestions import suggest\nimport xarray as xr\nfrom . import grids\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert imports(tmp_path / "fno" / "bad.py") == ["datasets.suggestions", "xarray", "fno.grids"]


def test_import_graph_includes_imports_inside_functions(tmp_path, monkeypatch):
    (tmp_path / "forecast").mkdir()
    (tmp_path / "forecast" / "one.py").write_text("def f():\n    from .two import g\n")
    (tmp_path / "forecast" / "two.py").write_text("from . import one\n")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert import_graph() == {"forecast.one": {"forecast.two"}, "forecast.two": {"forecast.one"}}


def test_symlinks_are_relative_and_datasets_has_no_init():
    for name in (*PACKAGES, "configs"):
        link = ROOT / "fourcaster" / name
        assert link.is_symlink() and str(link.readlink()) == f"../{name}"
    assert not (ROOT / "datasets" / "__init__.py").exists()


def test_only_the_cli_prints():
    for package in PACKAGES:
        for path in source_files(package):
            calls = [
                n.func.id
                for n in ast.walk(ast.parse(path.read_text()))
                if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
            ]
            assert "print" not in calls or path.parent.name == "cli", f"{path} prints"


def test_tests_mirror_the_packages():
    for package in ("fno", "datasets", "forecast"):
        for folder in ROOT.joinpath("tests", package).rglob("*/"):
            if any(folder.glob("test_*.py")):
                assert ROOT.joinpath(folder.relative_to(ROOT / "tests")).is_dir(), folder


def test_modules_have_at_most_350_lines():
    for package in (*PACKAGES, "benchmarks"):
        for path in source_files(package):
            assert len(path.read_text().splitlines()) <= 350, f"{path} is longer than 350 lines"


def test_cli_imports_no_heavy_packages():
    code = (
        "import sys, fourcaster.forecast.cli.main; heavy = "
        "('torch', 'xarray', 'numpy', 'matplotlib', 'dask', 'pydantic'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_wheel_contains_exactly_the_source_tree_and_runs(tmp_path):
    copy = tmp_path / "tree"  # a build leaves files behind and picks up those of earlier builds
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
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    contents = {n for n in names if ".dist-info/" not in n}
    tree = {"fourcaster/__init__.py", "fourcaster/py.typed"}
    for package in PACKAGES:
        tree |= {f"fourcaster/{p.relative_to(ROOT).as_posix()}" for p in source_files(package)}
    tree |= {f"fourcaster/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "configs").rglob("*.yaml")}
    tree |= {f"fourcaster/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "forecast" / "data").iterdir()}
    assert contents == tree
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
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
    )
    assert result.returncode == 0, result.stderr
    assert (
        result.stdout.startswith(str(tmp_path / "installed"))
        and (tmp_path / "quickstart" / "map.png").exists()
    )
