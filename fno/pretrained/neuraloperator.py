"""FNOs of neuraloperator with default options.

Its spectral weights are complex, shape (in, out, *modes); those of this package are real pairs, shape
(*modes, in, 2, out).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import WeightsError
from ..weights.archives import load_tensors
from .checks import (
    ModelDescription,
    check_arguments,
    check_dimensions,
    check_names,
    count_blocks,
    first_names,
)

_DEFAULTS: dict[str, Any] = {
    "positional_embedding": "grid",
    "norm": None,
    "complex_data": False,
    "use_channel_mlp": True,
    "channel_mlp_skip": "soft-gating",
    "fno_skip": "linear",
    "resolution_scaling_factor": None,
    "domain_padding": None,
    "fno_block_precision": "full",
    "stabilizer": None,
    "max_n_modes": None,
    "factorization": None,
    "separable": False,
    "preactivation": False,
    "channel_mlp_dropout": 0,
    "non_linearity": "gelu",
}
_UNSUPPORTED = {  # parts of tensor names that occur only with an option other than the default
    ".weight.core": "factorization 'Tucker'",
    ".weight.weights": "factorization 'CP'",
    ".weight.factors": "a factorization",
    ".norm.": "a norm",
    "channel_mlp_skips.0.conv": "channel_mlp_skip 'linear'",
    "fno_skips.0.weight": "fno_skip 'soft-gating'",
}
_FIRST = "fno_blocks.convs.0.weight.tensor"
_LIFT = "lifting.fcs.0.weight"
_HIDDEN = "projection.fcs.0.weight"
_PROJECT = "projection.fcs.1.weight"
_MLP = "fno_blocks.channel_mlp.0.fcs.0.weight"
_PARTS = {"convs": "conv", "fno_skips": "skip", "channel_mlp": "mlp", "channel_mlp_skips": "gate"}


def read_neuraloperator(path: Path, requested: dict[str, Any]) -> ModelDescription:
    """Read the state dict of an FNO of neuraloperator.

    Arguments and errors are those of ``import_weights``.
    """
    source = str(path)
    state = check_names(load_tensors(path, source), source)
    tensors = {name: t for name, t in state.items() if isinstance(t, Tensor)}
    _check_options(tensors, requested, source)
    spectral = _check_tensors(tensors, source)
    d = spectral.ndim - 2
    width = spectral.shape[0]
    retained = tuple(spectral.shape[2:])
    modes = (*retained[:-1], 2 * (retained[-1] - 1) or 1)
    blocks = (name.split(".")[2] for name in tensors if name.startswith("fno_blocks.convs."))
    arguments = {
        "n_modes": modes,
        "in_channels": tensors[_LIFT].shape[1] - d,
        "out_channels": tensors[_PROJECT].shape[0],
        "hidden_channels": width,
        "n_layers": count_blocks(blocks, "fno_blocks.convs", source),
        "lifting_channel_ratio": tensors[_LIFT].shape[0] / width,
        "projection_channel_ratio": tensors[_HIDDEN].shape[0] / width,
        "positions": True,
        "mlp_ratio": tensors[_MLP].shape[0] / width,
        "last_activation": False,
    }
    ours = {
        ("mlp_ratio" if name == "channel_mlp_expansion" else name): value
        for name, value in requested.items()
        if name not in _DEFAULTS
    }
    if _same_columns(ours.get("n_modes"), modes):
        ours["n_modes"] = modes
    if ours.get("in_channels") == tensors[_LIFT].shape[1]:
        raise WeightsError(
            f"{source} has no grid embedding (positional_embedding=None), which is not supported"
        )
    check_arguments(ours, arguments, (), source=source)
    return ModelDescription(
        "fno", arguments, {_rename(name): _convert(name, t, d) for name, t in tensors.items()}
    )


def _check_options(tensors: Mapping[str, Tensor], requested: Mapping[str, Any], source: str) -> None:
    """Check that options are neuraloperator's defaults, by arguments and by the names of tensors."""
    if other := [
        f"{name}={requested[name]!r}"
        for name, default in _DEFAULTS.items()
        if name in requested and requested[name] != default
    ]:
        raise WeightsError(
            f"{source}: {', '.join(other)} not supported; only FNOs with neuraloperator's default options are"
        )
    if options := sorted({what for part, what in _UNSUPPORTED.items() for n in tensors if part in f".{n}"}):
        raise WeightsError(
            f"{source} has {', '.join(options)}; "
            "only FNOs with neuraloperator's default options are supported"
        )


def _check_tensors(tensors: Mapping[str, Tensor], source: str) -> Tensor:
    """Check the tensors that determine the architecture; return the first spectral weight."""
    for name in (_FIRST, _LIFT, _PROJECT):
        if name not in tensors:
            raise WeightsError(
                f"{source} is not an FNO of neuraloperator: {name!r} is missing; "
                f"it has {first_names(tensors)} ..."
            )
    if _MLP not in tensors:
        raise WeightsError(f"{source} has no channel MLP (use_channel_mlp=False), which is not supported")
    first = tensors[_FIRST]
    if not 3 <= first.ndim <= 5 or not first.is_complex() or first.shape[0] != first.shape[1]:
        raise WeightsError(
            f"{source} has spectral weights of shape {tuple(first.shape)}: separable or other than "
            "neuraloperator's default, not supported"
        )
    check_dimensions(tensors, dict.fromkeys((_LIFT, _HIDDEN, _PROJECT), 3), source)
    spectral = {name: t for name, t in tensors.items() if ".convs." in name and name.endswith("tensor")}
    check_dimensions(tensors, {_MLP: 3, **dict.fromkeys(spectral, first.ndim)}, source)
    if real := [name for name, t in spectral.items() if not t.is_complex()]:
        raise WeightsError(f"{source}: {real[0][:80]} is real, expected complex spectral weights")
    return first


def _same_columns(requested: Any, modes: tuple[int, ...]) -> bool:
    """Return whether requested modes retain the same wavenumbers; in the last entry, 2 n and 2 n + 1 do."""
    if not isinstance(requested, list | tuple) or len(requested) != len(modes):
        return False
    if not all(isinstance(n, int) for n in requested):
        return False
    return [*requested[:-1], requested[-1] // 2] == [*modes[:-1], modes[-1] // 2]


def _rename(name: str) -> str:
    """Return the name in this package of a parameter of neuraloperator."""
    parts = name.replace(".fcs.0.", ".fc1.").replace(".fcs.1.", ".fc2.").split(".")
    if parts[0] != "fno_blocks" or len(parts) < 3:
        return ".".join(parts)
    part, i, *rest = parts[1:]
    rest = [r for r in rest if r not in ("tensor", "conv")] if part != "channel_mlp_skips" else []
    return ".".join(["blocks", i, _PARTS.get(part, part), *rest])


def _convert(name: str, t: Tensor, d: int) -> Tensor:
    """Return a parameter of neuraloperator in the layout of this package."""
    if ".convs." in name and name.endswith("tensor"):
        return torch.view_as_real(t.permute(*range(2, d + 2), 0, 1).contiguous()).movedim(-1, -2).contiguous()
    if ".convs." in name or "channel_mlp_skips" in name:
        return t.flatten()
    return t.squeeze(-1) if t.ndim == 3 else t
