"""Data losses: errors of known values only."""

import math

import pytest
import torch

from fourcaster.fno.losses.data import relative_l2


@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_that_are_not_finite_are_left_out_of_both_norms(missing, dtype):
    target = torch.randn(3, 2, 5, dtype=dtype)
    prediction = 1.1 * target
    expected = torch.full((3,), 0.1, dtype=dtype)
    target[0, 1, 2] = missing
    prediction[0, 1, 2] = 1e6
    prediction.requires_grad_()
    error = relative_l2(prediction, target)
    assert torch.allclose(error, expected, rtol=1e-5)
    error.sum().backward()
    assert torch.isfinite(prediction.grad).all()
    assert prediction.grad[0, 1, 2] == 0
    assert prediction.grad[0, 0, 0] != 0


def test_the_error_of_a_sample_does_not_depend_on_another_with_infinite_values():
    target = torch.tensor([[3.0, 4.0], [math.inf, 4.0]])
    prediction = torch.tensor([[3.0, 5.0], [0.0, 5.0]])
    assert torch.allclose(relative_l2(prediction, target), torch.tensor([0.2, 0.25]))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_prediction_of_a_known_value_that_is_not_finite_shows_in_the_error(value):
    target = torch.tensor([[3.0, 4.0, math.inf], [3.0, 4.0, math.inf]])
    error = relative_l2(torch.tensor([[value, 4.0, 0.0], [3.0, 4.0, value]]), target)
    assert not torch.isfinite(error[0])
    assert error[1] == 0


def test_the_error_of_a_sample_without_known_values_is_nan():
    assert relative_l2(torch.ones(1, 3), torch.full((1, 3), math.inf)).isnan().all()
