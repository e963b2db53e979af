"""Layer norm with correct higher derivatives."""

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual


class LayerNorm(nn.LayerNorm):
    """``torch.nn.LayerNorm`` whose forward-mode derivative can be differentiated again.

    PyTorch's forward-mode rule treats mean and deviation as constants, so that ``jacfwd(jacfwd(f))`` and
    ``jacrev(jacfwd(f))`` are wrong (as of version 2.13). In forward mode the norm is computed from elementary
    operations instead.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Apply to ``input``, whose last dimension is the channels."""
        tensors = [t for t in (input, self.weight, self.bias) if t is not None]
        if torch.compiler.is_compiling() or all(unpack_dual(t).tangent is None for t in tensors):
            return super().forward(input)
        dims = tuple(range(-len(self.normalized_shape), 0))
        centred = input - input.mean(dims, keepdim=True)
        y = centred * torch.rsqrt(centred.square().mean(dims, keepdim=True) + self.eps)
        y = y if self.weight is None else y * self.weight
        return y if self.bias is None else y + self.bias
