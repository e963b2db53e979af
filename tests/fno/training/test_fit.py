"""Training of any network on any iterable of batches."""

import json

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fourcaster.fno.errors import InputError, StoppedError
from fourcaster.fno.training import TrainSettings, fit
from fourcaster.fno.training.iterables import IterableBatches

X = torch.randn(48, 3, generator=torch.Generator().manual_seed(1))
Y = X @ torch.tensor([[1.0], [-2.0], [0.5]])
SETTINGS = TrainSettings(epochs=3, learning_rate=0.05, warmup_steps=2, seed=3)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, 1))


class Jittered(torch.utils.data.Dataset):
    """Random transformations in the data set, by torch's global random numbers."""

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i] + 0.01 * torch.randn(3), Y[i]


def loaders():
    own = torch.Generator()
    return {
        "list": list(zip(X.split(8), Y.split(8), strict=True)),
        "shuffled": DataLoader(TensorDataset(X, Y), batch_size=8, shuffle=True),
        "with its generator": DataLoader(TensorDataset(X, Y), batch_size=8, shuffle=True, generator=own),
        "random data": DataLoader(Jittered(), batch_size=8, shuffle=True),
        "function": lambda epoch: [(x + epoch, y) for x, y in zip(X.split(8), Y.split(8), strict=True)],
    }


@pytest.mark.parametrize("kind", loaders())
def test_a_run_that_is_stopped_and_resumed_ends_with_the_same_bits(kind, tmp_path):
    def run(folder, stop=None):
        model = network()
        before = torch.get_rng_state()
        arguments = {"loss": nn.MSELoss(), "settings": SETTINGS, "steps_per_epoch": 6, "stop": stop}
        fit(model, loaders()[kind], folder=tmp_path / folder, **arguments)
        assert torch.equal(torch.get_rng_state(), before)  # the caller's random numbers are left alone
        return model.state_dict()

    straight = run("straight")
    calls = iter(range(100))
    with pytest.raises(StoppedError, match="after step 9 of 18"):
        run("stopped", stop=lambda: next(calls) == 8)
    torch.manual_seed(99)
    resumed = run("stopped")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_a_shuffling_loader_differs_between_epochs_and_not_between_runs():
    loader = DataLoader(torch.arange(40), batch_size=4, shuffle=True)
    source = IterableBatches(loader, seed=5)
    first, second, again = (
        [tuple(batch.value.tolist()) for batch in source.epoch(epoch, 1)] for epoch in (0, 1, 0)
    )
    assert first == again and first != second
    assert sorted(sum(first, ())) == list(range(40))
    assert [tuple(batch.value.tolist()) for batch in source.epoch(0, 1, start=7)] == first[7:]


def test_terms_predict_and_metric(tmp_path):
    """Batches are mappings, the loss has two terms, and the score is the root of the metric."""

    def loss(prediction, target):
        error = prediction - target
        return {"square": error.square().mean(), "absolute": error.abs().mean()}

    batches = [{"x": x, "y": y, "name": "sample"} for x, y in zip(X.split(16), Y.split(16), strict=True)]
    model = network()
    record = fit(
        model,
        batches,
        loss=loss,
        validation=batches[:1],
        predict=lambda model, batch: (model(batch["x"]), batch["y"]),
        metric=nn.MSELoss(),
        settings=SETTINGS,
        folder=tmp_path,
    )
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert all(row["loss"] == pytest.approx(row["square"] + row["absolute"], rel=1e-5) for row in log)
    with torch.no_grad():
        rmse = (model.eval()(X[:16]) - Y[:16]).square().mean().sqrt().item()
    assert record.best_score == pytest.approx(rmse, rel=1e-5)


def test_a_state_of_other_settings_or_another_network_is_refused(tmp_path):
    batches = [(X, Y)]
    fit(network(), batches, loss=nn.MSELoss(), settings=SETTINGS, folder=tmp_path)
    for model, settings, mark in (
        (nn.Linear(3, 1), SETTINGS, ""),
        (network(), TrainSettings(epochs=4), ""),
        (network(), SETTINGS, "other data"),
    ):
        with pytest.raises(ValueError, match="contains a run with other settings or data"):
            fit(model, batches, loss=nn.MSELoss(), settings=settings, folder=tmp_path, fingerprint=mark)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batches": iter([(X, Y)])}, "can be read once only"),
        ({"batches": []}, "no training batches"),
        ({"batches": lambda epoch: [(X, Y)]}, "pass steps_per_epoch"),
        ({"batches": [(X, Y)], "steps_per_epoch": 2}, "epoch 0 has 1 batches, expected 2"),
        ({"batches": [X]}, r"expected \(\*inputs, target\)"),
        ({"loss": lambda p, t: p - t}, r"one value, got shape \(48, 1\)"),
        ({"loss": lambda p, t: 1.0}, "one value, got float"),
        ({"model": nn.Tanh()}, "Tanh has no parameters"),
        ({"metric": lambda p, t: -(p - t).square().mean(), "validation": [(X, Y)]}, "not negative"),
    ],
)
def test_invalid_input_is_refused(change, message, tmp_path):
    arguments = {"model": network(), "batches": [(X, Y)], "loss": nn.MSELoss()} | change
    with pytest.raises(InputError, match=message):
        fit(arguments.pop("model"), arguments.pop("batches"), settings=SETTINGS, folder=tmp_path, **arguments)
