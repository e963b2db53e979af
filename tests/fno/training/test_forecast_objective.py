"""The objective of forecast models: rollouts, pushforward, pairs of times, noise, and weights of channels."""

import pytest
import torch
from torch import nn

from fourcaster.fno.batch import Batch
from fourcaster.fno.grids import Box
from fourcaster.fno.losses.base import LossDomain
from fourcaster.fno.losses.data import area_weighted_mse
from fourcaster.fno.losses.ensemble import AlmostFairCRPS
from fourcaster.fno.losses.pointwise import MeanAbsoluteError
from fourcaster.fno.models.stepper import Scales, Stepper
from fourcaster.fno.random import Stream, torch_generator
from fourcaster.fno.training import ForecastObjective, TrainSettings, train
from fourcaster.fno.training.objectives.forecast import BalanceTerms

SIZE = (5, 6)
CHANNELS = 2
WEIGHTS = torch.rand(CHANNELS, *SIZE, generator=torch.Generator().manual_seed(3)) + 0.1
WEIGHTS[1, :2] = 0
GRID = Box(("y", "x"), SIZE, (4.0, 5.0), (False, False))


def make_stepper(noise_channels=0, lead_times=(), network=None):
    torch.manual_seed(1)
    count = Stepper.input_channels(
        CHANNELS, window=2, forcings=1, static=1, noise=noise_channels, lead_time=bool(lead_times)
    )
    network = network or nn.Sequential(
        nn.Conv2d(count, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, CHANNELS, 1)
    )
    scales = Scales(torch.zeros(2), torch.ones(2), torch.tensor([1.0, 2.0]), torch.tensor([0.5, 0.25]))
    return Stepper(
        network,
        scales,
        torch.zeros(1, *SIZE),
        mask=WEIGHTS > 0,
        noise_channels=noise_channels,
        lead_times=lead_times,
    )


def make_batch(times=5, samples=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = torch.randn(samples, times, CHANNELS, *SIZE, generator=generator)
    background = torch.randn(samples, times, CHANNELS, *SIZE, generator=generator)
    return Batch(state, background, torch.randn(samples, times, 1, *SIZE, generator=generator))


def generator(step=0):
    return torch_generator(0, Stream.OBJECTIVE, step)


def loss_of(objective, batch, step=0):
    return objective.loss(batch, 0.5, generator(step)).value


def gradient(objective, batch, step=0):
    objective.stepper.zero_grad()
    loss_of(objective, batch, step).backward()
    return torch.cat([p.grad.flatten() for p in objective.stepper.parameters()])


def make_domain(stepper, dtype=torch.float32):
    scale = (stepper.anomaly_std / stepper.tendency_std).flatten()
    return LossDomain(GRID, WEIGHTS.to(dtype), scale.to(dtype))


class Recorder(nn.Module):
    """A network that keeps its inputs and predicts a multiple of one of them."""

    def __init__(self, channel=0):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(0.1))
        self.channel = channel
        self.inputs = []

    def forward(self, x):
        self.inputs.append(x.detach().clone())
        return self.factor * x[:, [self.channel] * CHANNELS]


def test_the_loss_of_a_rollout_is_the_mean_over_steps_of_errors_divided_by_the_lead_time():
    stepper = make_stepper()
    batch = make_batch()
    window = stepper.anomaly(batch.state, batch.background)
    drivers = [(batch.background[:, t - 1 : t + 1], batch.forcing[:, t - 1 : t + 1]) for t in (2, 3, 4)]
    expected = 0
    for k, step in enumerate(stepper.rollout(window[:, :2], drivers), start=1):
        error = area_weighted_mse(step, window[:, 1 + k], WEIGHTS)
        expected += (error * torch.tensor([4.0, 64.0])).mean() / k / 3
    assert torch.allclose(loss_of(ForecastObjective(stepper, WEIGHTS), batch), expected)


def test_losses_of_degree_one_are_divided_by_the_root_of_the_lead_time():
    stepper = make_stepper()
    batch = make_batch()
    loss = MeanAbsoluteError(make_domain(stepper))
    objective = ForecastObjective(stepper, WEIGHTS, data_loss=loss)
    window = stepper.anomaly(batch.state, batch.background)
    drivers = [(batch.background[:, t - 1 : t + 1], batch.forcing[:, t - 1 : t + 1]) for t in (2, 3, 4)]
    steps = list(stepper.rollout(window[:, :2], drivers))
    expected = sum(loss(p, window[:, 1 + k]).mean() / k**0.5 / 3 for k, p in enumerate(steps, start=1))
    assert torch.allclose(loss_of(objective, batch), expected)


def test_weights_of_channels_multiply_their_errors():
    stepper = make_stepper()
    batch = make_batch(3)
    parts = [
        loss_of(ForecastObjective(stepper, WEIGHTS, channel_weights=torch.tensor(w)), batch)
        for w in ([2.0, 0.0], [0.0, 2.0], [1.5, 0.5])
    ]
    assert torch.allclose(parts[2], 0.75 * parts[0] + 0.25 * parts[1])
    assert torch.allclose((parts[0] + parts[1]) / 2, loss_of(ForecastObjective(stepper, WEIGHTS), batch))


def test_input_noise_has_its_standard_deviation_within_the_mask_and_is_not_in_the_target():
    network = Recorder()
    stepper = make_stepper(network=network)
    batch = make_batch(3, samples=400)
    quiet = ForecastObjective(stepper, WEIGHTS, 0.0)
    noisy = ForecastObjective(stepper, WEIGHTS, 0.3)
    loss_of(quiet, batch)
    loss_of(noisy, batch)
    difference = (network.inputs[1] - network.inputs[0])[:, :4].unflatten(1, (2, CHANNELS))
    assert difference[:, :, WEIGHTS > 0].std() == pytest.approx(0.3, rel=0.02)
    assert abs(difference.mean()) < 0.01
    assert (difference[:, :, WEIGHTS == 0] == 0).all()
    assert torch.equal(network.inputs[1][:, 4:], network.inputs[0][:, 4:])
    assert torch.equal(loss_of(noisy, batch), loss_of(noisy, batch))
    assert not torch.equal(loss_of(noisy, batch, 1), loss_of(noisy, batch, 0))
    network.inputs.clear()
    noisy.errors(batch)
    quiet.errors(batch)
    assert torch.equal(*network.inputs)


@pytest.mark.parametrize("times", [3, 4, 6])
def test_pushforward_trains_on_the_last_step_from_a_state_without_gradient(times):
    stepper = make_stepper()
    batch = make_batch(times)
    steps = times - 2
    window = stepper.anomaly(batch.state, batch.background)
    drivers = [(batch.background[:, t - 1 : t + 1], batch.forcing[:, t - 1 : t + 1]) for t in range(2, times)]
    with torch.no_grad():
        earlier = list(stepper.rollout(window[:, :2], drivers[:-1]))
    states = torch.cat([window[:, :2], *(s[:, None] for s in earlier)], dim=1)[:, -2:].detach()
    last = stepper(states, *drivers[-1])
    error = area_weighted_mse(last, window[:, -1], WEIGHTS) * torch.tensor([4.0, 64.0])
    expected = torch.autograd.grad(error.mean() / steps, list(stepper.parameters()))
    objective = ForecastObjective(stepper, WEIGHTS, pushforward=True)
    assert torch.allclose(gradient(objective, batch), torch.cat([g.flatten() for g in expected]))
    through = gradient(ForecastObjective(stepper, WEIGHTS), batch)
    assert torch.allclose(through, gradient(objective, batch)) is (steps == 1)


def test_pushforward_reaches_all_weights_in_half_precision():
    stepper = make_stepper()
    objective = ForecastObjective(stepper, WEIGHTS, pushforward=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(objective, make_batch())
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in stepper.parameters())


def test_pairs_of_times_have_the_background_forcing_and_target_of_their_lead_time():
    network = Recorder()
    leads = (1, 2, 4)
    stepper = make_stepper(lead_times=leads, network=network)
    batch = make_batch(6, samples=60)
    objective = ForecastObjective(stepper, WEIGHTS, lead_times=leads)
    loss = loss_of(objective, batch)
    x = network.inputs[0]
    lead = (x[:, -1, 0, 0] * 4).round().long()
    assert (x[:, -1] == x[:, -1, :1, :1]).all()
    assert set(lead.tolist()) == set(leads)
    sample = torch.arange(60)
    cycle = torch.where(stepper.mask, batch.background, 0.0)
    assert torch.equal(x[:, 4:6], cycle[:, 1]) and torch.equal(x[:, 6:8], cycle[sample, 1 + lead])
    assert torch.equal(x[:, 8:9], batch.forcing[:, 1])
    assert torch.equal(x[:, 9:10], batch.forcing[sample, 1 + lead])
    anomaly = stepper.anomaly(batch.state, batch.background)
    ratio = torch.tensor([0.5, 0.125])[:, None, None]
    change = 0.1 * x[:, [0, 0]] * ratio * lead.sqrt()[:, None, None, None]
    error = anomaly[:, 1] + torch.where(stepper.mask, change, 0.0) - anomaly[sample, 1 + lead]
    by_sample = (error.square() * WEIGHTS).sum((2, 3)) / WEIGHTS.sum((1, 2)) / ratio.flatten().square()
    assert torch.allclose(loss, (by_sample / lead[:, None]).mean())
    assert torch.equal(loss, loss_of(objective, batch))


def test_lead_times_beyond_the_samples_are_not_drawn():
    network = Recorder()
    stepper = make_stepper(lead_times=(1, 2, 8), network=network)
    loss_of(ForecastObjective(stepper, WEIGHTS, lead_times=(1, 2, 8)), make_batch(4, samples=40))
    assert set((network.inputs[0][:, -1, 0, 0] * 8).tolist()) == {1.0, 2.0}


def test_a_rollout_of_a_network_with_lead_times_takes_steps_of_lead_time_one():
    network = Recorder()
    stepper = make_stepper(lead_times=(1, 4), network=network)
    batch = make_batch(5)
    errors = ForecastObjective(stepper, WEIGHTS).errors(batch)
    assert len(errors) == len(network.inputs) == 3
    assert all((x[:, -1] == 0.25).all() for x in network.inputs)
    window = stepper.anomaly(batch.state[:, :2], batch.background[:, :2])
    drivers = batch.background[:, 1:3], batch.forcing[:, 1:3]
    assert torch.equal(stepper(window, *drivers), stepper(window, *drivers, lead=torch.ones(3)))


def test_members_of_an_ensemble_differ_by_the_noise_input_alone():
    network = Recorder(channel=-1)
    stepper = make_stepper(noise_channels=3, network=network)
    loss = AlmostFairCRPS(make_domain(stepper), members=4)
    batch = make_batch(4, samples=50)
    objective = ForecastObjective(stepper, WEIGHTS, data_loss=loss)
    value = loss_of(objective, batch)
    assert len(network.inputs) == 8  # two steps of four members
    noise = torch.stack([x[:, -3:] for x in network.inputs])
    assert noise.std() == pytest.approx(1, rel=0.02) and abs(noise.mean()) < 0.02
    assert abs((noise[0] * noise[1]).mean()) < 0.03  # steps are independent
    first = [network.inputs[2 * m][:, :-3] for m in range(4)]
    assert all(torch.equal(x, first[0]) for x in first)
    anomaly = stepper.anomaly(batch.state, batch.background)
    ratio = torch.tensor([0.5, 0.125])[:, None, None]
    single = Batch(batch.state[:, :3], batch.background[:, :3], batch.forcing[:, :3])
    network.inputs.clear()
    one_step = loss_of(objective, single)
    members = [
        anomaly[:, 1] + torch.where(stepper.mask, 0.1 * ratio * x[:, [-1, -1]], 0.0) for x in network.inputs
    ]
    expected = loss(torch.stack(members), anomaly[:, 2]).mean()
    assert torch.allclose(one_step, expected)
    assert torch.equal(value, loss_of(objective, batch)) and not torch.equal(
        value, loss_of(objective, batch, 1)
    )


class Total:
    """A balance whose residual is the sum of the channels."""

    def residuals(self, state):
        return {"total": state.nan_to_num().sum(dim=1)}


def test_balances_are_averaged_over_the_members_of_an_ensemble():
    network = Recorder(channel=-1)
    stepper = make_stepper(noise_channels=1, network=network)
    objective = ForecastObjective(
        stepper,
        WEIGHTS,
        physics=BalanceTerms(Total(), {"total": 2.0}, warmup=0.0),
        data_loss=AlmostFairCRPS(make_domain(stepper), members=3),
    )
    batch = make_batch(3)
    loss = objective.loss(batch, 0.5, generator())
    ratio = torch.tensor([0.5, 0.125])[:, None, None]
    anomaly = stepper.anomaly(batch.state[:, 1], batch.background[:, 1])
    change = Total().residuals(batch.state[:, 2])["total"] - Total().residuals(batch.state[:, 1])["total"]
    squares = []
    for x in network.inputs:
        step = anomaly + torch.where(stepper.mask, 0.1 * ratio * x[:, [-1, -1]], 0.0)
        total = stepper.state(step, batch.background[:, 2]).nan_to_num().sum(dim=1)
        squares.append((total - Total().residuals(batch.state[:, 2])["total"]).square().mean())
    square = torch.stack(squares).mean()
    assert torch.allclose(loss.terms["total"], square.sqrt())
    assert torch.allclose(loss.value, loss.terms["data"] + 2 * square / change.square().mean())


def test_balances_of_a_pushforward_step_are_compared_with_the_state_before_it():
    stepper = make_stepper()
    terms = BalanceTerms(Total(), {"total": 1.0}, warmup=0.0)
    objective = ForecastObjective(stepper, WEIGHTS, physics=terms, pushforward=True)
    batch = make_batch(5)
    loss = objective.loss(batch, 0.5, generator())
    totals = [Total().residuals(batch.state[:, t])["total"] for t in (3, 4)]
    scale = (totals[1] - totals[0]).square().mean()
    assert torch.allclose(loss.value, loss.terms["data"] + loss.terms["total"].square() / scale)


def test_validation_and_rollouts_without_a_generator_have_no_noise():
    network = Recorder(channel=-1)
    stepper = make_stepper(noise_channels=3, network=network)
    ForecastObjective(stepper, WEIGHTS).errors(make_batch())
    assert all((x[:, -3:] == 0).all() for x in network.inputs)


def test_lengths_of_rollouts_follow_the_schedule():
    settings = TrainSettings(epochs=10, rollout_lengths=[1, 1, 1, 2, 4], warmup_steps=10)
    assert [settings.rollout_length(e) for e in range(10)] == [1] * 6 + [2, 2, 4, 4]
    assert settings.rollout_epoch == 6
    same = TrainSettings(epochs=10, rollout_steps=4, rollout_share=0.4, warmup_steps=10)
    assert [settings.rate(s, 1000) for s in range(0, 1000, 50)] == [
        same.rate(s, 1000) for s in range(0, 1000, 50)
    ]
    assert TrainSettings(epochs=7, rollout_lengths=[3]).rollout_length(6) == 3
    assert TrainSettings(lead_times=[1, 2, 6]).rollout_length(0) == 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rollout_lengths": (0, 1)}, "rollout_lengths must be numbers of steps"),
        ({"epochs": 2, "rollout_lengths": (1, 2, 3)}, "at most one entry per epoch"),
        ({"rollout_lengths": (1, 2), "rollout_steps": 2}, "must not be combined with rollout_steps"),
        ({"pushforward": True}, "pushforward needs rollouts"),
        ({"pushforward": True, "rollout_lengths": (1, 1)}, "pushforward needs rollouts"),
        ({"lead_times": (2, 4)}, "lead_times must be at least two increasing numbers from 1"),
        ({"lead_times": (1,)}, "lead_times must be at least two"),
        ({"lead_times": (1, 4, 2)}, "lead_times must be at least two increasing"),
        ({"lead_times": (1, 20_000)}, "from 1 to 10000"),
        ({"lead_times": (1, 2), "rollout_steps": 3}, "must not be combined with rollouts"),
        ({"lead_times": (1, 2), "rollout_lengths": (1, 2)}, "must not be combined with rollouts"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainSettings(**settings)


class Source:
    """Three batches per epoch that depend only on their index; stops after a number of batches."""

    def __init__(self, stop_after=None):
        self.left = stop_after

    def steps_per_epoch(self):
        return 3

    def epoch(self, epoch, rollout, start):
        for i in range(start, 3):
            if self.left == 0:
                raise InterruptedError
            self.left = None if self.left is None else self.left - 1
            yield make_batch(2 + rollout, seed=3 * epoch + i)

    def validation(self, steps, samples):
        yield make_batch(2 + steps, samples, seed=99)


@pytest.mark.parametrize(
    ("settings", "noise_channels"),
    [
        ({"rollout_lengths": (1, 3), "pushforward": True, "noise": 0.1}, 0),
        ({"lead_times": (1, 2, 3), "noise": 0.1}, 0),
        ({"rollout_lengths": (1, 2)}, 2),
        ({"lead_times": (1, 3)}, 1),
    ],
)
def test_an_interrupted_run_resumes_to_the_same_bits(settings, noise_channels, tmp_path):
    settings = TrainSettings(
        epochs=2, warmup_steps=1, validation_steps=2, validation_samples=2, checkpoint_minutes=0, **settings
    )

    def run(folder, stop_after=None):
        stepper = make_stepper(noise_channels, settings.lead_times)
        loss = AlmostFairCRPS(make_domain(stepper)) if noise_channels else None
        objective = ForecastObjective(
            stepper,
            WEIGHTS,
            settings.noise,
            data_loss=loss,
            pushforward=settings.pushforward,
            lead_times=settings.lead_times,
        )
        train(stepper, objective, Source(stop_after), settings=settings, folder=tmp_path / folder)
        return stepper.state_dict()

    straight = run("a")
    for stop_after in (2, 2):
        with pytest.raises(InterruptedError):
            run("b", stop_after)
    resumed = run("b")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in straight.items())


def test_anomalies_are_damped_in_forecasts_but_not_in_training():
    plain, damped = make_stepper(), make_stepper()
    damped.load_state_dict(plain.state_dict())
    damped.damping = 0.25
    batch = make_batch(5)
    assert torch.equal(
        loss_of(ForecastObjective(plain.train(), WEIGHTS), batch),
        loss_of(ForecastObjective(damped.train(), WEIGHTS), batch),
    )
    window = plain.anomaly(batch.state[:, :2], batch.background[:, :2])
    drivers = [(batch.background[:, 1:3], batch.forcing[:, 1:3])] * 30
    one = plain.eval()(window, *drivers[0])
    assert torch.allclose(damped.eval()(window, *drivers[0]), 0.75 * one)
    persistence = make_stepper(network=Recorder()).eval()
    persistence.network.factor.data.zero_()
    persistence.damping = 0.25
    for k, state in enumerate(persistence.rollout(window, drivers), 1):
        expected = 0.75**k * torch.where(persistence.mask, window[:, -1], 0.0)
        assert torch.allclose(state, expected, atol=1e-7)
    mask = torch.ones(1, 2, 2)
    with pytest.raises(ValueError, match="damping must be in"):
        Stepper(Recorder(), Scales(*[torch.ones(1)] * 4), torch.zeros(1, 2, 2), mask=mask, damping=1.0)
