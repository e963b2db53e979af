"""Published weights (FourCastNet, physicsnemo's AFNO, neuraloperator's FNO) as models of this package.

Files are read with ``weights_only=True``, so that no code in them is run. What the tensors determine
(channels, width, depth, patches) is read from them; the rest comes as arguments.
"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from ..errors import WeightsError
from ..models import REGISTRY, count_layers
from ..models.base import load_weights, mark_trained
from ..references import is_reference
from ..weights.blueprint import Shaped, check_blueprint
from .afno import read_fourcastnet, read_physicsnemo
from .checks import ModelDescription
from .neuraloperator import read_neuraloperator

FORMATS = ("fourcastnet", "neuraloperator", "physicsnemo")
_LARGEST = 1_000_000
"""Largest number among the arguments of a model."""
_WORDS = (
    "factorization",
    "norm",
    "skip",
    "activation",
    "method",
    "padding_mode",
    "edges",
    "grid",
    "series",
    "local",
)
"""Arguments whose values are text."""


def import_weights(path: str | Path, format: str, **arguments: Any) -> nn.Module:
    """Return a model with published weights, in evaluation mode.

    Args:
        path: ``fourcastnet``: a training checkpoint (``model_state``). ``physicsnemo``: an AFNO's state dict
            or ``.mdlus`` archive. ``neuraloperator``: the state dict of an ``FNO`` with default options.
        format: one of these three.
        **arguments: options that the file does not contain, under the names of the package it comes from:
            ``inp_shape`` for an AFNO (an archive contains it), and thresholds that are not the default.

    Raises:
        FileNotFoundError: no such file.
        WeightsError: not a file of this format, an option that is not supported, or weights that do not fit;
            tensors that are missing, unknown or of another shape are listed.
    """
    model = read_weights(path, format, **arguments)
    return build(model.kind, model.arguments, model.tensors, source=str(path))


def build(
    kind: str, arguments: Mapping[str, Any], tensors: Mapping[str, Tensor], *, source: str
) -> nn.Module:
    """Return a model with exactly these weights, in evaluation mode.

    Args:
        kind: name in ``REGISTRY``.
        arguments: arguments of the constructor.
        tensors: weights by name.
        source: name of the source, for errors.

    Raises:
        WeightsError: no such model, or weights that do not fit.
    """
    model = construct(kind, arguments, tensors, source=source)
    load_weights(model, tensors, source)
    return model.eval()


def construct(
    kind: str, arguments: Mapping[str, Any], tensors: Mapping[str, Shaped], *, source: str
) -> nn.Module:
    """Return a model, after checking that its parameters have the shapes of existing tensors.

    Args:
        kind: name in ``REGISTRY``, or ``module:Class``.
        arguments: arguments of the constructor; lists are converted to tuples.
        tensors: tensors by name, or their entries in the header of a file.
        source: name of the source, for errors.

    Raises:
        WeightsError: no such model, or other tensors.
    """
    if not REGISTRY.offers(kind):
        raise WeightsError(f"{source}: unknown model {kind[:80]!r}; there are {', '.join(REGISTRY)}")
    arguments = {
        name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()
    }
    for name, value in arguments.items():
        for entry in value if isinstance(value, tuple) else [value]:
            if isinstance(entry, int | float) and not 0 <= entry <= _LARGEST:
                raise WeightsError(f"{source}: {name} is {str(entry)[:30]}, beyond 0 to {_LARGEST}")
            text = isinstance(entry, str) and (name in _WORDS or is_reference(kind))
            if not isinstance(entry, int | float) and not text and (entry, name) != (None, "reference_size"):
                raise WeightsError(f"{source}: {name} is {str(entry)[:80]!r}, which is not a number")
    model_class = REGISTRY[kind]
    layers = count_layers(kind, arguments)
    if not isinstance(layers, int):
        raise WeightsError(
            f"{source}: the number of layers is {str(layers)[:80]!r}, which is not a whole number"
        )
    check_blueprint(lambda: model_class(**arguments), tensors, layers=layers, source=source)
    model = model_class(**arguments)
    if "inp_shape" in arguments:
        mark_trained(model, arguments["inp_shape"])
    return model


def read_weights(path: str | Path, format: str, **arguments: Any) -> ModelDescription:
    """Return a model as its file describes it; arguments and errors are those of ``import_weights``."""
    path = Path(path)
    if format not in FORMATS:
        raise WeightsError(f"unknown format {format!r}; use one of {', '.join(FORMATS)}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if format == "neuraloperator":
        return read_neuraloperator(path, arguments)
    if format == "fourcastnet":
        return read_fourcastnet(path, arguments)
    with TemporaryDirectory(prefix="fourcaster-") as folder:
        return read_physicsnemo(path, arguments, Path(folder))
