"""Residuals vanish on independent solutions at the order of their derivatives, and have the right signs."""

import math

import numpy as np
import pytest
import torch
import xarray as xr

from fourcaster.datasets.pde import line
from fourcaster.datasets.pde.barotropic import BetaPlane
from fourcaster.datasets.pde.darcy import steady_state
from fourcaster.datasets.pde.shallow_water import ShallowWater
from fourcaster.datasets.pde.torus import NavierStokes
from fourcaster.fno import InputError
from fourcaster.fno.grids import Box
from fourcaster.fno.physics import atmosphere, equations
from fourcaster.fno.physics.derivatives import Autograd, FiniteDifferences, FiniteVolumes, Mixed, Spectral
from fourcaster.fno.physics.equations.shallow_water import SphereDerivatives
from fourcaster.fno.physics.sphere import Sphere


def tensor(x):
    return torch.tensor(np.array(x, dtype=np.float64))


def norm(x):
    return float(x.square().mean().sqrt())


# Derivatives


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [24, 25])
def test_spectral_derivatives_of_a_wave_are_exact(order, n):
    box = Box(("y", "x"), (5, n), (1.0, 3.0), (True, True))
    x = tensor(3.0 * np.arange(n) / n).expand(2, 5, n)
    k = 2 * math.pi * 4 / 3
    expected = k**order * torch.sin(k * x + math.pi / 2 * order)
    assert torch.allclose(Spectral(box)(torch.sin(k * x), "x", order), expected, atol=1e-9 * k**order)
    assert torch.allclose(Spectral(box)(torch.sin(k * x), "y", order), torch.zeros_like(x), atol=1e-9)


def test_the_inverse_laplacian_inverts_the_laplacian():
    box = Box(("t", "y", "x"), (3, 10, 9), (1.0, 2.0, 3.0), (False, True, True))
    d, f = Spectral(box), torch.randn(3, 10, 9, dtype=torch.float64)
    f = d(f, "x") + d(f, "y")  # without mean, and without the Nyquist wave of y alone
    psi = d.inverse_laplacian(f)
    assert torch.allclose(d(psi, "x", 2) + d(psi, "y", 2), f, atol=1e-9)


@pytest.mark.parametrize("accuracy", [2, 4])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("periodic", [True, False])
def test_finite_differences_converge_at_their_order_up_to_the_edge(accuracy, order, periodic):
    errors = []
    for n in (40, 80):
        box = Box(("x",), (n,), (2.0 if periodic else 1.3,), (periodic,))
        x = tensor(np.arange(n) * box.spacing[0])
        derivative = FiniteDifferences(box, accuracy)(torch.sin(math.pi * x), "x", order)
        error = derivative - math.pi**order * torch.sin(math.pi * x + order * math.pi / 2)
        errors.append(float(error.abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(accuracy, abs=0.35)


def test_autograd_differentiates_functions_of_coordinates():
    t, x = (torch.rand(7, dtype=torch.float64, requires_grad=True) for _ in range(2))
    u, d = torch.sin(3 * x) * t**2, Autograd({"t": t, "x": x})
    assert torch.allclose(d(u, "x", 3), -27 * torch.cos(3 * x) * t**2)
    assert torch.allclose(d(d(u, "t"), "x"), 3 * torch.cos(3 * x) * 2 * t)
    assert torch.equal(d(t**2, "x"), torch.zeros(7)) and torch.equal(d(t, "t", 2), torch.zeros(7))


def test_impossible_derivatives_raise_an_error():
    box = Box(("t", "x"), (4, 8), (1.0, 1.0), (False, True))
    u = torch.zeros(4, 8)
    with pytest.raises(InputError, match="axis t is not periodic, as a spectral derivative requires"):
        Spectral(box)(u, "t")
    with pytest.raises(InputError, match="axis t is not periodic"):
        Spectral(box).inverse_laplacian(u, ("t", "x"))
    with pytest.raises(InputError, match="no derivative along 'z'; the grid has t, x"):
        Spectral(box)(u, "z")
    with pytest.raises(InputError, match="no derivative along 'z'; there are t"):
        Mixed({"t": FiniteDifferences(box)})(u, "z")
    with pytest.raises(
        InputError, match=r"the grid has 8 points along x, but the field has the shape \(4, 9\)"
    ):
        FiniteDifferences(box)(torch.zeros(4, 9), "x")
    with pytest.raises(InputError, match="needs more than 4 points"):
        FiniteDifferences(box, 4)(u, "t", 2)
    with pytest.raises(ValueError, match="accuracy must be 2 or 4"):
        FiniteDifferences(box, 3)
    with pytest.raises(ValueError, match="at least two points and a positive length"):
        Box(("x",), (4,), (0.0,), (True,))


# Equations on lines, evaluated on solutions of the solvers

EQUATIONS = [
    (line.Advection, {"beta": 3.0}, "advection", {"beta": 3.0}),
    (line.Burgers, {"viscosity": 0.02, "sigma": 50}, "burgers", {"viscosity": 0.02}),
    (line.Reaction, {"rho": 4.0}, "reaction", {"rho": 4.0}),
    (line.ReactionDiffusion, {"nu": 0.3, "rho": 4.0}, "reaction_diffusion", {"nu": 0.3, "rho": 4.0}),
    (
        line.AllenCahn,
        {"diffusivity": 2e-3, "rate": 3.0},
        "allen_cahn",
        {"diffusivity": 2e-3, "rate": 3.0},
    ),
    (
        line.CahnHilliard,
        {"gamma_1": 1e-4, "gamma_2": 0.02},
        "cahn_hilliard",
        {"gamma_1": 1e-4, "gamma_2": 0.02},
    ),
]
NAMES = [kind.__name__ for kind, *_ in EQUATIONS]


def solved(kind, system_parameters, frames, resolution=64):
    """Return a solution from a smooth initial state, and its box."""
    duration = 0.4
    more = {"refine": 2, "step": 0.4 / 1600} if issubclass(kind, line.Semilinear) else {}
    smooth = {"alpha": 6.0, "tau": 9.0, "sigma": 9.0**6 / 20}
    system = kind(
        resolution=resolution, frames=frames, duration=duration, **(smooth | system_parameters | more)
    )
    u = system.solve(np.random.default_rng(2))["u"]
    return tensor(u), Box(("t", "x"), u.shape, (duration, system.length), (False, True))


@pytest.mark.parametrize(("kind", "system_parameters", "name", "parameters"), EQUATIONS, ids=NAMES)
def test_residuals_converge_with_the_time_step_only_for_the_right_coefficients(
    kind, system_parameters, name, parameters
):
    norms = []
    for frames in (64, 128):
        u, box = solved(kind, system_parameters, frames, 128)
        d = Mixed({"t": FiniteDifferences(box, 4), "x": Spectral(box)})
        norms.append(
            norm(equations.get(name).evaluate(u, d, **parameters)[frames // 2 :])
        )  # after the fast decay of short waves
    assert norms[1] < 1e-3 * norm(d(u, "t"))
    assert norms[1] < 1e-7 * norm(d(u, "t")) or math.log2(norms[0] / norms[1]) > 3.3
    for coefficient, value in parameters.items():  # a wrong sign is detected
        changed = parameters | {coefficient: -value}
        assert norm(equations.get(name).evaluate(u, d, **changed)) > 20 * norms[1], coefficient


@pytest.mark.parametrize(("kind", "system_parameters", "name", "parameters"), EQUATIONS, ids=NAMES)
def test_residuals_converge_with_the_spacing(kind, system_parameters, name, parameters):
    norms = []
    for points in (64, 128):
        u, box = solved(kind, system_parameters, 400, points)
        d = Mixed({"t": FiniteDifferences(box, 4), "x": FiniteDifferences(box, 2)})
        norms.append(norm(equations.get(name).evaluate(u, d, **parameters)))
    if kind is line.Reaction:  # has no derivative in space
        assert max(norms) < 1e-6
    else:
        assert math.log2(norms[0] / norms[1]) == pytest.approx(2, abs=0.35)


def test_autograd_and_grid_derivatives_give_the_residual_of_a_manufactured_solution():
    """The residual of u = sin(x + t) exp(-t) is the forcing for which it is a solution."""
    n, m = 33, 32
    box = Box(("t", "x"), (n, m), (1.0, 2 * math.pi), (False, True))
    t, x = torch.meshgrid(
        torch.linspace(0, 1, n, dtype=torch.float64),
        2 * math.pi * torch.arange(m, dtype=torch.float64) / m,
        indexing="ij",
    )
    t, x = t.requires_grad_(), x.requires_grad_()
    u = torch.sin(x + t) * torch.exp(-t)
    slope = torch.cos(x + t) * torch.exp(-t)
    exact = {
        "advection": slope - u + 3 * slope,
        "burgers": slope - u + u * slope + 0.1 * u,
        "wave": -2 * slope + 4 * u,
        "allen_cahn": slope - u + 0.1 * u - 2 * (u - u**3),
        "cahn_hilliard": slope - u - 0.5 * (6 * u * slope**2 - 3 * u**3 + u) + 0.2 * u,
    }
    for kind, d in (
        ("autograd", Autograd({"t": t, "x": x})),
        ("grid", Mixed({"t": FiniteDifferences(box, 4), "x": Spectral(box)})),
    ):
        residuals = {
            "advection": equations.get("advection").evaluate(u, d, beta=3.0),
            "burgers": equations.get("burgers").evaluate(u, d, viscosity=0.1),
            "wave": equations.get("wave").evaluate(u, d, speed=2.0),
            "allen_cahn": equations.get("allen_cahn").evaluate(u, d, diffusivity=0.1, rate=2.0),
            "cahn_hilliard": equations.get("cahn_hilliard").evaluate(u, d, gamma_1=0.2, gamma_2=0.5),
        }
        for name, r in residuals.items():
            assert torch.allclose(r, exact[name], atol=1e-9 if kind == "autograd" else 2e-4), (kind, name)


def test_the_residual_of_the_wave_solver_vanishes():
    norms = []
    for frames in (100, 200):
        system = line.Wave(initial="standard", resolution=101, frames=frames)
        u = tensor(system.solve(np.random.default_rng(0))["u"])
        box = Box(("t", "x"), tuple(u.shape), (1.0, 1.0), (False, False))
        d = Mixed({"t": FiniteDifferences(box, 4), "x": FiniteDifferences(box, 4)})
        norms.append(norm(equations.get("wave").evaluate(u, d, speed=2.0)))
    assert norms[1] < 2e-2 * norm(u) * (8 * math.pi) ** 2 and norms[0] / norms[1] > 2


def test_the_darcy_residual_vanishes_on_the_solution_of_the_solver():
    rng = np.random.default_rng(0)
    a = np.exp(rng.standard_normal((17, 17)))
    f = rng.standard_normal((17, 17))
    u = tensor(steady_state(a, f))
    d = FiniteVolumes(1 / 16)

    def residual(u, source):
        return equations.get("darcy").evaluate(u, d, permeability=tensor(a), source=source)

    assert norm(residual(u, tensor(f))) < 1e-10
    assert norm(residual(2 * u, tensor(f))) == pytest.approx(norm(tensor(f)[1:-1, 1:-1]))
    with pytest.raises(InputError, match="same shape"):
        residual(u[1:], 1.0)


# Flow


@pytest.mark.parametrize("forcing", ["diagonal", "kolmogorov", "none"])
def test_the_navier_stokes_residual_vanishes_on_the_solution_of_the_solver(forcing):
    norms = []
    for frames in (16, 32):
        system = NavierStokes(
            forcing=forcing,
            viscosity=0.01,
            resolution=48,
            duration=0.5,
            frames=frames,
            step=0.5 / 64,
            alpha=6,
            sigma=3e5,
        )
        w = tensor(system.solve(np.random.default_rng(0))["vorticity"])
        box = Box(("t", "y", "x"), tuple(w.shape), (0.5, system.side, system.side), (False, True, True))
        space = Spectral(box)
        d = Mixed({"t": FiniteDifferences(box, 4), "y": space, "x": space})
        force = tensor(system.force(48))
        equation, coefficients = equations.get("navier_stokes"), {"viscosity": 0.01, "forcing": force}
        norms.append(norm(equation.evaluate(w, d, **coefficients)[3:-3]))
        assert norm(equation.evaluate(w.flip(0), d, **coefficients)) > 100 * norms[-1]
    assert norms[1] < 1e-4 * norm(d(w, "t")) and norms[1] <= 1.5 * norms[0]


def test_the_barotropic_residual_vanishes_on_the_solution_of_the_solver():
    norms = []
    for frames in (8, 16):
        system = BetaPlane(
            resolution=96, duration=0.25, frames=frames, spin_up=0, forcing=0, diffusion=0, step=600
        )
        w = tensor(system.solve(np.random.default_rng(0))["vorticity"])
        box = Box(
            ("t", "y", "x"), tuple(w.shape), (0.25 * 86400, system.length, system.length), (False, True, True)
        )
        space = Spectral(box)
        d = Mixed({"t": FiniteDifferences(box, 4), "y": space, "x": space})
        equation = equations.get("barotropic")
        residual = equation.evaluate(w, d, beta=system.beta, drag=system.drag)
        norms.append(norm(residual[2:-2]) / norm(d(w, "t")))
        wrong = equation.evaluate(w, d, beta=-system.beta, drag=system.drag)
        assert norm(wrong) / norm(d(w, "t")) > 0.1
    assert norms[1] < 2e-2


def test_the_shallow_water_residual_vanishes_on_the_solution_of_the_solver():
    norms = []
    for frames in (24, 48):
        system = ShallowWater(case="williamson5", resolution=32, duration=1.0, frames=frames, damping=0)
        solution = {name: tensor(values) for name, values in system.solve(np.random.default_rng(0)).items()}
        u, v, h = solution["u_component_of_wind"], solution["v_component_of_wind"], solution["height"]
        equation = equations.get("shallow_water")
        d = SphereDerivatives(Sphere(*h.shape[-2:], "legendre-gauss", 21), seconds=86400 / frames)
        r = equation.evaluate((h, u, v), d, mountain=solution["mountain"])
        tendency = (h[2:] - h[:-2]) / (2 * 86400 / frames)
        norms.append([norm(r.mass) / norm(tendency), norm(r.vorticity) * 1e10, norm(r.divergence) * 1e10])
        wrong = equation.evaluate((h, -u, v), d, mountain=solution["mountain"])
        assert norm(wrong.mass) > norm(tendency) and norm(wrong.vorticity) > 5 * norm(r.vorticity)
    assert norms[1][0] < 0.1 and norms[0][0] / norms[1][0] > 3


def test_the_shallow_water_residual_vanishes_on_the_steady_zonal_flow():
    solution = ShallowWater(case="williamson2", resolution=24, duration=0.1, frames=2).solve(
        np.random.default_rng(0)
    )
    h, u, v = (tensor(solution[name]) for name in ("height", "u_component_of_wind", "v_component_of_wind"))
    d = SphereDerivatives(Sphere(*h.shape[-2:], "legendre-gauss", 16), seconds=0.05 * 86400)
    r = equations.get("shallow_water").evaluate((h, u, v), d)
    assert norm(r.divergence) < 1e-15 and norm(r.vorticity) < 1e-15 and norm(r.mass) < 1e-8


# The atmosphere

SPHERE = Sphere(33, 64, "equiangular", 16)
LEVELS = torch.tensor([85000.0, 50000.0, 25000.0], dtype=torch.float64)


def balanced_atmosphere(latitude, lapse=0.0):
    """Return temperature, warmest at the equator, and its hydrostatic geopotential."""
    t = (260 + 30 * torch.cos(latitude) ** 2).expand(33, 64)
    temperature = torch.stack([t + lapse * k for k in range(3)])
    means = (temperature[1:] + temperature[:-1]) / 2
    thickness = atmosphere.GAS_CONSTANT * means * torch.log(LEVELS[:-1] / LEVELS[1:])[:, None, None]
    return temperature, torch.cat(
        [torch.full((1, 33, 64), 1.4e4, dtype=torch.float64), 1.4e4 + thickness.cumsum(0)]
    )


def test_hydrostatic_residuals_vanish_in_balance_and_have_the_right_sign():
    temperature, geopotential = balanced_atmosphere(SPHERE.latitude(LEVELS), lapse=-20)
    assert norm(atmosphere.hydrostatic(geopotential, temperature, LEVELS)) < 1e-10
    assert norm(atmosphere.hydrostatic(geopotential.flip(0), temperature.flip(0), LEVELS.flip(0))) < 1e-10
    raised = geopotential + torch.tensor([0.0, 98.0665, 0.0], dtype=torch.float64)[:, None, None]
    residual = atmosphere.hydrostatic(raised, temperature, LEVELS)
    assert torch.allclose(residual[0], torch.full_like(residual[0], 10.0))
    assert torch.allclose(residual[1], torch.full_like(residual[1], -10.0))
    moist = atmosphere.hydrostatic(
        geopotential, temperature, LEVELS, humidity=torch.full_like(temperature, 0.01)
    )
    assert (moist < 0).all()  # moist air should be thicker


def test_thermal_wind_residuals_vanish_in_balance_and_have_the_right_sign():
    latitude = SPHERE.latitude(LEVELS)
    temperature, _ = balanced_atmosphere(latitude)
    # dT/dy = -60 cos sin / a, so the westerlies grow upward by R ln(p1/p2) 30 cos / (Omega a).
    shear = (
        atmosphere.GAS_CONSTANT
        * torch.log(LEVELS[0] / LEVELS)[:, None, None]
        * 30
        * torch.cos(latitude)
        / (7.292e-5 * 6.37122e6)
    )
    u = shear.expand(3, 33, 64)
    east, north = atmosphere.thermal_wind(u, torch.zeros_like(u), temperature, pressure=LEVELS, sphere=SPHERE)
    assert norm(east) < 1e-9 and norm(north) < 1e-9
    east, _ = atmosphere.thermal_wind(
        torch.zeros_like(u), torch.zeros_like(u), temperature, pressure=LEVELS, sphere=SPHERE
    )
    middle = east[:, 8]
    assert (middle < 0).all() and float(east[:, 16].abs().max()) == 0


def test_continuity_residuals_vanish_for_consistent_vertical_velocity():
    latitude = SPHERE.latitude(LEVELS)
    v = 5 * (torch.sin(2 * latitude) * torch.cos(latitude)).expand(3, 33, 64)
    u = torch.zeros_like(v)
    divergence = SPHERE.divergence(u, v)
    omega = -torch.cumsum(
        torch.cat([torch.zeros(1, 33, 64), torch.diff(LEVELS)[:, None, None] * divergence[:1]]), 0
    )
    assert norm(atmosphere.continuity(u, v, omega, pressure=LEVELS, sphere=SPHERE)) < 1e-15
    assert norm(atmosphere.continuity(u, v, -omega, pressure=LEVELS, sphere=SPHERE)) > norm(divergence)
    pressure = torch.full((3, 33, 64), 1e5, dtype=torch.float64)
    falling = pressure + torch.arange(-1, 2)[:, None, None] * -3600 * SPHERE.divergence(u[0], v[0]) * 1e5
    residual = atmosphere.column_continuity(
        u.expand(3, 3, 33, 64),
        v.expand(3, 3, 33, 64),
        falling,
        pressure=LEVELS,
        seconds=3600.0,
        sphere=SPHERE,
    )
    assert norm(residual) < 0.1 * norm(SPHERE.divergence(u[0], v[0]) * 1e5)


def test_layers_sum_to_the_surface_pressure_and_budgets_have_analytical_values():
    surface = 1e5 + 1000 * torch.randn(33, 64, dtype=torch.float64)
    surface[3, 4] = 60000.0  # a mountain above the lowest level
    thickness = atmosphere.layer_thickness(LEVELS, surface)
    assert torch.allclose(thickness.sum(0), surface) and (thickness >= 0).all() and thickness[0, 3, 4] == 0
    assert torch.equal(atmosphere.layer_thickness(LEVELS.flip(0), surface), thickness.flip(0))
    even, q = torch.full_like(surface, 1e5), torch.full((3, 33, 64), 0.01, dtype=torch.float64)
    assert float(atmosphere.dry_mass(even, q, pressure=LEVELS, sphere=SPHERE)) == pytest.approx(99000)
    t, wind = torch.full_like(q, 250.0), torch.full_like(q, 10.0)
    expected = (1004.7 * 250 + 100 + 2.501e6 * 0.01) * 1e5 / 9.80665
    assert float(
        atmosphere.energy(t, wind, wind, humidity=q, surface_pressure=even, pressure=LEVELS, sphere=SPHERE)
    ) == pytest.approx(expected)


def test_fields_with_other_levels_raise_an_error():
    f = torch.zeros(2, 33, 64)
    with pytest.raises(InputError, match="does not have the 3 levels"):
        atmosphere.hydrostatic(f, f, LEVELS)
    with pytest.raises(InputError, match="at least two levels"):
        atmosphere.hydrostatic(f[:1], f[:1], LEVELS[:1])
    with pytest.raises(InputError, match="look like hPa"):
        atmosphere.hydrostatic(f, f, torch.tensor([850.0, 500.0]))
    with pytest.raises(InputError, match="monotonic"):
        atmosphere.hydrostatic(f, f, torch.tensor([85000.0, 85000.0]))


def test_an_operational_forecast_is_nearly_balanced(real_data):
    """Residuals are a small part of each term, and larger without moisture or with a wrong sign."""
    with xr.open_dataset(real_data / "icon_global_2022-04-01_1deg_12h.nc") as data:
        icon = data.isel(time=slice(4)).load()
    u, v, t, q = (tensor(icon[name]) for name in ("u", "v", "t", "q"))
    geopotential, pressure = atmosphere.GRAVITY * tensor(icon["gh"]), 100 * tensor(icon["level"])
    ground = tensor(icon["msl"])
    sphere = Sphere(181, 360, "equiangular", 60)
    thickness = torch.diff(geopotential, dim=-3) / atmosphere.GRAVITY
    moist, dry = (
        atmosphere.hydrostatic(geopotential, t, pressure, humidity=humidity) for humidity in (q, None)
    )
    assert norm(moist) < 60 and norm(moist) < 0.01 * norm(thickness) and norm(moist[:, 0]) < norm(dry[:, 0])
    warm = atmosphere.virtual_temperature(t, q)
    east, north = atmosphere.thermal_wind(u, v, warm, pressure=pressure, sphere=sphere)
    outside = sphere.latitude(u).abs() >= math.radians(20)
    assert norm(east) < 0.75 * norm(torch.diff(u, dim=-3) * outside) and norm(north) < 0.9 * norm(
        torch.diff(v, dim=-3) * outside
    )
    wrong, _ = atmosphere.thermal_wind(-u, v, warm, pressure=pressure, sphere=sphere)
    assert norm(wrong) > 2 * norm(east)
    mass = atmosphere.dry_mass(ground, q, pressure=pressure, sphere=sphere)
    assert float(mass.max() - mass.min()) < 50 and 97000 < float(mass.mean()) < 102000
    heat = atmosphere.energy(t, u, v, humidity=q, surface_pressure=ground, pressure=pressure, sphere=sphere)
    assert float((torch.diff(heat) / 43200).abs().max()) < 40
