"""Solution operators: nodes in time, residuals, objectives, test-time optimisation, inverse problems."""

import numpy as np
import pytest
import torch

from fourcaster.datasets.pde.simulate import make_system
from fourcaster.fno.batch import Instances
from fourcaster.fno.errors import InputError
from fourcaster.fno.grids import Box
from fourcaster.fno.losses.data import relative_l2
from fourcaster.fno.models import FNO
from fourcaster.fno.models.operators import EvolutionOperator, SolutionScales, SteadyOperator
from fourcaster.fno.physics import equations
from fourcaster.fno.physics.derivatives import Collocated
from fourcaster.fno.physics.evolution import EvolutionEquation
from fourcaster.fno.physics.steady import SteadyEquation
from fourcaster.fno.training.objectives.inverse import InverseObjective, LatentParameters
from fourcaster.fno.training.objectives.operator import (
    EvolutionObjective,
    SolvingLoss,
    SteadyObjective,
    interpolate_in_time,
)
from fourcaster.fno.training.objectives.sensors import Sensors
from fourcaster.fno.training.refine import refine_evolution, refine_steady
from fourcaster.fno.transforms import radau

LINE = Box(("x",), (32,), (1.0,), (True,))


class Zero(torch.nn.Module):
    """A network that returns zero, with one weight."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels, self.weight = channels, torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.weight * x.new_ones(len(x), self.channels, *x.shape[2:])


def waves(points: int, count: int = 1, amplitude: float = 1.0) -> torch.Tensor:
    x = torch.arange(points, dtype=torch.float64) / points
    generator = torch.Generator().manual_seed(5)
    a = torch.randn(count, 2, 4, generator=generator, dtype=torch.float64)
    k = 2 * torch.pi * torch.arange(1, 5)[:, None] * x
    return amplitude * (a[:, 0] @ torch.cos(k) + a[:, 1] @ torch.sin(k))[:, None]


def diffusion_operator(
    nodes: int = 5, window: float = 0.1, **others
) -> tuple[EvolutionOperator, EvolutionEquation]:
    """Return an operator of Burgers' equation whose network returns zero, exact for small amplitudes."""
    equation = EvolutionEquation("burgers", {"viscosity": 0.01, **others}, box=LINE, window=window)
    return EvolutionOperator(
        Zero(nodes), SolutionScales([1.0]), window=window, nodes=nodes, rates=equation.rates
    ), equation


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_polynomials_are_differentiated_and_interpolated_exactly(count):
    t = radau.nodes(count)
    rng = np.random.default_rng(count)
    assert t[0] == 0
    assert t[-1] == 1
    assert (np.diff(t) > 0).all()
    p = np.polynomial.Polynomial(rng.normal(size=count + 1))
    assert np.allclose(radau.differentiation(count) @ p(t), p.deriv()(t), atol=1e-10)
    at = np.concatenate([t[1:2], rng.random(7)])
    assert np.allclose(radau.interpolation(count, at) @ p(t), p(at), atol=1e-11)
    u = torch.tensor(p(2 * t)).reshape(-1, 1).expand(3, -1, 4)
    assert np.allclose(Collocated("t", 2.0, -2)(u, "t")[0, :, 0], p.deriv()(2 * t), atol=1e-9)
    if count > 1:
        assert np.allclose(Collocated("t", 2.0, -2)(u, "t", 2)[0, :, 0], p.deriv(2)(2 * t), atol=1e-7)
    with pytest.raises(InputError, match="no derivative along 'x'"):
        Collocated("t", 2.0, -2)(u, "x")


def test_radau_nodes_have_order_two_n_minus_one_and_damp_fast_modes():
    for count in (2, 3, 4):
        poles, residues = radau.decay(count)
        errors = [abs((residues / (poles + z)).sum(1).real[-1] - np.exp(-z)) for z in (0.4, 0.2)]
        assert np.log2(errors[0] / errors[1]) > 2 * count - 1  # of one step: one more than the order
        assert abs((residues / (poles + 1e6)).sum(1).real[-1]) < 1e-4
        d = radau.differentiation(count)
        for z in (0.0, 3.0):
            assert np.allclose(
                (residues / (poles + z)).sum(1).real,
                np.linalg.solve(d[1:, 1:] + z * np.eye(count), -d[1:, 0]),
            )
    with pytest.raises(ValueError, match="at least one node"):
        radau.nodes(0)


def test_the_residual_of_a_moving_wave_falls_with_more_nodes_and_detects_a_wrong_sign():
    x = torch.arange(32, dtype=torch.float64) / 32
    sizes = []
    for count in (3, 5, 7):
        t = torch.tensor(radau.nodes(count))[:, None]
        u = torch.sin(2 * torch.pi * (x - 1.3 * 0.4 * t))[None]
        sizes.append(
            float(
                EvolutionEquation("advection", {"beta": 1.3}, box=LINE, window=0.4)
                .residual(u, {})
                .abs()
                .max()
            )
        )
        wrong = EvolutionEquation("advection", {"beta": -1.3}, box=LINE, window=0.4).residual(u, {})
    assert sizes[1] < 0.1 * sizes[0] and sizes[2] < 0.1 * sizes[1] and wrong.abs().max() > 5


@pytest.mark.parametrize("name", [n for n in equations.names() if equations.get(n).collocatable])
def test_residuals_vanish_for_reference_solutions_and_not_for_a_constant_state(name):
    few = {
        "navier_stokes": {"duration": 0.4},
        "cahn_hilliard": {"duration": 0.1},
        "reaction_diffusion": {"duration": 0.05},
    }.get(name, {"duration": 0.05})
    others = {
        "burgers": {"viscosity": 0.03},
        "shock_pipe": {"viscosity": 0.02, "viscosity_high": 0.02},
        "allen_cahn": {"diffusivity": 1e-2},
    }.get(name, {})
    smooth = {} if name == "navier_stokes" else {"alpha": 4.0, "sigma": 625.0}
    system = make_system(name, {"resolution": 64, "frames": 400, **few, **others, **smooth})
    values = system.solve(np.random.default_rng(3))
    field = torch.tensor(values["vorticity" if name == "navier_stokes" else "u"])
    # The solution at the nodes, by a polynomial of sixth degree through the nearest frames.
    node_positions = radau.nodes(6) * 400
    rows = []
    for position in node_positions:
        first = int(np.clip(round(position) - 3, 0, 394))
        at = np.arange(first, first + 7)
        w = [np.prod([(position - b) / (a - b) for b in at if b != a]) for a in at]
        rows.append(torch.einsum("k,k...->...", torch.tensor(w), field[first : first + 7]))
    u = torch.stack(rows)[None]
    length = float(getattr(system, "length", None) or getattr(system, "side", 1.0))
    axes = ("y", "x") if name == "navier_stokes" else ("x",)
    box = Box(axes, (64,) * len(axes), (length,) * len(axes), (True,) * len(axes))
    equation = EvolutionEquation(name, system.model_dump(), box=box, window=few["duration"])
    size, constant = (
        equation.scaled(equation.residual(v, {})[:, 1:], {}).square().mean().sqrt()
        for v in (u, u[:, :1].expand_as(u))
    )
    assert size < 2e-3 * constant


def test_the_residual_of_diffusion_is_scaled_to_units_of_the_solution():
    _, equation = diffusion_operator(viscosity=0.5, window=2.0)
    x = torch.arange(32, dtype=torch.float64) / 32
    small = 1e-9 * torch.cos(2 * torch.pi * 3 * x).expand(1, 6, -1)  # so small that it is only diffused
    rate = 2.0 * 0.5 * (6 * torch.pi) ** 2
    assert torch.allclose(
        equation.scaled(equation.residual(small, {}), {}), small * rate / (1 + rate), rtol=1e-6, atol=1e-17
    )
    slow, fast = (
        equation.residual(small, {"viscosity": torch.full((1, 1, 1), v, dtype=torch.float64)})
        for v in (0.5, 1.0)
    )
    assert torch.allclose(2 * slow, fast, rtol=1e-6, atol=1e-17)


def test_the_scaled_steady_residual_equals_the_error():
    system = make_system("darcy", {"resolution": 17, "refine": 1, "low": 3.0, "high": 3.0})
    values = {n: torch.tensor(v) for n, v in system.solve(np.random.default_rng(0)).items()}
    equation, a = SteadyEquation("darcy", 1.0, 1.0), values["permeability"]
    error = torch.zeros(17, 17, dtype=torch.float64)
    error[1:-1, 1:-1] = torch.randn(15, 15, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for e in (0 * error, error):
        scaled = equation.scaled(equation.residual(values["pressure"] + e, a), a)
        assert torch.allclose(scaled, e[1:-1, 1:-1], atol=1e-10)


def test_an_operator_whose_network_returns_zero_solves_the_linear_part_at_any_resolution():
    model, _ = diffusion_operator()
    for points in (32, 48, 33):
        state = waves(points)
        u = model(state, state.new_zeros(1, 0, points), {})
        assert torch.equal(u[:, 0], state) and u.shape == (1, 6, 1, points)
        k = torch.fft.rfftfreq(points, 1 / points, dtype=torch.float64)
        exact = torch.fft.irfft(
            torch.fft.rfft(state) * torch.exp(-0.01 * (2 * torch.pi * k) ** 2 * 0.1), n=points
        )
        assert torch.allclose(u[:, -1], exact, atol=1e-7)
    windows = list(model.integrate_windows(state, state.new_zeros(1, 0, 33), {}, windows=3))
    assert len(windows) == 3 and torch.equal(windows[1][:, 0], windows[0][:, -1])


def test_data_and_equation_terms_vanish_for_the_solution_and_not_for_another():
    model, equation = diffusion_operator()
    times = np.linspace(0, 0.3, 31)[1:]
    state = waves(32, 4, 1e-6)
    rate = 0.01 * (2 * torch.pi * torch.fft.rfftfreq(32, 1 / 32, dtype=torch.float64)) ** 2
    truth = torch.stack(
        [torch.fft.irfft(torch.fft.rfft(state) * torch.exp(-rate * t), n=32) for t in times], dim=1
    )
    batch, none = Instances(state, state.new_zeros(4, 0, 32), {}, truth), torch.Generator()
    right = EvolutionObjective(
        model, SolvingLoss(equation=1.0, warmup=0), equation, times=times.tolist(), windows=3
    )
    loss = right.loss(batch, 0.0, none)
    assert (
        loss.value.item() < 1e-5
        and set(loss.terms) == {"data", "equation"}
        and right.errors(batch).item() < 1e-10
    )
    fine = EvolutionObjective(
        model,
        SolvingLoss(data=0, equation=1.0, refine=2, warmup=0),
        equation,
        times=times.tolist(),
        windows=3,
    )
    assert fine.loss(batch, 0.0, none).value.item() < 1e-5
    off, _ = diffusion_operator()
    off.network.weight.data.fill_(1e-7)
    wrong = EvolutionObjective(
        off, SolvingLoss(equation=1.0, warmup=0), equation, times=times.tolist(), windows=3
    )
    assert all(
        wrong.loss(batch, 0.0, none).terms[n].item() > 100 * loss.terms[n].item()
        for n in ("data", "equation")
    )
    early = EvolutionObjective(
        model, SolvingLoss(equation=1.0, warmup=0.5), equation, times=times.tolist(), windows=3
    )
    assert torch.isfinite(early.loss(batch, 0.0, none).value)  # the first window alone
    unknown = EvolutionObjective(
        model, SolvingLoss(data=0, equation=1.0), equation, times=times.tolist(), windows=3
    ).errors(Instances(state, batch.inputs))
    assert unknown.item() < 1e-12
    with pytest.raises(ValueError, match="needs an equation"):
        EvolutionObjective(model, SolvingLoss(), None, times=times.tolist(), windows=3).errors(
            Instances(state, batch.inputs)
        )


def test_each_instance_keeps_its_own_coefficient_through_all_windows():
    equation, scales = (
        EvolutionEquation("shock_pipe", {}, box=LINE, window=0.1),
        SolutionScales([1e-6], parameter_mean=[0.0], parameter_std=[1.0]),
    )
    model = EvolutionOperator(
        Zero(5), scales, window=0.1, nodes=5, parameters=("viscosity",), rates=equation.rates
    )
    times, state = np.linspace(0, 0.3, 7)[1:], waves(32, 3, 1e-6)
    viscosities = torch.tensor([0.002, 0.01, 0.03], dtype=torch.float64)
    k2 = (2 * torch.pi * torch.fft.rfftfreq(32, 1 / 32, dtype=torch.float64)) ** 2
    truth = torch.stack(
        [
            torch.fft.irfft(torch.fft.rfft(state) * torch.exp(-viscosities[:, None, None] * k2 * t), n=32)
            for t in times
        ],
        dim=1,
    )
    objective = EvolutionObjective(
        model, SolvingLoss(equation=1.0, warmup=0), equation, times=times.tolist(), windows=3
    )
    loss = objective.loss(
        Instances(state, state.new_zeros(3, 0, 32), {"viscosity": viscosities}, truth), 0.0, torch.Generator()
    )
    assert loss.value.item() < 1e-4
    swapped = Instances(state, state.new_zeros(3, 0, 32), {"viscosity": viscosities.flip(0)}, truth)
    assert objective.loss(swapped, 0.0, torch.Generator()).terms["data"].item() > 0.05


def test_solutions_are_interpolated_in_time_by_the_polynomial_through_the_nodes():
    u = torch.tensor(radau.nodes(4))[None, :, None, None] ** 3
    assert torch.allclose(
        interpolate_in_time(u, torch.tensor([0.1, 0.5, 1.0])).flatten(),
        torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64) ** 3,
    )


def test_the_relative_error_ignores_missing_values():
    t = torch.randn(3, 2, 5)
    p = 1.1 * t
    t[:, 0, 1], p[:, 0, 1] = torch.nan, 1e6
    assert torch.allclose(relative_l2(p, t), torch.full((3,), 0.1), rtol=1e-5)


def test_refinement_approaches_the_solution_and_does_not_change_the_model():
    torch.manual_seed(0)
    equation = EvolutionEquation(
        "burgers", {"viscosity": 0.02}, box=Box(("x",), (64,), (1.0,), (True,)), window=0.1
    )
    model = EvolutionOperator(
        FNO((16,), 1, 4, hidden_channels=12, n_layers=2),
        SolutionScales([0.6]),
        window=0.1,
        nodes=4,
        rates=equation.rates,
    )
    system = make_system(
        "burgers",
        {"resolution": 64, "viscosity": 0.02, "duration": 0.2, "frames": 2, "alpha": 3.0, "sigma": 125.0},
    )
    truth = torch.tensor(system.solve(np.random.default_rng(2))["u"])
    before = {n: t.clone() for n, t in model.state_dict().items()}
    instance = Instances(truth[None, :1], torch.zeros(1, 0, 64))
    errors = []
    for steps in (1, 60):
        ends = torch.cat(
            [u[:, -1, 0] for u in refine_evolution(model, equation, instance, windows=2, steps=steps)]
        )
        errors.append(float((ends - truth[1:]).norm() / truth[1:].norm()))
    assert errors[1] < 0.3 * errors[0]
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_steady_refinement_approaches_the_solution_and_the_objective_has_both_terms():
    torch.manual_seed(0)
    model = SteadyOperator(
        FNO((6, 6), 3, 1, hidden_channels=8, n_layers=2), SolutionScales([0.05], [8.0], [4.0])
    )
    system = make_system("darcy", {"resolution": 17, "refine": 1})
    values = {n: torch.tensor(v)[None, None] for n, v in system.solve(np.random.default_rng(0)).items()}
    equation, empty = SteadyEquation("darcy", 1.0, 1.0), torch.zeros(1, 0, 17, 17, dtype=torch.float64)
    instance = Instances(empty, values["permeability"], {}, values["pressure"][:, None])
    errors = [
        float(relative_l2(refine_steady(model, equation, instance, steps=n), instance.solution))
        for n in (1, 80)
    ]
    assert errors[1] < 0.3 * errors[0]
    u = model(empty.float(), values["permeability"].float(), {})
    assert u.shape == (1, 1, 1, 17, 17) and u[..., 0, :].abs().max() < 1e-8 and u[..., -1].abs().max() < 1e-8
    single = Instances(empty.float(), values["permeability"].float(), {}, values["pressure"][:, None].float())
    loss = SteadyObjective(model, SolvingLoss(equation=1.0, refine=2), equation).loss(
        single, 0.0, torch.Generator()
    )
    assert set(loss.terms) == {"data", "equation"} and torch.isfinite(loss.value)


def test_the_viscosity_of_an_experiment_is_recovered_within_its_uncertainty():
    """Purely diffused small waves: viscosity and initial state are inferred from three noisy sensors."""
    equation = EvolutionEquation("shock_pipe", {}, box=LINE, window=0.25)
    model = EvolutionOperator(
        Zero(5),
        SolutionScales([1e-3], parameter_mean=[0.0], parameter_std=[1.0]),
        window=0.25,
        nodes=5,
        parameters=("viscosity",),
        rates=equation.rates,
    )
    states = torch.cat([waves(32, 64, 1e-3)]).float()
    parameters = {
        "viscosity": torch.exp(
            torch.empty(64).uniform_(np.log(0.003), np.log(0.03), generator=torch.Generator().manual_seed(1))
        )
    }
    rng = np.random.default_rng(0)
    k = np.arange(1, 5)
    start = rng.normal(size=(2, 4)) * 1e-3
    positions = np.array([0.11, 0.4, 0.77])
    times = np.linspace(0, 1, 41)
    noise = 3e-5
    true = 0.0083
    phase = 2 * np.pi * np.outer(positions, k)
    decay = np.exp(-true * (2 * np.pi * k[:, None]) ** 2 * times)
    exact = (start[0] * np.cos(phase)) @ decay + (start[1] * np.sin(phase)) @ decay
    readings = exact + noise * rng.standard_normal(exact.shape)
    readings[1, 5] = np.nan
    sensors = Sensors(
        torch.tensor(positions)[:, None], torch.tensor(times), torch.tensor(readings)[None], noise
    )
    base = EvolutionObjective(
        model,
        SolvingLoss(equation=1.0, experiment=1.0, warmup=0),
        equation,
        times=times[1:].tolist(),
        windows=4,
    )
    objective = InverseObjective(
        base, LatentParameters.from_simulations(states, parameters), sensors, weight=1.0
    )
    terms = objective.loss(
        Instances(states[:2], states.new_zeros(2, 0, 32), {"viscosity": torch.full((2,), 0.01)}),
        0.5,
        torch.Generator(),
    ).terms
    assert set(terms) == {"equation", "experiment", "viscosity"}
    estimate = objective.recover()["viscosity"]
    assert abs(estimate.value - true) < 4 * estimate.standard_deviation < 0.2 * true
    assert 0.7 < estimate.misfit_over_noise < 1.3


def test_equations_without_a_residual_and_invalid_losses_are_refused():
    with pytest.raises(InputError, match="no residual of 'wave'"):
        EvolutionEquation("wave", {}, box=LINE, window=1.0)
    with pytest.raises(InputError, match="needs periodic axes"):
        EvolutionEquation("burgers", {"viscosity": 0.1}, box=Box(("x",), (8,), (1.0,), (False,)), window=1.0)
    with pytest.raises(InputError, match="needs viscosity"):
        EvolutionEquation("burgers", {}, box=LINE, window=1.0).residual(torch.zeros(1, 3, 32), {})
    with pytest.raises(InputError, match="no residual of 'heat_sink'"):
        SteadyEquation("heat_sink", 1.0, 1.0)
    for invalid in ({"data": -1}, {"data": 0}, {"refine": 0}, {"warmup": 1.0}):
        with pytest.raises(ValueError, match="must"):
            SolvingLoss(**invalid)
