"""Documentation: code and commands run, numbers match the committed results, references resolve."""

import doctest
import importlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import ROOT
from typer.testing import CliRunner

import fourcaster
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.quickstart import quickstart

README = (ROOT / "README.md").read_text()
SHORT = ["train.epochs=1", "model.members=1", "model.hidden_channels=6", "train.validation_samples=4"]


PAGES = sorted(
    path.relative_to(ROOT)
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if not {"_build", "generated"} & set(path.parts)
)
KINDS = "tasks models equations metrics layouts losses optimizers forcings samplers loggers"
ENTRY_POINT_GROUPS = {f"fourcaster.{kind}" for kind in KINDS.split()}


def resolves(name: str) -> bool:
    """Return whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def folder(ncep, tmp_path_factory):
    """Return a working directory with the real time series and a completed quickstart run on it."""
    folder = tmp_path_factory.mktemp("readme")
    previous = Path.cwd()
    (folder / "air_temperature.nc").symlink_to(ncep)
    (folder / "my_reanalysis.nc").symlink_to(ncep)
    (folder / "jobs.yaml").write_text(blocks("yaml")[0])
    os.chdir(folder)
    quickstart("air_temperature.nc", "quickstart", SHORT)
    yield folder
    os.chdir(previous)


def test_python_blocks_run(folder, capsys):
    namespace: dict = {}
    for block in blocks("python"):
        exec(block, namespace)
    printed = capsys.readouterr().out
    assert "torch.Size([2, 1, 121, 240])" in printed and 200 < namespace["prediction"]["air"].mean() < 320


def test_commands_run(folder):
    runner = CliRunner()
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("forecast ")]
    assert len(commands) == 16
    for command in commands:
        extra = SHORT if command[1] in ("quickstart", "train") else []
        extra = (
            ["train.windows=1", "train.iterations=2", "train.points=50"]
            if command[2].startswith("pinn/")
            else extra
        )
        if command[1:3] == ["train", "pino/burgers"]:
            extra = ["train.epochs=1", "data.samples=16", "model.hidden_channels=6", "model.n_layers=1"]
        result = runner.invoke(app, [*command[1:], *extra])
        assert result.exit_code == 0, (command, result.output, result.exception)
    for output in (
        "my_run/scores.json",
        "runs/ncep/checkpoint/meta.json",
        "march.zarr",
        "march.nc",
        "march.html",
        "march.png",
        "burgers.zarr",
        "u.nc",
        "solved.zarr",
        "out/ncep/latest/zarr.json",
        "status/index.html",
    ):
        assert (folder / output).exists(), output


def test_make_targets_and_subcommands_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", "\n".join(blocks("bash")), flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
    for verb in re.findall(r"^\| `forecast (\w+)", README, flags=re.MULTILINE):
        assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0


@pytest.mark.parametrize("recipe", ["quickstart", "ncep_temperature"])
def test_skill_table_matches_the_results(recipe):
    result = json.loads((ROOT / "benchmarks" / "results" / f"skill_{recipe}.json").read_text())

    def cells(label: str) -> list[str]:
        row = re.search(rf"^\| {label} \|.*\|$", README, flags=re.MULTILINE)
        return [cell.strip() for cell in row.group(0).strip("|").split("|")[1:]]

    minutes, *numbers = cells(f"recipe `{recipe}`")
    assert minutes == f"{result['train_seconds'] / 60:.1f} min"
    leads = ("6", "12", "24", "72")
    assert numbers == [f"{result['rmse_kelvin'][lead]:.2f}" for lead in leads]
    for name, errors in result["references_rmse_kelvin"].items():
        label = name.replace("damped_", "damped anomaly ")
        assert cells(label)[1:] == [f"{errors[lead]:.2f}" for lead in leads]


@pytest.mark.parametrize("name", ["fno.models.fno", "fno.models.afno"])
def test_docstring_examples_run(name):
    module = importlib.import_module(f"fourcaster.{name}")
    result = doctest.testmod(module)
    assert result.attempted and not result.failed


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_relative_links_resolve(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)[^)]*\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_referenced_files_and_names_exist(page):
    text = (ROOT / page).read_text()
    packages = "fno|datasets|forecast|configs|benchmarks|tests"
    for path in re.findall(rf"`((?:fourcaster/)?(?:{packages})/[\w./-]*)(?:::\w+)?`", text):
        assert (ROOT / path).exists() or (ROOT / f"{path}.py").exists(), path
    for name in re.findall(r"`(fourcaster(?:\.\w+)+)", text):
        assert name in ENTRY_POINT_GROUPS or resolves(name), name
    for module, names in re.findall(r"^from (fourcaster[\w.]*) import ([\w, ]+)$", text, flags=re.MULTILINE):
        for name in names.split(", "):
            assert resolves(f"{module}.{name}"), f"{module}.{name}"


def test_api_reference_lists_existing_modules():
    text = (ROOT / "docs" / "api" / "index.md").read_text()
    modules = re.findall(r"^   (fourcaster[\w.]+)$", text, flags=re.MULTILINE)
    assert len(modules) > 10
    for module in modules:
        importlib.import_module(module)


def test_tutorials_are_indexed_and_their_cells_compile():
    index = (ROOT / "docs" / "index.md").read_text()
    tutorials = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
    assert len(tutorials) == 5
    for tutorial in tutorials:
        assert f"\ntutorials/{tutorial.stem}\n" in index
        cells = re.findall(r"```{code-cell}\n(.*?)```", tutorial.read_text(), flags=re.DOTALL)
        assert len(cells) >= 5
        for cell in cells:
            compile(cell, tutorial.name, "exec")


def test_ci_workflow_runs_the_local_checks():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    commands = {step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step}
    local = (ROOT / ".ci" / "run").read_text().splitlines()
    assert {line for line in local if line.startswith("make ")} <= commands
    assert {"make lint", "make docs"} <= commands
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^check: lint$", makefile, flags=re.MULTILINE)
    for command in commands:
        assert re.search(rf"^{command.removeprefix('make ')}:", makefile, flags=re.MULTILINE), command
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]


def test_citation_version_matches_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == fourcaster.__version__
    assert citation["license"] == "Apache-2.0"


@pytest.mark.slow
def test_site_builds_without_warnings(tmp_path):
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-E", "-W", "--keep-going"]
    result = subprocess.run(
        [*command, "-d", str(tmp_path / "doctrees"), str(ROOT / "docs"), str(tmp_path / "html")],
        env=os.environ | {"FOURCASTER_DOCS_EXECUTION": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_generated_tables_match_the_results(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    spec = importlib.util.spec_from_file_location("table", ROOT / "benchmarks" / "table.py")
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    monkeypatch.setattr(table, "ROOT", tmp_path)
    table.main()
    for page, row in (
        ("operators", "| SpectralConv 8,32,64,64,12 |"),
        ("physics", "| advection, beta = 30 |"),
        ("physics", "| hydrostatic thickness |"),
        ("physics", "| Burgers, from the equation alone |"),
        ("physics", "| heat sinks, the built-in budget alone |"),
        ("physics", "| heat sinks, linear regression on the same samples |"),
        ("physics", "| 0.01 |"),
        ("operations", "| published twice | 0 |"),
        ("accuracy", "| Darcy 16 x 16 | 32, zero-shot |"),
    ):
        text = (tmp_path / "docs" / f"{page}.md").read_text()
        assert text == (ROOT / "docs" / f"{page}.md").read_text() and row in text


def test_physics_page_documents_every_system_and_its_parameters():
    from fourcaster.datasets.pde.simulate import SYSTEMS

    text = (ROOT / "docs" / "physics.md").read_text()
    simulations = text.split("\n## Residuals\n")[0]
    described = {
        cells[0]: re.findall(r"`(\w+)`", cells[2])
        for cells in re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|", simulations, flags=re.MULTILINE)
    }
    assert set(described) == set(SYSTEMS)
    for name, args in described.items():
        fields = SYSTEMS[name].model_fields
        values = str({f.annotation for f in fields.values()})
        assert all(word in fields or word in values or word == "darcy" for word in args), name
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(block, {})


def recipes(kind: str) -> list[str]:
    text = (ROOT / "docs" / "operations.md").read_text()
    return re.findall(rf"```{kind}\n(.*?)```", text, flags=re.DOTALL)


def test_documented_jobs_files_are_valid(folder):
    from fourcaster.forecast.jobs.load import load_jobs
    from fourcaster.forecast.jobs.spec import Cluster

    first, second, third = recipes("yaml")
    assert first == blocks("yaml")[0]
    (folder / "second.yaml").write_text(second)
    assert [job.name for job in load_jobs(folder / "second.yaml").jobs] == ["west", "long"]
    (folder / "third.yaml").write_text(third + first)
    assert isinstance(load_jobs(folder / "third.yaml").cluster, Cluster)
    text = (ROOT / "docs" / "operations.md").read_text()
    for verb in ("run-due", "serve", "run", "backfill", "status", "retry", "cancel", "logs"):
        assert (
            f"`forecast jobs {verb} FILE" in text
            and CliRunner().invoke(app, ["jobs", verb, "--help"]).exit_code == 0
        )


def test_configuration_key_tables_are_complete():
    from fourcaster.forecast.jobs.spec import Job, JobsFile

    text = (
        (ROOT / "docs" / "operations.md")
        .read_text()
        .split("## The jobs file")[1]
        .split("Commands are lists")[0]
    )
    job, whole = text.split("| key of the file |")
    named = [
        set(
            re.findall(
                r"`(\w+)`",
                " ".join(line.split("|")[1] for line in part.splitlines() if line.startswith("| `")),
            )
        )
        for part in (job, whole)
    ]
    assert named == [set(Job.model_fields), set(JobsFile.model_fields) - {"jobs", "folder"}]


def test_scheduler_recipes_are_valid(tmp_path):
    from cronsim import CronSim

    (line,) = recipes("cron")
    next(CronSim(" ".join(line.split()[:5]), __import__("datetime").datetime(2000, 1, 1)))
    (script,) = recipes("slurm")
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    (manifest,) = recipes("kubernetes")
    assert yaml.safe_load(manifest)["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0][
        "command"
    ][:2] == ["sh", "-c"]
    for kind in ("airflow", "prefect"):
        compile(recipes(kind)[0], kind, "exec")
    units = recipes("systemd")
    for unit in units:
        name = Path(unit.splitlines()[0]).name
        (tmp_path / name).write_text(
            unit.replace("/srv/forecast/.venv/bin/forecast", sys.executable).replace(
                "User=forecast", "User=root"
            )
        )
    assert len(units) == 3
    if analyze := shutil.which("systemd-analyze"):
        result = subprocess.run(
            [analyze, "verify", *sorted(map(str, tmp_path.glob("forecast*")))],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0 and str(tmp_path) not in result.stderr, result.stderr


@pytest.mark.parametrize(
    ("code", "job", "submitted", "status"),
    [
        (0, 0, True, 0),  # started by hand
        (0, 1, False, 0),
        (75, 1, True, 0),
        (75, 50, False, 1),
        (2, 1, False, 2),
        (143, 1, False, 143),
    ],
)
def test_slurm_chain_submits_the_next_job_only_if_training_has_not_finished(
    tmp_path, code, job, submitted, status
):
    """Programs of the same names stand for Slurm and for the command."""
    script = ROOT / "docs" / "examples" / "train_chain.sh"
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    for name, body in (
        ("srun", 'exec "$@"'),
        ("forecast", f'echo "forecast $*" >> {tmp_path}/calls; exit {code}'),
        ("sbatch", f'echo "sbatch $*" >> {tmp_path}/calls'),
    ):
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    if job:
        environment |= {"CHAIN_SCRIPT": "/chain.sh", "CHAIN_JOB": str(job)}
    result = subprocess.run(
        ["bash", script, "run.yaml", "train.note=two words"],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    calls = (tmp_path / "calls").read_text().splitlines()
    words = "run.yaml train.note=two words"
    chain = "/chain.sh" if job else str(script)
    next_job = f"sbatch --export=ALL,CHAIN_SCRIPT={chain},CHAIN_JOB={job + 1} {chain} {words}"
    expected = [f"forecast train {words} --time-limit 3:50:00"] if job else []
    assert calls == expected + ([next_job] if submitted else [])
    assert result.returncode == status, result.stderr
