"""Residuals of steady equations on grids with a different number of points along each axis."""

import math

import pytest
import torch

from fourcaster.fno.physics.derivatives import FiniteVolumes
from fourcaster.fno.physics.steady import SteadyEquation, reference_size

LENGTH = 2.0


def nodes(rows, columns):
    axes = (torch.linspace(0, LENGTH, n, dtype=torch.float64) for n in (rows, columns))
    return torch.meshgrid(*axes, indexing="ij")


def solution(rows, columns):
    """Return u and a with ``-div(a grad u) = f`` and u = 0 on the boundary, at the nodes, and f inside."""
    y, x = nodes(rows, columns)
    k = math.pi / LENGTH
    sine_y, sine_x = torch.sin(k * y), torch.sin(2 * k * x)
    a = 2 + x + y
    u = sine_y * sine_x
    gradient_y = k * torch.cos(k * y) * sine_x
    gradient_x = 2 * k * sine_y * torch.cos(2 * k * x)
    f = -(gradient_y + gradient_x) + a * 5 * k**2 * u
    return u, a, f[1:-1, 1:-1]


@pytest.mark.parametrize("shape", [(33, 33), (33, 17), (17, 33), (65, 9)])
def test_the_residual_of_an_exact_solution_vanishes_at_second_order_on_any_grid(shape):
    equation = SteadyEquation("darcy", 0.0, LENGTH)
    errors = []
    for factor in (1, 2, 4):
        u, a, f = solution(*(factor * (n - 1) + 1 for n in shape))
        errors.append(float((equation.residual(u, a) - f).square().mean().sqrt() / f.square().mean().sqrt()))
    assert errors[0] < 0.2
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.2)
    assert errors[2] == pytest.approx(errors[1] / 4, rel=0.1)


@pytest.mark.parametrize("shape", [(17, 17), (33, 17), (9, 20)])
def test_the_scaled_residual_equals_the_error_on_any_grid(shape):
    equation = SteadyEquation("darcy", 1.0, LENGTH)
    a = torch.full(shape, 3.0, dtype=torch.float64)
    u = torch.zeros(shape, dtype=torch.float64)
    error = torch.zeros(shape, dtype=torch.float64)
    inner = tuple(n - 2 for n in shape)
    error[1:-1, 1:-1] = torch.randn(inner, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    difference = equation.residual(u + error, a) - equation.residual(u, a)
    assert torch.allclose(equation.scaled(difference, a), error[1:-1, 1:-1], atol=1e-10)


def test_one_spacing_for_both_axes_gives_the_same_bits_as_two_equal_ones():
    u, a, _ = solution(17, 17)
    h = LENGTH / 16
    expected = FiniteVolumes(h).flux_divergence(u, a)
    assert torch.equal(FiniteVolumes((h, h)).flux_divergence(u, a), expected)
    assert torch.equal(SteadyEquation("darcy", 0.0, LENGTH).residual(u, a), -expected - 0.0)


def test_the_budget_of_a_heat_sink_depends_on_its_shape_and_not_on_its_cells():
    metal = torch.zeros(1, 1, 12, 12)
    metal[..., :3, :] = 1
    metal[..., 3:9, 2:5] = 1
    size = reference_size("heat_sink", {"flux": 2e4})
    parameters = {"transfer": torch.tensor([100.0])}
    expected = size(metal, parameters)
    # The perimeter is the length of the plate and both sides of a fin that is half as high.
    assert torch.allclose(expected, torch.full((1, 1, 1, 1), 2e4 / (100 * 2.0)))
    for dim in (-2, -1):
        assert torch.allclose(size(metal.repeat_interleave(2, dim), parameters), expected)
