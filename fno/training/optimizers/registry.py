"""Optimizers by the name that settings use."""

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from ...registry import Registry
from ..freezing import trainable
from .muon import Muon
from .options import BETAS, OptimizerOptions, without_decay
from .soap import SOAP

OptimizerFactory = Callable[[nn.Module, OptimizerOptions], Optimizer]
"""Builds the optimizer of a model. The training loop sets ``lr`` in all of its groups before each step."""


def adamw(model: nn.Module, options: OptimizerOptions) -> AdamW:
    """Return AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) for all trained parameters of a model.

    Args:
        model: model to train.
        options: options of the optimizer.
    """
    parameters = trainable(model)
    groups: list[dict[str, Any]] = [{"params": parameters}]
    if not options.decay_all:
        excluded = without_decay(model)
        groups = [
            {"params": [p for p in parameters if p not in excluded]},
            {"params": [p for p in parameters if p in excluded], "weight_decay": 0.0},
        ]
    return AdamW(
        [group for group in groups if group["params"]],
        lr=options.learning_rate,
        weight_decay=options.weight_decay,
        betas=BETAS,
        fused=options.fused or None,
    )


_BUILTIN: dict[str, OptimizerFactory] = {"adamw": adamw, "muon": Muon, "soap": SOAP}

OPTIMIZERS: Registry[OptimizerFactory] = Registry(_BUILTIN, group="fourcaster.optimizers", noun="optimizer")
"""Optimizers that settings can name; other packages add theirs in this group of entry points."""


def build_optimizer(name: str, model: nn.Module, options: OptimizerOptions) -> Optimizer:
    """Return the optimizer of a model.

    Args:
        name: name in ``OPTIMIZERS``, or ``module:Class``.
        model: model to train.
        options: options of the optimizer.

    Raises:
        RegistryError: no such optimizer, or it cannot be imported.
    """
    return OPTIMIZERS.find(name)(model, options)
