"""The training loop: resumed runs equal uninterrupted ones, schedules, the loss, and invalid settings."""

import json
from collections.abc import Iterator

import pytest
import torch

from fourcaster.fno.batch import Batch
from fourcaster.fno.losses.data import area_weighted_mse
from fourcaster.fno.models import FNO
from fourcaster.fno.models.ensemble import Ensemble
from fourcaster.fno.models.stepper import Scales, Stepper
from fourcaster.fno.training import ForecastObjective, Loss, TrainSettings, train
from fourcaster.fno.training.log import MEASURED
from fourcaster.fno.training.state import load_state

SIZE = (6, 8)


class Waves:
    """Batches that depend only on their index."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.count = 0

    def steps_per_epoch(self) -> int:
        return 5

    def epoch(self, epoch: int, rollout: int, start: int) -> Iterator[Batch]:
        for i in range(start, 5):
            if self.count == self.stop_after:
                raise InterruptedError
            self.count += 1
            yield make_batch(epoch * 5 + i, 2 + rollout)

    def validation(self, steps: int, samples: int) -> Iterator[Batch]:
        yield make_batch(999, 2 + steps, samples)


def fit(stepper: Stepper, source: Waves, settings: TrainSettings, folder, **others):
    return train(
        stepper,
        ForecastObjective(stepper, WEIGHTS, settings.noise),
        source,
        settings=settings,
        folder=folder,
        **others,
    )


def make_batch(seed: int, times: int, samples: int = 4) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    phase = 6.28 * torch.rand(samples, 1, 1, 1, 1, generator=generator)
    t = torch.arange(times).reshape(1, -1, 1, 1, 1)
    x = torch.arange(SIZE[1]).reshape(1, 1, 1, 1, -1)
    state = (torch.cos(0.785 * x - 0.5 * t + phase)).expand(-1, -1, 1, *SIZE)
    return Batch(state, torch.zeros_like(state), torch.zeros(samples, times, 1, *SIZE))


def make_stepper(members: int = 1, dropout: float = 0.1) -> Stepper:
    torch.manual_seed(1)
    one = torch.ones(1)
    count = Stepper.input_channels(1, window=2, forcings=1, static=1)
    nets = [FNO((4, 4), count, 1, hidden_channels=6, n_layers=2, dropout=dropout) for _ in range(members)]
    return Stepper(
        Ensemble(nets),
        Scales(0 * one, one, one, 0.3 * one),
        torch.zeros(1, *SIZE),
        mask=torch.ones(1, *SIZE) > 0,
    )


WEIGHTS = torch.ones(1, *SIZE)
SETTINGS = TrainSettings(
    epochs=3,
    warmup_steps=2,
    rollout_steps=3,
    noise=0.01,
    validation_steps=2,
    validation_samples=3,
    checkpoint_minutes=0,
)


@pytest.mark.parametrize("stop_after", [1, 4, 5, 7, 12])
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, stop_after):
    uninterrupted = make_stepper(2)
    fit(uninterrupted, Waves(), SETTINGS, tmp_path / "a")
    interrupted = make_stepper(2)
    with pytest.raises(InterruptedError):
        fit(interrupted, Waves(stop_after), SETTINGS, tmp_path / "b")
    resumed = make_stepper(2)
    record = fit(resumed, Waves(), SETTINGS, tmp_path / "b")
    assert record.steps == 15
    for (name, a), b in zip(uninterrupted.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    logs = [
        [json.loads(line) for line in (tmp_path / n / "log.jsonl").read_text().splitlines()] for n in "ab"
    ]
    for a, b in zip(*logs, strict=True):
        for measured in ("loss", *MEASURED):
            assert a.pop(measured) >= 0 and b.pop(measured) >= 0
        assert a == b


def test_training_lowers_the_error_and_keeps_the_best_weights(tmp_path):
    stepper = make_stepper(dropout=0)
    record = fit(
        stepper, Waves(), TrainSettings(epochs=12, learning_rate=1e-2, validation_steps=2, ema=0.9), tmp_path
    )
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    scores = [line["validation_score"] for line in lines]
    assert record.best_score == min(scores) < 0.6 * scores[0]
    assert record.best_epoch == scores.index(min(scores))
    best = load_state(tmp_path / "training.safetensors")[0]["best"]
    assert all(torch.equal(best[name], t) for name, t in stepper.state_dict().items())


def test_training_runs_in_half_precision(tmp_path):
    record = fit(
        make_stepper(), Waves(), TrainSettings(epochs=1, precision="bf16", validation_steps=1), tmp_path
    )
    assert record.best_score is not None


def test_a_state_of_another_run_is_refused(tmp_path):
    fit(make_stepper(), Waves(), TrainSettings(epochs=1), tmp_path, fingerprint="one")
    with pytest.raises(ValueError, match="other settings"):
        fit(make_stepper(), Waves(), TrainSettings(epochs=1), tmp_path, fingerprint="two")


def test_a_damaged_state_is_refused(tmp_path):
    fit(make_stepper(), Waves(), TrainSettings(epochs=1), tmp_path)
    path = tmp_path / "training.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="is not a training state"):
        fit(make_stepper(), Waves(), TrainSettings(epochs=1), tmp_path)


def test_a_loss_of_nan_stops_the_run(tmp_path):
    class Broken(Waves):
        def epoch(self, epoch, rollout, start):
            batch = make_batch(0, 3)
            yield Batch(batch.state * torch.inf, batch.background, batch.forcing)

    with pytest.raises(ValueError, match="the loss became nan"):
        fit(make_stepper(), Broken(), TrainSettings(epochs=1), tmp_path)


def test_a_term_of_nan_is_named_and_the_last_state_is_kept(tmp_path):
    stepper = make_stepper()

    class Broken(ForecastObjective):
        def loss(self, batch, share, generator):
            loss = super().loss(batch, share, generator)
            balance = loss.value * (torch.nan if share > 0.4 else 1)
            return Loss(loss.value, {"data": loss.value, "balance": balance})

    settings = TrainSettings(epochs=3, warmup_steps=2, checkpoint_minutes=0)
    with pytest.raises(ValueError, match="the term balance of the loss became nan at step 7"):
        train(stepper, Broken(stepper, WEIGHTS), Waves(), settings=settings, folder=tmp_path)
    assert load_state(tmp_path / "training.safetensors")[1]["step"] == 7


def test_schedules_follow_both_stages_of_training():
    settings = TrainSettings(epochs=10, rollout_steps=5, rollout_share=0.4, warmup_steps=10)
    assert [settings.rollout_length(e) for e in range(10)] == [1] * 6 + [2, 3, 4, 5]
    rates = [settings.rate(s, 1000) for s in range(1000)]
    assert max(rates) <= settings.learning_rate and min(rates) > 0
    assert rates[599] < 0.06 * settings.learning_rate < rates[620]  # the second stage rises again
    assert TrainSettings(epochs=4).rollout_length(3) == 1
    assert settings.ema_decay(0) == 0.1 and settings.ema_decay(10**6) == settings.ema


@pytest.mark.parametrize(
    "invalid",
    [
        {"epochs": 0},
        {"precision": "fp8"},
        {"ema": 1.0},
        {"learning_rate": 0.0},
        {"noise": -1.0},
        {"rollout_share": 2.0},
    ],
)
def test_settings_out_of_range_are_refused(invalid):
    with pytest.raises(ValueError, match=r"must (not )?be"):
        TrainSettings(**invalid)


def test_the_area_weighted_error_is_a_weighted_mean():
    p, t = torch.randn(2, 3, 4, 5, 6).unbind(0)
    w = torch.rand(4, 5, 6)
    expected = torch.stack([((p - t)[:, c] ** 2 * w[c]).sum() / (3 * w[c].sum()) for c in range(4)])
    assert torch.allclose(area_weighted_mse(p, t, w), expected)


def test_a_network_that_returns_zero_persists_the_anomaly():
    stepper = make_stepper(dropout=0).eval()
    for net in stepper.network.networks:
        torch.nn.init.zeros_(net.projection.fc2.weight)
        torch.nn.init.zeros_(net.projection.fc2.bias)
    batch = make_batch(3, 2)
    window = stepper.anomaly(batch.state, batch.background)
    drivers = [(torch.zeros(4, 2, 1, *SIZE), torch.zeros(4, 2, 1, *SIZE))] * 5
    for step in stepper.rollout(window, drivers):
        assert torch.equal(step, window[:, -1])


def test_a_rollout_of_constant_tendencies_is_linear_in_time():
    """A network that always adds one tendency scale has added i of them after i steps."""

    class ConstantTendency(torch.nn.Module):
        def forward(self, x):
            return torch.ones(len(x), 1, *SIZE)

    one = torch.ones(1)
    mask = torch.ones(1, *SIZE) > 0
    mask[0, 0, 0] = False
    stepper = Stepper(
        ConstantTendency(), Scales(0 * one, one, 2 * one, 0.5 * one), torch.zeros(1, *SIZE), mask=mask
    )
    drivers = [(torch.zeros(1, 2, 1, *SIZE), torch.zeros(1, 2, 1, *SIZE))] * 7
    for i, step in enumerate(stepper.rollout(torch.zeros(1, 2, 1, *SIZE), drivers), start=1):
        state = stepper.state(step, torch.full((1, 1, *SIZE), 10.0))
        assert torch.allclose(state[0, 0, 1:], torch.tensor(10 + 0.5 * i))
        assert state[0, 0, 0, 0].isnan()


def test_ensemble_members_train_on_separate_samples_and_are_averaged_in_use():
    torch.manual_seed(0)
    nets = [torch.nn.Conv2d(1, 1, 1) for _ in range(3)]
    ensemble = Ensemble(nets)
    x = torch.randn(7, 1, 4, 4)
    parts = torch.tensor_split(x, 3)
    assert torch.equal(ensemble.train()(x), torch.cat([n(p) for n, p in zip(nets, parts, strict=True)]))
    assert torch.allclose(ensemble.eval()(x), sum(n(x) for n in nets) / 3)
    assert ensemble.train()(x[:2]).shape == (2, 1, 4, 4)
    with pytest.raises(ValueError, match="at least one"):
        Ensemble([])
