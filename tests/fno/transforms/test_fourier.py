"""Truncated Fourier transforms: agreement with torch.fft, adjoints, resolution, and limits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fourcaster.fno import ModesError
from fourcaster.fno.transforms.fourier import (
    analyse,
    choose_method,
    from_modes,
    kept_modes,
    resample,
    synthesise,
    to_modes,
)

SIZES = [
    (8, 8),
    (9, 7),
    (25, 53),
    (32, 64),
    (5, 6),
    (121, 240),
    (47, 50),
    (1, 4),
    (4, 1),
    (13,),
    (16,),
    (1,),
    (6, 5, 9),
    (4, 7, 8),
]
METHODS = ["dft", "fft"]


def random(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(math.prod(shape)))


def reference(x, modes):
    """Return the coefficients by torch.fft, selected one wavenumber at a time."""
    d = len(modes)
    full = torch.fft.fftn(x, dim=tuple(range(1, d + 1)), norm="forward")
    for dim, wave in enumerate(modes):
        full = full.index_select(dim + 1, torch.tensor([k % x.shape[dim + 1] for k in wave]))
    return torch.stack([full.real, full.imag], dim=1)


@st.composite
def cases(draw):
    size = tuple(draw(st.lists(st.integers(1, 16), min_size=1, max_size=3)))
    if draw(st.booleans()) and len(size) == 2:
        size = (draw(st.integers(40, 60)), size[1])  # long enough for wavenumbers to share their sums
    return size, tuple(draw(st.integers(1, n)) for n in size)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_both_methods_agree_with_torch_fft(case):
    size, n_modes = case
    x = random(2, *size, 2)
    modes = kept_modes(n_modes, size)
    for method in METHODS:
        assert torch.allclose(to_modes(x, n_modes, method), reference(x, modes), atol=1e-13)
        single = to_modes(x.float(), n_modes, method).double()
        assert (single - reference(x, modes)).norm() <= 1e-5 * x.norm() / x[0, ..., 0].numel() ** 0.5


@settings(max_examples=40, deadline=None)
@given(cases())
def test_gradients_are_adjoints(case):
    """<y, A x> = <A^T y, x> for both transforms, and both methods have the same gradients."""
    size, n_modes = case
    x = random(1, *size, 2).requires_grad_()
    z = random(*to_modes(x, n_modes).shape).requires_grad_()
    gradients = []
    for method in METHODS:
        (forward,) = torch.autograd.grad((to_modes(x, n_modes, method) * z).sum(), x)
        (inverse,) = torch.autograd.grad((from_modes(z, n_modes, size, method=method) * x).sum(), z)
        assert torch.allclose((forward * x).sum(), (to_modes(x, n_modes, method) * z).sum())
        assert torch.allclose((inverse * z).sum(), (from_modes(z, n_modes, size, method=method) * x).sum())
        gradients.append((forward, inverse))
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-11)


@pytest.mark.parametrize("size", [(7, 6), (44, 5), (9,), (4, 3, 5)])
@pytest.mark.parametrize("method", METHODS)
def test_gradients_can_be_differentiated_again(size, method):
    n_modes = tuple(max(1, n - 1) for n in size)
    x = random(1, *size, 1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: from_modes(to_modes(x, n_modes, method) ** 2, n_modes, size, method=method), x
    )
    if math.prod(size) < 100:
        assert torch.autograd.gradgradcheck(lambda x: to_modes(x, n_modes, method) ** 2, x)


@pytest.mark.parametrize(
    ("batch", "size", "n_modes"),
    [(2, (121, 240), (24, 24)), (1, (90, 181), (16, 30)), (3, (40, 36, 30), (8, 9, 10)), (5, (96,), (40,))],
)
def test_large_products_agree_with_float64(batch, size, n_modes):
    """Large enough for products and their transposes to use the algorithm for large ones."""
    x = random(batch, *size, 64, dtype=torch.float32).requires_grad_()
    exact = x.detach().double().requires_grad_()
    z, exact_modes = to_modes(x, n_modes, "dft"), to_modes(exact, n_modes, "fft")
    y, field = (
        from_modes(z, n_modes, size, method="dft"),
        from_modes(exact_modes, n_modes, size, method="fft"),
    )
    y.square().sum().backward()
    field.square().sum().backward()
    for a, b in ((z, exact_modes), (y, field), (x.grad, exact.grad)):
        assert (a.double() - b).norm() < 1e-5 * b.norm()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", METHODS)
def test_all_modes_together_reproduce_the_field(size, method):
    x = random(2, *size, 3)
    assert torch.allclose(from_modes(to_modes(x, size, method), size, size, method=method), x, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rows", [range(-3, 3), range(2, 7), range(0, 9), range(-4, 1)])
def test_any_range_of_wavenumbers_can_be_retained(method, rows):
    x, modes = random(1, 9, 10, 2), (rows, range(4))
    z = analyse(x, modes, method)
    assert torch.allclose(z, reference(x, modes), atol=1e-14)
    assert torch.allclose(
        analyse(synthesise(z, modes, (9, 10), method="fft"), modes),
        analyse(synthesise(z, modes, (9, 10), method="dft"), modes),
        atol=1e-14,
    )


def test_modes_are_counted_as_in_neuraloperator():
    assert kept_modes((12, 12), (64, 64)) == (range(-6, 6), range(7))
    assert kept_modes((5, 5), (64, 64)) == (range(-2, 3), range(3))
    assert kept_modes((9, 8), (9, 8)) == (range(-4, 5), range(5))


@pytest.mark.parametrize("method", METHODS)
def test_coefficients_do_not_depend_on_resolution(method):
    def field(h, w):
        y, x = torch.meshgrid(torch.arange(h) / h, torch.arange(w) / w, indexing="ij")
        return (torch.cos(2 * math.pi * (2 * y + 3 * x)) + 0.5 * torch.sin(2 * math.pi * (x - y)))[
            None, :, :, None
        ]

    coarse, fine = (to_modes(field(*size), (8, 8), method) for size in ((16, 17), (51, 64)))
    assert torch.allclose(coarse, fine, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new"), [((12, 15), (18, 30)), ((9,), (27,)), ((24, 20), (13, 11)), ((6, 7, 8), (12, 9, 10))]
)
def test_resampling_keeps_modes_that_both_grids_resolve(old, new):
    least = tuple((min(a, b) - 1) // 2 * 2 + 1 for a, b in zip(old, new, strict=True))
    x = from_modes(to_modes(random(1, *old, 2), least), least, old)  # band-limited
    resampled = resample(x, new)
    assert torch.allclose(resample(resampled, old), x, atol=1e-12)
    assert torch.allclose(resampled.flatten(1, -2).mean(1), x.flatten(1, -2).mean(1), atol=1e-13)
    assert resample(x, old) is x


def test_half_precision_is_transformed_in_float32():
    assert to_modes(torch.randn(1, 12, 12, 1).bfloat16(), (4, 4)).dtype == torch.float32


@pytest.mark.parametrize("method", METHODS)
def test_tables_cached_in_inference_mode_can_be_used_in_training(method):
    size = (10, 11)
    with torch.inference_mode():
        to_modes(random(1, *size, 1), (4, 3), method)
    x = random(1, *size, 1).requires_grad_()
    to_modes(x, (4, 3), method).sum().backward()
    assert x.grad is not None


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="unknown transform method 'dct'"):
        to_modes(torch.zeros(1, 4, 4, 1), (2, 2), "dct")
    with pytest.raises(ModesError, match="at least 1"):
        kept_modes((0, 2), (4, 4))
    with pytest.raises(ModesError, match=r"grid of \(4, 4\) points cannot resolve \(5, 2\) modes"):
        kept_modes((5, 2), (4, 4))
    with pytest.raises(ModesError, match="dimensions"):
        kept_modes((2,), (4, 4))
    with pytest.raises(ModesError, match=r"the coefficients have \(3, 3\) modes"):
        from_modes(torch.zeros(1, 2, 3, 3, 1), (8, 8), (16, 16))


def test_the_matrix_product_is_chosen_for_few_modes():
    assert choose_method((8, 5), (32, 64)) == "dft"
    assert choose_method((64, 65), (128, 128)) == "fft"
    assert choose_method((361, 361), (721, 1440)) == "fft"
    assert choose_method((4, 3), (32, 64), "some other device") == "fft"
