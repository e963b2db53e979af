"""Solvers against analytical and published solutions: errors, orders of convergence and invariants."""

import logging

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.io import loadmat

from fourcaster.datasets.pde import line
from fourcaster.datasets.pde.darcy import Darcy, HeatConduction, steady_state
from fourcaster.datasets.pde.etdrk4 import ETDRK4
from fourcaster.datasets.pde.random_fields import GaussianField
from fourcaster.datasets.pde.shallow_water import DAY, GRAVITY, OMEGA, ShallowWater
from fourcaster.datasets.pde.simulate import SYSTEMS, make_system
from fourcaster.datasets.pde.sphere import RADIUS, Harmonics
from fourcaster.datasets.pde.system import _warn_once
from fourcaster.datasets.pde.torus import NavierStokes
from fourcaster.fno.grids import sphere_nodes


def rng(seed=0):
    return np.random.default_rng(seed)


def relative(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def interpolate(u, x, start, length):
    """Return values of a periodic series at arbitrary coordinates."""
    c = np.fft.rfft(u, norm="forward", axis=-1)
    k = np.arange(c.shape[-1])
    twice = np.where((k == 0) | (2 * k == u.shape[-1]), 1, 2)
    return ((twice * c) @ np.exp(2j * np.pi * np.outer(k, (x - start) / length))).real


# Random fields


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize(("coarse", "fine"), [(16, 33), (21, 64)])
def test_a_random_field_is_the_same_function_at_every_resolution(dimensions, coarse, fine):
    distribution = GaussianField(2.0, 5.0, 25.0)
    a, b = (np.fft.fftn(distribution.draw(rng(3), n, dimensions), norm="forward") for n in (coarse, fine))
    shared = np.arange(-((coarse - 1) // 2), (coarse - 1) // 2 + 1)
    waves = np.ix_(*[shared] * dimensions)
    assert np.allclose(a[waves], b[waves], atol=1e-14)


def test_random_fields_have_the_prescribed_variance():
    distribution = GaussianField(2.0, 5.0, 25.0)
    expected = 2 * sum(distribution.amplitude(np.arange(1, 16)) ** 2)
    fields = np.stack([distribution.draw(rng(i), 32) for i in range(2000)])
    assert fields.var() == pytest.approx(expected, rel=0.05)
    assert np.abs(fields.mean(axis=1)).max() < 1e-14
    sines = GaussianField(2.0, 5.0, 25.0).draw_sines(rng(), 17)
    assert abs(sines[0]) + abs(sines[-1]) < 1e-13


# The integrator


def test_the_integrator_is_exact_for_the_linear_term_and_fourth_order_for_the_rest():
    assert ETDRK4(np.array([-50.0, 2j]), 0.3)(np.ones(2), np.zeros_like) == pytest.approx(np.exp([-15, 0.6j]))
    errors = []
    for count in (20, 40):  # u' = -3 u + (4 u - u^2): logistic growth, partly treated as linear
        step, u = ETDRK4(np.array([-3.0]), 2 / count), np.array([0.1])
        for _ in range(count):
            u = step(u, lambda u: 4 * u - u**2)
        errors.append(abs(u[0] - 1 / (1 + 9 * np.exp(-2.0))))
    assert errors[0] < 1e-4 and 13 < errors[0] / errors[1] < 19


# One-dimensional systems


def test_advection_translates_the_wave():
    system = line.Advection(beta=30, initial="standard", resolution=50, frames=7)
    x = 2 * np.pi * np.arange(50) / 50
    assert np.allclose(system.solve(rng())["u"], np.sin(x - 30 * system.times[:, None]), atol=1e-12)


def cole_hopf(x, t, nu):
    """Return the solution of Burgers' equation from -sin(pi x), by quadrature."""

    def weight(y):
        return np.exp(-np.cos(np.pi * (x - y)) / (2 * np.pi * nu) - y**2 / (4 * nu * t))

    top = quad(
        lambda y: -np.sin(np.pi * (x - y)) * weight(y),
        -6,
        6,
        limit=400,
        epsabs=0,
        epsrel=1e-11,
        points=[0, x],
    )[0]
    return top / quad(weight, -6, 6, limit=400, epsabs=0, epsrel=1e-11, points=[0, x])[0]


def test_burgers_agrees_with_the_analytical_solution():
    system = line.Burgers(initial="standard", start=-1, length=2, viscosity=0.05, resolution=128, frames=2)
    x = np.array([-0.83, -0.1, 0.02, 0.4])
    for u, t in zip(system.solve(rng())["u"][1:], (0.5, 1.0), strict=True):
        assert np.allclose(interpolate(u, x, -1, 2), [cole_hopf(a, t, 0.05) for a in x], atol=1e-8)


def test_burgers_agrees_with_the_published_reference(real_data):
    reference = loadmat(real_data / "pinn_burgers_shock.mat")
    system = line.Burgers(
        initial="standard",
        start=-1,
        length=2,
        viscosity=0.01 / np.pi,
        resolution=1024,
        refine=2,
        duration=0.99,
        frames=99,
    )
    assert (
        relative(interpolate(system.solve(rng())["u"], reference["x"].ravel(), -1, 2).T, reference["usol"])
        < 1e-8
    )


def test_allen_cahn_agrees_with_the_published_reference_and_dissipates_energy(real_data):
    system = line.AllenCahn(initial="standard", resolution=512, frames=200)
    u = system.solve(rng())["u"]
    assert relative(u.T, loadmat(real_data / "pinn_allen_cahn.mat")["uu"]) < 1e-4
    slope = np.gradient(u, 2 / 512, axis=1)
    energy = (0.5e-4 * slope**2 + 5 / 4 * (1 - u**2) ** 2).mean(axis=1)
    assert (np.diff(energy) < 0).all()


def test_reaction_agrees_with_an_ode_solver():
    system = line.Reaction(rho=5, resolution=16, frames=4)
    u = system.solve(rng())["u"]
    reference = solve_ivp(
        lambda t, u: 5 * u * (1 - u), (0, 1), u[0], t_eval=system.times, rtol=1e-10, atol=1e-12
    ).y.T
    assert np.allclose(u, reference, atol=1e-8)
    standard = line.Reaction(initial="standard").solve(rng())["u"][0]
    assert standard.argmax() == 32 and standard.max() == 1 and standard[24] == pytest.approx(np.exp(-0.5))


def test_reaction_diffusion_agrees_with_finite_differences():
    system = line.ReactionDiffusion(nu=0.5, rho=5, resolution=64, frames=2, initial="standard")
    u, n = system.solve(rng())["u"], 512
    h = 2 * np.pi / n

    def tendency(t, v):
        return 0.5 * (np.roll(v, 1) - 2 * v + np.roll(v, -1)) / h**2 + 5 * v * (1 - v)

    start = system.standard_state(h * np.arange(n))
    reference = solve_ivp(
        tendency, (0, 1), start, method="LSODA", lband=1, uband=1, t_eval=system.times, rtol=1e-8, atol=1e-10
    ).y.T
    assert relative(u, reference[:, :: n // 64]) < 2e-4


def test_cahn_hilliard_conserves_mass_dissipates_energy_and_grows_at_the_linear_rate():
    system = line.CahnHilliard(resolution=512, refine=1, frames=20, duration=2.0)
    u = system.solve(rng())["u"]
    assert np.ptp(u.mean(axis=1)) < 1e-14
    slope = derivative(u, 2.0)
    energy = (1e-2 / 4 * (u**2 - 1) ** 2 + 0.5e-6 * slope**2).mean(axis=1)
    assert (np.diff(energy) < 0).all()

    class Small(line.CahnHilliard):
        def standard_state(self, x):
            return 1e-6 * np.cos(6 * np.pi * x)

    u, k = Small(initial="standard", resolution=32, frames=1).solve(rng())["u"], 6 * np.pi
    wave = np.abs(np.fft.rfft(u, axis=1)[:, 6])
    assert wave[1] / wave[0] == pytest.approx(np.exp(1e-2 * k**2 - 1e-6 * k**4), rel=1e-6)


def derivative(u, length):
    k = 2 * np.pi / length * np.arange(u.shape[1] // 2 + 1)
    return np.fft.irfft(1j * k * np.fft.rfft(u, axis=1), n=u.shape[1], axis=1)


def test_the_wave_agrees_with_the_analytical_solution():
    system = line.Wave(initial="standard", speed=2, resolution=41, frames=9)
    x, t = np.linspace(0, 1, 41), system.times[:, None]
    exact = np.sin(np.pi * x) * np.cos(2 * np.pi * t) + 0.5 * np.sin(4 * np.pi * x) * np.cos(8 * np.pi * t)
    assert np.allclose(system.solve(rng())["u"], exact, atol=1e-12)
    assert np.allclose(system.template()["x"], x)


class SmoothBurgers(line.Burgers):
    def standard_state(self, x):
        return np.sin(2 * np.pi * x)


class SmoothAllenCahn(line.AllenCahn):
    def standard_state(self, x):
        return np.sin(np.pi * x)


class SmoothCahnHilliard(line.CahnHilliard):
    def standard_state(self, x):
        return 0.5 * np.sin(np.pi * x)


class SmoothReaction(line.ReactionDiffusion):
    def standard_state(self, x):
        return 0.5 + 0.3 * np.sin(x)


@pytest.mark.parametrize(
    ("kind", "more", "step"),
    [
        (SmoothBurgers, {"viscosity": 0.05}, 0.01),
        (SmoothAllenCahn, {"diffusivity": 1e-3}, 0.05),
        (SmoothCahnHilliard, {"gamma_1": 1e-3, "gamma_2": 0.1}, 0.02),
        (SmoothReaction, {"nu": 0.2}, 0.05),
    ],
)
def test_time_stepping_converges_with_fourth_order(kind, more, step):
    """For smooth solutions; order reduction for rough ones is a known property of the method."""

    def final(step):
        return kind(
            initial="standard", resolution=32, refine=2, frames=1, duration=0.2, step=step, **more
        ).solve(rng())["u"][-1]

    exact = final(step / 16)
    errors = [np.abs(final(h) - exact).max() for h in (step, step / 2, step / 4)]
    assert errors[0] < 1e-2
    # The cubic term of Cahn-Hilliard is itself stiff, which costs up to one order.
    lowest = 2.9 if kind is SmoothCahnHilliard else 3.5
    assert all(lowest < order < 4.6 for order in np.log2(np.array(errors[:-1]) / errors[1:]))


# Two-dimensional systems


def test_flow_converges_to_parallel_flow_under_its_force():
    system = NavierStokes(forcing="kolmogorov", viscosity=0.2, sigma=0, resolution=32, duration=1, frames=2)
    y = 2 * np.pi * np.arange(32) / 32
    exact = -4 * np.cos(4 * y) / (16 * 0.2) * (1 - np.exp(-16 * 0.2 * system.times))[:, None]
    assert np.allclose(system.solve(rng())["vorticity"], exact[:, :, None], atol=1e-10)
    assert system.template()["x"].attrs["length"] == 2 * np.pi


def test_free_flow_without_viscosity_conserves_energy_and_enstrophy():
    w = NavierStokes(forcing="none", viscosity=0, resolution=48, duration=4, frames=2).solve(rng())[
        "vorticity"
    ]
    k = np.fft.fftfreq(48, 1 / 48)
    k2 = k[:, None] ** 2 + k**2
    power = np.abs(np.fft.fft2(w)) ** 2
    assert power.sum(axis=(1, 2)) == pytest.approx(power[0].sum(), rel=1e-6)
    energy = (power / np.where(k2 > 0, k2, np.inf)).sum(axis=(1, 2))
    assert energy == pytest.approx(energy[0], rel=1e-6)


def test_taylor_green_cells_decay_and_a_shear_flow_advects_in_the_right_direction():
    """Taylor-Green cells only decay; a small wave is advected by a shear flow."""

    class Cells(NavierStokes):
        def initial_state(self, rng, points):
            y, x = np.meshgrid(*[2 * np.pi * np.arange(points) / points] * 2, indexing="ij")
            return np.cos(x) * np.cos(y) * 2

    w = Cells(forcing="none", length=2 * np.pi, viscosity=0.05, resolution=16, duration=2, frames=1).solve(
        rng()
    )["vorticity"]
    assert np.allclose(w[1], w[0] * np.exp(-2 * 0.05 * 2), atol=1e-12)

    # u = cos y carries a small wave in x to the right at y = 0, to the left at y = pi.
    class Shear(NavierStokes):
        def initial_state(self, rng, points):
            y, x = np.meshgrid(*[2 * np.pi * np.arange(points) / points] * 2, indexing="ij")
            return np.sin(y) + 1e-6 * np.cos(8 * x)

    w = Shear(forcing="none", length=2 * np.pi, viscosity=0, resolution=64, duration=0.05, frames=1).solve(
        rng()
    )["vorticity"]
    wave = np.fft.fft(w[1] - w[1].mean(axis=1, keepdims=True), axis=1)[:, 8]
    assert np.angle(wave[0]) == pytest.approx(-8 * 0.05, rel=0.05)
    assert np.angle(wave[32]) == pytest.approx(8 * 0.05, rel=0.05)


def test_refining_the_solver_does_not_change_the_flow():
    a, b = (
        NavierStokes(resolution=32, refine=r, duration=1, frames=1).solve(rng())["vorticity"][1]
        for r in (2, 3)
    )
    assert relative(a, b) < 1e-4


def test_steady_diffusion_converges_with_second_order():
    errors = []
    for n in (17, 33, 65):
        y, x = np.meshgrid(*[np.linspace(0, 1, n)] * 2, indexing="ij")
        u, a = np.sin(np.pi * x) * np.sin(2 * np.pi * y), 1 + x * y**2
        gradient = y**2 * np.pi * np.cos(np.pi * x) * np.sin(2 * np.pi * y) + 2 * x * y * 2 * np.pi * np.sin(
            np.pi * x
        ) * np.cos(2 * np.pi * y)
        errors.append(np.abs(steady_state(a, -gradient + a * 5 * np.pi**2 * u) - u).max())
    assert np.log2(np.array(errors[:-1]) / errors[1:]) == pytest.approx([2, 2], abs=0.1)


def test_the_flux_is_continuous_across_a_jump_of_the_coefficient():
    a = np.where(np.arange(401)[None] < 200, 1.0, 10.0) * np.ones((401, 1))
    u = steady_state(a, np.ones_like(a))[200]
    left, right = u[199] - u[198], 10 * (u[202] - u[201])
    assert left == pytest.approx(right, rel=0.02)


@pytest.mark.parametrize("kind", [Darcy, HeatConduction])
def test_a_sample_of_the_medium_is_the_same_at_every_resolution(kind):
    coarse, fine = (kind(resolution=n, refine=1).solve(rng(1)) for n in (33, 65))
    a, u = kind.names
    assert np.mean(coarse[a] != fine[a][::2, ::2]) < 0.03 or relative(coarse[a], fine[a][::2, ::2]) < 0.05
    assert relative(coarse[u], fine[u][::2, ::2]) < 0.05
    assert (u_edge := np.concatenate([fine[u][0], fine[u][:, -1]])).max() == 0 == u_edge.min() and fine[u][
        1:-1, 1:-1
    ].min() > 0
    assert kind is HeatConduction or set(np.unique(fine[a])) == {4.0, 12.0}


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0, 3.0])
def test_the_random_medium_has_the_spectrum_of_the_unit_square(alpha):
    """The variance is the sum of the spectral density over wave vectors half a wave apart, without zero."""
    system = HeatConduction(resolution=17, alpha=alpha, tau=3.0, sigma=10.0)
    k = np.arange(-15, 16) / 2
    squares = k[:, None] ** 2 + k[None] ** 2
    density = 10.0**2 * (4 * np.pi**2 * squares + 3.0**2) ** -alpha
    expected = (density.sum() - density[15, 15]) / 4
    fields = np.log([system.draw(rng(i), 17) for i in range(600)])
    assert fields.var() == pytest.approx(expected, rel=0.1)


def test_the_default_random_medium_is_a_field_of_twice_the_amplitude():
    system = HeatConduction(resolution=17)
    field = GaussianField(2.0, 2 * system.tau, 2 * system.sigma).draw(rng(5), 32, 2)[:17, :17]
    assert np.array_equal(system.draw(rng(5), 17), np.exp(field))


# The sphere


def test_solid_rotation_has_its_vorticity_and_wind_inverts_curl_and_divergence():
    sphere = Harmonics(24)
    latitude, _ = np.meshgrid(*sphere.grid, indexing="ij")
    curl, divergence = sphere.curl_and_divergence(40 * np.cos(latitude), np.zeros_like(latitude))
    assert (
        np.allclose(sphere.synthesise(curl), 80 * np.sin(latitude) / RADIUS, atol=1e-17)
        and np.abs(divergence).max() < 1e-17
    )
    field = sphere.random_field(rng(), 10)
    assert np.allclose(sphere.synthesise(sphere.analyse(field)), field, atol=1e-13)
    u, v = sphere.wind(sphere.analyse(field), sphere.analyse(field[:, ::-1]))
    for coefficients, original in zip(sphere.curl_and_divergence(u, v), (field, field[:, ::-1]), strict=True):
        expected = original - (sphere.weights @ original).mean() / (4 * np.pi)
        assert np.allclose(sphere.synthesise(coefficients), expected, atol=1e-12)


@pytest.mark.parametrize("angle", [0, 50])
def test_the_steady_zonal_flow_remains_steady(angle):
    solution = ShallowWater(case="williamson2", angle=angle, resolution=24, duration=3, frames=1).solve(rng())
    assert np.abs(solution["height"][1] - solution["height"][0]).max() < 1e-7
    assert np.abs(solution["u_component_of_wind"][1] - solution["u_component_of_wind"][0]).max() < 1e-8
    assert np.hypot(
        solution["u_component_of_wind"][0], solution["v_component_of_wind"][0]
    ).max() == pytest.approx(2 * np.pi * RADIUS / (12 * DAY), rel=0.01)


def test_flow_over_the_mountain_conserves_mass_and_energy():
    solution = ShallowWater(case="williamson5", resolution=32, duration=3, frames=3, damping=0).solve(rng())
    weights = sphere_nodes(32, "legendre-gauss")[1][:, None]
    depth = solution["height"] - solution["mountain"]
    mass = (weights * depth).sum(axis=(1, 2))
    assert mass == pytest.approx(mass[0], rel=1e-13)
    speed = solution["u_component_of_wind"] ** 2 + solution["v_component_of_wind"] ** 2
    energy = (
        weights * (depth * speed + GRAVITY * (solution["height"] ** 2 - solution["mountain"] ** 2))
    ).sum(axis=(1, 2))
    assert energy == pytest.approx(energy[0], rel=1e-6)
    assert solution["mountain"].max() > 1500


def test_the_jet_is_balanced_until_the_perturbation_grows():
    system = ShallowWater(resolution=48, duration=6, frames=6)
    solution = system.solve(rng())
    u = solution["u_component_of_wind"]
    assert u[0].max() == pytest.approx(80, abs=5) and np.ptp(u[0], axis=1).max() < 1
    wavy = np.ptp(solution["vorticity"], axis=2).max(axis=1)
    assert wavy[6] > 4 * wavy[1]
    assert (sphere_nodes(48, "legendre-gauss")[1] / 2 @ solution["height"][0]).mean() == pytest.approx(
        10000, abs=1
    )
    tilted = ShallowWater(case="williamson2", angle=90).initial_state(
        *np.meshgrid([0.3], [0.0], indexing="ij")
    )
    assert tilted[0][0, 0] == pytest.approx(-2 * OMEGA * np.cos(0.3))


def test_a_perturbation_makes_samples_differ():
    system = ShallowWater(case="williamson2", perturbation=5, resolution=16, duration=0.1, frames=1)
    a, b = (system.solve(rng(i))["height"][0] for i in (1, 2))
    assert 3 < (a - b).std() < 12 and system.is_random() and not ShallowWater().is_random()


# Every system


@pytest.mark.parametrize("name", SYSTEMS)
def test_solutions_match_their_template(name):
    small = {"resolution": 32 if name == "heat_sink" else 16} | (
        {} if "frames" not in SYSTEMS[name].model_fields else {"frames": 2}
    )
    small |= {"duration": 0.1} if "duration" in SYSTEMS[name].model_fields else {}
    system = make_system(name, small | ({"spin_up": 0.5} if name == "barotropic" else {}))
    template, solution = system.template(), system.solve(rng())
    assert set(template.data_vars) == set(solution)
    for key, values in solution.items():
        assert values.shape == template[key].shape and values.dtype == np.float64, key
        assert np.isfinite(values).all() or (name, key) == (
            "heat_sink",
            "temperature",
        )  # which is missing in the air
        assert {"long_name", "units"} <= set(template[key].attrs)


@pytest.mark.parametrize(
    "name",
    [
        "burgers",
        "allen_cahn",
        "cahn_hilliard",
        "reaction_diffusion",
        "navier_stokes",
        "barotropic",
        "shallow_water",
    ],
)
def test_an_unstable_step_raises_an_error_that_names_a_stable_one(name):
    parameters = {"resolution": 16, "frames": 1, "duration": 1.0} | (
        {"spin_up": 0} if name == "barotropic" else {}
    )
    with pytest.raises(ValueError, match=r"step=\S+ is unstable here; use step=\S+ or less") as error:
        make_system(name, parameters | {"step": 1e6}).solve(rng())
    step = float(str(error.value).split("use step=")[1].split()[0])
    solution = make_system(name, parameters | {"step": step}).solve(rng())
    assert all(np.isfinite(v).all() for v in solution.values())


def test_unresolved_flow_is_reported(caplog):
    _warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        NavierStokes(resolution=16, viscosity=1e-6, duration=20, frames=4, sigma=500).solve(rng())
    assert "is not resolved" in caplog.text and "use refine=2" in caplog.text
