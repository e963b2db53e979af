"""Inverse problems: least squares, priors, sensors, and parameters inferred from readings of any solver."""

import math

import numpy as np
import pytest
import torch

from fourcaster.fno.batch import Instances
from fourcaster.fno.errors import NonFiniteError
from fourcaster.fno.training.least_squares import LevenbergMarquardt, difference_jacobian, least_squares
from fourcaster.fno.training.objectives.inverse import LatentParameters, infer
from fourcaster.fno.training.objectives.priors import (
    LogNormalPrior,
    LogUniformPrior,
    NormalPrior,
    SpectralPrior,
    UniformPrior,
    fit_prior,
)
from fourcaster.fno.training.objectives.sensors import Sensors, periodic_kernel


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Least squares


def test_rosenbrock_is_minimised_with_either_scaling():
    def residuals(p):
        return torch.stack([10 * (p[1] - p[0] ** 2), 1 - p[0]])

    def jacobian(p):
        return torch.stack([torch.stack([-20 * p[0], p[0] * 0 + 10]), torch.tensor([-1.0, 0.0]).double()])

    start = torch.tensor([-1.2, 1.0], dtype=torch.float64)
    solution = least_squares(residuals, jacobian, start, steps=100, tolerance=1e-10)
    assert torch.allclose(solution, torch.ones(2, dtype=torch.float64), atol=1e-8)
    p = start
    solver = LevenbergMarquardt()
    for _ in range(100):
        p, _ = solver.step(p, residuals(p), jacobian(p), loss=lambda q: float(residuals(q).square().sum()))
    assert torch.allclose(p, torch.ones(2, dtype=torch.float64), atol=1e-6)


def test_marquardt_steps_do_not_depend_on_the_scale_of_a_parameter():
    a = torch.randn(9, 3, generator=generator(), dtype=torch.float64)
    b = torch.randn(9, generator=generator(1), dtype=torch.float64)
    scale = torch.tensor([1.0, 1e-3, 1e4], dtype=torch.float64)
    zero = torch.zeros(3, dtype=torch.float64)
    steps = []
    for s in (torch.ones_like(scale), scale):
        solver = LevenbergMarquardt(damping=0.5, scaling="diagonal")
        j = a * s
        step, improved = solver.step(zero, -b, j, loss=lambda p, j=j: float((j @ p - b).square().sum()))
        assert improved
        steps.append(step * s)
    assert torch.allclose(*steps)


def test_residuals_that_are_not_finite_are_refused():
    with pytest.raises(NonFiniteError, match="not finite"):
        least_squares(lambda p: p / 0, lambda p: torch.eye(2).double(), torch.ones(2).double())


def test_difference_quotients_equal_the_derivative_for_any_batch_size():
    p = torch.tensor([0.3, -0.2, 1.1], dtype=torch.float64)

    def function(z):
        return torch.stack([z[:, 0] * z[:, 1], z[:, 2].sin(), z.square().sum(1)], dim=1)

    exact = torch.autograd.functional.jacobian(lambda z: function(z[None])[0], p)
    for batch in (1, 2, 4, 100):
        assert torch.allclose(difference_jacobian(function, p, step=1e-4, batch=batch), exact, atol=1e-7)


# Priors


def test_priors_have_their_mean_and_standard_deviation():
    z = torch.randn(200_000, generator=generator(), dtype=torch.float64)
    normal = NormalPrior(-2.0, 0.5).transform(z)
    assert float(normal.mean()) == pytest.approx(-2.0, abs=0.01)
    assert float(normal.std()) == pytest.approx(0.5, rel=0.01)
    assert float(LogNormalPrior(-1.0, 0.3).transform(z).log().mean()) == pytest.approx(-1.0, abs=0.01)
    uniform = UniformPrior(2.0, 5.0).transform(z)
    assert 2 <= float(uniform.min()) < 2.01
    assert 4.99 < float(uniform.max()) <= 5
    assert float(uniform.mean()) == pytest.approx(3.5, abs=0.01)


def test_a_fitted_prior_lies_between_the_extremes_of_the_samples():
    samples = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64)
    assert fit_prior(samples) == LogUniformPrior(0.1, 0.4)
    assert fit_prior(samples - 0.2) == UniformPrior(pytest.approx(-0.1), pytest.approx(0.2))
    with pytest.raises(ValueError, match="at least two samples, got 1"):
        fit_prior(samples[:1])


def test_a_log_uniform_prior_is_uniform_in_the_logarithm():
    z = torch.randn(200_000, generator=generator(), dtype=torch.float64)
    prior = LogUniformPrior(0.1, 1000.0)
    levels = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    quantiles = torch.quantile(prior.transform(z).log10(), levels)
    assert torch.allclose(quantiles, 4 * levels - 1, atol=0.02)
    assert float(prior.transform(torch.tensor(-30.0))) == pytest.approx(0.1)


@pytest.mark.parametrize(("grid", "modes"), [((16,), 5), ((9, 8), 3), ((6, 5, 7), 2)])
def test_samples_of_a_spectral_prior_have_its_fitted_mean_and_spectrum(grid, modes):
    states = torch.randn(400, 2, *grid, generator=generator(), dtype=torch.float64)
    states[:, 1] = 3 * states[:, 1] + 7
    prior = SpectralPrior.fit(states, modes)
    assert len(prior.waves) == ((2 * modes + 1) ** len(grid) + 1) // 2
    z = torch.randn(4000, prior.unknowns, generator=generator(1), dtype=torch.float64)
    refitted = SpectralPrior.fit(prior.transform(z), modes)
    assert torch.allclose(refitted.mean, prior.mean, atol=0.05)
    assert torch.allclose(refitted.spread, prior.spread, rtol=0.15)
    mean = prior.transform(torch.zeros(1, prior.unknowns, dtype=torch.float64))
    assert torch.allclose(mean, prior.mean.reshape(1, 2, *[1] * len(grid)).expand(1, 2, *grid))


def test_every_mode_of_a_spectral_prior_changes_the_field():
    prior = SpectralPrior.fit(torch.randn(50, 1, 8, 8, generator=generator()), 2)
    identity = torch.eye(prior.unknowns, dtype=torch.float64)
    fields = (prior.transform(identity) - prior.transform(0 * identity)).flatten(1)
    count = prior.unknowns // 2
    used = [i for i in range(prior.unknowns) if i != count]  # the imaginary part of the mean is unused
    assert torch.linalg.matrix_rank(fields[used]) == len(used)
    assert not fields[count].any()


# Sensors


@pytest.mark.parametrize("grid", [(12,), (9, 12), (7, 8, 9)])
def test_sensors_read_trigonometric_polynomials_exactly(grid):
    positions = torch.rand(5, len(grid), generator=generator(), dtype=torch.float64)

    def field(x):
        waves = [torch.cos(2 * math.pi * (d + 1) * x[..., d] + d) for d in range(len(grid))]
        return torch.stack([math.prod(waves), sum(waves) + 2], dim=0)

    axes = [torch.arange(n, dtype=torch.float64) / n for n in grid]
    u = field(torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1))
    times = torch.tensor([0.25, 0.5, 1.5], dtype=torch.float64)
    sensors = Sensors(positions, times, torch.zeros(2, 5, 3), 0.1)
    nodes = torch.tensor([0.0, 1.0], dtype=torch.float64)
    windows = [
        (1 + nodes + w).reshape(1, 2, *[1] * (1 + len(grid))) * u[None, None] for w in range(2)
    ]  # grows linearly in time
    expected = field(positions)[None, ..., None] * (1 + times)
    assert torch.allclose(sensors.observe(windows, 1.0), expected, atol=1e-10)
    with pytest.raises(ValueError, match=r"ends at 1, before the last reading at 1\.5"):
        sensors.observe(windows[:1], 1.0)


@pytest.mark.parametrize("points", [7, 8])
def test_interpolation_to_the_grid_itself_is_the_identity(points):
    x = torch.arange(points, dtype=torch.float64) / points
    assert torch.allclose(periodic_kernel(x, points), torch.eye(points, dtype=torch.float64), atol=1e-14)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": torch.rand(3)}, "do not match positions"),
        ({"readings": torch.zeros(1, 2, 4)}, "do not match positions"),
        ({"positions": torch.full((3, 1), 1.0)}, r"positions must be in \[0, 1\)"),
        ({"times": torch.tensor([0.0, 2.0, 1.0, 3.0])}, "times must increase"),
        ({"noise": torch.tensor([0.0])}, "noise must be positive"),
        ({"readings": torch.full((1, 3, 4), math.nan)}, "all readings are missing"),
    ],
)
def test_invalid_sensors_are_refused(change, message):
    valid = {
        "positions": torch.rand(3, 1),
        "times": torch.arange(4.0),
        "readings": torch.zeros(1, 3, 4),
        "noise": 0.1,
    }
    Sensors(**valid)
    with pytest.raises(ValueError, match=message):
        Sensors(**valid | change)


# Inference


def test_the_posterior_of_a_linear_problem_is_the_exact_one():
    """Two constant fields, observed once: prior, noise and posterior are Gaussian."""
    prior = SpectralPrior.fit(torch.randn(60, 2, 6, 5, generator=generator(), dtype=torch.float64), 1)
    latent = LatentParameters(prior, {"offset": NormalPrior(0.5, 2.0)})
    positions = torch.rand(7, 2, generator=generator(1), dtype=torch.float64)
    readings = torch.randn(2, 7, 1, generator=generator(2), dtype=torch.float64)
    readings[1, 3] = math.nan
    noise = torch.tensor([0.8, 2.0], dtype=torch.float64).reshape(2, 1, 1)
    sensors = Sensors(positions, torch.tensor([0.0]), readings, noise)

    def observe(instances: Instances) -> torch.Tensor:
        offset = instances.parameters["offset"].reshape(-1, 1, 1, 1, 1)
        return sensors.observe([(instances.state[:, None] + offset).expand(-1, 3, -1, -1, -1)], 1.0)

    estimate = infer(latent, sensors, observe)["offset"]
    matrix = torch.stack(
        [
            (observe(latent.instances(z[None])) - observe(latent.instances(0 * z[None])))[0, sensors.known]
            for z in torch.eye(len(latent.z), dtype=torch.float64)
        ],
        dim=1,
    ).double()
    scale = noise.expand_as(readings)[sensors.known]
    matrix = matrix / scale[:, None]
    residual = (readings - observe(latent.instances(0 * latent.z[None]))[0])[sensors.known] / scale
    covariance = torch.linalg.inv(matrix.T @ matrix + torch.eye(len(latent.z), dtype=torch.float64))
    assert torch.allclose(latent.z, covariance @ matrix.T @ residual, atol=1e-3)
    widened = covariance * max(1.0, estimate.misfit_over_noise) ** 2
    assert torch.allclose(latent.factor @ latent.factor.T, widened, atol=1e-3)
    assert estimate.standard_deviation == pytest.approx(2.0 * float(widened[0, 0].sqrt()), rel=1e-3)
    samples = latent.sample(4000, generator(3)).parameters["offset"]
    assert float(samples.std()) == pytest.approx(estimate.standard_deviation, rel=0.1)


def test_diffusivity_and_velocity_in_two_dimensions_are_recovered_with_their_uncertainty():
    """Advection and diffusion of waves on a torus, solved exactly."""
    grid, count = (12, 12), 80
    states = SpectralPrior.fit(torch.randn(count, 1, *grid, generator=generator(), dtype=torch.float64), 2)
    drawn = torch.randn(count, states.unknowns, generator=generator(1), dtype=torch.float64)
    latent = LatentParameters(
        SpectralPrior.fit(states.transform(drawn), 2),
        {"diffusivity": LogNormalPrior(math.log(0.02), 0.7), "velocity": UniformPrior(-1.0, 1.0)},
    )
    times = torch.linspace(0, 0.5, 9, dtype=torch.float64)
    k = 2 * math.pi * torch.fft.fftfreq(12, 1 / 12, dtype=torch.float64)
    positions = torch.rand(16, 2, generator=generator(2), dtype=torch.float64)
    kernels = [periodic_kernel(x, 12) for x in positions.unbind(1)]

    def observe(instances: Instances) -> torch.Tensor:
        nu, c = (instances.parameters[n].double()[:, None, None, None] for n in ("diffusivity", "velocity"))
        t = times[None, :, None, None]
        rate = -nu * (k[:, None] ** 2 + k**2) - 1j * c * k
        spectrum = torch.fft.fft2(instances.state.double()[:, 0, None]) * torch.exp(rate * t)
        u = torch.fft.ifft2(spectrum).real
        return torch.einsum("btij,si,sj->bst", u, *kernels)[:, None]

    truth = latent.instances(torch.randn(1, len(latent.z), generator=generator(3), dtype=torch.float64))
    truth.parameters["diffusivity"][0] = 0.013
    truth.parameters["velocity"][0] = 0.4
    noise = 0.02
    exact = observe(truth)[0]
    readings = exact + noise * torch.randn(exact.shape, generator=generator(4), dtype=torch.float64)
    estimates = infer(latent, Sensors(positions, times, readings, noise), observe)
    for name, value in (("diffusivity", 0.013), ("velocity", 0.4)):
        estimate = estimates[name]
        assert abs(estimate.value - value) < 4 * estimate.standard_deviation
        assert estimate.standard_deviation < 0.1 * value
    assert 0.5 < estimates["velocity"].misfit_over_noise < 1.2
    error = latent.instances(latent.z[None]).state - truth.state
    assert float(error.norm()) < 0.4 * float(truth.state.norm())


def test_the_saved_posterior_has_the_shapes_of_earlier_versions():
    """One field on a line: the coefficients, and real and imaginary parts of waves 0 to 16."""
    latent = LatentParameters.from_simulations(torch.randn(5, 1, 64), {"viscosity": torch.rand(5) + 0.1})
    shapes = {name: tuple(t.shape) for name, t in latent.state_dict().items()}
    assert shapes == {"z": (35,), "factor": (35, 35), "tenths": ()}
    z = torch.zeros(1, 35, dtype=torch.float64)
    z[0, 1 + 3] = 1.0
    state = latent.instances(z).state[0, 0].numpy()
    waves = np.abs(np.fft.rfft(state - latent.instances(0 * z).state[0, 0].numpy()))
    assert waves.argmax() == 3
