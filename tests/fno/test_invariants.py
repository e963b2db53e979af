"""Invariants of inputs: exact values, independence of the grid, and reported departures from training."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fourcaster.datasets.pde.loaders import DrawnInstances, open_system
from fourcaster.fno.batch import Instances
from fourcaster.fno.invariants import TrainingRanges, invariants_of, scales_of


def compute_invariants(field, edges, **parameters):
    return invariants_of(
        Instances(field[:, None], field[:, None, ...][:, :0], parameters),
        fields=("u",),
        inputs=(),
        edges=edges,
    )


def drawn(name, count, seed, **parameters):
    system, layout = open_system(name, parameters)
    instances = DrawnInstances(system, layout, 16, count, seed).draw(0, count)
    fields = layout.fields if layout.evolves else ()
    return instances, invariants_of(instances, fields=fields, inputs=layout.inputs, edges=layout.edges)


def ranges(instances, invariants):
    return TrainingRanges.of(invariants, scales_of(instances, invariants))


@pytest.mark.parametrize("points", [16, 17, 40])
def test_invariants_of_waves_on_a_line_are_exact(points):
    x = torch.arange(points, dtype=torch.float64) / points
    u = 0.5 + 2 * torch.cos(2 * math.pi * x) + torch.sin(6 * math.pi * x) + 3 * torch.cos(8 * math.pi * x + 1)
    invariants = compute_invariants(
        torch.stack([u, 2 * u]), ("periodic",), viscosity=torch.tensor([0.1, 0.2])
    )
    assert invariants["mean of u"].numpy() == pytest.approx([0.5, 1.0])
    assert float(invariants["standard deviation of u"][0]) == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    octaves = {1: math.sqrt(2), 2: math.sqrt(0.5), 4: math.sqrt(4.5)}
    for low, amplitude in octaves.items():
        assert invariants[f"amplitude of waves {low} to {2 * low} of u"].numpy() == pytest.approx(
            [amplitude, 2 * amplitude]
        )
    assert (
        f"amplitude of waves {4 if points < 40 else 8} to {8 if points < 40 else 16} of u"
        == list(invariants)[-2]
    )  # the last octave is complete
    assert invariants["viscosity"].numpy() == pytest.approx(np.log([0.1, 0.2]))


@pytest.mark.parametrize("edge", ["node", "cell"])
def test_non_periodic_axes_are_mirrored(edge):
    for points in (12, 25):
        x = (torch.arange(points, dtype=torch.float64) + (0.5 if edge == "cell" else 0)) / (
            points - (edge == "node")
        )
        u = torch.cos(math.pi * x)[:, None] + 2 * torch.cos(2 * math.pi * x)[None]
        invariants = compute_invariants(u[None], (edge, edge))
        assert float(invariants["amplitude of waves 0.5 to 1 of u"]) == pytest.approx(math.sqrt(0.5))
        assert float(invariants["amplitude of waves 1 to 2 of u"]) == pytest.approx(math.sqrt(2))
        assert float(invariants["amplitude of waves 2 to 4 of u"]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["burgers", "darcy", "navier_stokes"])
def test_octaves_of_the_same_field_agree_on_every_grid(name):
    both = {}
    for points in (32, 48):
        first, invariants = drawn(
            name, 2, 5, resolution=points, **({"coefficient": "lognormal"} if name == "darcy" else {})
        )
        both[points] = invariants, float(scales_of(first, invariants)[next(iter(invariants))])
    coarse, fine = both[32][0], both[48][0]
    shared = [n for n in coarse if "waves" in n]
    assert len(shared) >= 4 and set(shared) <= set(fine)
    tolerance = (0.05 if name == "darcy" else 1e-6) * both[48][1]
    assert all(torch.allclose(coarse[n], fine[n], atol=tolerance) for n in shared[:-1])


DISTRIBUTIONS = [
    ("burgers", {"resolution": 32}),
    ("shock_pipe", {"resolution": 32}),
    ("darcy", {"resolution": 17}),
    ("navier_stokes", {"resolution": 16}),
]


@pytest.mark.parametrize(("name", "parameters"), DISTRIBUTIONS)
def test_samples_of_the_training_distribution_are_rarely_reported(name, parameters):
    training = ranges(*drawn(name, 128, 0, **parameters))
    alarms = [
        bool(training.departures(drawn(name, count, seed, **parameters)[1]))
        for seed in range(1, 16)
        for count in (1, 4)
    ]
    assert sum(alarms) <= 1


def departures(change, count=3, **more):
    training = ranges(*drawn("burgers", 128, 0, resolution=64))
    instances, _ = drawn("burgers", count, 1, resolution=64, **more)
    changed = replace(instances, state=change(instances.state))
    return training.departures(invariants_of(changed, fields=("u",), inputs=(), edges=("periodic",)))


@pytest.mark.parametrize("flow", [0.8, -0.8, 0.05])
@pytest.mark.parametrize("count", [1, 3])
def test_a_mean_flow_is_reported_with_its_value(flow, count):
    reports = departures(lambda u: u + flow, count)
    assert (
        reports[0].startswith(f"mean of u {flow:g} in sample ")
        and reports[0].endswith("in training 0 to 0")
        and len(reports) == 1
    )


@pytest.mark.parametrize(
    ("change", "more"),
    [
        (lambda u: 3 * u, {}),
        (lambda u: 0.3 * u, {}),
        (lambda u: torch.fft.irfft(torch.fft.rfft(u)[..., :9], n=64), {}),
        (lambda u: torch.sin(2 * math.pi * 10 * torch.arange(64) / 64).expand_as(u), {}),
        (lambda u: u, {"alpha": 1.5}),
        (lambda u: u, {"alpha": 3.0, "sigma": 125.0}),
    ],
)
def test_another_amplitude_or_spectrum_is_reported(change, more):
    reports = departures(change, **more)
    assert reports and all("of u" in text and "in training" in text for text in reports)


def test_non_finite_values_and_coefficients_out_of_range_are_reported():
    assert departures(lambda u: u * math.nan)[0].startswith("mean of u nan in sample 0 and 2 more")
    instances, invariants = drawn("shock_pipe", 64, 0, resolution=32)
    training = ranges(instances, invariants)
    assert not training.departures({"viscosity": torch.tensor([0.0041, 0.0395]).log()})
    assert training.departures({"viscosity": torch.tensor([0.01, 0.2]).log()})[0].startswith(
        "viscosity 0.2 in sample 1, in training 0.004"
    )


def test_ranges_round_trip_through_json_and_few_samples_report_nothing():
    training = ranges(*drawn("burgers", 20, 0, resolution=32))
    assert TrainingRanges.from_json(json.loads(json.dumps(training.to_json()))) == training
    few = ranges(*drawn("burgers", 4, 0, resolution=32))
    assert not few.departures(drawn("burgers", 2, 1, resolution=32, sigma=500.0)[1])
    assert training.departures(drawn("burgers", 2, 1, resolution=32, sigma=500.0)[1])
