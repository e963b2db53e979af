"""Memory of a training step, from the shapes of its tensors and without allocating them."""

import math
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from ..transforms.planned import planned_for
from .execution import Execution
from .freezing import freeze, trainable
from .optimizers import build_optimizer
from .optimizers.mixed import state_shapes
from .protocols import Objective
from .settings import TrainSettings


@dataclass(frozen=True)
class Footprint:
    """Sizes of the tensors of a training step.

    Attributes:
        parameters: number of trainable values; a complex one counts as two.
        trainable: size of the trainable parameters [bytes].
        weights: size of all parameters and buffers [bytes].
        moments: size of the state of the optimizer [bytes].
        training: largest size of all other tensors that exist at the same time during the loss and its
            gradient, the batch and the gradient itself included [bytes].
        validation: the same during the errors of a validation batch [bytes].
    """

    parameters: int
    trainable: int
    weights: int
    moments: int
    training: int
    validation: int


class MemoryTracker(TorchDispatchMode):
    """Sum of the sizes of all storages that operations within the context create, and its largest value.

    Attributes:
        live: size of the storages that exist [bytes].
        peak: largest value of ``live`` [bytes].
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.ignore(value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor))
        result = func(*args, **(kwargs or {}))
        self.count(value for value in tree_iter(result) if isinstance(value, Tensor))
        return result

    def ignore(self, tensors: Iterable[Tensor]) -> None:
        """Leave out the storages of tensors that were created outside of the context."""
        for tensor in tensors:
            self._add(tensor, 0)

    def count(self, tensors: Iterable[Tensor]) -> None:
        """Count the storages of tensors that are not known yet, until they are freed."""
        for tensor in tensors:
            self._add(tensor, tensor.untyped_storage().nbytes())

    def _add(self, tensor: Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


_EMPTY = {torch.randn: torch.empty, torch.rand: torch.empty}
_INTEGERS = {torch.randint, torch.randperm}
_IN_PLACE = {torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.zero_, torch.Tensor.fill_}


class _WithoutRandomNumbers(TorchFunctionMode):
    """Draw no random numbers: generators cannot fill tensors without values.

    On ``meta``, torch would decompose random functions, for which it imports the compiler first.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        kwargs.pop("generator", None)
        if func in _IN_PLACE:
            return args[0]
        if func in _INTEGERS:
            size = args[-1] if func is torch.randint else args[-1:]
            return torch.empty(size, dtype=torch.int64)
        return _EMPTY.get(func, func)(*args, **kwargs)


@contextmanager
def without_values(device: str = "cpu") -> Iterator[None]:
    """Create tensors on the device ``meta`` within the context: they have shape and dtype, but no values.

    Args:
        device: kind of device that they stand for.
    """
    with planned_for(device), torch.device("meta"), _WithoutRandomNumbers():
        yield


def optimizer_bytes(model: nn.Module, settings: TrainSettings) -> int:
    """Return the size of the state of the optimizer of a model [bytes].

    Args:
        model: model to train.
        settings: settings of the optimizer.
    """
    options = replace(settings.optimizer_options, fused=False)  # which there is not for ``meta``
    shapes = state_shapes(build_optimizer(settings.optimizer, model, options))
    if shapes is None:
        return 2 * sum(p.nbytes for p in trainable(model))
    return 4 * sum(math.prod(shape) for one in shapes for shape in one.values())


def training_footprint(
    build: Callable[[], tuple[nn.Module, Objective[Any]]],
    training: Callable[[], Any],
    validation: Callable[[], Any] | None = None,
    *,
    settings: TrainSettings,
    device: str = "cpu",
) -> Footprint:
    """Return the memory that a training step takes. Neither the model nor batches are allocated.

    Temporary memory within an operation is not included. With mixed precision, the sizes are those of single
    precision, an upper bound. Of an optimizer of another package, the state is taken to be that of AdamW.

    Args:
        build: function that builds the model and its objective.
        training: function that builds a training batch.
        validation: function that builds a validation batch; None without validation.
        settings: optimizer, frozen parameters and activation checkpointing.
        device: kind of device that trains.

    Raises:
        NotImplementedError, RuntimeError: an operation needs values, so the step cannot be traced.
        SettingError: settings that do not fit the model.
    """
    with without_values(device):
        model, objective = build()
        model.to("meta")
        if settings.freeze:
            freeze(model, settings.freeze)
        moments = optimizer_bytes(model, settings)
        parameters = list(model.parameters())
        model.train()
        execution = Execution(model, checkpointing=settings.activation_checkpointing)
        with MemoryTracker() as tracker, execution.active():
            loss = objective.loss(training(), 1.0, torch.Generator()).value
            loss.backward()  # type: ignore[no-untyped-call]
        peak = tracker.peak
        del loss
        validated = 0
        if validation is not None:
            model.eval()
            with MemoryTracker() as tracker, torch.no_grad():
                objective.errors(validation())
            validated = tracker.peak
    return Footprint(
        parameters=sum(p.numel() * (2 if p.is_complex() else 1) for p in parameters),
        trainable=sum(p.nbytes for p in parameters if p.requires_grad),
        weights=sum(t.nbytes for t in (*parameters, *model.buffers())),
        moments=moments,
        training=peak,
        validation=validated,
    )
