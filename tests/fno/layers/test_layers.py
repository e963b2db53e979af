"""Layers: equivariance, adjoints, resolution, factorizations, padding, and the formula of each."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fourcaster.fno import AFNO2D, FNO, SFNO, TFNO, InputError, ModesError, SpectralConv
from fourcaster.fno.grids import sphere_nodes
from fourcaster.fno.layers.activation import AliasFreeGELU
from fourcaster.fno.layers.blocks import BlockOptions, ChannelMLP, FNOBlock, InstanceNorm
from fourcaster.fno.layers.factorized import CPWeight, TuckerWeight, tucker_ranks
from fourcaster.fno.layers.local import FiniteDifference
from fourcaster.fno.layers.padding import Period, append_margin, padded_period, padded_size
from fourcaster.fno.layers.spherical import SphericalConv
from fourcaster.fno.models.base import load_weights
from fourcaster.fno.transforms.fourier import from_modes, to_modes

FACTORIZATIONS = ["dense", "depthwise", "cp", "tucker"]
layers = st.tuples(
    st.lists(st.integers(3, 11), min_size=1, max_size=3),
    st.sampled_from(FACTORIZATIONS),
    st.sampled_from(["dft", "fft"]),
)


def waves(size):
    """Return a field of low wavenumbers, the same function on every grid."""
    coordinates = torch.meshgrid(
        *(2 * torch.pi * torch.arange(n, dtype=torch.float64) / n for n in size), indexing="ij"
    )
    return torch.stack(
        [torch.cos(sum(coordinates)) + 0.3, torch.sin(2 * coordinates[-1]) * torch.cos(coordinates[0])]
    )[None]


@settings(max_examples=40, deadline=None)
@given(layers)
def test_spectral_convolution_is_linear_and_commutes_with_shifts(case):
    size, factorization, method = case
    conv = SpectralConv(
        3, 3, [max(1, n - 2) for n in size], factorization=factorization, rank=0.4, method=method, bias=False
    ).double()
    x, y = torch.randn(2, 2, 3, *size, dtype=torch.float64)
    shifts, dims = list(range(1, len(size) + 1)), list(range(2, len(size) + 2))
    assert torch.allclose(conv(x.roll(shifts, dims)), conv(x).roll(shifts, dims), atol=1e-11)
    assert torch.allclose(conv(x + 2 * y), conv(x) + 2 * conv(y), atol=1e-11)
    (adjoint,) = torch.autograd.grad((conv(x.requires_grad_()) * y).sum(), x)
    assert torch.allclose((adjoint * x).sum(), (conv(x) * y).sum())


@pytest.mark.parametrize("size", [(8,), (9, 12), (6, 5, 8)])
@pytest.mark.parametrize("factorization", ["dense", "depthwise", "cp", "tucker"])
def test_the_bias_is_a_constant_field_in_each_channel(size, factorization):
    conv = SpectralConv(3, 3, [4] * len(size), factorization=factorization).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    without = conv(x)
    torch.nn.init.normal_(conv.bias)
    assert torch.allclose(conv(x), without + conv.bias.reshape(-1, *[1] * len(size)), atol=1e-12)


@pytest.mark.parametrize("factorization", FACTORIZATIONS)
@pytest.mark.parametrize("size", [(7,), (6, 5), (4, 3, 5)])
def test_gradients_of_all_weights_agree_with_finite_differences(factorization, size):
    conv = SpectralConv(2, 2, [max(1, n - 1) for n in size], factorization=factorization, rank=0.5).double()
    x = torch.randn(2, 2, *size, dtype=torch.float64, requires_grad=True)
    parameters = dict(conv.named_parameters())
    assert torch.autograd.gradcheck(
        lambda x, *p: torch.func.functional_call(conv, dict(zip(parameters, p, strict=True)), (x,)),
        (x, *parameters.values()),
    )


def test_spectral_convolution_is_a_complex_product_of_modes():
    conv = SpectralConv(3, 2, (5, 6)).double()
    x = torch.randn(2, 3, 11, 14, dtype=torch.float64)
    z = torch.fft.rfft2(x, norm="forward")
    weight = torch.complex(conv.weight[:, :, :, 0], conv.weight[:, :, :, 1])
    out = torch.zeros(2, 2, 11, 8, dtype=torch.complex128)
    for i, k in enumerate(range(-2, 3)):
        for l in range(4):
            out[:, :, k, l] = z[:, :, k, l] @ weight[i, l]
    expected = torch.fft.irfft2(out, s=(11, 14), norm="forward") + conv.bias[:, None, None]
    assert torch.allclose(conv(x), expected, atol=1e-12)


def assemble_dense(weight, modes, inner, outer):
    """Assemble the complex tensor of a factorized weight by applying it to one channel at a time."""
    z = torch.zeros(inner, 2, *modes, inner, dtype=torch.float64)
    for i in range(inner):
        z[i, 0, ..., i] = 1
    y = weight(z)
    return torch.complex(y[:, 0], y[:, 1])


def test_factorized_weights_are_the_tensors_of_their_formula():
    modes = (5, 4)
    cp = CPWeight(modes, 3, 2, rank=6).double()
    a, b = (torch.complex(f[0], f[1]) for f in cp.along)
    u, v = torch.complex(cp.inward[:, 0], cp.inward[:, 1]), torch.complex(cp.outward[:, 0], cp.outward[:, 1])
    assert torch.allclose(
        assemble_dense(cp, modes, 3, 2), torch.einsum("kr,lr,ir,ro->iklo", a, b, u, v), atol=1e-12
    )
    tucker = TuckerWeight(modes, 3, 2, rank=0.6).double()
    core = torch.complex(tucker.core.select(-2, 0), tucker.core.select(-2, 1))
    a, b = (torch.complex(f[0], f[1]) for f in tucker.along)
    u, v = (
        torch.complex(tucker.inward[:, 0], tucker.inward[:, 1]),
        torch.complex(tucker.outward[:, 0], tucker.outward[:, 1]),
    )
    assert torch.allclose(
        assemble_dense(tucker, modes, 3, 2),
        torch.einsum("abrs,ka,lb,ir,so->iklo", core, a, b, u, v),
        atol=1e-12,
    )


@pytest.mark.parametrize("rank", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("factorization", ["cp", "tucker"])
def test_rank_is_the_fraction_of_parameters(factorization, rank):
    conv = SpectralConv(32, 32, (16, 16), factorization=factorization, rank=rank, bias=False)
    share = sum(p.numel() for p in conv.parameters()) / (16 * 9 * 32 * 32 * 2)
    assert share == pytest.approx(rank, rel=0.15)
    assert tucker_ranks((16, 9, 32, 32), 1e-9) == (1, 1, 1, 1)


@pytest.mark.parametrize("rank", [1, 6, np.int64(6)])
def test_an_integer_rank_is_the_number_of_terms_of_a_cp_weight(rank):
    conv = SpectralConv(8, 8, (8, 8), factorization="cp", rank=rank, bias=False)
    assert sum(p.numel() for p in conv.parameters()) == rank * 2 * (8 + 5 + 8 + 8)
    model = TFNO((8, 8), 1, 1, hidden_channels=8, n_layers=1, factorization="cp", rank=rank)
    assert model.blocks[0].conv.weight.inward.shape == (8, 2, rank)


@pytest.mark.parametrize("rank", [1.0, np.float32(1.0)])
def test_a_rank_of_one_as_a_float_is_the_size_of_the_dense_weight(rank):
    dense = 2 * 8 * 5 * 8 * 8  # ranks of a core are integers
    for factorization in ("cp", "tucker"):
        conv = SpectralConv(8, 8, (8, 8), factorization=factorization, rank=rank, bias=False)
        assert sum(p.numel() for p in conv.parameters()) == pytest.approx(dense, rel=0.1)


@pytest.mark.parametrize("rank", [1, 6, np.int64(6), True])
def test_an_integer_rank_of_a_tucker_weight_is_refused(rank):
    with pytest.raises(ValueError, match="must be a float, the fraction of the dense weight's parameters"):
        SpectralConv(8, 8, (8, 8), factorization="tucker", rank=rank)
    with pytest.raises(ValueError, match=f"write {float(rank)}"):
        TFNO((8, 8), 1, 1, hidden_channels=8, n_layers=1, rank=rank)


@pytest.mark.parametrize(
    "sizes",
    [
        ((12, 16), (24, 32)),
        ((11, 15), (33, 45)),
        ((9, 14), (25, 53)),
        ((9,), (14,)),
        ((7, 7, 8), (9, 12, 15)),
    ],
)
def test_spectral_convolution_is_independent_of_resolution(sizes):
    conv = SpectralConv(2, 1, [5] * len(sizes[0])).double()
    coarse, fine = (to_modes(conv(waves(s)).movedim(1, -1), [5] * len(s)) for s in sizes)
    assert torch.allclose(coarse, fine, atol=1e-13)


def test_memory_formats_agree_and_channels_last_is_kept():
    conv = SpectralConv(4, 6, (5, 5))
    x = torch.randn(2, 4, 12, 14)
    y = conv(x.to(memory_format=torch.channels_last))
    assert torch.allclose(conv(x), y, atol=1e-6) and y.is_contiguous(memory_format=torch.channels_last)


def test_transforms_stay_in_float32_under_autocast():
    conv, mixer = SpectralConv(2, 2, (4, 4)), AFNO2D(8, 2)
    x, tokens = torch.randn(1, 2, 9, 9), torch.randn(1, 6, 7, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(conv(x), conv(x.float())) and conv(x.bfloat16()).dtype == torch.float32
        mixed = mixer(tokens)
    assert torch.equal(mixed, mixer(tokens))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 50), st.integers(1, 14), st.sampled_from([1.0, 0.6, 0.2]))
def test_the_mixer_follows_the_formula_of_its_paper(h, w, fraction):
    mixer = AFNO2D(6, 2, sparsity_threshold=0.02, hard_thresholding_fraction=fraction).double()
    with torch.no_grad():
        for p in mixer.parameters():
            p.mul_(20)
    x = torch.randn(2, h, w, 6, dtype=torch.float64)
    z = torch.fft.rfft2(x, dim=(1, 2), norm="ortho").unflatten(-1, (2, 3))
    w1, w2, b1, b2 = (torch.complex(p[0], p[1]) for p in (mixer.w1, mixer.w2, mixer.b1, mixer.b2))
    hidden = torch.einsum("byxni,nio->byxno", z, w1) + b1
    hidden = torch.complex(hidden.real.relu(), hidden.imag.relu())
    out = torch.einsum("byxni,nio->byxno", hidden, w2) + b2
    out = torch.complex(*(torch.nn.functional.softshrink(p, 0.02) for p in (out.real, out.imag))).flatten(-2)
    total = h // 2 + 1
    retained = int(total * fraction)
    window = torch.zeros_like(out)
    window[:, total - retained : total + retained, :retained] = out[
        :, total - retained : total + retained, :retained
    ]
    expected = torch.fft.irfft2(window, s=(h, w), dim=(1, 2), norm="ortho") + x
    assert torch.allclose(mixer(x), expected, atol=1e-10)


def test_the_mixer_with_a_large_threshold_is_the_identity_and_has_correct_gradients():
    x = torch.randn(1, 6, 7, 8)
    assert torch.allclose(AFNO2D(8, 2, sparsity_threshold=1e6)(x), x, atol=1e-6)
    mixer = AFNO2D(4, 2, sparsity_threshold=0.0).double()
    assert torch.autograd.gradcheck(mixer, torch.randn(1, 5, 6, 4, dtype=torch.float64, requires_grad=True))


def test_finite_differences_converge_to_derivatives():
    layer = FiniteDifference(2, 3, (True, True)).double()
    errors = []
    for n in (32, 64, 128):
        y, x = torch.meshgrid(
            *[2 * torch.pi * torch.arange(k, dtype=torch.float64) / k for k in (n, 2 * n)], indexing="ij"
        )
        a, b = torch.sin(x) * torch.cos(2 * y), torch.cos(x - y)
        terms = [
            torch.stack([-2 * torch.sin(x) * torch.sin(2 * y), torch.sin(x - y)], -1),  # d/dy
            torch.stack([-4 * a, -b], -1),  # d2/dy2
            torch.stack([torch.cos(x) * torch.cos(2 * y), -torch.sin(x - y)], -1),  # d/dx
            torch.stack([-a, -b], -1),  # d2/dx2
        ]
        scales = [length**order for length in layer.lengths for order in (1, 2)]
        expected = sum(s * t @ w for s, t, w in zip(scales, terms, layer.matrices, strict=True)).movedim(
            -1, 0
        )
        errors.append((layer(torch.stack([a, b])[None])[0] - expected).abs().max().item())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05) and errors[1] / errors[2] == pytest.approx(
        4, rel=0.05
    )


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 24])
@pytest.mark.parametrize("axis", [False, padded_period(0.25, 17), padded_period(0.25, 16, "cell")])
def test_differences_at_edges_are_exact_on_linear_and_quadratic_fields(n, axis):
    layer = FiniteDifference(1, 1, (axis,)).double()
    if n == 1:
        if axis is False:
            assert torch.equal(
                layer(torch.ones(1, 1, 1, dtype=torch.float64)), torch.zeros(1, 1, 1, dtype=torch.float64)
            )
        return
    share = 1.0 if axis is False else axis.share[0] / axis.share[1]
    h = 2 * torch.pi / share / (n if axis and axis.edge == "cell" else n - 1)
    x = h * torch.arange(n, dtype=torch.float64)[None, None]
    first, second = (
        layer.matrices[0, 0, 0] * layer.lengths[0],
        layer.matrices[1, 0, 0] * layer.lengths[0] ** 2,
    )
    assert torch.allclose(layer(3 * x - 1), (3 * first).expand_as(x), rtol=1e-9, atol=1e-12)
    if n >= 3:
        assert torch.allclose(layer(x**2 - x), first * (2 * x - 1) + 2 * second, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n", [17, 24, 25, 50, 65])
@pytest.mark.parametrize("axis", [False, padded_period(0.25, 17), True])
def test_differences_over_the_reference_spacing_do_not_depend_on_the_grid(n, axis):
    reference = axis.points(17) if isinstance(axis, Period) else 17 if axis else 16
    layer = FiniteDifference(1, 1, (axis,), reference=(reference,)).double()
    s, share = layer.lengths[0], axis.share[0] / axis.share[1] if isinstance(axis, Period) else 1.0
    first, second = layer.matrices[:, 0, 0]
    x = (2 * torch.pi / share / (n if axis is True else n - 1) * torch.arange(n, dtype=torch.float64))[
        None, None
    ]
    if axis is True:
        expected = first * torch.cos(x) * torch.sin(torch.tensor(s)) + second * torch.sin(x) * (
            2 * torch.cos(torch.tensor(s)) - 2
        )
        assert torch.allclose(layer(torch.sin(x)), expected, atol=2e-4)
    else:
        assert torch.allclose(
            layer(x**2 - 3 * x + 1), first * s * (2 * x - 3) + second * 2 * s**2, rtol=1e-9, atol=1e-11
        )
    noise = torch.randn(64, 1, n, dtype=torch.float64)
    assert layer(noise).std() < 3 * (
        first.abs() + 2.5 * second.abs()
    )  # as large on fine grids as on the reference grid


def test_differences_at_edges_are_of_second_order():
    layer = FiniteDifference(1, 1, (False, True)).double()
    errors = []
    for n in (33, 65, 129):
        x = torch.linspace(0, 2 * torch.pi, n, dtype=torch.float64)[None, None, :, None].expand(-1, -1, -1, 8)
        first, second = (
            layer.matrices[0, 0, 0] * layer.lengths[0],
            layer.matrices[1, 0, 0] * layer.lengths[0] ** 2,
        )
        errors.append(
            (layer(torch.sin(x + 0.5)) - first * torch.cos(x + 0.5) + second * torch.sin(x + 0.5))
            .abs()
            .max()
            .item()
        )
    assert errors[0] / errors[1] > 3.5 and errors[1] / errors[2] > 3.5


@pytest.mark.parametrize("axis", [True, False])
@pytest.mark.parametrize("n", [32, 64, 128, 256])
def test_the_initial_local_branch_has_the_magnitude_of_the_convolution(n, axis):
    torch.manual_seed(0)
    x = torch.randn(1, 8, n, n)
    spectral = SpectralConv(8, 8, (16, 16))(x).std()
    assert 0.1 < FiniteDifference(8, 8, (axis, axis), reference=(n, n))(x).std() / spectral < 5
    assert FiniteDifference(8, 8, (axis, axis))(x).std() / spectral < 5


def test_the_local_branch_loads_weights_of_its_first_version():
    torch.manual_seed(0)
    layer = FiniteDifference(2, 3, (True, padded_period(0.25, 16))).double()
    old = torch.randn(4, 2, 3, dtype=torch.float64)
    x = torch.randn(1, 2, 12, 20, dtype=torch.float64)
    layer.load_state_dict({"weight": old})
    inside = layer(x, (12, 16))[..., 1:15]
    terms = []
    for dim, n in ((2, 12), (3, 20)):
        h, after, before = 2 * torch.pi / n, x.roll(-1, dim), x.roll(1, dim)
        terms += [(after - before) / (2 * h), (after - 2 * x + before) / h**2]
    expected = sum(torch.einsum("bcyx,ck->bkyx", t, w) for t, w in zip(terms, old, strict=True))[..., 1:15]
    assert torch.allclose(inside, expected, rtol=1e-12, atol=1e-9)
    model = FNO((4,), 1, 1, hidden_channels=4, n_layers=1, local=True)
    tensors = {k.replace("local.matrices", "local.weight"): t.clone() for k, t in model.state_dict().items()}
    load_weights(model, tensors, "an old file")
    assert torch.allclose(
        model.blocks[0].local.matrices[0] * model.blocks[0].local.lengths[0],
        tensors["blocks.0.local.weight"][0],
    )
    assert len(list(model.parameters())) == len(tensors)


def test_the_alias_free_activation_is_independent_of_the_grid():
    activation = AliasFreeGELU((4, 4))
    x = waves((14, 16)).movedim(1, -1)
    outs = [
        to_modes(activation(waves(s).movedim(1, -1)), (7, 7)) for s in ((14, 16), (21, 24), (28, 33), (7, 7))
    ]
    for out in outs[1:]:
        assert torch.allclose(out, outs[0], atol=1e-13)
    fine = torch.nn.functional.gelu(waves((96, 96))).movedim(1, -1)
    assert torch.allclose(
        outs[0], to_modes(fine, (7, 7)), atol=2e-3
    )  # the remainder is aliasing on the doubled grid
    assert torch.allclose(from_modes(outs[0], (7, 7), (14, 16)), activation(x), atol=1e-13)
    with pytest.raises(ModesError):
        activation(torch.zeros(1, 6, 6, 1))


def test_the_instance_norm_agrees_with_torch_and_the_channel_mlp_is_pointwise():
    norm = InstanceNorm(3)
    x = torch.randn(2, 9, 11, 3)
    expected = torch.nn.functional.instance_norm(x.movedim(-1, 1)).movedim(1, -1)
    assert torch.allclose(norm(x), expected, atol=1e-5)
    mlp = ChannelMLP(3, 5, 2)
    y = x.movedim(-1, 1)
    assert torch.allclose(mlp(y)[:, :, 4, 5], mlp(y[:, :, 4:5, 5:6])[..., 0, 0], atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [{}, {"norm": "instance"}, {"norm": "layer"}, {"skip": "identity"}, {"skip": "none"}, {"local": True}],
)
def test_blocks_commute_with_shifts(options):
    block = FNOBlock(4, (5, 5), BlockOptions(**options))
    x = torch.randn(2, 4, 12, 9)
    assert torch.allclose(block(x.roll((2, 3), (2, 3))), block(x).roll((2, 3), (2, 3)), atol=2e-5)


def test_padding_preserves_the_field_and_joins_its_ends_continuously():
    x = torch.linspace(0, 1, 20).reshape(1, 20, 1, 1)
    period = padded_period(0.4, 20)
    y = period.extend(x, 1)
    assert y.shape[1] == padded_size(20, 0.4) == 28
    assert torch.equal(y[:, :20], x) and torch.equal(period.restrict(y, 1, 20), x)
    jumps = torch.cat([y, y[:, :1]], dim=1).diff(dim=1).abs()
    assert jumps[:, 19:].max() < 0.25
    assert torch.equal(padded_period(0.4, 20, mode="zero").extend(x, 1)[:, 20:], torch.zeros(1, 8, 1, 1))
    assert torch.equal(padded_period(0.4, 20, mode="reflect").extend(x, 1)[:, 20:], x[:, 11:19].flip(1))


@pytest.mark.parametrize("edge", ["node", "cell"])
@pytest.mark.parametrize(
    ("fraction", "reference"), [(0.25, 17), (0.2, 73), (0.3, 24), (0.2, None), (0.137, None), (0.001, None)]
)
def test_the_padded_period_has_the_same_physical_length_on_every_grid(edge, fraction, reference):
    period = padded_period(fraction, reference, edge)
    for n in (5, 17, 24, 25, 33, 50, 65):
        h = 1 / (n - 1 if edge == "node" else n)
        x = (
            torch.linspace(0, 1, n, dtype=torch.float64)[None, :, None]
            if edge == "node"
            else (torch.arange(n)[None, :, None] + 0.5).double() * h
        )
        cubic = (x - 0.3) ** 3 + x  # which the interpolation reproduces
        y = period.extend(cubic, 1)
        spacing = period.share[0] / period.share[1] / y.shape[1]
        assert spacing <= h * (1 + 1e-12)
        assert not period.divides(n) or spacing == pytest.approx(h, rel=1e-14)
        coordinates = x[0, 0] + spacing * torch.arange(y.shape[1], dtype=torch.float64)[:, None]
        inside = coordinates <= x[0, -1] + 1e-12
        assert torch.allclose(y[0][inside], ((coordinates - 0.3) ** 3 + coordinates)[inside], atol=1e-12)
        assert y.min() > cubic.min() - 1e-12 and y.max() < cubic.max() + 1e-12
        assert torch.allclose(period.restrict(y, 1, n), cubic, atol=1e-11)
    if reference is not None:
        assert period.points(reference) == padded_size(reference, fraction)


def tilt_error(model, nlat, nlon, grid):
    """Return the relative error of the output for a zonally symmetric field that is tilted."""
    colatitude = torch.as_tensor(sphere_nodes(nlat, grid)[0])
    longitude = 2 * torch.pi * torch.arange(nlon, dtype=torch.float64) / nlon
    t, p = torch.meshgrid(colatitude, longitude, indexing="ij")
    points = torch.stack([torch.sin(t) * torch.cos(p), torch.sin(t) * torch.sin(p), torch.cos(t)], -1)
    along = points @ torch.tensor([0.48, -0.6, 0.64], dtype=torch.float64)

    def field(z):
        return torch.stack([z**3 - 0.4 * z + 0.2, 0.7 * z**5 - z**2])[None]

    with torch.no_grad():
        upright, tilted = model(field(points[..., 2]))[0, :, :, 0], model(field(along))[0]
    z = torch.cos(colatitude)
    series = [
        np.polynomial.legendre.Legendre.fit(z.numpy(), u.numpy(), nlat - 1, domain=[-1, 1]) for u in upright
    ]
    expected = torch.stack([torch.from_numpy(s(along.numpy())) for s in series])
    return float((tilted - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("grid", ["legendre-gauss", "equiangular", "equiangular-no-poles"])
def test_real_spherical_weights_commute_with_every_rotation(grid):
    torch.manual_seed(0)
    real, other = (SphericalConv(2, 3, 8, grid=grid, equivariant=e).double() for e in (True, False))
    assert tilt_error(real, 18, 32, grid) < 1e-13
    assert tilt_error(other, 18, 32, grid) > 0.1


def test_equivariant_sfno_commutes_with_tilts_and_the_default_does_not():
    torch.manual_seed(0)
    real, other = (
        SFNO(8, 2, 2, hidden_channels=8, n_layers=2, grid="legendre-gauss", equivariant=e).double().eval()
        for e in (True, False)
    )
    coarse, fine = (tilt_error(real, n, 2 * n, "legendre-gauss") for n in (16, 32))
    assert fine < 1e-6 and fine < coarse
    assert tilt_error(other, 32, 64, "legendre-gauss") > 100 * fine
    assert sum(p.numel() for p in real.blocks[0].conv.parameters()) < sum(
        p.numel() for p in other.blocks[0].conv.parameters()
    )


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="do not divide"):
        AFNO2D(10, 4)
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        AFNO2D(8, 4, hard_thresholding_fraction=0)
    with pytest.raises(InputError, match=r"expected a tensor of shape \(batch, H, W, 8\)"):
        AFNO2D(8, 4)(torch.zeros(1, 4, 4, 6))
    with pytest.raises(ValueError, match="channels"):
        SpectralConv(0, 1, (4, 4))
    with pytest.raises(ValueError, match="unknown factorization 'tt'"):
        SpectralConv(1, 1, (4, 4), factorization="tt")
    with pytest.raises(ValueError, match="rank must be positive"):
        SpectralConv(1, 1, (4, 4), rank=0)
    with pytest.raises(ValueError, match="depthwise weight needs as many output as input channels"):
        SpectralConv(1, 2, (4, 4), factorization="depthwise")
    conv = SpectralConv(3, 3, (8, 8))
    with pytest.raises(ModesError, match="cannot resolve"):
        conv(torch.zeros(1, 3, 7, 12))
    with pytest.raises(
        InputError, match=r"expected a tensor of shape \(batch, 3, n, n\), got \(1, 2, 9, 9\)"
    ):
        conv(torch.zeros(1, 2, 9, 9))
    with pytest.raises(InputError, match="expected a tensor of shape"):
        conv(torch.zeros(3, 9, 9))
    with pytest.raises(ValueError, match="unknown norm 'batch'"):
        BlockOptions(norm="batch")
    with pytest.raises(ValueError, match="unknown padding mode"):
        padded_period(0.5, 8, mode="wrap")
    with pytest.raises(ValueError, match="unknown edge"):
        Period((2, 1), "middle")
    with pytest.raises(ValueError, match="reference of at least 2"):
        padded_period(0.5, 1)
    with pytest.raises(InputError, match="needs at least 2 points"):
        padded_period(0.5).extend(torch.zeros(1, 1, 1), 1)
    with pytest.raises(ValueError, match="reflected margin"):
        append_margin(torch.zeros(1, 8, 1), 1, 12, mode="reflect")
    with pytest.raises(ValueError, match="reflected margin"):
        padded_period(1.5, 9, mode="reflect").extend(torch.zeros(1, 8, 1), 1)
