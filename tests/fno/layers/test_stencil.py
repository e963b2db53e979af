"""Local kernel at fixed distances: the formula, other resolutions, edges, broken inputs."""

import pytest
import torch

from fourcaster.fno import InputError
from fourcaster.fno.layers.stencil import StencilConv


@pytest.mark.parametrize("size", [(8,), (8, 16)])
def test_is_the_sum_over_neighbours_of_the_reference_grid(size):
    torch.manual_seed(0)
    reference = [8] * len(size)
    layer = StencilConv(2, 3, reference, periodic=[True] * len(size)).double()
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    dims = tuple(range(2, x.ndim))
    strides = [n // 8 for n in size]
    expected = torch.zeros(2, 3, *size, dtype=torch.float64)
    for offset, weight in zip(layer.offsets(), layer.weight.detach().flatten(2).unbind(-1), strict=True):
        shifted = x.roll([-o * s for o, s in zip(offset, strides, strict=True)], dims)
        expected += torch.einsum("oi,bi...->bo...", weight, shifted)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("periodic", [True, False])
def test_values_on_the_reference_grid_do_not_depend_on_the_points_between(periodic):
    layer = StencilConv(2, 2, (8, 8), periodic=(periodic, periodic)).double()
    n = 24 if periodic else 25
    fine = torch.randn(1, 2, n, n, dtype=torch.float64)
    torch.testing.assert_close(layer(fine)[..., ::3, ::3], layer(fine[..., ::3, ::3]))


def test_continues_evenly_beyond_edges():
    layer = StencilConv(1, 1, (4,), periodic=(False,)).double()
    x = torch.randn(1, 1, 5, dtype=torch.float64)
    whole = torch.cat([x, x[..., 1:-1].flip(-1)], dim=-1)
    periodic = StencilConv(1, 1, (8,), periodic=(True,)).double()
    periodic.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x), periodic(whole)[..., :5])


def test_is_bounded_under_refinement_of_noise():
    torch.manual_seed(0)
    layer = StencilConv(1, 1, (16,), periodic=(True,))
    sizes = [layer(torch.randn(64, 1, n)).std().item() for n in (16, 256)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.2)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 2, 8), r"\(batch, 2, n, n\), got \(1, 2, 8\)"),
        (torch.zeros(1, 1, 8, 9), "got"),
        (torch.zeros(1, 2, 8, 13), r"\(8, 13\) points does not contain the reference grid of \(8, 8\)"),
        (torch.zeros(1, 2, 4, 9), "use a multiple"),
        (torch.zeros(1, 2, 8, 9, dtype=torch.complex64), "real"),
    ],
)
def test_invalid_input_is_refused(x, message):
    with pytest.raises(InputError, match=message):
        StencilConv(2, 2, (8, 8), periodic=(True, False))(x)


@pytest.mark.parametrize(
    ("arguments", "periodic", "message"),
    [
        ((0, 1, (4,)), (True,), "at least 1"),
        ((1, 1, (0,)), (True,), "at least 1"),
        ((1, 1, (4, 4)), (True,), "one or two dimensions"),
        ((1, 1, (4, 4, 4)), (True,) * 3, "one or two dimensions"),
    ],
)
def test_invalid_arguments_are_refused(arguments, periodic, message):
    with pytest.raises(ValueError, match=message):
        StencilConv(*arguments, periodic=periodic)
