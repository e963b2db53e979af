"""Differences on the sphere: exact values, poles, rotations about the axis, resolution, adjoints."""

import numpy as np
import pytest
import torch

from fourcaster.fno import InputError
from fourcaster.fno.grids import sphere_nodes
from fourcaster.fno.layers.spherical_local import SphericalDifference

GRIDS = ["equiangular", "equiangular-no-poles", "legendre-gauss"]
REFERENCE = 16
H = np.pi / REFERENCE


def polynomial(theta, phi):
    """Return a field of degree 2 at colatitudes and longitudes, also beyond the poles."""
    x, y, z = np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)
    return x * y + z * x + 0.3 * y + z * z


def second_and_first(at):
    return [(at(1) - at(-1)) / 2, at(1) - 2 * at(0) + at(-1)]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("nlat", "nlon"), [(32, 64), (33, 65), (200, 40)])
def test_differences_are_those_of_the_field_at_a_fixed_distance(grid, nlat, nlon):
    theta = sphere_nodes(nlat, grid)[0][:, None]
    phi = 2 * np.pi * np.arange(nlon) / nlon
    angle = 2 * np.arcsin(np.minimum(1, np.sin(H / 2) / np.maximum(np.sin(theta), 1e-12)))
    expected = second_and_first(lambda s: polynomial(theta, phi + s * angle))
    expected += second_and_first(lambda s: polynomial(theta + s * H, phi))
    layer = SphericalDifference(1, 1, reference=REFERENCE, grid=grid)
    field = torch.from_numpy(polynomial(theta, phi))[None, :, :, None]
    differences = [d[0, ..., 0].numpy() for d in layer.differences(field)]
    for d, e in zip(differences[:2], expected[:2], strict=True):
        assert np.abs(d - e).max() < 1e-13
    for d, e in zip(differences[2:], expected[2:], strict=True):
        assert np.abs(d - e).max() < 1e-4  # cubic interpolation between rows


def test_differences_on_the_reference_grid_use_points_only():
    layer = SphericalDifference(1, 1, reference=REFERENCE, grid="equiangular-no-poles")
    field = torch.randn(1, REFERENCE, 24, 1, dtype=torch.float64)
    beyond = torch.cat([field[:, :1].roll(12, 2), field, field[:, -1:].roll(12, 2)], dim=1)
    _, _, first, second = layer.differences(field)
    assert torch.allclose(first, (beyond[:, 2:] - beyond[:, :-2]) / 2, atol=1e-12)
    assert torch.allclose(second, beyond[:, 2:] - 2 * field + beyond[:, :-2], atol=1e-12)


@pytest.mark.parametrize("grid", GRIDS)
def test_the_layer_commutes_with_turns_about_the_axis_and_maps_constants_to_zero(grid):
    torch.manual_seed(0)
    layer = SphericalDifference(5, 3, reference=12, grid=grid).double()
    x = torch.randn(2, 5, 14, 20, dtype=torch.float64)
    assert torch.allclose(layer(x.roll(7, -1)), layer(x).roll(7, -1), atol=1e-13)
    assert layer(torch.ones_like(x)).abs().max() < 1e-13
    assert layer(x).shape == (2, 3, 14, 20)


def test_gradients_are_those_of_finite_differences_and_blocks_of_rows_change_nothing(monkeypatch):
    torch.manual_seed(0)
    layer = SphericalDifference(4, 2, reference=7).double()
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))
    whole = layer(x)
    monkeypatch.setattr("fourcaster.fno.layers.spherical_local._BLOCK", 4)
    assert torch.allclose(layer(x), whole, atol=1e-14)


def test_wrong_inputs_are_refused():
    with pytest.raises(ValueError, match="at least 4 rows, got 3"):
        SphericalDifference(1, 1, reference=3)
    with pytest.raises(InputError, match=r"expected a tensor of shape \(batch, 2, latitude, longitude\)"):
        SphericalDifference(2, 1, reference=8)(torch.zeros(1, 3, 8, 16))
