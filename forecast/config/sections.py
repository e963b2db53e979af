"""Base classes and types of configuration sections: unknown keys are errors, numbers are bounded.

The bounds are far beyond what trains on any machine; they prevent, say, a billion layers from being built.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from ...datasets.suggestions import suggest

MODEL_KINDS = ("fno", "tfno", "sfno", "afno")
MODEL_TAGS = (*MODEL_KINDS, "plugin")  # of the union of their configurations
_MAX_ENTRIES = 16  # of a list in an argument of a registered model
_MAX_NUMBER = 10**6

Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Width = Annotated[int, Field(ge=1, le=65_536)]
Layers = Annotated[int, Field(ge=1, le=10_000)]
Modes = Annotated[int, Field(ge=1, le=65_536)]
Ratio = Annotated[float, Field(gt=0, le=1_000)]


class Strict(BaseModel):
    """A section that refuses unknown keys, non-finite numbers and empty paths."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _check_types(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            _refuse_conversions(values, {name: field.annotation for name, field in cls.model_fields.items()})
        return values


def _refuse_conversions(values: Mapping[str, Any], annotations: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for values that pydantic would convert silently.

    These are true and false, which would become numbers, and empty texts, which would become the working
    folder.
    """
    for key, value in values.items():
        if key not in annotations:
            continue
        types = _types_in(annotations[key])
        if bool not in types and Any not in types and _contains_boolean(value):
            raise ValueError(f"{key} cannot be true or false")
        if Path in types and isinstance(value, str) and (not value.strip() or "\0" in value):
            raise ValueError(f"{key} names no file or folder")
        for kind in types:
            if is_dataclass(kind) and isinstance(value, Mapping):
                _refuse_conversions(value, {field.name: field.type for field in fields(kind)})


def _types_in(annotation: Any) -> set[Any]:
    """Return the types that an annotation consists of."""
    inner = get_args(annotation)
    return {annotation}.union(*(_types_in(one) for one in inner if not isinstance(one, str | int | float)))


def _contains_boolean(value: Any) -> bool:
    return isinstance(value, bool) or (
        isinstance(value, list | tuple) and any(_contains_boolean(one) for one in value)
    )


def _local_branch(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Return a valid value of ``local``; an error of a union would name one of its types."""
    try:
        return validate(value)
    except ValidationError as error:
        raise ValueError("write true, false or stencil") from error


class FourierKeys(Strict):
    """Arguments of ``fourcaster.fno.FNO``.

    Attributes:
        hidden_channels: width of the network.
        n_layers: number of Fourier blocks.
        lifting_channel_ratio: hidden width of the lifting network as a multiple of ``hidden_channels``.
        projection_channel_ratio: hidden width of the projection as a multiple of ``hidden_channels``.
        domain_padding: margin along dimensions that are not periodic, as a fraction of their length.
        padding_mode: values in the margin: ``continued`` smoothly, ``zero``, or ``reflect``.
        dropout: probability with which an activation is set to zero in training.
        norm: normalisation in the blocks: ``none``, ``instance`` or ``layer``.
        activation: ``gelu``, or ``alias_free`` for one that does not depend on the grid.
        local: add a branch to each spectral convolution: true for finite differences; ``stencil`` for a
            learned combination of the values at the neighbours on the training grid, for models in one or two
            dimensions that run on grids which contain the training grid.
        series: series of the spectral convolutions: ``fourier``; or ``cosine`` for limited areas and other
            domains with points on all edges, which needs a ``domain_padding`` of 0 and a kind ``fno``.
        input_injection: add the input of the network to the hidden fields before every block, through a
            dense layer.
        outer_activation: apply the activation to the output of each block but the last; without it a path
            without activations leads from the first block to the last.
    """

    hidden_channels: Width = 32
    n_layers: Layers = 4
    lifting_channel_ratio: Ratio = 2
    projection_channel_ratio: Ratio = 2
    domain_padding: Annotated[float, Field(ge=0, le=2)] = 0.2
    padding_mode: Literal["continued", "zero", "reflect"] = "continued"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    norm: Literal["none", "instance", "layer"] = "none"
    activation: Literal["gelu", "alias_free"] = "gelu"
    local: Annotated[bool | Literal["stencil"], WrapValidator(_local_branch)] = False
    series: Literal["fourier", "cosine"] = "fourier"
    input_injection: bool = False
    outer_activation: bool = True


_LATER_KEYS = ("damping", "series", "input_injection", "outer_activation")


def identifying_keys(model: BaseModel) -> dict[str, Any]:
    """Return the keys of a section ``model`` that identify a run, as JSON represents them.

    Keys added after the first version that have their default value are left out, so that earlier runs can be
    resumed.

    Args:
        model: the section.
    """
    keys = model.model_dump(mode="json")
    known = type(model).model_fields
    for name in _LATER_KEYS:
        if name in known and keys[name] == known[name].default:
            keys.pop(name)
    return keys


class ModelSection(Strict):
    """Keys common to the networks of forecast models.

    Attributes:
        window: number of input states.
        members: number of independently trained networks whose outputs are averaged.
        noise_channels: number of input channels of Gaussian noise, for training on an ensemble score; a
            deterministic forecast sets them to zero.
        damping: fraction of the anomaly that every step of a forecast, but not of training, takes off, so
            that errors of long runs stay bounded; with steps of 12 h, 0.01 is a time scale of 50 days.
    """

    window: Layers = 2
    members: Layers = 1
    noise_channels: Annotated[int, Field(ge=0, le=1024)] = 0
    damping: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @property
    def network_options(self) -> dict[str, Any]:
        """Arguments of the class of the network."""
        return self.model_dump(exclude={"kind", *ModelSection.model_fields})

    @property
    def layers(self) -> int:
        """Number of layers of one network, which bounds the number of its tensors."""
        return int(getattr(self, "n_layers", 0) or getattr(self, "depth", 1))


def check_sizes(arguments: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for a number or a list that is too large to be an argument of a part."""
    for name, value in arguments.items():
        entries = value if isinstance(value, list | tuple) else [value]
        numbers = [entry for entry in entries if isinstance(entry, int | float)]
        if len(entries) > _MAX_ENTRIES or any(abs(number) > _MAX_NUMBER for number in numbers):
            raise ValueError(
                f"{name} is out of range: numbers up to {_MAX_NUMBER}, lists up to {_MAX_ENTRIES}"
            )


class PartConfig(BaseModel):
    """A part of a user's own, such as a sampler; the keys other than ``kind`` are its options.

    Attributes:
        kind: registered name, or ``module:Class``.
    """

    model_config = ConfigDict(extra="allow", protected_namespaces=(), allow_inf_nan=False)

    kind: str

    @property
    def options(self) -> dict[str, Any]:
        """Options by name."""
        return dict(self.__pydantic_extra__ or {})

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        check_sizes(self.options)
        return self


class PluginModelConfig(ModelSection):
    """A model of a user's own: one registered under the entry point group ``fourcaster.models``, or
    ``module:Class``.

    The keys other than ``kind`` and those of all models are arguments of its class.

    Attributes:
        kind: registered name, or ``module:Class``.
    """

    model_config = ConfigDict(extra="allow", protected_namespaces=(), allow_inf_nan=False)

    kind: str = Field(json_schema_extra={"not": {"enum": list(MODEL_KINDS)}})

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the model class."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def layers(self) -> int:
        """Number of layers of one network, from the arguments ``n_layers`` or ``depth``."""
        return int(self.arguments.get("n_layers") or self.arguments.get("depth") or 1)

    @model_validator(mode="after")
    def _check_arguments(self) -> "PluginModelConfig":
        from ...fno.models import REGISTRY

        known = signature(REGISTRY[self.kind]).parameters
        for name in self.arguments:
            if name not in known and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
                raise ValueError(f"unknown key {name}; {suggest(name, known)}")
        check_sizes(self.arguments)
        return self


class EquationConfig(BaseModel):
    """An equation and its coefficients that differ from the defaults.

    Attributes:
        name: equation of ``fno.physics.equations``, or for an operator a system that can be simulated.
    """

    model_config = ConfigDict(extra="allow")

    name: str

    @property
    def parameters(self) -> dict[str, Any]:
        """Coefficients by name."""
        return dict(self.__pydantic_extra__ or {})
