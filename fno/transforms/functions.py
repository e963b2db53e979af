"""Differentiable functions with rules for reverse mode, forward mode and ``vmap``."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

_transforming = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)


class Function(torch.autograd.Function):
    """Differentiable function that supports ``torch.func``, without its overhead outside of it."""

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Apply to positional arguments.

        PyTorch's own method inspects the signature of ``forward`` at each call, which takes longer than a
        small transform; only ``torch.func`` needs it.
        """
        if _transforming():
            return super().apply(*args)
        return super(torch.autograd.Function, cls).apply(*args)  # type: ignore[misc]

    @classmethod
    def jvp(cls, ctx: Any, *tangents: Any) -> Any:
        """Return the derivative along tangents, itself differentiable in forward mode.

        PyTorch switches forward mode off in this rule, so that the second derivative of ``jvp(jvp(f))`` would
        lose a term.
        """
        with forward_ad._set_fwd_grad_enabled(_transforming()):
            return cls.derivative(ctx, *tangents)

    @classmethod
    def derivative(cls, ctx: Any, *tangents: Any) -> Any:
        """Return the derivative along tangents; implemented by a subclass."""
        raise NotImplementedError

    @staticmethod
    def primals(ctx: Any) -> list[Tensor]:
        """Return the saved tensors without their tangents."""
        return [forward_ad.unpack_dual(t).primal for t in ctx.saved_tensors]


class LinearMap(Function):
    """Linear map of the first argument, sample by sample along its first dimension.

    All other arguments are constants. A subclass defines ``forward(x, *constants)`` and, in ``backward``, the
    adjoint map. A linear map is its own derivative in forward mode, and a dimension mapped by
    ``torch.func.vmap`` becomes part of the batch.
    """

    @classmethod
    def call(cls, x: Tensor, *constants: Any) -> Tensor:
        """Apply the map; compilers, which do not trace forward-mode rules, differentiate ``forward``."""
        result: Tensor = (
            cls.forward(x, *constants) if torch.compiler.is_compiling() else cls.apply(x, *constants)
        )
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Save the constants."""
        ctx.constants = inputs[1:]

    @classmethod
    def derivative(cls, ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        """Map the tangent."""
        result: Tensor = cls.apply(tangent, *ctx.constants)
        return result

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[Any, ...], x: Tensor, *constants: Any) -> tuple[Tensor, int]:
        """Map the samples of all elements of the mapped dimension as one batch."""
        x = x.movedim(in_dims[0], 0)
        return cls.apply(x.flatten(0, 1), *constants).unflatten(0, x.shape[:2]), 0
