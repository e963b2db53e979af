"""AFNOs of FourCastNet and physicsnemo, whose parameters have the names and shapes of this package's."""

from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import WeightsError
from ..weights.archives import load_tensors, unpack
from ..weights.strict_json import parse_json
from .checks import (
    ModelDescription,
    check_arguments,
    check_dimensions,
    check_names,
    count_blocks,
    first_names,
)

_FREE = ("inp_shape", "sparsity_threshold", "hard_thresholding_fraction")
_NAMES = {"img_size": "inp_shape", "in_chans": "in_channels", "out_chans": "out_channels"}
_DIMENSIONS = {
    "patch_embed.proj.weight": 4,
    "blocks.0.filter.w1": 4,
    "head.weight": 2,
    "blocks.0.mlp.fc1.weight": 2,
}


def read_fourcastnet(path: Path, arguments: dict[str, Any]) -> ModelDescription:
    """Read a training checkpoint of FourCastNet; arguments and errors are those of ``import_weights``."""
    source = str(path)
    state = load_tensors(path, source)
    if not isinstance(state.get("model_state"), dict):
        raise WeightsError(
            f"{path} has no 'model_state', so it is not a training checkpoint of FourCastNet; "
            f"it has {first_names(state)}"
        )
    tensors = check_names(state["model_state"], source)
    own = {name.removeprefix("module."): t for name, t in tensors.items()}
    if any(name.startswith("backbone.") for name in own):
        return _describe_precipnet(own, arguments, source)
    return describe_afno(own, arguments, source)


def read_physicsnemo(path: Path, arguments: dict[str, Any], folder: Path) -> ModelDescription:
    """Read a state dict or an archive of physicsnemo, unpacked into ``folder``.

    Arguments and errors are those of ``import_weights``.
    """
    source = str(path)
    unpacked = unpack(path, folder)
    if unpacked is None:
        return describe_afno(check_names(load_tensors(path, source), source), arguments, source)
    description, tensors = unpacked
    try:
        described = parse_json(description, "args.json")
        name = described["__name__"]
        stored = dict(described["__args__"])
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: args.json does not describe a model ({error})") from error
    if name != "AFNO":
        raise WeightsError(f"{path} is a {str(name)[:80]}; of physicsnemo's models AFNO is supported")
    return describe_afno(check_names(load_tensors(tensors, source), source), stored | arguments, source)


def _describe_precipnet(state: dict[str, Any], requested: dict[str, Any], source: str) -> ModelDescription:
    """Return the PrecipNet that tensors describe; arguments and errors as for ``describe_afno``."""
    prefix = "backbone."
    inner = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
    backbone = describe_afno(inner, requested, source)
    tensors = {f"{prefix}{name}": t for name, t in backbone.tensors.items()}
    outer = {name: t for name, t in state.items() if not name.startswith(prefix) and isinstance(t, Tensor)}
    return ModelDescription("precipnet", backbone.arguments, tensors | outer)


def describe_afno(state: dict[str, Any], requested: dict[str, Any], source: str) -> ModelDescription:
    """Return the AFNO that tensors describe.

    Args:
        state: tensors by name.
        requested: arguments, under the names of either package, for what the tensors do not determine.
        source: name of the file, for errors.

    Raises:
        WeightsError: not an AFNO, or contradictory, unknown or missing arguments.
    """
    ignored = ("norm.weight", "norm.bias", "device_buffer")
    tensors = {n: t for n, t in state.items() if isinstance(t, Tensor) and n not in ignored}
    try:
        kernel, mixer, head, hidden = (tensors[name] for name in _DIMENSIONS)
    except KeyError as error:
        raise WeightsError(
            f"{source} is not an AFNO: {error} is missing; it has {first_names(state)} ..."
        ) from error
    check_dimensions(tensors, _DIMENSIONS, source)
    depth = count_blocks(
        (name.split(".")[1] for name in tensors if name.startswith("blocks.")), "blocks", source
    )
    embed, channels, p, q = kernel.shape
    arguments = {
        "patch_size": (p, q),
        "in_channels": channels,
        "out_channels": head.shape[0] // (p * q),
        "embed_dim": embed,
        "depth": depth,
        "num_blocks": mixer.shape[1],
        "mlp_ratio": hidden.shape[0] / embed,
    }
    requested = {
        _NAMES.get(name, name): tuple(value) if isinstance(value, list) else value
        for name, value in requested.items()
        if name not in ("drop_rate", "drop_path_rate")  # no weights, and no effect in evaluation
    }
    check_arguments(requested, arguments, _FREE, source=source)
    if "inp_shape" not in requested:
        positions = tensors.get("pos_embed")
        tokens = positions.shape[1] if positions is not None and positions.ndim == 3 else 0
        raise WeightsError(
            f"{source} does not contain the grid; pass inp_shape=[H,W], which has {tokens} patches of "
            f"{(p, q)} points"
        )
    arguments |= {name: requested[name] for name in _FREE if name in requested}
    if mixer.shape[3] != mixer.shape[2]:
        raise WeightsError(
            f"{source} has hidden_size_factor {mixer.shape[3] / mixer.shape[2]:g} in its mixer; "
            "1 is supported"
        )
    return ModelDescription("afno", arguments, tensors)
