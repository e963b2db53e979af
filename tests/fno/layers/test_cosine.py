"""Convolution in cosine series: the formula, the even continuation, other resolutions, broken inputs."""

import pytest
import torch

from fourcaster.fno import InputError, ModesError
from fourcaster.fno.layers.cosine import CosineConv, cosine_analysis, cosine_synthesis


def even(x):
    """Return the even continuation of fields on nodes to periodic ones of twice the length."""
    for d in range(2, x.ndim):
        x = torch.cat([x, x.narrow(d, 1, x.shape[d] - 2).flip(d)], dim=d)
    return x


def smooth(n):
    """Return a field of three cosine modes and a few products of them, the same function on every grid."""
    z = torch.arange(n, dtype=torch.float64) / (n - 1)
    y, x = torch.meshgrid(z, z, indexing="ij")
    first = 0.3 + torch.cos(torch.pi * y) * torch.cos(2 * torch.pi * x)
    return torch.stack([first, torch.cos(3 * torch.pi * y) - 2 * torch.cos(torch.pi * x)])[None]


@pytest.mark.parametrize(("n", "modes"), [(1, 1), (2, 2), (5, 3), (6, 6), (9, 4)])
def test_analysis_inverts_synthesis(n, modes):
    identity = cosine_analysis(n, modes) @ cosine_synthesis(n, modes)
    assert torch.allclose(torch.from_numpy(identity), torch.eye(modes, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("size", [(9,), (8, 9), (5, 6, 7)])
def test_equals_a_real_fourier_multiplier_on_the_even_continuation(size):
    torch.manual_seed(0)
    d = len(size)
    modes = [3] * d
    layer = CosineConv(2, 4, modes).double()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(3, 2, *size, dtype=torch.float64)
    spectrum = torch.fft.fftn(even(x), dim=tuple(range(2, d + 2)))
    weight = layer.weight.detach().reshape(*modes, 2, 4)
    multiplied = torch.zeros(3, 4, *spectrum.shape[2:], dtype=spectrum.dtype)
    for k in torch.cartesian_prod(*[torch.arange(-2, 3)] * d).reshape(-1, d).tolist():
        at = tuple(k)
        multiplied[(..., *at)] = spectrum[(..., *at)] @ weight[tuple(abs(i) for i in k)].to(spectrum.dtype)
    expected = torch.fft.ifftn(multiplied, dim=tuple(range(2, d + 2))).real
    expected = expected[(..., *(slice(n) for n in size))] + layer.bias.reshape(-1, *[1] * d)
    torch.testing.assert_close(layer(x), expected)


def test_is_the_same_operator_on_every_grid():
    layer = CosineConv(2, 3, (4, 4)).double()
    coarse = layer(smooth(9))
    for n in (17, 33):
        stride = (n - 1) // 8
        torch.testing.assert_close(layer(smooth(n))[..., ::stride, ::stride], coarse)


def test_commutes_with_reflections():
    layer = CosineConv(1, 1, (4, 5)).double()
    x = torch.randn(2, 1, 9, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(x.flip(-1)), layer(x).flip(-1))


def test_gradients_are_those_of_finite_differences():
    layer = CosineConv(2, 2, (2, 3)).double()
    x = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)


def test_half_precision_is_computed_in_single_precision():
    layer = CosineConv(2, 2, (3, 3))
    x = torch.randn(1, 2, 8, 8).bfloat16()
    assert layer.bfloat16()(x).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer.float()(x.float()).dtype == torch.float32


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(1, 2, 8), InputError, r"\(batch, 2, n, n\), got \(1, 2, 8\)"),
        (torch.zeros(1, 3, 8, 8), InputError, "got"),
        (torch.zeros(1, 2, 8, 8, dtype=torch.complex64), InputError, "real"),
        (torch.zeros(1, 2, 8, 3), ModesError, r"\(8, 3\) points cannot resolve \(4, 4\) cosine modes"),
    ],
)
def test_invalid_input_is_refused(x, error, message):
    with pytest.raises(error, match=message):
        CosineConv(2, 2, (4, 4))(x)


@pytest.mark.parametrize("arguments", [(0, 1, (2,)), (1, 0, (2,)), (1, 1, (0,))])
def test_counts_below_one_are_refused(arguments):
    with pytest.raises(ValueError, match="at least 1"):
        CosineConv(*arguments)
