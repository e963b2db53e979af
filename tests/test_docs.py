"""What the README shows is what happens: its code is run, its commands too, its numbers are those of the
results.
"""

import doctest
import importlib
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fourcaster.forecast.cli.main import app
from fourcaster.forecast.quickstart import quickstart

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHORT = ["train.epochs=1", "model.members=1", "model.hidden_channels=6", "train.validation_samples=4"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def folder(ncep, tmp_path_factory):
    """A folder with a finished quickstart on the real series, and the series itself, as the current one."""
    folder, before = tmp_path_factory.mktemp("readme"), Path.cwd()
    (folder / "air_temperature.nc").symlink_to(ncep)
    (folder / "my_reanalysis.nc").symlink_to(ncep)
    (folder / "jobs.yaml").write_text(blocks("yaml")[0])
    os.chdir(folder)
    quickstart("air_temperature.nc", "quickstart", SHORT)
    yield folder
    os.chdir(before)


def test_python_blocks_run(folder, capsys):
    held: dict = {}
    for block in blocks("python"):
        exec(block, held)
    printed = capsys.readouterr().out
    assert "torch.Size([2, 1, 121, 240])" in printed and 200 < held["made"]["air"].mean() < 320


def test_commands_run(folder):
    runner, lines = CliRunner(), [line for block in blocks("bash") for line in block.splitlines()]
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
        done = runner.invoke(app, [*command[1:], *extra])
        assert done.exit_code == 0, (command, done.output, done.exception)
    for made in (
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
        assert (folder / made).exists(), made


def test_make_targets_and_verbs_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", "\n".join(blocks("bash")), flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
    for verb in re.findall(r"^\| `forecast (\w+)", README, flags=re.MULTILINE):
        assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0


@pytest.mark.parametrize("recipe", ["quickstart", "ncep_temperature"])
def test_numbers_are_those_of_the_results(recipe):
    result = json.loads((ROOT / "benchmarks" / "results" / f"skill_{recipe}.json").read_text())

    def shown(label: str) -> list[str]:
        row = re.search(rf"^\| {label} \|.*\|$", README, flags=re.MULTILINE)
        return [cell.strip() for cell in row.group(0).strip("|").split("|")[1:]]

    minutes, *numbers = shown(f"recipe `{recipe}`")
    assert minutes == f"{result['train_seconds'] / 60:.1f} min"
    leads = ("6", "12", "24", "72")
    assert numbers == [f"{result['rmse_kelvin'][lead]:.2f}" for lead in leads]
    for name, errors in result["references_rmse_kelvin"].items():
        label = name.replace("damped_", "damped anomaly ")
        assert shown(label)[1:] == [f"{errors[lead]:.2f}" for lead in leads]


@pytest.mark.parametrize("name", ["fno.models.fno", "fno.models.afno"])
def test_examples_in_docstrings(name):
    module = importlib.import_module(f"fourcaster.{name}")
    done = doctest.testmod(module)
    assert done.attempted and not done.failed


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_tables_of_the_pages_are_those_of_the_results(tmp_path, monkeypatch):
    import importlib.util

    spec = importlib.util.spec_from_file_location("table", ROOT / "benchmarks" / "table.py")
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    monkeypatch.setattr(table, "ROOT", tmp_path)
    table.main()
    for page, row in (
        ("operators", "| SpectralConv 8,32,64,64,12 |"),
        ("physics", "| convection, beta = 30 |"),
        ("physics", "| hydrostatic thickness |"),
        ("physics", "| Burgers, from the equation alone |"),
        ("physics", "| heat sinks, the built-in budget alone |"),
        ("physics", "| heat sinks, linear regression on the same samples |"),
        ("physics", "| 0.01 |"),
        ("operations", "| published twice | 0 |"),
    ):
        text = (tmp_path / "docs" / f"{page}.md").read_text()
        assert text == (ROOT / "docs" / f"{page}.md").read_text() and row in text


def test_the_page_of_physics_names_what_there_is():
    from fourcaster.datasets.pde.simulate import SYSTEMS

    text = (ROOT / "docs" / "physics.md").read_text()
    described = {
        cells[0]: re.findall(r"`(\w+)`", cells[2])
        for cells in re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|", text, flags=re.MULTILINE)
    }
    assert set(described) == set(SYSTEMS)
    for name, words in described.items():
        fields = SYSTEMS[name].model_fields
        values = str({f.annotation for f in fields.values()})
        assert all(word in fields or word in values or word == "darcy" for word in words), name
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(block, {})


def recipes(kind: str) -> list[str]:
    text = (ROOT / "docs" / "operations.md").read_text()
    return re.findall(rf"```{kind}\n(.*?)```", text, flags=re.DOTALL)


def test_the_jobs_files_of_the_page_are_taken(folder):
    from fourcaster.forecast.jobs.reading import load_jobs
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


def test_the_keys_of_the_page_are_those_of_the_file():
    from fourcaster.forecast.jobs.spec import Job, JobsFile

    text = (
        (ROOT / "docs" / "operations.md").read_text().split("## The file")[1].split("Commands are lists")[0]
    )
    job, whole = text.split("| of the file |")
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


def test_recipes(tmp_path):
    import subprocess
    import sys

    import yaml
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
        said = subprocess.run(
            [analyze, "verify", *sorted(map(str, tmp_path.glob("forecast*")))],
            capture_output=True,
            text=True,
            check=False,
        )
        assert said.returncode == 0 and str(tmp_path) not in said.stderr, said.stderr
