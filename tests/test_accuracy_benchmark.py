"""Benchmark of accuracy: errors, numbers of parameters, the same samples for both sides, symmetries."""

import importlib
import json
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT
from torch import nn

from fourcaster.datasets.pde.darcy import conductances_of_cells, solve_network


@pytest.fixture(scope="module")
def modules():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    names = ("accuracy", "accuracy_training", "accuracy_networks", "accuracy_data", "accuracy_cases")
    yield {name.removeprefix("accuracy").strip("_"): importlib.import_module(name) for name in names}
    sys.path.remove(str(ROOT / "benchmarks"))
    for name in (*names, "accuracy_ablation"):
        sys.modules.pop(name, None)


def test_error_is_the_mean_of_relative_errors_of_the_samples(modules):
    training = modules["training"]
    y = torch.tensor([[[3.0, 4.0]], [[0.0, 2.0]], [[1.0, 0.0]]])
    samples = training.Samples(torch.zeros(3, 1, 2), y)
    offset = torch.tensor([0.0, 1.0])
    for batch_size in (1, 2, 3):
        value = training.error(lambda x: y[:1] * 0 + offset, samples, batch_size=batch_size)
        assert value == pytest.approx((np.sqrt(9 + 9) / 5 + 1 / 2 + np.sqrt(2)) / 3)


def test_complex_parameters_count_twice(modules):
    network = nn.Module()
    network.a = nn.Parameter(torch.zeros(3, 4))
    network.b = nn.Parameter(torch.zeros(5, dtype=torch.complex64))
    assert modules["networks"].parameters(network) == 22


@pytest.mark.parametrize(
    ("build", "limit"),
    [
        (lambda n, c: n.DarcyOperator(c.DARCY, spacing=True), 191_881),
        (lambda n, c: n.DarcyOperator(c.replace(c.DARCY, width=32)), 340_833),
        (lambda n, c: n.LineOperator(c.BURGERS, frames=1, scale=1.0), 152_353),
        (lambda n, c: n.LineOperator(c.SPACE_TIME, frames=16, scale=1.0, initial=True), 671_113),
        (lambda n, c: n.FlowOperator(c.FLOW, history=10, force=torch.ones(2), scale=1.0), 1_000_000),
    ],
)
def test_our_networks_have_at_most_the_parameters_of_the_peer(modules, build, limit):
    count = modules["networks"].parameters(build(modules["networks"], modules["cases"]))
    assert 0.3 * limit < count <= limit


def test_our_networks_have_the_parameters_of_the_committed_results(modules):
    networks, cases = modules["networks"], modules["cases"]
    result = json.loads((ROOT / "benchmarks" / "results" / "accuracy.json").read_text())
    rows = {row["part"]: row for row in result["rows"]}
    for name, network in {
        "darcy": networks.DarcyOperator(cases.DARCY),
        "darcy_mixed": networks.DarcyOperator(cases.DARCY, spacing=True),
        "burgers": networks.LineOperator(cases.BURGERS, frames=1, scale=1.0),
        "space_time": networks.LineOperator(cases.SPACE_TIME, frames=16, scale=1.0, initial=True),
    }.items():
        assert networks.parameters(network) == rows[name]["sides"]["ours"]["parameters"]


def test_both_sides_see_the_same_samples_in_the_same_order(modules):
    training = modules["training"]
    groups = [training.Samples(torch.arange(n)[:, None], torch.zeros(n, 1)) for n in (10, 5)]
    one, two = ([b.x.tolist() for b, _ in training.batches(groups, 4, seed=3, epoch=1)] for _ in range(2))
    assert one == two
    assert sorted(v for batch in one for (v,) in batch) == sorted([*range(10), *range(5)])
    other = [b.x.tolist() for b, _ in training.batches(groups, 4, seed=3, epoch=2)]
    assert other != one


def solution(a):
    """Return the solution of Darcy's equation for a coefficient on nodes j / n without the far edges."""
    padded = np.pad(a, ((0, 1), (0, 1)), mode="edge")
    return solve_network(*conductances_of_cells(padded, 1), np.ones(padded.shape))[:-1, :-1]


@pytest.mark.parametrize("number", range(8))
def test_orientations_of_the_square_are_solutions_of_the_turned_coefficient(modules, number):
    a = np.where(np.random.default_rng(0).random((8, 8)) > 0.5, 1.0, 0.1)
    a[:2] = a[-1:] = a[:, :2] = a[:, -1:] = 1.0  # the coefficient on the edges, which is repeated
    x, y = (torch.from_numpy(field)[None, None] for field in (a, solution(a)))
    turned_x, turned_y = modules["training"].dihedral(x, y, number)
    assert np.allclose(solution(turned_x[0, 0].numpy()), turned_y[0, 0].numpy(), atol=1e-12)


def test_mirrored_states_solve_burgers_equation(modules):
    data = modules["data"]
    u = np.stack([np.sin(2 * np.pi * np.arange(32) / 32) + 0.5 * np.cos(4 * np.pi * np.arange(32) / 32)])
    y = data.burgers_solution(u, [0.1], refine=2)
    mirrored_u, mirrored_y = modules["training"].mirrored(torch.from_numpy(u), torch.from_numpy(y), 1)
    again = data.burgers_solution(mirrored_u.numpy(), [0.1], refine=2)
    assert np.allclose(again, mirrored_y.numpy(), atol=1e-12) and not np.allclose(y, again, atol=1e-2)


def test_translations_along_the_forcing_are_flows(modules):
    data = modules["data"]
    w = np.random.default_rng(0).standard_normal((1, 4, 4))
    w = np.kron(w, np.ones((4, 4)))
    flow = data.flow(w, 1, points=16)
    moved, moved_flow = modules["training"].along_the_forcing(torch.from_numpy(w), torch.from_numpy(flow), 5)
    assert np.allclose(data.flow(moved.numpy(), 1, points=16), moved_flow.numpy(), atol=1e-10)


def test_interpolation_keeps_coarse_values_and_zero_edges(modules):
    coarse = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    fine = modules["data"].interpolated(coarse)
    assert fine.shape == (2, 1, 8, 8)
    torch.testing.assert_close(fine[..., ::2, ::2], coarse)
    torch.testing.assert_close(fine[..., -1, ::2], coarse[..., -1, :] / 2)


def test_seeds_are_added_to_a_row(modules):
    def row(seeds, values):
        return {"seeds": seeds, "sides": {"ours": {"errors": {"16": values}}}}

    new = modules[""].merged(row([0, 1], [0.1, 0.2]), row([1, 2], [0.3, 0.4]))
    assert new == row([0, 1, 2], [0.1, 0.3, 0.4])


def test_tiny_run_does_not_overwrite_published_results(modules):
    with pytest.raises(SystemExit, match="2"):
        modules[""].main(["--tiny"])
