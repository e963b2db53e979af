"""Several processes that train one model: the result of one process, and a state for any number of them."""

import json

import pytest
import ranks
import torch
from safetensors.torch import load_file

from fourcaster.fno.parallel.processes import Processes, ProcessLostError
from fourcaster.fno.random import NOISES, PartGenerator
from fourcaster.fno.training import TrainSettings


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a folder of runs in two processes and in one, and what the two processes returned."""
    folder = tmp_path_factory.mktemp("processes")
    results = ranks.run_ranks(ranks.train_in_parts, 2, str(folder))
    ranks.run_training(folder / "one", "ddp", Processes())
    return folder, results


def _worst(a, b):
    assert list(a) == list(b)
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_train_the_model_of_one(trained, kind):
    folder, results = trained
    one = torch.load(folder / "one" / "weights0.pt")
    for rank in range(2):
        assert _worst(one, torch.load(folder / kind / f"weights{rank}.pt")) < 1e-6
        assert results[rank][kind].best_score == pytest.approx(results[0][kind].best_score)
    logs = [
        [json.loads(line) for line in (folder / run / "log.jsonl").read_text().splitlines()]
        for run in ("one", kind)
    ]
    for a, b in zip(*logs, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-6)
        assert a["validation_rmse"] == pytest.approx(b["validation_rmse"], rel=1e-6)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_the_saved_state_has_the_tensors_of_one_process(trained, kind):
    folder, _ = trained
    one, other = (load_file(folder / run / "training.safetensors") for run in ("one", kind))
    assert {n: t.shape for n, t in one.items()} == {n: t.shape for n, t in other.items()}
    assert _worst({n: t.float() for n, t in one.items()}, {n: t.float() for n, t in other.items()}) < 1e-6


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_a_request_to_one_process_stops_all_and_one_process_resumes(trained, kind):
    folder, results = trained
    messages = {result[f"{kind}_stopped"] for result in results}
    assert messages == {"the state after step 5 of 12 is saved"}
    ranks.run_training(folder / f"{kind}_stopped", "ddp", Processes())
    one, resumed = (torch.load(folder / run / "weights0.pt") for run in ("one", f"{kind}_stopped"))
    assert _worst(one, resumed) < 1e-6


@pytest.mark.parametrize("draw", NOISES.values(), ids=NOISES)
def test_samples_have_the_same_noise_in_any_number_of_processes(draw):
    whole = draw((7, 6, 3), torch.Generator().manual_seed(1))
    for rank in range(3):
        for rows in (slice(0, 6), slice(2, 5)):
            part = PartGenerator.like(
                torch.Generator().manual_seed(1), 7, slice(rank, None, 3), rows=(6, rows)
            )
            own = whole[rank::3, rows]
            assert torch.equal(draw(own.shape, part), own)


def test_a_lost_connection_is_named_and_other_errors_are_not_changed():
    two = Processes(0, 2)
    lost = pytest.raises(ProcessLostError, match="another one of the 2 processes of this training ended")
    with lost, two.connected():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4711")
    with pytest.raises(RuntimeError, match="shape"), two.connected():
        raise RuntimeError("shape '[2]' is invalid for input of size 3")
    with pytest.raises(RuntimeError, match="Connection"), Processes().connected():
        raise RuntimeError("Connection closed by peer")


def test_an_unknown_way_to_share_the_work_is_refused():
    with pytest.raises(ValueError, match="parallel must be 'ddp' or 'fsdp', got 'zero'"):
        TrainSettings(parallel="zero")
