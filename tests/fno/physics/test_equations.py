"""The registry of equations: lookup, agreement with the solvers, documented table, third-party equations."""

from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from helpers import ROOT, coordinate_network

from fourcaster.datasets.pde.simulate import SYSTEMS
from fourcaster.fno.batch import Instances
from fourcaster.fno.errors import InputError
from fourcaster.fno.grids import Box
from fourcaster.fno.models import FNO
from fourcaster.fno.models.operators import EvolutionOperator, SolutionScales
from fourcaster.fno.physics import equations
from fourcaster.fno.physics.derivatives import Mixed, Spectral
from fourcaster.fno.physics.equations import Coefficient, Conditions, Equation, registry
from fourcaster.fno.physics.evolution import EvolutionEquation
from fourcaster.fno.physics.steady import SteadyEquation, reference_size
from fourcaster.fno.training.objectives.operator import EvolutionObjective, SolvingLoss
from fourcaster.fno.training.pinn.settings import PinnSettings
from fourcaster.fno.training.pinn.train import train_pinn
from fourcaster.forecast import load_config
from fourcaster.forecast.checkpoint.pinn import problem_of

DOCS = ROOT / "docs" / "physics.md"


def kuramoto_sivashinsky() -> Equation:
    """Return an equation that the package lacks; a third-party package needs no more than this."""

    def residual(u, d, *, hyperviscosity):
        return d(u, "t") + u * d(u, "x") + d(u, "x", 2) + hyperviscosity * d(u, "x", 4)

    return Equation(
        name="kuramoto_sivashinsky",
        formula="u_t + u u_x + u_xx + hyperviscosity u_xxxx",
        coefficients=(Coefficient("hyperviscosity", "damping of short waves", 1.0),),
        orders={"t": 1, "x": 4},
        residual=residual,
        damping=lambda k2, hyperviscosity: hyperviscosity * k2**2,
        conditions=Conditions(
            low=0.0, high=2 * np.pi, initial=torch.cos, coefficients={"hyperviscosity": 1.0}
        ),
    )


@pytest.fixture
def third_party_equation(monkeypatch):
    """Register the equation of another package through its entry point."""
    point = EntryPoint("kuramoto_sivashinsky", "other_package:EQUATION", equations.GROUP)
    equation = kuramoto_sivashinsky()
    monkeypatch.setattr(EntryPoint, "load", lambda self: equation)
    monkeypatch.setattr(
        registry,
        "entry_points",
        lambda group, name=point.name: [point] if (group, name) == (equations.GROUP, point.name) else [],
    )
    monkeypatch.setattr(registry, "EQUATIONS", dict(registry.EQUATIONS))
    return equation


def test_every_solver_has_an_equation_with_the_same_coefficients():
    assert set(SYSTEMS) <= set(equations.EQUATIONS)
    for name, system in SYSTEMS.items():
        assert set(system.coefficients) == set(equations.get(name).coefficient_names), name
        known = {*system.model_fields, *system().template().data_vars}
        assert set(system.coefficients) <= known, name


def test_defaults_agree_with_those_of_the_solvers():
    varied = {"shock_pipe": {"viscosity"}, "barotropic": {"forcing", "diffusion"}}
    for name, system in SYSTEMS.items():
        for coefficient in equations.get(name).coefficients:
            field = system.model_fields.get(coefficient.name)
            if field is not None and coefficient.name not in varied.get(name, ()):
                assert coefficient.default == field.default, (name, coefficient.name)


@pytest.mark.parametrize("name", [n for n, e in equations.EQUATIONS.items() if e.conditions])
def test_default_problems_have_the_initial_states_of_the_solvers(name):
    conditions = equations.get(name).conditions
    domain = {"start": conditions.low, "length": conditions.high - conditions.low}
    system = SYSTEMS[name](initial="standard", resolution=32, **domain, **conditions.coefficients)
    x = system.nodes(32)
    assert np.allclose(conditions.initial(torch.tensor(x)).numpy(), system.standard_state(x), atol=1e-12)
    assert conditions.periodic == (name != "wave") and conditions.source


def test_former_names_are_aliases_of_their_equation():
    assert equations.get("convection") is equations.get("advection")
    old, new = (load_config(f"pinn/{name}", ["output=run"]) for name in ("convection", "advection"))
    assert old.equation.name == "convection"
    assert problem_of(old) == problem_of(new)
    assert problem_of(old).coefficients == {"beta": 30.0}


def test_errors_name_the_closest_equation_and_coefficient():
    with pytest.raises(InputError, match="no equation 'burger'; did you mean burgers"):
        equations.get("burger")
    with pytest.raises(InputError, match="no equation 'xyz'; there are advection, "):
        equations.get("xyz")
    burgers = equations.get("burgers")
    with pytest.raises(InputError, match="burgers has no coefficient 'nu'; it has viscosity"):
        burgers.evaluate(torch.zeros(4), None, nu=0.1)
    with pytest.raises(InputError, match="burgers has no coefficient 'nu'; it has viscosity"):
        burgers.problem(nu=0.1)
    with pytest.raises(InputError, match="shock_pipe needs a value of viscosity"):
        equations.get("shock_pipe").evaluate(torch.zeros(4), None)
    with pytest.raises(InputError, match="darcy has no default problem"):
        equations.get("darcy").problem()
    with pytest.raises(InputError, match="heat_sink has a solver but no residual"):
        equations.get("heat_sink").evaluate(torch.zeros(4), None)


def test_linear_symbols_are_the_decay_rates_of_small_waves():
    """The residual of a small stationary wave is the rate at which the equation damps it."""
    box = Box(("x",), (32,), (2.0,), (True,))
    wave = 1e-9 * torch.cos(3 * np.pi * torch.arange(32, dtype=torch.float64) / 16)
    d = Mixed({"t": lambda u, axis, order=1: torch.zeros_like(u), "x": Spectral(box)})
    k2 = torch.tensor((3 * np.pi) ** 2, dtype=torch.float64)
    for name, omitted in {"burgers": 0.0, "allen_cahn": -5.0, "cahn_hilliard": -1e-2 * float(k2)}.items():
        equation = equations.get(name)
        values = {c.name: c.default for c in equation.coefficients}
        expected = (equation.damping(k2, **values) + omitted) * wave
        assert torch.allclose(equation.evaluate(wave, d), expected, rtol=1e-6, atol=1e-15), name


@pytest.mark.parametrize("name", [n for n, e in equations.EQUATIONS.items() if e.collocatable])
def test_residuals_of_translation_invariant_equations_commute_with_shifts(name):
    equation = equations.get(name)
    axes = [axis for axis in equation.orders if axis != "t"]
    box = Box(tuple(axes), (16,) * len(axes), (1.0,) * len(axes), (True,) * len(axes))
    values = {c.name: 0.1 if c.default is None else c.default for c in equation.coefficients}
    collocated = EvolutionEquation(name, values, box=box, window=0.1)
    u = torch.rand(1, 3, *box.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shifted = collocated.residual(u.roll(3, -1), {})
    same = torch.allclose(shifted, collocated.residual(u, {}).roll(3, -1), atol=1e-8)
    assert same == equation.translation_invariant


def test_only_steady_equations_have_a_reference_size():
    steady = {name for name, e in equations.EQUATIONS.items() if e.steady}
    assert steady == {"darcy", "heat_conduction", "heat_sink"}
    assert steady == {name for name, e in equations.EQUATIONS.items() if e.reference_size}
    a = torch.full((2, 1, 8, 8), 4.0)
    assert torch.equal(reference_size("darcy", {"source": 2.0})(a, {}), torch.full((2, 1, 1, 1), 0.5))
    assert torch.equal(reference_size("burgers", {})(a, {}), torch.ones(2, 1, 1, 1))
    with pytest.raises(InputError, match=r"no residual of 'burgers'.*there are darcy, heat_conduction$"):
        SteadyEquation("burgers", 1.0, 1.0)


def test_the_documented_table_lists_every_equation():
    assert equations.markdown_table(equations.EQUATIONS.values()) in DOCS.read_text()


def test_a_third_party_equation_trains_a_network_and_an_operator(third_party_equation, tmp_path):
    assert (
        equations.get("kuramoto_sivashinsky") is third_party_equation
        and third_party_equation.name in equations.names()
    )
    problem = equations.get("kuramoto_sivashinsky").problem(hyperviscosity=2.0)
    settings = PinnSettings(windows=1, points=60, initial_points=16, iterations=8)
    _, record = train_pinn(
        problem,
        lambda a, b: coordinate_network(a, b, problem="kuramoto_sivashinsky", width=8, depth=2),
        settings,
        folder=tmp_path,
    )
    assert record.residual < 0.5
    residual = EvolutionEquation(
        "kuramoto_sivashinsky",
        {"hyperviscosity": 1.0},
        box=Box(("x",), (16,), (6.0,), (True,)),
        window=0.1,
    )
    torch.manual_seed(0)
    model = EvolutionOperator(
        FNO((4,), 1, 3, hidden_channels=8, n_layers=1),
        SolutionScales([1.0]),
        window=0.1,
        nodes=3,
        rates=residual.rates,
    )
    loss = SolvingLoss(data=0, equation=1, warmup=0)
    objective = EvolutionObjective(model, loss, residual, times=[0.1], windows=1)
    batch = Instances(torch.randn(4, 1, 16), torch.zeros(4, 0, 16))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = objective.loss(batch, 0.0, torch.Generator()).value
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_an_entry_point_that_is_not_an_equation_is_refused(third_party_equation, monkeypatch):
    monkeypatch.setattr(EntryPoint, "load", lambda self: "text")
    with pytest.raises(InputError, match="other_package:EQUATION is no Equation but str"):
        equations.get("kuramoto_sivashinsky")
