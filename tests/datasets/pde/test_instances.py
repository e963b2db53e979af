"""Samples drawn from the distribution of a system: each epoch has its own, whatever the batch size."""

import pytest
import torch

from fourcaster.datasets.pde.loaders import DrawnInstances, open_system


def drawn(samples, batch_size):
    system, layout = open_system("burgers", {"resolution": 16, "frames": 2})
    return DrawnInstances(system, layout, batch_size, samples, seed=3)


@pytest.mark.parametrize(("samples", "batch_size"), [(10, 16), (1, 4), (16, 16), (40, 16), (48, 16)])
def test_no_sample_is_drawn_in_two_epochs(samples, batch_size):
    source = drawn(samples, batch_size)
    states = torch.cat([batch.state for epoch in range(3) for batch in source.epoch(epoch, 1)])
    assert len(states.flatten(1).unique(dim=0)) == len(states)


def test_an_epoch_of_fewer_samples_than_a_batch_is_one_batch_of_them():
    source = drawn(10, 16)
    assert source.steps_per_epoch() == 1
    for epoch in range(3):
        (batch,) = source.epoch(epoch, 1)
        assert torch.equal(batch.state, source.draw(10 * epoch, 10).state)


@pytest.mark.parametrize(("samples", "steps"), [(16, 1), (40, 2), (48, 3)])
def test_batches_of_an_epoch_are_consecutive_samples_from_the_first_one_on(samples, steps):
    source = drawn(samples, 16)
    for epoch in range(2):
        batches = list(source.epoch(epoch, 1))
        assert len(batches) == steps
        for i, batch in enumerate(batches):
            assert torch.equal(batch.state, source.draw(epoch * samples + 16 * i, 16).state)
