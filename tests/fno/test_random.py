"""Random numbers depend on seed, stream and step alone, and leave the global generators as they were."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from fourcaster.fno.random import (
    Stream,
    numpy_generator,
    pink_normal,
    seed_sequence,
    seeded_torch,
    torch_generator,
)


def test_streams_seeds_and_steps_are_independent():
    arguments = [(0, s, 0) for s in Stream] + [(1, Stream.LAYERS, 0), (0, Stream.LAYERS, 1)]
    states = {tuple(seed_sequence(*a).generate_state(4)) for a in arguments}
    assert len(states) == len(arguments)
    assert len({s.key for s in Stream}) == len(Stream)


def test_random_numbers_are_identical_in_every_process():
    """Python's own ``hash`` of a string differs between processes."""
    code = (
        "from fourcaster.fno.random import *; "
        "print(numpy_generator(3, Stream.SAMPLE_ORDER, 2).integers(10**9), "
        "torch_generator(3, Stream.OBJECTIVE, 2).initial_seed())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = (
        numpy_generator(3, Stream.SAMPLE_ORDER, 2).integers(10**9),
        torch_generator(3, Stream.OBJECTIVE, 2).initial_seed(),
    )
    assert result.stdout.split() == [str(x) for x in expected]


def test_global_generators_are_seeded_within_and_restored_after_the_block():
    before = torch.random.get_rng_state()
    draws = []
    for step in (4, 4, 5):
        with seeded_torch(1, Stream.LAYERS, step):
            draws.append(torch.nn.functional.dropout(torch.ones(64)))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    with pytest.raises(RuntimeError), seeded_torch(1, Stream.LAYERS):
        raise RuntimeError
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.gpu
def test_the_generator_of_a_gpu_is_seeded_and_restored():
    before = torch.cuda.get_rng_state()
    draws = []
    for _ in range(2):
        with seeded_torch(1, Stream.LAYERS, 4, device="cuda"):
            draws.append(torch.rand(8, device="cuda"))
    assert torch.equal(*draws)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_negative_seeds_are_refused():
    with pytest.raises(ValueError):
        numpy_generator(-1, Stream.LAYERS)
    assert np.random.SeedSequence((0, Stream.LAYERS.key)).entropy == seed_sequence(0, Stream.LAYERS).entropy


@pytest.mark.parametrize("shape", [(4000, 32, 33), (2000, 64, 64)])
def test_pink_noise_has_variance_one_at_every_point_and_the_same_in_every_octave(shape):
    noise = pink_normal(shape, torch.Generator().manual_seed(2)).double()
    assert noise.std(dim=0).sub(1).abs().max() < 0.08 and noise.mean(dim=0).abs().max() < 0.12
    power = torch.fft.fft2(noise, norm="forward").abs().square().mean(dim=0)
    assert power.sum() == pytest.approx(1, rel=0.02)
    k = torch.hypot(
        torch.fft.fftfreq(shape[1], 1 / shape[1])[:, None], torch.fft.fftfreq(shape[2], 1 / shape[2])
    )
    octaves = torch.stack([power[(k >= low) & (k < 2 * low)].sum() for low in (3, 6)])
    assert (octaves[1] / octaves[0]).item() == pytest.approx(1, abs=0.1)
    assert power[0, 0] == pytest.approx(power[0, 1].item(), rel=0.1)
