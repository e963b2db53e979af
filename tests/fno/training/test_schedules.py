"""Schedules of the learning rate equal their formulas and those of torch."""

import math

import pytest
import torch
from torch.optim import lr_scheduler

from fourcaster.fno.training import TrainSettings
from fourcaster.fno.training.schedules import SCHEDULES, cosine, one_cycle, warm_restarts


def rates_of(scheduler_of, total: int) -> list[float]:
    """Return the learning rates of a scheduler of torch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler = scheduler_of(optimizer)
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("total", [20, 101])
def test_one_cycle_is_that_of_torch(total):
    expected = rates_of(lambda o: lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=total + 1), total + 1)
    shifted = [one_cycle(step, total + 1) for step in range(total + 1)]
    assert shifted == pytest.approx(expected, rel=1e-9)


def test_warm_restarts_are_those_of_torch():
    expected = rates_of(lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=10, T_mult=2), 70)
    assert [warm_restarts(s, 70, warmup=0, cycles=3) for s in range(70)] == pytest.approx(expected, rel=1e-9)


def test_cosine_rises_linearly_and_falls_to_a_twentieth():
    total = 200
    for step in range(total):
        decay = 0.05 + 0.475 * (1 + math.cos(math.pi * step / total))
        assert cosine(step, total, warmup=10) == pytest.approx(min(1, (step + 1) / 10) * decay)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 3, 7, 1000])
def test_every_schedule_stays_between_zero_and_the_peak(name, total):
    rates = [SCHEDULES[name](step, total, warmup=100, cycles=3) for step in range(total)]
    assert all(0 <= rate <= 1 for rate in rates)
    assert total < 7 or max(rates) > 0.6


@pytest.mark.parametrize("name", SCHEDULES)
def test_training_on_rollouts_repeats_the_schedule_at_a_lower_peak(name):
    settings = TrainSettings(
        epochs=10, schedule=name, rollout_steps=3, rollout_share=0.5, rollout_rate=0.25, warmup_steps=5
    )
    rates = [settings.rate(step, 400) for step in range(400)]
    assert rates[200:] == pytest.approx([0.25 * rate for rate in rates[:200]])
