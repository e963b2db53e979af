"""Adaptive weights of loss terms: balanced gradients, causality, resumed runs, and training."""

import itertools
import math

import pytest
import torch
from helpers import coordinate_network as network
from helpers import relative_error as error
from helpers import values_on_grid as values

from fourcaster.fno.errors import StoppedError
from fourcaster.fno.losses.weighting import WEIGHTINGS, Causal, GradientNorm, NeuralTangentKernel
from fourcaster.fno.models.pinn import TimeWindows
from fourcaster.fno.physics import equations
from fourcaster.fno.training.pinn.settings import PinnLoss, PinnSettings
from fourcaster.fno.training.pinn.train import train_pinn


def terms():
    generator = torch.Generator().manual_seed(0)
    sizes = (("residual", 40, 10.0), ("initial", 8, 0.1))
    rows = {
        name: scale * torch.randn(n, generator=generator, dtype=torch.float64) for name, n, scale in sizes
    }
    jacobians = {
        name: torch.randn(len(r), 12, generator=generator, dtype=torch.float64) * r.std()
        for name, r in rows.items()
    }
    return rows, jacobians


def test_weighted_gradients_of_all_terms_have_the_same_norm():
    rows, jacobians = terms()
    weighting = GradientNorm()
    weighting.update(rows, jacobians)
    sizes = [weighting.terms()[name] * (2 * jacobians[name].T @ rows[name]).norm() for name in rows]
    assert (
        torch.allclose(sizes[0], sizes[1])
        and weighting.terms()["initial"] > 100 * weighting.terms()["residual"] >= 100
    )
    first = weighting.terms()["initial"]
    weighting.update(rows, {name: 2 * j if name == "initial" else j for name, j in jacobians.items()})
    assert 0.9 * first < weighting.terms()["initial"] < first  # averaged over updates


def test_weights_are_ratios_of_the_traces_of_the_kernels():
    rows, jacobians = terms()
    weighting = NeuralTangentKernel()
    weighting.update(rows, jacobians)
    kernels = {name: (j @ j.T).trace() for name, j in jacobians.items()}
    for name in rows:
        assert weighting.terms()[name] == pytest.approx(float(sum(kernels.values()) / kernels[name]))


def test_causal_weights_decay_with_the_loss_at_earlier_times():
    times = torch.linspace(0, 0.999, 320, dtype=torch.float64)
    early = torch.where(times < 0.25, 1.0, 0.0) / 320**0.5
    weights = Causal(epsilon=1.0, parts=32).points(early, times)
    assert (
        weights[0] == 1
        and (torch.diff(weights) <= 0).all()
        and weights[-1] == pytest.approx(torch.exp(torch.tensor(-8.0)).item(), rel=1e-6)
    )
    assert torch.equal(Causal().points(torch.zeros(320, dtype=torch.float64), times), torch.ones(320))


@pytest.mark.parametrize("kind", WEIGHTINGS)
def test_a_restored_weighting_continues_like_the_saved_one(kind):
    rows, jacobians = terms()
    a, b = WEIGHTINGS[kind](), WEIGHTINGS[kind]()
    a.update(rows, jacobians)
    b.load_state_dict(a.state_dict())
    for weighting in (a, b):
        weighting.update(rows, jacobians)
    assert a.terms() == b.terms()


@pytest.mark.parametrize("kind", WEIGHTINGS)
def test_training_that_stops_within_a_window_resumes_with_its_weights(tmp_path, kind):
    def solve(folder, stop=None):
        return train_pinn(
            equations.get("advection").problem(),
            lambda a, b: network(a, b, width=8, depth=2),
            PinnSettings(windows=1, points=50, initial_points=16, iterations=9),
            folder=folder,
            loss=PinnLoss(weighting=kind, reweigh_every=4),
            stop=stop,
        )

    (uninterrupted,), _ = solve(tmp_path / "uninterrupted")
    calls = itertools.count(1)
    with pytest.raises(StoppedError, match="iteration 6 of window 1"):
        solve(tmp_path / "stopped", stop=lambda: next(calls) == 6)
    (resumed,), _ = solve(tmp_path / "stopped")
    for a, b in zip(uninterrupted.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("weight", [math.nan, "1", -1.0])
def test_a_saved_weight_that_is_not_a_positive_number_is_refused(weight):
    with pytest.raises(TypeError, match="the weight of 'initial' is"):
        GradientNorm().load_state_dict({"weights": {"initial": weight}})


@pytest.mark.parametrize("optimizer", ["gauss_newton", "adam_lbfgs"])
@pytest.mark.parametrize("kind", WEIGHTINGS)
def test_training_with_any_weighting_solves_an_easy_equation(tmp_path, kind, optimizer):
    settings = PinnSettings(
        optimizer=optimizer,
        windows=1,
        points=200,
        iterations=25,
        initial_points=32,
        adam_steps=400,
        lbfgs_steps=300,
        learning_rate=5e-3,
    )
    problem = equations.get("advection").problem(beta=1.0)
    networks, _ = train_pinn(
        problem,
        lambda a, b: network(a, b, width=10, depth=2),
        settings,
        folder=tmp_path,
        loss=PinnLoss(weighting=kind, reweigh_every=5),
    )
    u, t, x = values(TimeWindows(networks), "advection")
    assert error(u, torch.sin(x - t)) < 0.1  # L-BFGS differs between processors


def test_a_curriculum_ends_at_the_equation_itself(tmp_path):
    problem = equations.get("advection").problem(beta=8.0)
    settings = PinnSettings(
        windows=1, points=300, iterations=10, initial_points=32, curriculum={"beta": 1.0}, curriculum_stages=4
    )
    networks, record = train_pinn(
        problem, lambda a, b: network(a, b, width=14, depth=2), settings, folder=tmp_path
    )
    u, t, x = values(TimeWindows(networks), "advection")
    assert record.iterations == 40 and error(u, torch.sin(x - 8 * t)) < 3e-2
