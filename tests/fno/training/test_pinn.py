"""Physics-informed networks: derivatives, least squares, collocation, and equations with known solutions."""

import json
import math
from dataclasses import replace

import pytest
import torch
from helpers import coordinate_network as network
from helpers import relative_error as error
from helpers import values_on_grid as values

from fourcaster.fno import InputError
from fourcaster.fno.errors import StoppedError
from fourcaster.fno.models.pinn import TimeWindows
from fourcaster.fno.physics import equations
from fourcaster.fno.training.least_squares import LevenbergMarquardt
from fourcaster.fno.training.pinn.collocation import draw_points
from fourcaster.fno.training.pinn.jacobian import row_jacobian
from fourcaster.fno.training.pinn.settings import PinnLoss, PinnSettings
from fourcaster.fno.training.pinn.train import train_pinn
from fourcaster.fno.training.pinn.window import Window

# Networks


@pytest.mark.parametrize("problem", ["advection", "wave"])
@pytest.mark.parametrize("features", [0, 5])
def test_derivatives_agree_with_autograd(problem, features):
    net = network(problem=problem, harmonics=2, fourier_features=features, fourier_scale=0.7)
    points = torch.rand(6, 2, dtype=torch.float64).requires_grad_()
    jet = net.jet(points, {"t": 2, "x": 4})
    for axis, at, orders in (("t", 0, 2), ("x", 1, 4)):
        g = jet.value
        for order in range(1, orders + 1):
            g = torch.autograd.grad(g.sum(), points, create_graph=True)[0][:, at]
            assert torch.allclose(g, jet(jet.value, axis, order), rtol=1e-9, atol=1e-9)
    assert torch.allclose(net(points), jet.value)
    with pytest.raises(InputError, match="order 3 along 't' was not computed"):
        jet(jet.value, "t", 3)
    with pytest.raises(InputError, match="of the network's value only"):
        jet(2 * jet.value, "t")


@pytest.mark.parametrize("features", [0, 8])
def test_a_periodic_axis_makes_the_network_periodic(features):
    net = network(fourier_features=features, harmonics=3)
    t, x = torch.rand(9, dtype=torch.float64), torch.rand(9, dtype=torch.float64)
    assert torch.allclose(net(torch.stack([t, x], 1)), net(torch.stack([t, x + 2 * math.pi], 1)), atol=1e-12)


def test_a_point_belongs_to_the_window_of_its_time():
    nets = [network(i / 4, (i + 1) / 4, seed=i) for i in range(4)]
    points = torch.tensor(
        [[0.0, 1.0], [0.24, 1.0], [0.25, 1.0], [0.99, 1.0], [1.0, 1.0]], dtype=torch.float64
    )
    u = TimeWindows(nets)(points)
    for value, point, at in zip(u, points, [0, 0, 1, 3, 3], strict=True):
        assert torch.allclose(value, nets[at](point[None])[0], atol=1e-14)


def test_invalid_networks_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        network(width=0)
    with pytest.raises(ValueError, match="t must increase from low to high"):
        network(1.0, 1.0)


# Least squares


def test_the_jacobian_contains_the_gradient_of_each_row():
    net = network(width=7, depth=2)
    points = torch.rand(5, 2, dtype=torch.float64)
    problem = equations.get("burgers").problem()

    def rows(net):
        jet = net.jet(points, problem.orders)
        return problem.residual(jet.value, jet), jet.layers

    r, layers = rows(net)
    jacobian = row_jacobian(r, layers)
    for i in range(5):
        gradient = torch.autograd.grad(rows(net)[0][i], list(net.parameters()))
        assert torch.allclose(jacobian[i], torch.cat([g.flatten() for g in gradient]), atol=1e-10)


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_a_linear_problem_is_solved_in_one_step(shape):
    a, b = torch.randn(shape, dtype=torch.float64), torch.randn(shape[0], dtype=torch.float64)
    p = torch.zeros(shape[1], dtype=torch.float64)
    new, improved = LevenbergMarquardt(1e-14).step(
        p, a @ p - b, a, loss=lambda q: float((a @ q - b).square().sum())
    )
    assert improved
    assert torch.allclose(new, torch.linalg.pinv(a) @ b, atol=1e-8)
    solver = LevenbergMarquardt(1e-2)
    same, improved = solver.step(new, a @ new - b, a, loss=lambda q: math.inf)
    assert not improved
    assert torch.equal(same, new) and solver.damping > 1e-2


# Collocation points


@pytest.mark.parametrize("sampling", ["uniform", "latin_hypercube", "adaptive"])
def test_collocation_points_fill_the_box_and_depend_on_the_seed(sampling):
    def draw(seed):
        return draw_points(
            sampling,
            400,
            low=(0.5, -1.0),
            high=(1.0, 3.0),
            generator=torch.Generator().manual_seed(seed),
            residual=lambda p: (p[:, 1] > 2).double() * 50,
        )

    points = draw(1)
    assert points.shape == (400, 2) and torch.equal(points, draw(1)) and not torch.equal(points, draw(2))
    assert (points >= torch.tensor([0.5, -1.0])).all() and (points <= torch.tensor([1.0, 3.0])).all()
    slices = ((points[:, 1] + 1) / 4 * 400).long().unique()
    assert (len(slices) == 400) == (sampling == "latin_hypercube")
    share = float((points[:, 1] > 2).double().mean())
    assert share > 0.35 if sampling == "adaptive" else 0.2 < share < 0.3
    with pytest.raises(ValueError, match="unknown sampling 'sobol'"):
        draw_points("sobol", 4, low=(0.0,), high=(1.0,), generator=torch.Generator(), residual=torch.abs)


# Training

QUICK = PinnSettings(windows=2, points=200, initial_points=32, iterations=15, boundary_points=16)


def solve(name, folder, settings=QUICK, parameters=None, **model):
    problem = equations.get(name).problem(**(parameters or {}))
    networks, record = train_pinn(
        problem,
        lambda a, b: network(a, b, problem=name, **({"width": 12, "depth": 2} | model)),
        settings,
        folder=folder,
    )
    return TimeWindows(networks), record


def test_advection_is_solved_where_plain_training_fails(tmp_path):
    model, record = solve(
        "advection",
        tmp_path,
        PinnSettings(windows=10, points=400, iterations=15, initial_points=64),
        {"beta": 20.0},
    )
    u, t, x = values(model, "advection")
    assert error(u, torch.sin(x - 20 * t)) < 2e-2
    assert record.held_out < 10 * record.residual
    plain = PinnSettings(
        optimizer="adam_lbfgs", windows=1, points=300, adam_steps=200, lbfgs_steps=100, resample_every=0
    )
    failed, _ = solve("advection", tmp_path / "plain", plain, {"beta": 20.0}, width=20, depth=3)
    assert error(values(failed, "advection")[0], torch.sin(x - 20 * t)) > 0.3


def test_adam_and_lbfgs_solve_an_easy_equation(tmp_path):
    settings = PinnSettings(
        optimizer="adam_lbfgs", windows=1, points=200, adam_steps=300, lbfgs_steps=300, learning_rate=5e-3
    )
    model, _ = solve("advection", tmp_path, settings, {"beta": 1.0})
    u, t, x = values(model, "advection")
    assert error(u, torch.sin(x - t)) < 1e-2


def adam_lbfgs(folder, stop=None, **settings):
    chosen = {"windows": 1, "points": 20, "initial_points": 8, "resample_every": 0} | settings
    return train_pinn(
        equations.get("advection").problem(),
        lambda a, b: network(a, b, width=6, depth=2),
        PinnSettings(optimizer="adam_lbfgs", **chosen),
        folder=folder,
        stop=stop,
    )


@pytest.mark.parametrize(
    ("steps", "expected"), [(0, []), (1, [1]), (7, [7]), (20, [20]), (27, [20, 7]), (60, [20, 20, 20])]
)
def test_all_lbfgs_iterations_are_run_in_steps_of_at_most_20(tmp_path, monkeypatch, steps, expected):
    lengths = []
    before = []
    after = []

    class Recorded(torch.optim.LBFGS):
        def step(self, closure):
            lengths.append(self.param_groups[0]["max_iter"])
            before.append(self.state[self._params[0]].get("n_iter", 0))
            result = super().step(closure)
            after.append(self.state[self._params[0]]["n_iter"])
            return result

    monkeypatch.setattr(torch.optim, "LBFGS", Recorded)
    _, record = adam_lbfgs(tmp_path, adam_steps=3, lbfgs_steps=steps)
    assert lengths == expected
    assert all(0 < b - a <= n for a, b, n in zip(before, after, lengths, strict=True))
    assert record.iterations == 3 + len(expected)


@pytest.mark.parametrize(
    ("adam", "lbfgs", "every", "iterations"),
    [
        (10, 0, 4, [5, 9]),
        (0, 100, 0, []),
        (0, 100, 5, [2, 3, 4, 5]),
        (0, 100, 20, [2, 3, 4, 5]),
        (0, 100, 30, [3, 5]),
        (0, 100, 40, [3, 5]),
        (0, 100, 1000, []),
        (4, 60, 4, [5, 6, 7]),
        (4, 60, 3, [4, 6, 7]),
        (30, 40, 30, [31]),
    ],
)
def test_points_are_resampled_after_the_iterations_of_the_setting(
    tmp_path, monkeypatch, adam, lbfgs, every, iterations
):
    drawn = []
    draw = Window.draw

    def recorded(self, iteration):
        drawn.append(iteration)
        return draw(self, iteration)

    monkeypatch.setattr(Window, "draw", recorded)
    adam_lbfgs(tmp_path, adam_steps=adam, lbfgs_steps=lbfgs, resample_every=every)
    assert drawn == [0, *iterations]


@pytest.mark.parametrize(("adam", "lbfgs"), [(7, 0), (0, 7), (60, 0)])
def test_every_window_of_adam_and_lbfgs_can_be_stopped(tmp_path, adam, lbfgs):
    calls = []

    def stop():
        calls.append(1)
        return len(calls) == 2

    steps = {"adam_steps": adam, "lbfgs_steps": lbfgs}
    with pytest.raises(StoppedError, match="of 2 windows of time are saved"):
        adam_lbfgs(tmp_path, stop, windows=2, **steps)
    with pytest.raises(StoppedError, match="of 2 windows of time are saved"):
        adam_lbfgs(tmp_path, lambda: True, windows=2, **steps)


def test_reaction_and_wave_equations_are_solved(tmp_path):
    model, _ = solve("reaction", tmp_path / "r", replace(QUICK, seed=2))
    u, t, x = values(model, "reaction")
    h = equations.get("reaction").problem().initial(x)
    assert error(u, h / (h + (1 - h) * torch.exp(-5 * t))) < 1e-2
    model, _ = solve(
        "wave",
        tmp_path / "w",
        PinnSettings(windows=4, points=300, iterations=25, initial_points=64),
        {"speed": 0.5},
    )
    u, t, x = values(model, "wave")
    exact = torch.sin(math.pi * x) * torch.cos(0.5 * math.pi * t) + 0.5 * torch.sin(
        4 * math.pi * x
    ) * torch.cos(2 * math.pi * t)
    assert error(u, exact) < 3e-2


@pytest.mark.parametrize("optimizer", ["gauss_newton", "adam_lbfgs"])
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, optimizer):
    settings = PinnSettings(
        optimizer=optimizer,
        windows=3,
        points=100,
        initial_points=16,
        iterations=4,
        adam_steps=5,
        lbfgs_steps=20,
        sampling="adaptive",
    )
    uninterrupted, record = solve("burgers", tmp_path / "uninterrupted", settings)

    class Stop(Exception):
        pass

    def stop(done, total, text):
        if done == 2:
            raise Stop

    problem = equations.get("burgers").problem()
    make = lambda a, b: network(a, b, problem="burgers", width=12, depth=2)  # noqa: E731
    with pytest.raises(Stop):
        train_pinn(problem, make, settings, folder=tmp_path / "cut", progress=stop)
    networks, again = train_pinn(problem, make, settings, folder=tmp_path / "cut")
    resumed = TimeWindows(networks)
    assert record == again
    for a, b in zip(uninterrupted.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("uninterrupted", "cut")
    ]
    assert logs[0] == logs[1] and {"residual", "initial"} <= set(logs[0][0])


def test_a_state_of_other_settings_is_refused(tmp_path):
    train_pinn(
        equations.get("reaction").problem(),
        network,
        PinnSettings(windows=1, points=20, iterations=1),
        folder=tmp_path,
        fingerprint="one",
    )
    with pytest.raises(ValueError, match="contains a run with other settings"):
        train_pinn(
            equations.get("reaction").problem(),
            network,
            PinnSettings(windows=1, points=20, iterations=1),
            folder=tmp_path,
            fingerprint="other",
        )


def test_a_large_residual_between_collocation_points_is_reported(tmp_path, caplog):
    """A large network with few fixed collocation points fits the equation only there."""
    settings = PinnSettings(windows=1, points=12, initial_points=16, iterations=60, resample_every=0)
    _, record = solve("advection", tmp_path, settings, {"beta": 10.0}, width=20)
    assert record.held_out > 10 * record.residual and "at the collocation points and" in caplog.text


def test_a_term_that_is_not_finite_stops_the_run_and_is_named(tmp_path):
    with pytest.raises(ValueError, match="residual is not finite in iteration 1 of window 1"):
        solve("reaction", tmp_path, parameters={"rho": math.inf})


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        ({"windows": 0}, "windows must be at least 1"),
        ({"tolerance": -1.0}, "must not be negative"),
        ({"learning_rate": 0.0}, "must be positive"),
    ],
)
def test_settings_out_of_range_are_refused(invalid, message):
    with pytest.raises(ValueError, match=message):
        PinnSettings(**invalid)


def test_negative_weights_are_refused():
    with pytest.raises(ValueError, match=r"initial must be positive, got -1"):
        PinnLoss(initial=-1)
