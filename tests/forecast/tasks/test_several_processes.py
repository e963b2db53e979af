"""Training started by torchrun: the model of one process, interruptions, and one line for an error."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from helpers import tiny_config
from safetensors.torch import load_file

from fourcaster.datasets.store.locks import exclusive
from fourcaster.datasets.store.open import open_store
from fourcaster.forecast.tasks.dispatch import train
from fourcaster.forecast.tasks.weather.identity import run_identity


@pytest.mark.parametrize("override", ["train.parallel=fsdp", "train.latitude_bands=2"])
def test_the_division_of_the_work_is_no_part_of_the_identity_of_a_run(tiny_store, tmp_path, override):
    store = open_store(tiny_store)
    usual, other = (tiny_config(tiny_store, tmp_path, *more) for more in ([], [override]))
    assert other.train != usual.train and run_identity(usual, store) == run_identity(other, store)


def test_bands_of_latitudes_need_several_processes(tiny_store, tmp_path):
    with pytest.raises(ValueError, match="latitude_bands must divide the number of processes, 1, got 2"):
        train(tiny_config(tiny_store, tmp_path / "run", "train.latitude_bands=2"))


def start(config: Path, count: int, *overrides: str) -> subprocess.Popen[str]:
    """Start a training run in several processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    return subprocess.Popen(
        [*command, "-m", "fourcaster.forecast", "train", str(config), *overrides],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
    )


def reported(error: str) -> list[str]:
    """Return the errors that the processes show."""
    return [line for line in error.splitlines() if line.startswith("forecast:")]


def process_of_rank(parent: int, rank: int) -> int:
    """Return the child of a launcher that has this rank."""
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{pid}/environ").read_text().split("\0"):
            return int(pid)
    raise AssertionError(f"no process of rank {rank}")


@pytest.fixture
def config(tiny_store, tmp_path):
    """Return a file with the configuration of the run ``tiny_run``, with output in a temporary folder."""
    values = tiny_config(tiny_store, tmp_path / "run").model_dump(mode="json")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "config.yaml"


def worst_difference(a: Path, b: Path) -> float:
    one, other = (load_file(path / "checkpoint" / "weights.safetensors") for path in (a, b))
    assert list(one) == list(other)
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "overrides"),
    [
        (2, ["train.parallel=ddp"]),
        (2, ["train.latitude_bands=2"]),
        (4, ["train.latitude_bands=2", "train.parallel=fsdp"]),
    ],
)
def test_processes_write_the_checkpoint_of_one_process(
    config, tiny_store, tiny_run, tmp_path, count, overrides
):
    run = start(config, count, *overrides)
    output, error = run.communicate()
    assert run.returncode == 0 and reported(error) == []
    assert output.count("checkpoint written") == 1
    assert worst_difference(tiny_run, tmp_path / "run") < 1e-6
    assert train(tiny_config(tiny_store, tmp_path / "run")).already_done


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_resumes_after_a_signal_to_one_process(config, tiny_store, tmp_path, number, rank):
    longer = ["train.epochs=8", "train.checkpoint_minutes=0.0001"]
    run = start(config, 2, *longer)
    state = tmp_path / "run" / "state" / "training.safetensors"
    while not state.exists():
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    os.kill(process_of_rank(run.pid, rank), number)
    signalled = time.monotonic()
    _, error = run.communicate()
    assert run.returncode != 0 and time.monotonic() - signalled < 60
    (line,) = reported(error)
    if number == signal.SIGKILL:  # torchrun may end the other process before it notices the loss
        lost = "another one of the 2 processes of this training ended"
        assert lost in line or "stopped by SIGTERM" in line
    else:
        assert "stopped by SIGTERM; the state after step" in line and "exitcode  : 143" in error
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["state"]
    assert sorted(path.name for path in state.parent.iterdir() if path.name[0] != ".") == [
        "log.jsonl",
        "training.safetensors",
    ]
    train(tiny_config(tiny_store, tmp_path / "run", *longer))
    train(tiny_config(tiny_store, tmp_path / "straight", *longer))
    assert worst_difference(tmp_path / "straight", tmp_path / "run") < 1e-6


@pytest.mark.slow
def test_an_error_is_reported_once(config, tmp_path):
    with exclusive(tmp_path / "run"):
        run = start(config, 2)
        (line,) = reported(run.communicate()[1])
    assert run.returncode != 0 and "is being written by process" in line
    (line,) = reported(start(config, 2, "data.store=nowhere").communicate()[1])
    assert "nowhere" in line
    (line,) = reported(start(config, 2, "train.latitude_bands=3").communicate()[1])
    assert "latitude_bands must divide the number of processes, 2, got 3" in line
    (line,) = reported(start(config, 2, "train.batch_size=1").communicate()[1])
    assert "a batch of 1 samples cannot be divided among 2 processes" in line
