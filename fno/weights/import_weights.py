"""Published weights: FourCastNet, physicsnemo's AFNO and neuraloperator's FNO as models of this package.

Files are read with ``weights_only=True``, so that no code in them is run. What the tensors tell (channels,
width, depth, patches) is read off them; the rest comes as arguments.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import WeightsError
from ..models import REGISTRY
from ..models.base import load_weights, mark_trained
from .archives import load_tensors, unpack
from .blueprint import Shaped, check_blueprint
from .strict_json import parse_json

FORMATS = ("fourcastnet", "neuraloperator", "physicsnemo")
Imported = tuple[str, dict[str, Any], dict[str, Tensor]]
_LARGEST = 1_000_000  # number among a model's arguments
_LONGEST_NAME = 1_000
_WORDS = (
    "factorization",
    "norm",
    "skip",
    "activation",
    "method",
    "padding_mode",
    "edges",
    "grid",
)  # arguments that are names


def import_weights(path: str | Path, format: str, **arguments: Any) -> nn.Module:
    """Return a model with published weights, in evaluation mode.

    Args:
        path: ``fourcastnet``: a training checkpoint (``model_state``). ``physicsnemo``: an AFNO's state dict
            or ``.mdlus`` archive. ``neuraloperator``: the state dict of an ``FNO`` with default options.
        format: one of these three.
        **arguments: what the file does not hold, under the names of the package it comes from: ``inp_shape``
            for an AFNO (an archive holds it), and thresholds that are not the default.

    Raises:
        FileNotFoundError: no such file.
        WeightsError: not such a file, an option that is not supported, or weights that do not fit; every
            missing, unknown and mis-shaped entry is listed.
    """
    kind, found, tensors = read_weights(path, format, **arguments)
    return build(kind, found, tensors, str(path))


def build(kind: str, arguments: Mapping[str, Any], tensors: Mapping[str, Tensor], source: str) -> nn.Module:
    """Return the model of this kind with exactly these weights; raises ``WeightsError`` where they do not
    fit.
    """
    model = construct(kind, arguments, tensors, source)
    load_weights(model, tensors, source)
    return model.eval()


def construct(kind: str, arguments: Mapping[str, Any], given: Mapping[str, Shaped], source: str) -> nn.Module:
    """Return the model of this kind, once its tensors are known to have the shapes of those that are given.

    Args:
        kind: name in ``REGISTRY``.
        arguments: of the model; lists stand for tuples.
        given: tensors by name, or their entries in the header of a file.
        source: named in errors.

    Raises:
        WeightsError: no such model, or other tensors.
    """
    arguments = {
        name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()
    }
    for name, value in arguments.items():
        for entry in value if isinstance(value, tuple) else [value]:
            if isinstance(entry, int | float) and not 0 <= entry <= _LARGEST:
                raise WeightsError(f"{source}: {name} is {str(entry)[:30]}, beyond 0 to {_LARGEST}")
            if (
                not isinstance(entry, int | float)
                and not (isinstance(entry, str) and name in _WORDS)
                and (entry, name) != (None, "reference_size")
            ):
                raise WeightsError(f"{source}: {name} is {str(entry)[:80]!r}, which is no number")
    layers = arguments.get("depth" if kind == "afno" else "n_layers", 1)
    if not isinstance(layers, int):
        raise WeightsError(
            f"{source}: the number of layers is {str(layers)[:80]!r}, which is no whole number"
        )
    check_blueprint(lambda: REGISTRY[kind](**arguments), given, layers, source)
    model = REGISTRY[kind](**arguments)
    if "inp_shape" in arguments:
        mark_trained(model, arguments["inp_shape"])
    return model


def read_weights(path: str | Path, format: str, **arguments: Any) -> Imported:
    """Return the kind of model, its arguments and its weights; arguments and errors are those of
    ``import_weights``.
    """
    path = Path(path)
    if format not in FORMATS:
        raise WeightsError(f"unknown format {format!r}; use one of {', '.join(FORMATS)}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with TemporaryDirectory(prefix="fourcaster-") as folder:
        if format == "physicsnemo":
            state, described = _physicsnemo(path, Path(folder))
            return _afno(_named(state, str(path)), described | arguments, str(path))
        state = load_tensors(path, str(path))
        if format == "neuraloperator":
            return _neuraloperator(_named(state, str(path)), arguments, str(path))
        if not isinstance(state.get("model_state"), dict):
            names = ", ".join(str(name)[:80] for name in list(state)[:5])
            raise WeightsError(
                f"{path} holds no 'model_state', so it is no training checkpoint of FourCastNet; it holds {names}"
            )
        named = _named(state["model_state"], str(path))
        return _afno({name.removeprefix("module."): t for name, t in named.items()}, arguments, str(path))


def _named(state: dict[Any, Any], source: str) -> dict[str, Any]:
    if wrong := [name for name in state if not isinstance(name, str) or len(name) > _LONGEST_NAME]:
        raise WeightsError(f"{source} holds no state dict: {str(wrong[0])[:80]!r} is no name of a tensor")
    return state


def _physicsnemo(path: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the state dict and the arguments of a plain state dict or of either kind of archive."""
    unpacked = unpack(path, folder)
    if unpacked is None:
        return load_tensors(path, str(path)), {}
    description, tensors = unpacked
    try:
        described = parse_json(description, "args.json")
        name, arguments = described["__name__"], dict(described["__args__"])
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: args.json does not describe a model ({error})") from error
    if name != "AFNO":
        raise WeightsError(f"{path} holds a {str(name)[:80]}; of physicsnemo's models AFNO is supported")
    return load_tensors(tensors, str(path)), arguments


def _afno(state: dict[str, Any], given: dict[str, Any], source: str) -> Imported:
    """Read an AFNO; FourCastNet's and physicsnemo's have the same parameters and names."""
    if any(name.startswith("backbone.") for name in state):
        raise WeightsError(
            f"{source} is a PrecipNet: an AFNO backbone under a padded convolution for precipitation, with inputs of another network; "
            f"only backbones are supported"
        )
    tensors = {
        n: t
        for n, t in state.items()
        if isinstance(t, Tensor) and n not in ("norm.weight", "norm.bias", "device_buffer")
    }
    try:
        kernel, w1, head = (
            tensors["patch_embed.proj.weight"],
            tensors["blocks.0.filter.w1"],
            tensors["head.weight"],
        )
        inner = tensors["blocks.0.mlp.fc1.weight"]
    except KeyError as error:
        raise WeightsError(
            f"{source} holds no AFNO: {error} is missing; it holds {_first(state)} ..."
        ) from error
    wanted = {
        "patch_embed.proj.weight": 4,
        "blocks.0.filter.w1": 4,
        "head.weight": 2,
        "blocks.0.mlp.fc1.weight": 2,
    }
    _refuse_misshapen(tensors, wanted, source)
    depth = _consecutive(
        (name.split(".")[1] for name in tensors if name.startswith("blocks.")), "blocks", source
    )
    (embed, channels, p, q), hidden = kernel.shape, inner.shape[0]
    arguments = {
        "patch_size": (p, q),
        "in_channels": channels,
        "out_channels": head.shape[0] // (p * q),
        "embed_dim": embed,
    }
    arguments |= {"depth": depth, "num_blocks": w1.shape[1], "mlp_ratio": hidden / embed}
    names = {"img_size": "inp_shape", "in_chans": "in_channels", "out_chans": "out_channels"}
    given = {
        names.get(name, name): tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
    }
    for name in ("drop_rate", "drop_path_rate"):
        given.pop(name, None)  # no weights, and nothing in evaluation
    free = ("inp_shape", "sparsity_threshold", "hard_thresholding_fraction")
    _compare(given, arguments, free, source)
    if "inp_shape" not in given:
        tokens = (
            tensors["pos_embed"].shape[1] if "pos_embed" in tensors and tensors["pos_embed"].ndim == 3 else 0
        )
        raise WeightsError(
            f"{source} does not hold the grid; give inp_shape=[H,W], which makes {tokens} patches of {(p, q)} points"
        )
    arguments |= {name: given[name] for name in free if name in given}
    if w1.shape[3] != w1.shape[2]:
        raise WeightsError(
            f"{source} has hidden_size_factor {w1.shape[3] / w1.shape[2]:g} in its mixer; 1 is supported"
        )
    return "afno", arguments, tensors


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
_SIGNS = {
    ".weight.core": "factorization 'Tucker'",
    ".weight.weights": "factorization 'CP'",
    ".weight.factors": "a factorization",
    ".norm.": "a norm",
    "channel_mlp_skips.0.conv": "channel_mlp_skip 'linear'",
    "fno_skips.0.weight": "fno_skip 'soft-gating'",
}


def _neuraloperator(state: dict[str, Any], given: dict[str, Any], source: str) -> Imported:
    """Read neuraloperator's FNO. Its weights are (in, out, *modes) complex, ours (*modes, in, 2, out) real."""
    if other := [
        f"{name}={given[name]!r}"
        for name, default in _DEFAULTS.items()
        if name in given and given[name] != default
    ]:
        raise WeightsError(
            f"{source}: {', '.join(other)} not supported; only FNOs with neuraloperator's default options are"
        )
    held = {name: t for name, t in state.items() if isinstance(t, Tensor)}
    if signs := sorted({what for sign, what in _SIGNS.items() for name in held if sign in f".{name}"}):
        raise WeightsError(
            f"{source} has {', '.join(signs)}; only FNOs with neuraloperator's default options are supported"
        )
    try:
        first, lift = held["fno_blocks.convs.0.weight.tensor"], held["lifting.fcs.0.weight"]
        project = held["projection.fcs.1.weight"]
    except KeyError as error:
        raise WeightsError(
            f"{source} holds no FNO of neuraloperator: {error} is missing; it holds {_first(held)} ..."
        ) from error
    inner = held.get("fno_blocks.channel_mlp.0.fcs.0.weight")
    if inner is None:
        raise WeightsError(f"{source} has no channel MLP (use_channel_mlp=False), which is not supported")
    if not 3 <= first.ndim <= 5 or not first.is_complex() or first.shape[0] != first.shape[1]:
        raise WeightsError(
            f"{source} has spectral weights of shape {tuple(first.shape)}: separable or other than neuraloperator's default, not supported"
        )
    d, width = first.ndim - 2, first.shape[0]
    _refuse_misshapen(
        held,
        dict.fromkeys(("lifting.fcs.0.weight", "projection.fcs.0.weight", "projection.fcs.1.weight"), 3),
        source,
    )
    spectral = {name: t for name, t in held.items() if ".convs." in name and name.endswith("tensor")}
    _refuse_misshapen(
        held, {"fno_blocks.channel_mlp.0.fcs.0.weight": 3, **dict.fromkeys(spectral, first.ndim)}, source
    )
    if real := [name for name, t in spectral.items() if not t.is_complex()]:
        raise WeightsError(f"{source}: {real[0][:80]} is real, wanted are complex spectral weights")
    layers = _consecutive(
        (name.split(".")[2] for name in held if name.startswith("fno_blocks.convs.")),
        "fno_blocks.convs",
        source,
    )
    kept = tuple(first.shape[2:])
    modes = (*kept[:-1], 2 * (kept[-1] - 1) or 1)
    arguments = {
        "n_modes": modes,
        "in_channels": lift.shape[1] - d,
        "out_channels": project.shape[0],
        "hidden_channels": width,
        "n_layers": layers,
        "lifting_channel_ratio": lift.shape[0] / width,
        "projection_channel_ratio": held["projection.fcs.0.weight"].shape[0] / width,
        "positions": True,
        "mlp_ratio": inner.shape[0] / width,
        "last_activation": False,
    }
    asked = {
        ("mlp_ratio" if n == "channel_mlp_expansion" else n): v
        for n, v in given.items()
        if n not in _DEFAULTS
    }
    numbers = asked.get("n_modes")
    if isinstance(numbers, list | tuple) and len(numbers) == d and all(isinstance(n, int) for n in numbers):
        # 2 n and 2 n + 1 modes keep the same columns
        asked["n_modes"] = (
            modes
            if [*asked["n_modes"][:-1], asked["n_modes"][-1] // 2] == [*modes[:-1], modes[-1] // 2]
            else asked["n_modes"]
        )
    if asked.get("in_channels") == lift.shape[1]:
        raise WeightsError(
            f"{source} has no grid embedding (positional_embedding=None), which is not supported"
        )
    _compare(asked, arguments, (), source)
    return "fno", arguments, {_renamed(name): _converted(name, t, d) for name, t in held.items()}


def _first(state: Mapping[str, Any]) -> str:
    return ", ".join(name[:80] for name in list(state)[:5])


def _consecutive(numbers: Iterable[str], name: str, source: str) -> int:
    """Return how many blocks there are, by the numbers in the names of their tensors."""
    seen = set(numbers)
    if seen != {str(i) for i in range(len(seen))}:
        odd = min(seen - {str(i) for i in range(len(seen))})
        raise WeightsError(
            f"{source} has {name}.{odd[:30]}, but {len(seen)} of its kind; they should be numbered from 0 without gaps"
        )
    return len(seen)


def _refuse_misshapen(tensors: Mapping[str, Tensor], dimensions: Mapping[str, int], source: str) -> None:
    for name, count in dimensions.items():
        if name not in tensors:
            raise WeightsError(f"{source} lacks {name}")
        if tensors[name].ndim != count or not tensors[name].numel():
            raise WeightsError(
                f"{source}: {name} has shape {tuple(tensors[name].shape)}, wanted {count} dimensions, none of them empty"
            )


def _renamed(name: str) -> str:
    """Return our name of a parameter of neuraloperator's."""
    parts = name.replace(".fcs.0.", ".fc1.").replace(".fcs.1.", ".fc2.").split(".")
    if parts[0] != "fno_blocks" or len(parts) < 3:
        return ".".join(parts)
    room, i, *rest = parts[1:]
    ours = {"convs": "conv", "fno_skips": "skip", "channel_mlp": "mlp", "channel_mlp_skips": "gate"}.get(
        room, room
    )
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
        raise WeightsError(
            f"{source}: unknown argument {', '.join(unknown)}; there are {', '.join([*free, *found])}"
        )
    wrong = [
        f"{name} is {found[name]}, not {value}"
        for name, value in given.items()
        if name in found and not _same(found[name], value)
    ]
    if wrong:
        raise WeightsError(f"{source}: {'; '.join(wrong)}")


def _same(a: Any, b: Any) -> bool:
    return list(a) == list(b) if isinstance(a, tuple) and isinstance(b, tuple | list) else bool(a == b)
