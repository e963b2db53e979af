"""Results on a GPU agree with those on the CPU; run by `make gpu`."""

import pytest
import torch

from fourcaster.fno import AFNO, FNO, SFNO, TFNO, InverseRealSHT, RealSHT
from fourcaster.fno.transforms.fourier import from_modes, to_modes

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]


@pytest.mark.parametrize("size", [(33, 64), (121, 240), (17,), (8, 9, 10)])
@pytest.mark.parametrize("method", ["dft", "fft"])
def test_transforms_agree_with_the_cpu(size, method):
    n_modes = tuple(max(1, n // 3) for n in size)
    x = torch.randn(2, *size, 5)
    z = to_modes(x.cuda(), n_modes, method)
    expected = to_modes(x.double(), n_modes)
    assert (z.cpu() - expected).norm() < 1e-5 * expected.norm()
    back = from_modes(z, n_modes, size, method=method).cpu()
    assert (back - from_modes(expected, n_modes, size)).norm() < 1e-5 * back.norm()


def test_spherical_harmonics_agree_with_the_cpu():
    x = torch.randn(3, 33, 64)
    forward, inverse = RealSHT(33, 64), InverseRealSHT(33, 64)
    assert torch.allclose(forward(x.cuda()).cpu(), forward(x), atol=1e-5)
    assert torch.allclose(inverse(forward(x.cuda())).cpu(), inverse(forward(x)), atol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FNO((8, 8), 2, 1, hidden_channels=16, n_layers=2),
        lambda: TFNO((8, 8), 2, 1, hidden_channels=16, n_layers=2),
        lambda: SFNO(8, 2, 1, hidden_channels=16, n_layers=2),
        lambda: AFNO((33, 64), (4, 4), in_channels=2, out_channels=1, embed_dim=16, depth=2, num_blocks=4),
    ],
)
def test_models_and_gradients_agree_with_the_cpu(make):
    torch.manual_seed(0)
    model, x = make(), torch.randn(2, 2, 33, 64)
    y = model(x)
    grads = torch.autograd.grad(y.square().sum(), list(model.parameters()))
    model.cuda()
    on_gpu = model(x.cuda())
    assert torch.allclose(on_gpu.cpu(), y, atol=1e-4)
    for a, b in zip(torch.autograd.grad(on_gpu.square().sum(), list(model.parameters())), grads, strict=True):
        assert (a.cpu() - b).norm() <= 1e-3 * b.norm() + 1e-6
