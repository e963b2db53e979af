"""Dense layers agree with those of torch in float64, for every algorithm of the matrix product."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from fourcaster.fno.layers.linear import Linear, _images, linear

# The algorithm depends on whether rows divide into images: 1009 and 2 x 1013 do not, few rows are too few.
ROWS = [(4, 32, 64), (2, 25, 53), (1009,), (2, 1013), (121, 241), (5,), (4, 2048, 1)]


def relative(a, b):
    return ((a.double() - b).norm() / b.norm()).item()


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("inward", "outward"), [(24, 40), (3, 128), (64, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_agree_with_float64(rows, inward, outward, bias):
    torch.manual_seed(0)
    layer, x, g = (
        Linear(inward, outward, bias),
        torch.randn(*rows, inward).requires_grad_(),
        torch.randn(*rows, outward),
    )
    reference = nn.Linear(inward, outward, bias).double()
    reference.load_state_dict(layer.state_dict())
    y = layer(x)
    y.backward(g)
    exact = x.detach().double().requires_grad_()
    expected = reference(exact)
    expected.backward(g.double())
    assert relative(y, expected) < 1e-6
    assert relative(x.grad, exact.grad) < 1e-6
    for computed, expected in zip(layer.parameters(), reference.parameters(), strict=True):
        assert computed.grad.shape == expected.grad.shape
        assert relative(computed.grad, expected.grad) < 1e-5


def test_rows_are_divided_into_images_where_possible():
    assert [_images(n) for n in (8192, 2650, 1009, 2026, 5)] == [16, 25, 0, 0, 0]


@pytest.mark.parametrize("rows", [(4, 32, 64), (1009,)])
def test_groups_act_as_separate_layers(rows):
    x, weight, bias = torch.randn(*rows, 48), torch.randn(60, 16), torch.randn(60)
    parts = [
        functional.linear(a.double(), w.double(), b.double())
        for a, w, b in zip(x.split(16, dim=-1), weight.split(20), bias.split(20), strict=True)
    ]
    assert relative(linear(x, weight, bias, groups=3), torch.cat(parts, dim=-1)) < 1e-6


def test_gradients_can_be_differentiated_again():
    x, weight = torch.randn(4096, 32, requires_grad=True), torch.randn(16, 32, requires_grad=True)

    def norms(f, x, weight):
        grads = torch.autograd.grad((f(x, weight) ** 3).sum(), (x, weight), create_graph=True)
        return torch.autograd.grad(sum((g**2).sum() for g in grads), (x, weight))

    exact = norms(functional.linear, *(t.detach().double().requires_grad_() for t in (x, weight)))
    for computed, expected in zip(norms(linear, x, weight), exact, strict=True):
        assert relative(computed, expected) < 1e-5


def test_autocast_and_other_precisions_use_torch():
    layer, x = Linear(64, 64), torch.randn(4096, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), functional.linear(x, layer.weight, layer.bias))
    assert torch.equal(layer.double()(x.double()), functional.linear(x.double(), layer.weight, layer.bias))
