"""How the forward pass of training is executed: activations computed twice to save memory, compiled networks.

Neither changes parameters, their names, or the model outside of training.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import SettingError

log = logging.getLogger(__name__)

CHECKPOINTING = ("none", "blocks", "steps")
"""Parts of a model whose activations can be computed again in the backward pass."""

Forward = Callable[..., Any]


class Execution:
    """Replace the forward methods of a model within a ``with`` block.

    Args:
        model: model to train.
        checkpointing: parts whose activations are computed again in the backward pass instead of being
            stored, which gives the same gradients: ``none``, the ``blocks`` of its networks, or whole
            ``steps``, calls of the model such as one time step of a rollout.
        compiled: compile the networks by ``torch.compile``. If that fails, a warning is logged once and they
            run uncompiled.

    Raises:
        SettingError: ``blocks`` of a model without blocks, or both: a compiled part may be compiled again for
            other shapes in the backward pass, and would then store other tensors.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 2)
        >>> with Execution(model, checkpointing="steps").active():
        ...     model(torch.ones(1, 2)).sum().backward()
        >>> list(model.state_dict())
        ['weight', 'bias']
    """

    def __init__(self, model: nn.Module, *, checkpointing: str = "none", compiled: bool = False) -> None:
        networks = networks_of(model)
        blocks = [block for network in networks for block in getattr(network, "blocks", ())]
        if checkpointing == "blocks" and not blocks:
            raise SettingError(
                "activation_checkpointing must be 'steps' or 'none' for a model without a list of blocks, "
                "got 'blocks'"
            )
        if compiled and checkpointing != "none":
            raise SettingError("compile cannot be combined with activation_checkpointing; choose one of them")
        parts = {"none": [], "blocks": blocks, "steps": [model]}[checkpointing]
        self._forwards: dict[nn.Module, Forward] = {
            part: partial(checkpoint, part.forward, use_reentrant=False) for part in parts
        }
        if compiled:
            failed: list[str] = []  # shared, so that one message covers all networks
            self._forwards = {network: _Compiled(network.forward, failed) for network in networks}

    @contextmanager
    def active(self) -> Iterator[None]:
        """Use the replaced forward methods within a block."""
        before = {module: module.__dict__.get("forward") for module in self._forwards}
        for module, forward in self._forwards.items():
            module.__dict__["forward"] = forward
        try:
            yield
        finally:
            for module, previous in before.items():
                del module.__dict__["forward"]
                if previous is not None:
                    module.__dict__["forward"] = previous


def networks_of(model: nn.Module) -> list[nn.Module]:
    """Return the networks within a model: the modules with a list ``blocks``, or else the model itself.

    Args:
        model: model to train.
    """
    networks = [m for m in model.modules() if isinstance(getattr(m, "blocks", None), nn.ModuleList)]
    return networks or [model]


class _Compiled:
    """A function that is compiled at its first call, and runs as it is if that fails.

    Args:
        function: function to compile.
        failed: reasons of failure, shared by several functions.
    """

    def __init__(self, function: Forward, failed: list[str]) -> None:
        self.function = function
        self.failed = failed
        self.compiled: Forward | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.failed:
            return self.function(*args, **kwargs)
        try:
            if self.compiled is None:
                self.compiled = _compile(self.function, args)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the compiler's, about what it does not optimise
                return self.compiled(*args, **kwargs)
        except (torch._dynamo.exc.TorchDynamoException, ImportError, OSError, RuntimeError) as error:
            result = self.function(*args, **kwargs)  # an error of the model itself is raised here
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            self.failed.append(reason)
            log.warning("the model cannot be compiled (%s); training continues without compilation", reason)
            return result


def _compile(function: Forward, args: tuple[Any, ...]) -> Forward:
    """Return the compiled function; fail at once, not after minutes, if there is no compiler for the CPU."""
    if any(isinstance(arg, Tensor) and arg.device.type == "cpu" for arg in args):
        from torch._inductor.cpp_builder import get_cpp_compiler

        get_cpp_compiler()
    compiled: Forward = torch.compile(function)
    return compiled
