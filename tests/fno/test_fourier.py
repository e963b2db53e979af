"""Truncated transforms: both methods agree with torch.fft and are exact where they should be, at odd and even sizes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fourcaster.fno.transforms.fourier import choose_method, from_modes, kept_modes, to_modes

SIZES = [(8, 8), (9, 7), (25, 53), (32, 64), (5, 6), (121, 240), (1, 4), (4, 1)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", ["dft", "fft"])
def test_all_modes_give_the_field_back(size, method):
    x = torch.randn(2, *size, 3)
    back = from_modes(to_modes(x, size, method), size, size, method)
    assert torch.allclose(back, x, atol=5e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 24), st.integers(1, 24))
def test_dft_equals_fft(h, w, m, n):
    x = torch.randn(2, h, w, 2, generator=torch.Generator().manual_seed(h * 1000 + w))
    a, b = (to_modes(x, (m, n), method) for method in ("dft", "fft"))
    assert torch.allclose(a, b, atol=1e-6)
    assert torch.allclose(from_modes(a, (m, n), (h, w), "dft"), from_modes(a, (m, n), (h, w), "fft"), atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_coefficients_are_those_of_torch_fft(size):
    x = torch.randn(1, *size, 1, dtype=torch.float64)
    rows, columns = kept_modes((6, 6), size)
    full = torch.fft.fft2(x[..., 0], norm="forward")
    z = to_modes(x, (6, 6))
    for i, k in enumerate(rows):
        for j, l in enumerate(columns):
            got = torch.complex(z[0, 0, i, j, 0], z[0, 1, i, j, 0])
            assert abs(got - full[0, k % size[0], l]) < 1e-12


def test_modes_are_counted_as_in_neuraloperator():
    assert kept_modes((12, 12), (64, 64)) == (range(-6, 6), range(7))
    assert kept_modes((5, 5), (64, 64)) == (range(-2, 3), range(3))
    assert kept_modes((99, 99), (9, 8)) == (range(-4, 5), range(5))


@pytest.mark.parametrize("method", ["dft", "fft"])
def test_coefficients_do_not_depend_on_resolution(method):
    def field(h, w):
        y, x = torch.meshgrid(torch.arange(h) / h, torch.arange(w) / w, indexing="ij")
        return (torch.cos(2 * math.pi * (2 * y + 3 * x)) + 0.5 * torch.sin(2 * math.pi * (x - y)))[None, :, :, None]

    coarse, fine = (to_modes(field(*size), (8, 8), method) for size in ((16, 17), (51, 64)))
    assert torch.allclose(coarse, fine, atol=1e-6)


@pytest.mark.parametrize("size", [(9, 10), (12, 7)])
def test_gradients_are_those_of_the_fft(size):
    x = torch.randn(1, *size, 2, requires_grad=True)
    grads = []
    for method in ("dft", "fft"):
        y = from_modes(to_modes(x, (5, 4), method), (5, 4), size, method)
        grads.append(torch.autograd.grad(y.square().sum(), x)[0])
    assert torch.allclose(*grads, atol=1e-5)


def test_half_precision_is_transformed_in_float32():
    z = to_modes(torch.randn(1, 12, 12, 1).bfloat16(), (4, 4))
    assert z.dtype == torch.float32


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="unknown transform method 'dct'"):
        to_modes(torch.zeros(1, 4, 4, 1), (2, 2), "dct")
    with pytest.raises(ValueError, match="at least 1"):
        kept_modes((0, 2), (4, 4))
    with pytest.raises(ValueError, match="hold"):
        from_modes(torch.zeros(1, 2, 3, 3, 1), (8, 8), (16, 16))


def test_few_modes_choose_the_matrix_product():
    assert choose_method((8, 8), (32, 64)) == "dft"
    assert choose_method((64, 64), (64, 64)) == "fft"
    assert choose_method((64, 64), (721, 1440)) == "fft"
