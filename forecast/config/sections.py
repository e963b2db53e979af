"""What sections of configurations have in common: all keys are known, and numbers lie within bounds.

The bounds are far beyond what trains on any machine. They keep a number such as a billion layers from being
built at all.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Width = Annotated[int, Field(ge=1, le=65_536)]
Layers = Annotated[int, Field(ge=1, le=10_000)]
Modes = Annotated[int, Field(ge=1, le=65_536)]
Ratio = Annotated[float, Field(gt=0, le=1_000)]


class Strict(BaseModel):
    """A section whose keys are all known, whose numbers are finite, and whose paths are not empty."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _of_their_types(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            _refuse_other_types(values, {name: field.annotation for name, field in cls.model_fields.items()})
        return values


def _refuse_other_types(values: Mapping[str, Any], annotations: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for what pydantic would convert: true or false to a number, an empty text to the
    present folder.
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
                _refuse_other_types(value, {field.name: field.type for field in fields(kind)})


def _types_in(annotation: Any) -> set[Any]:
    """Return the types that an annotation consists of."""
    inner = get_args(annotation)
    return {annotation}.union(*(_types_in(one) for one in inner if not isinstance(one, str | int | float)))


def _contains_boolean(value: Any) -> bool:
    return isinstance(value, bool) or (
        isinstance(value, list | tuple) and any(_contains_boolean(one) for one in value)
    )


class FourierKeys(Strict):
    """Arguments of ``fourcaster.fno.FNO``; ``domain_padding`` is the margin along dimensions that do not
    wrap.
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
    local: bool = False
