"""Resizing of patch kernels and position embeddings to another resolution."""

import torch
from torch import Tensor
from torch.nn import functional


def resize_positions(embedding: Tensor, tokens: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Return a position embedding interpolated bicubically to another number of patches.

    Args:
        embedding: embedding, shape (1, rows * columns, channel).
        tokens: rows and columns of patches of the embedding.
        new: rows and columns of patches of the result.
    """
    if tokens == new:
        return embedding
    field = embedding.unflatten(1, tokens).permute(0, 3, 1, 2)
    resized: Tensor = functional.interpolate(field, new, mode="bicubic", align_corners=False)
    return resized.flatten(2).transpose(1, 2)


def interpolation_matrix(old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Return the matrix of bilinear interpolation between patch sizes, shape (new points, old points).

    Args:
        old: points of a patch along (H, W).
        new: points of the interpolated patch.
    """
    basis = torch.eye(old[0] * old[1], dtype=torch.float64).reshape(-1, 1, *old)
    matrix: Tensor = (
        functional.interpolate(basis, new, mode="bilinear", align_corners=False).reshape(len(basis), -1).T
    )
    return matrix


def resize_kernel(kernel: Tensor, new: tuple[int, int]) -> Tensor:
    """Return a patch kernel resized to another patch size.

    The token of an interpolated patch equals that of the original: ``w' = pinv(B^T) w`` with ``B`` the
    interpolation (Beyer et al. 2023, "FlexiViT", arXiv:2212.08013), exact if the patch grows.

    Args:
        kernel: kernel, shape (out, in, p, q).
        new: points of the new patch along (H, W).
    """
    matrix = interpolation_matrix((kernel.shape[2], kernel.shape[3]), new)
    flat: Tensor = kernel.detach().double().flatten(2) @ torch.linalg.pinv(matrix)
    return flat.reshape(*kernel.shape[:2], *new).to(kernel.dtype)


def resize_head(weight: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Return the head whose output is the interpolated patch: ``w' = B w`` with the interpolation B.

    Args:
        weight: weight of the head, shape (p q out, embed), with p q points of the old patch.
        old: points of the old patch along (H, W).
        new: points of the new patch.
    """
    flat = weight.detach().double().reshape(old[0] * old[1], -1)
    return (interpolation_matrix(old, new) @ flat).reshape(-1, weight.shape[1]).to(weight.dtype)
