"""The objective of any network that maps inputs to targets."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError
from ..iterables import AnyBatch
from ..protocols import Loss

Criterion = Callable[[Any, Any], Tensor | Mapping[str, Tensor]]
"""Function of prediction and target; of several terms, the loss is the sum."""
Predict = Callable[[nn.Module, Any], tuple[Any, Any]]
"""Function of the network and a batch that returns prediction and target."""


class SupervisedObjective:
    """A loss of the predictions of a network.

    Args:
        model: network.
        loss: function of prediction and target.
        predict: returns both for a batch; by default the batch is ``(*inputs, target)``.
        metric: function of prediction and target that returns a mean square error (or any value that is not
            negative), by whose root the best weights are chosen; the loss by default.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Criterion,
        *,
        predict: Predict | None = None,
        metric: Callable[[Any, Any], Tensor] | None = None,
    ) -> None:
        self.model = model
        self.criterion = loss
        self.predict = predict or predict_last
        self.metric = metric

    def loss(self, batch: AnyBatch, share: float, generator: torch.Generator) -> Loss:
        """Return the loss of a batch; arguments as for ``Objective``."""
        value = self.criterion(*self.predict(self.model, batch.value))
        if not isinstance(value, Mapping):
            return Loss(self._scalar(value), {})
        return Loss(torch.stack([self._scalar(term) for term in value.values()]).sum(), value)

    def errors(self, batch: AnyBatch) -> Tensor:
        """Return the metric of a validation batch, shape (1, 1)."""
        prediction, target = self.predict(self.model, batch.value)
        value = (self.metric or self.criterion)(prediction, target)
        if isinstance(value, Mapping):
            value = torch.stack([self._scalar(term) for term in value.values()]).sum()
        if self._scalar(value) < 0:
            raise InputError(
                f"the validation error is {float(value)}; pass a metric that is not negative, since the "
                "score is its root"
            )
        return value.reshape(1, 1)

    @staticmethod
    def _scalar(value: Any) -> Tensor:
        """Return a loss after checking that it is one number."""
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise InputError(f"the loss must be a tensor with one value, got {shape}")
        return value.reshape(())


def predict_last(model: nn.Module, batch: Any) -> tuple[Any, Any]:
    """Return prediction and target of a batch ``(*inputs, target)``.

    Raises:
        InputError: a batch of another form.
    """
    if not isinstance(batch, list | tuple) or len(batch) < 2:
        raise InputError(
            f"a batch is a {type(batch).__name__}, expected (*inputs, target); pass a function predict that "
            "returns prediction and target"
        )
    *inputs, target = batch
    return model(*inputs), target
