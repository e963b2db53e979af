"""Resizing of patch kernels and position embeddings to another resolution."""

import torch
from torch import Tensor
from torch.nn import functional


def resize_positions(embedding: Tensor, tokens: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Return a position embedding, shape (1, tokens, channel), interpolated to another number of patches.

    The interpolation is bicubic.
    """
    if tokens == new:
        return embedding
    field = embedding.unflatten(1, tokens).permute(0, 3, 1, 2)
    resized: Tensor = functional.interpolate(field, new, mode="bicubic", align_corners=False)
    return resized.flatten(2).transpose(1, 2)


def interpolation_matrix(old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Return the matrix of bilinear interpolation between patch sizes, shape (new points, old points)."""
    basis = torch.eye(old[0] * old[1], dtype=torch.float64).reshape(-1, 1, *old)
    matrix: Tensor = (
        functional.interpolate(basis, new, mode="bilinear", align_corners=False).reshape(len(basis), -1).T
    )
    return matrix


def resize_kernel(kernel: Tensor, new: tuple[int, int]) -> Tensor:
    """Return a patch kernel, shape (out, in, p, q), resized to another patch size.

    The token of an interpolated patch equals that of the original: ``w' = pinv(B^T) w`` with ``B`` the
    interpolation (Beyer et al. 2023, "FlexiViT", arXiv:2212.08013), exact if the patch grows.
    """
    matrix = interpolation_matrix((kernel.shape[2], kernel.shape[3]), new)
    flat: Tensor = kernel.detach().double().flatten(2) @ torch.linalg.pinv(matrix)
    return flat.reshape(*kernel.shape[:2], *new).to(kernel.dtype)


def resize_head(weight: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Return the head, shape (p q out, embed), whose output is the interpolated patch: the rows ``B w``."""
    flat = weight.detach().double().reshape(old[0] * old[1], -1)
    return (interpolation_matrix(old, new) @ flat).reshape(-1, weight.shape[1]).to(weight.dtype)
