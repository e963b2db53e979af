"""Options of optimizers, and the parameters to which weight decay applies."""

from dataclasses import dataclass

from torch import nn

from ...layers.mixer import AFNO2D

BETAS = (0.9, 0.95)
"""Decay of the mean and the mean square of gradients in AdamW."""

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase)


@dataclass(frozen=True)
class OptimizerOptions:
    """What an optimizer is built with.

    Attributes:
        learning_rate: peak learning rate; the training loop sets that of each step.
        weight_decay: decoupled weight decay, per unit of learning rate.
        decay_all: decay all parameters, see ``without_decay``.
        fused: update all parameters of AdamW in one kernel.
    """

    learning_rate: float
    weight_decay: float = 0.0
    decay_all: bool = True
    fused: bool = False


def without_decay(model: nn.Module) -> set[nn.Parameter]:
    """Return the parameters that ``decay_all=False`` excludes from weight decay.

    These are all of fewer than two dimensions (biases, gates, scales), those of norms, and the biases of
    Fourier mixers, which have three. Decay of weights regularises; decay of offsets and scales only shifts
    the function towards zero (Loshchilov and Hutter 2019, arXiv:1711.05101, decay all).

    Args:
        model: model to train.
    """
    excluded = {p for p in model.parameters() if p.ndim < 2}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            mixer_bias = isinstance(module, AFNO2D) and name in ("b1", "b2")
            if isinstance(module, _NORMS) or mixer_bias or name.endswith("bias"):
                excluded.add(parameter)
    return excluded
