"""Layers: equivariance, resolution, continuation, and the answers of other packages."""

import numpy as np
import pytest
import torch

from fourcaster.fno import AFNO, AFNO2D, FNO, SpectralConv
from fourcaster.fno.layers.padding import continue_periodically, padded_size


@pytest.mark.parametrize("size", [(9, 11), (16, 12), (25, 53)])
@pytest.mark.parametrize("method", ["dft", "fft"])
def test_spectral_convolution_commutes_with_shifts(size, method):
    conv = SpectralConv(3, 2, (5, 6), method=method)
    x = torch.randn(2, *size, 3)
    shifted = conv(x.roll((2, -3), dims=(1, 2)))
    assert torch.allclose(shifted, conv(x).roll((2, -3), dims=(1, 2)), atol=1e-5)


def test_spectral_convolution_is_a_complex_product_of_modes():
    conv = SpectralConv(3, 2, (5, 6)).double()
    x = torch.randn(2, 11, 14, 3, dtype=torch.float64)
    z = torch.fft.rfft2(x, dim=(1, 2), norm="forward")
    weight = torch.complex(conv.weight[:, :, :, 0], conv.weight[:, :, :, 1])
    out = torch.zeros(2, 11, 8, 2, dtype=torch.complex128)
    for i, k in enumerate(range(-2, 3)):
        for l in range(4):
            out[:, k, l] = z[:, k, l] @ weight[i, l]
    expected = torch.fft.irfft2(out, s=(11, 14), dim=(1, 2), norm="forward") + conv.bias
    assert torch.allclose(conv(x), expected, atol=1e-12)


@pytest.mark.parametrize("sizes", [((12, 16), (24, 32)), ((11, 15), (33, 45)), ((9, 14), (25, 53))])
def test_spectral_convolution_acts_alike_at_every_resolution(sizes):
    conv = SpectralConv(1, 1, (5, 5))

    def field(h, w):
        y, x = torch.meshgrid(torch.arange(h) / h, torch.arange(w) / w, indexing="ij")
        return (torch.cos(2 * torch.pi * (y + 2 * x)) + torch.sin(2 * torch.pi * (2 * y - x)))[None, :, :, None]

    coarse, fine = (torch.fft.rfft2(conv(field(*s))[0, :, :, 0], norm="forward") for s in sizes)
    assert torch.allclose(coarse[:3, :3], fine[:3, :3], atol=1e-6)


def test_coarse_grids_use_the_modes_they_have():
    conv = SpectralConv(2, 2, (16, 16))
    assert conv(torch.randn(1, 5, 7, 2)).shape == (1, 5, 7, 2)
    assert conv(torch.randn(1, 7, 5, 2)).isfinite().all()


def test_transforms_stay_in_float32_under_autocast():
    conv = SpectralConv(2, 2, (4, 4))
    x = torch.randn(1, 9, 9, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(conv(x), conv(x.float()))


def test_continuation_keeps_the_field_and_wraps_without_a_jump():
    x = torch.linspace(0, 1, 20).reshape(1, 20, 1, 1)
    y = continue_periodically(x, 1, 0.4)
    assert y.shape[1] == padded_size(20, 0.4) == 28
    assert torch.equal(y[:, :20], x)
    jumps = torch.cat([y, y[:, :1]], dim=1).diff(dim=1).abs()
    assert jumps[:, 19:].max() < 0.25
    assert continue_periodically(x, 1, 0.0) is x


def test_fno_without_padding_commutes_with_shifts():
    model = FNO((6, 6), 2, 3, hidden_channels=8, n_layers=2).eval()
    x = torch.randn(1, 2, 13, 18)
    assert torch.allclose(model(x.roll((4, 5), (2, 3))), model(x).roll((4, 5), (2, 3)), atol=1e-5)


def test_fno_learns_a_shift():
    torch.manual_seed(0)
    model = FNO((8, 8), 1, 1, hidden_channels=12, n_layers=2)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    base = torch.randn(16, 1, 4, 4)
    x = torch.nn.functional.interpolate(base, (16, 18), mode="bicubic")
    target = x.roll(3, 3)
    first = None
    for _ in range(60):
        loss = (model(x) - target).square().mean()
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * first


def test_afno_gives_the_answers_of_fourcastnet(real_data):
    held = torch.load(real_data / "reference" / "fourcastnet_tiny.ckpt", weights_only=True)["model_state"]
    answers = np.load(real_data / "reference" / "fourcastnet_tiny_io.npz")
    model = AFNO((32, 64), (8, 8), 4, 4, embed_dim=32, depth=2, num_blocks=4)
    left = model.load_state_dict({k.removeprefix("module."): v for k, v in held.items()}, strict=False)
    assert left.missing_keys == [] and left.unexpected_keys == ["norm.weight", "norm.bias"]  # never applied there
    assert torch.allclose(model(torch.from_numpy(answers["x"])), torch.from_numpy(answers["y"]), atol=1e-6)


@pytest.mark.parametrize("shape", [(25, 53), (24, 48), (9, 8), (181, 360)])
def test_afno_keeps_the_grid_at_odd_and_even_sizes(shape):
    model = AFNO(shape, (4, 4), 2, 3, embed_dim=8, depth=1, num_blocks=2)
    assert model(torch.randn(1, 2, *shape)).shape == (1, 3, *shape)


def test_mixer_with_large_threshold_is_the_identity():
    mixer = AFNO2D(8, 2, sparsity_threshold=1e6)
    x = torch.randn(1, 6, 7, 8)
    assert torch.allclose(mixer(x), x, atol=1e-6)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="do not divide"):
        AFNO2D(10, 4)
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        AFNO2D(8, 4, hard_thresholding_fraction=0)
    with pytest.raises(ValueError, match="does not fit a grid"):
        AFNO((8, 8), (16, 16))
    with pytest.raises(ValueError, match="does not give"):
        AFNO((8, 8), (4, 4), embed_dim=8, depth=1)(torch.zeros(1, 1, 16, 8))
    with pytest.raises(ValueError, match="n_layers"):
        FNO((4, 4), 1, 1, n_layers=0)
    with pytest.raises(ValueError, match="channels"):
        SpectralConv(0, 1, (4, 4))


def test_spectral_convolution_gives_the_answers_of_neuraloperator(real_data):
    """Its FNO, put together from our layers and its weights: modes are counted and ordered alike."""
    held = torch.load(real_data / "reference" / "neuralop_fno_tiny.pt", weights_only=True)
    answers = np.load(real_data / "reference" / "neuralop_fno_tiny_io.npz")
    gelu = torch.nn.functional.gelu

    def dense(x, name):
        return x @ held[f"{name}.weight"][..., 0].T + held.get(f"{name}.bias", torch.zeros(1))

    def pointwise(x, name):
        return dense(gelu(dense(x, f"{name}.fcs.0")), f"{name}.fcs.1")

    x = torch.from_numpy(answers["x"]).permute(0, 2, 3, 1)
    places = torch.meshgrid(*(torch.linspace(0, 1, n + 1)[:-1] for n in x.shape[1:3]), indexing="ij")
    x = pointwise(torch.cat([x, *(p[None, :, :, None].expand(len(x), -1, -1, 1) for p in places)], dim=-1), "lifting")
    for i in range(3):
        conv = SpectralConv(16, 16, (12, 12))
        weight = held[f"fno_blocks.convs.{i}.weight.tensor"].permute(2, 3, 0, 1)
        conv.load_state_dict({"weight": torch.stack([weight.real, weight.imag], dim=3), "bias": held[f"fno_blocks.convs.{i}.bias"].flatten()})
        last = i == 2
        h = conv(x) + dense(x, f"fno_blocks.fno_skips.{i}.conv")
        gate = held[f"fno_blocks.channel_mlp_skips.{i}.weight"].flatten()
        x = pointwise(h if last else gelu(h), f"fno_blocks.channel_mlp.{i}") + gate * x
        x = x if last else gelu(x)
    y = pointwise(x, "projection").permute(0, 3, 1, 2)
    assert torch.allclose(y, torch.from_numpy(answers["y"]), atol=2e-5)
