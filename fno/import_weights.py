"""Published weights: FourCastNet, physicsnemo's AFNO and neuraloperator's FNO as models of this package.

Files are read with ``weights_only=True``, so that no code in them is run. What the tensors tell (channels, width, depth,
patches) is read off them; the rest comes as arguments.
"""

import io
import json
import re
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .errors import WeightsError
from .models import REGISTRY
from .models.base import load_weights, mark_trained

FORMATS = ("fourcastnet", "neuraloperator", "physicsnemo")
Imported = tuple[str, dict[str, Any], dict[str, Tensor]]


def import_weights(path: str | Path, format: str, **arguments: Any) -> nn.Module:
    """Return a model with published weights, in evaluation mode.

    Args:
        path: ``fourcastnet``: a training checkpoint (``model_state``). ``physicsnemo``: an AFNO's state dict or ``.mdlus``
            archive. ``neuraloperator``: the state dict of an ``FNO`` with default options.
        format: one of these three.
        **arguments: what the file does not hold, under the names of the package it comes from: ``inp_shape`` for an AFNO
            (an archive holds it), and thresholds that are not the default.

    Raises:
        FileNotFoundError: no such file.
        WeightsError: not such a file, an option that is not supported, or weights that do not fit; every missing, unknown
            and mis-shaped entry is listed.
    """
    kind, found, tensors = read_weights(path, format, **arguments)
    return build(kind, found, tensors, str(path))


def build(kind: str, arguments: Mapping[str, Any], tensors: Mapping[str, Tensor], source: str) -> nn.Module:
    """Return the model of this kind with exactly these weights; raises ``WeightsError`` where they do not fit."""
    try:
        model = REGISTRY[kind](**arguments)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{source}: {kind} cannot be made with {dict(arguments)}: {error}") from error
    load_weights(model, tensors, source)
    if "inp_shape" in arguments:
        mark_trained(model, tuple(arguments["inp_shape"]))
    return model.eval()


def read_weights(path: str | Path, format: str, **arguments: Any) -> Imported:
    """Return the kind of model, its arguments and its weights; arguments and errors are those of ``import_weights``."""
    path = Path(path)
    if format not in FORMATS:
        raise WeightsError(f"unknown format {format!r}; use one of {', '.join(FORMATS)}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if format == "neuraloperator":
        return _neuraloperator(_load(path, path.read_bytes()), arguments, str(path))
    if format == "physicsnemo":
        state, held = _physicsnemo(path)
        return _afno(state, held | arguments, str(path))
    held_state = _load(path, path.read_bytes())
    if "model_state" not in held_state:
        raise WeightsError(
            f"{path} holds no 'model_state', so it is no training checkpoint of FourCastNet; it holds {', '.join(list(held_state)[:5])}"
        )
    return _afno({name.removeprefix("module."): t for name, t in held_state["model_state"].items()}, arguments, str(path))


def _load(path: Path, content: bytes) -> dict[str, Any]:
    try:
        held = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a file that is no checkpoint makes the reader raise
        reason = " ".join(str(error).split())
        if re.search("GLOBAL|REDUCE|BUILD|WeightsUnpickler error: Unsupported (global|class)", reason):
            raise WeightsError(
                f"{path} holds more than tensors, and loading it would run code that came with it; nothing was loaded. "
                f"Save its state dict alone, where you trust it: torch.save(model.state_dict(), ...)"
            ) from error
        raise WeightsError(f"{path} cannot be read as saved tensors: {reason[:200]}") from error
    if not isinstance(held, dict):
        raise WeightsError(f"{path} holds a {type(held).__name__}, not a state dict")
    return held


def _physicsnemo(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the state dict and the arguments of a plain state dict or of either kind of archive."""
    members: dict[str, bytes] = {}
    if tarfile.is_tarfile(path):
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                name = Path(member.name).name
                if name in ("args.json", "model.pt") and (file := tar.extractfile(member)):
                    members[name] = file.read()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist() if name in ("args.json", "model.pt")}
    if not {"args.json", "model.pt"} <= set(members):
        return _load(path, path.read_bytes()), {}
    try:
        described = json.loads(members["args.json"])
        name, held = described["__name__"], dict(described["__args__"])
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: args.json does not describe a model ({error})") from error
    if name != "AFNO":
        raise WeightsError(f"{path} holds a {name}; of physicsnemo's models AFNO is supported")
    return _load(path, members["model.pt"]), held


def _afno(state: dict[str, Any], given: dict[str, Any], source: str) -> Imported:
    """Read an AFNO; FourCastNet's and physicsnemo's have the same parameters and names."""
    if any(name.startswith("backbone.") for name in state):
        raise WeightsError(
            f"{source} is a PrecipNet: an AFNO backbone under a padded convolution for precipitation, with inputs of another network; "
            f"only backbones are supported"
        )
    tensors = {n: t for n, t in state.items() if isinstance(t, Tensor) and n not in ("norm.weight", "norm.bias", "device_buffer")}
    try:
        kernel, w1, head = tensors["patch_embed.proj.weight"], tensors["blocks.0.filter.w1"], tensors["head.weight"]
        depth = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))
        hidden = tensors["blocks.0.mlp.fc1.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{source} holds no AFNO: {error} is missing; it holds {', '.join(list(state)[:5])} ...") from error
    embed, channels, p, q = kernel.shape
    arguments = {"patch_size": (p, q), "in_channels": channels, "out_channels": head.shape[0] // (p * q), "embed_dim": embed}
    arguments |= {"depth": depth, "num_blocks": w1.shape[1], "mlp_ratio": hidden / embed}
    names = {"img_size": "inp_shape", "in_chans": "in_channels", "out_chans": "out_channels"}
    given = {names.get(name, name): tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    for name in ("drop_rate", "drop_path_rate"):
        given.pop(name, None)  # no weights, and nothing in evaluation
    free = ("inp_shape", "sparsity_threshold", "hard_thresholding_fraction")
    _compare(given, arguments, free, source)
    if "inp_shape" not in given:
        tokens = tensors["pos_embed"].shape[1] if "pos_embed" in tensors else 0
        raise WeightsError(f"{source} does not hold the grid; give inp_shape=[H,W], which makes {tokens} patches of {(p, q)} points")
    arguments |= {name: given[name] for name in free if name in given}
    if w1.shape[3] != w1.shape[2]:
        raise WeightsError(f"{source} has hidden_size_factor {w1.shape[3] / w1.shape[2]:g} in its mixer; 1 is supported")
    return "afno", arguments, tensors


_DEFAULTS: dict[str, Any] = {
    "positional_embedding": "grid", "norm": None, "complex_data": False, "use_channel_mlp": True, "channel_mlp_skip": "soft-gating",
    "fno_skip": "linear", "resolution_scaling_factor": None, "domain_padding": None, "fno_block_precision": "full", "stabilizer": None,
    "max_n_modes": None, "factorization": None, "separable": False, "preactivation": False, "channel_mlp_dropout": 0, "non_linearity": "gelu",
}  # fmt: skip
_SIGNS = {
    ".weight.core": "factorization 'Tucker'", ".weight.weights": "factorization 'CP'", ".weight.factors": "a factorization",
    ".norm.": "a norm", "channel_mlp_skips.0.conv": "channel_mlp_skip 'linear'", "fno_skips.0.weight": "fno_skip 'soft-gating'",
}  # fmt: skip


def _neuraloperator(state: dict[str, Any], given: dict[str, Any], source: str) -> Imported:
    """Read neuraloperator's FNO. Its weights are (in, out, *modes) complex, ours (*modes, in, 2, out) real."""
    if other := [f"{name}={given[name]!r}" for name, default in _DEFAULTS.items() if name in given and given[name] != default]:
        raise WeightsError(f"{source}: {', '.join(other)} not supported; only FNOs with neuraloperator's default options are")
    held = {name: t for name, t in state.items() if isinstance(t, Tensor)}
    if signs := sorted({what for sign, what in _SIGNS.items() for name in held if sign in f".{name}"}):
        raise WeightsError(f"{source} has {', '.join(signs)}; only FNOs with neuraloperator's default options are supported")
    try:
        first, lift = held["fno_blocks.convs.0.weight.tensor"], held["lifting.fcs.0.weight"]
        project = held["projection.fcs.1.weight"]
    except KeyError as error:
        raise WeightsError(f"{source} holds no FNO of neuraloperator: {error} is missing; it holds {', '.join(list(held)[:5])} ...") from error
    if first.ndim < 3 or not first.is_complex() or first.shape[0] != first.shape[1]:
        raise WeightsError(
            f"{source} has spectral weights of shape {tuple(first.shape)}: separable or other than neuraloperator's default, not supported"
        )
    d, width = first.ndim - 2, first.shape[0]
    layers = 1 + max(int(name.split(".")[2]) for name in held if name.startswith("fno_blocks.convs."))
    kept = tuple(first.shape[2:])
    modes = (*kept[:-1], 2 * (kept[-1] - 1) or 1)
    mlp = held.get("fno_blocks.channel_mlp.0.fcs.0.weight")
    if mlp is None:
        raise WeightsError(f"{source} has no channel MLP (use_channel_mlp=False), which is not supported")
    arguments = {
        "n_modes": modes, "in_channels": lift.shape[1] - d, "out_channels": project.shape[0], "hidden_channels": width, "n_layers": layers,
        "lifting_channel_ratio": lift.shape[0] / width, "projection_channel_ratio": held["projection.fcs.0.weight"].shape[0] / width,
        "positions": True, "mlp_ratio": mlp.shape[0] / width, "last_activation": False,
    }  # fmt: skip
    asked = {("mlp_ratio" if n == "channel_mlp_expansion" else n): v for n, v in given.items() if n not in _DEFAULTS}
    if "n_modes" in asked:  # 2 n and 2 n + 1 modes keep the same columns
        asked["n_modes"] = modes if [*asked["n_modes"][:-1], asked["n_modes"][-1] // 2] == [*modes[:-1], modes[-1] // 2] else asked["n_modes"]
    if asked.get("in_channels") == lift.shape[1]:
        raise WeightsError(f"{source} has no grid embedding (positional_embedding=None), which is not supported")
    _compare(asked, arguments, (), source)
    return "fno", arguments, {_renamed(name): _converted(name, t, d) for name, t in held.items()}


def _renamed(name: str) -> str:
    """Return our name of a parameter of neuraloperator's."""
    parts = name.replace(".fcs.0.", ".fc1.").replace(".fcs.1.", ".fc2.").split(".")
    if parts[0] != "fno_blocks":
        return ".".join(parts)
    room, i, *rest = parts[1:]
    ours = {"convs": "conv", "fno_skips": "skip", "channel_mlp": "mlp", "channel_mlp_skips": "gate"}.get(room, room)
    rest = [r for r in rest if r not in ("tensor", "conv")] if room != "channel_mlp_skips" else []
    return ".".join(["blocks", i, ours, *rest])


def _converted(name: str, t: Tensor, d: int) -> Tensor:
    if ".convs." in name and name.endswith("tensor"):
        return torch.view_as_real(t.permute(*range(2, d + 2), 0, 1).contiguous()).movedim(-1, -2).contiguous()
    if ".convs." in name or "channel_mlp_skips" in name:
        return t.flatten()
    return t.squeeze(-1) if t.ndim == 3 else t


def _compare(given: Mapping[str, Any], found: Mapping[str, Any], free: tuple[str, ...], source: str) -> None:
    """Refuse arguments that the file contradicts or that do not exist."""
    if unknown := [name for name in given if name not in found and name not in free]:
        raise WeightsError(f"{source}: unknown argument {', '.join(unknown)}; there are {', '.join([*free, *found])}")
    wrong = [f"{name} is {found[name]}, not {value}" for name, value in given.items() if name in found and not _same(found[name], value)]
    if wrong:
        raise WeightsError(f"{source}: {'; '.join(wrong)}")


def _same(a: Any, b: Any) -> bool:
    return list(a) == list(b) if isinstance(a, tuple) and isinstance(b, tuple | list) else bool(a == b)
