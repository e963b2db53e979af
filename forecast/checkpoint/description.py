"""Schemas of ``meta.json`` by task: types, bounds, and consistency between keys.

Unknown keys are refused, except in ``provenance``, a record that later versions may extend.
"""

import re
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    model_validator,
)

from ...datasets.forcings import BUILTIN, FORCINGS
from ...fno.models import REGISTRY
from ..config.pinn import PinnConfig
from ..config.weather import WeatherConfig

_SMALLEST = 1e-30  # of scales, which are float32
LARGEST = 1e30
POINTS = 20_000  # of an axis: a global grid of 2 km
"""Parts of pydantic's locations that name an alternative of a type, not a key."""
SCALARS = (str, int, float, bool, type(None))
_CENTURY = 100 * 366 * 86_400.0


def _text_values(values: Any) -> dict[str, Any]:
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise ValueError("should be a mapping of texts")
    return values


def _attributes(values: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(values, dict) or not all(isinstance(attrs, dict) for attrs in values.values()):
        raise ValueError("should be a mapping of variables to attributes")
    for name, attrs in values.items():
        for key, value in attrs.items():
            if not isinstance(value, SCALARS) or (
                key in ("units", "standard_name", "long_name") and not isinstance(value, str)
            ):
                raise ValueError(f"{name}: {key} should be a text or a number")
    return values


def _time(text: str) -> str:
    try:
        time = np.datetime64(text if re.fullmatch(r"[0-9T:.-]{4,40}", text) else "NaT")
    except ValueError:
        time = np.datetime64("NaT")
    if np.isnat(time):
        raise ValueError("should be a time such as 2001-01-31T06:00:00")
    return text


def _sha256(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ValueError("should be a SHA-256 checksum")
    return text


Finite = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
Scale = Annotated[float, Field(ge=_SMALLEST, le=LARGEST, allow_inf_nan=False)]
Points = Annotated[list[Finite], Field(min_length=2, max_length=POINTS)]
Texts = Annotated[dict[str, str], PlainValidator(_text_values)]
Time = Annotated[str, AfterValidator(_time)]
Checksum = Annotated[str, AfterValidator(_sha256)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Dtype = Annotated[str, Field(pattern=r"^[<>=|]?(float(16|32|64)|u?int(8|16|32|64)|f[248]|[iu][1248])$")]
Name = Annotated[str, Field(min_length=1, max_length=500)]


def validated_as(kind: type[BaseModel]) -> BeforeValidator:
    """Return a validator that reads a configuration, and reports the keys of that which is invalid."""
    return BeforeValidator(kind.model_validate)


class Description(BaseModel):
    """Keys common to the checkpoints of all tasks; a task adds its own in a subclass."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    format_version: Literal[1, 2, 3]
    task: str
    versions: Texts
    written: str
    sha256: Checksum
    checksum: Checksum | None = None


class ChannelDescription(BaseModel):
    """A channel; see ``datasets.schema.Channel``."""

    model_config = ConfigDict(extra="forbid")

    variable: Name
    level: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] | Finite | None
    units: Annotated[str, Field(max_length=200)]
    place: Annotated[str, Field(max_length=1_000)] = ""


class _Normalisation(BaseModel):
    """Scales of each channel, in its units; see ``fno.models.stepper.Scales``."""

    model_config = ConfigDict(extra="forbid")

    mean: list[Finite]
    std: list[Scale]
    anomaly_std: list[Scale]
    tendency_std: list[Scale]


class _StoredForcings(BaseModel):
    """Stored forcings and their scales, in their units; see ``datasets.stored_forcings.ForcingScales``."""

    model_config = ConfigDict(extra="forbid")

    channels: Annotated[list[ChannelDescription], Field(min_length=1, max_length=10_000)]
    mean: list[Finite]
    std: list[Scale]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if not len(self.channels) == len(self.mean) == len(self.std):
            raise ValueError(
                f"there are {len(self.channels)} channels, {len(self.mean)} means and {len(self.std)} stds"
            )
        return self


def _forcing(name: str) -> str:
    if not FORCINGS.offers(name):
        raise ValueError(f"should be one of {', '.join(FORCINGS)}, or module:function")
    return name


class Provenance(BaseModel):
    """Record of a training run; keys of later versions are accepted."""

    model_config = ConfigDict(extra="allow")

    fingerprint: str


class _Parent(BaseModel):
    """A checkpoint that training started from, or an ancestor of it."""

    model_config = ConfigDict(extra="allow")

    checksum: Checksum
    task: str


class _ForecastProvenance(Provenance):
    """Training data, periods and results of a forecast model."""

    train_period: Annotated[list[Time], Field(min_length=2, max_length=2)]
    validation_period: Annotated[list[Time], Field(min_length=2, max_length=2)] | None
    validation_score: Annotated[float, Field(allow_inf_nan=False)] | None
    best_epoch: Count | None = None
    steps: Count | None = None
    source: Texts = {}
    comparison: dict[str, dict[str, float | None]] = {}
    static_fields: list[Name] = []
    parents: Annotated[list[_Parent], Field(max_length=1_000)] = []


class ForecastDescription(Description):
    """A forecast model; see ``checkpoint.weather.Checkpoint``."""

    task: Literal["weather"]
    config: Annotated[WeatherConfig, validated_as(WeatherConfig)]
    channels: Annotated[list[ChannelDescription], Field(min_length=1, max_length=10_000)]
    attrs: Annotated[dict[str, dict[str, Any]], PlainValidator(_attributes)]
    latitude: Points | None = None
    longitude: Points | None = None
    y: Points | None = None
    x: Points | None = None
    wraps: Annotated[list[bool], Field(min_length=2, max_length=2)] | None = None
    dtypes: Annotated[list[Dtype], Field(min_length=2, max_length=2)]
    step_seconds: Annotated[float, Field(ge=1e-9, le=_CENTURY, allow_inf_nan=False)]
    window: Annotated[int, Field(ge=1)]
    normalisation: _Normalisation
    forcings: Annotated[list[Annotated[Name, AfterValidator(_forcing)]], Field(max_length=1_000)]
    stored_forcings: _StoredForcings | None = None
    training_range: Annotated[list[list[Finite]], Field(min_length=2, max_length=2)] | None = None
    provenance: _ForecastProvenance

    @model_validator(mode="after")
    def _agree(self) -> "ForecastDescription":
        count = len(self.channels)
        if (self.latitude is None) is (self.y is None) or (self.latitude is None, self.y is None) != (
            self.longitude is None,
            self.x is None,
        ):
            raise ValueError("there should be latitude and longitude, or y and x")
        if (self.y is None) is not (self.wraps is None):
            raise ValueError("wraps belongs to y and x, and to them alone")
        if len({(c.variable, c.level, c.place) for c in self.channels}) < count:
            raise ValueError("channels names a channel twice")
        if len(set(self.forcings)) < len(self.forcings) or (
            self.y is not None and set(BUILTIN) & set(self.forcings)
        ):
            raise ValueError("forcings names one twice, or belongs to another grid")
        for name in ("mean", "std", "anomaly_std", "tendency_std"):
            if (length := len(getattr(self.normalisation, name))) != count:
                raise ValueError(f"normalisation.{name} has {length} entries for {count} channels")
        for values in self.training_range or ():
            if len(values) != count:
                raise ValueError(f"training_range has {len(values)} entries for {count} channels")
        if self.training_range and any(low > high for low, high in zip(*self.training_range, strict=True)):
            raise ValueError("training_range has a least value above the largest")
        if self.window != self.config.model.window:
            raise ValueError(f"window is {self.window}, config.model.window {self.config.model.window}")
        stored = [] if self.stored_forcings is None else self.stored_forcings.channels
        if {c.variable for c in stored} & {c.variable for c in self.channels}:
            raise ValueError("stored_forcings names a variable of channels")
        for channel in [*self.channels, *stored]:
            if channel.variable not in self.attrs:
                raise ValueError(f"attrs lacks {channel.variable}")
            if (units := self.attrs[channel.variable].get("units", channel.units)) != channel.units:
                raise ValueError(
                    f"attrs.{channel.variable}.units is {units!r}, that of the channel {channel.units!r}"
                )
        return self


class _PinnProvenance(Provenance):
    """Results of a physics-informed network."""

    iterations: Count
    training_residual: float
    held_out_residual: float


class PinnDescription(Description):
    """A physics-informed network."""

    task: Literal["pinn"]
    config: Annotated[PinnConfig, validated_as(PinnConfig)]
    provenance: _PinnProvenance


def _arguments(values: Any) -> dict[str, Any]:
    """Return the arguments of a network: numbers and texts, or short lists of them."""
    if not isinstance(values, dict):
        raise ValueError("should be a mapping of arguments")
    for name, value in values.items():
        entries = value if isinstance(value, list | tuple) else [value]
        if len(entries) > 8 or not all(isinstance(entry, SCALARS) for entry in entries):
            raise ValueError(f"{name} should be a number or a text, or up to eight of these")
        for entry in entries:
            number = isinstance(entry, int | float) and not isinstance(entry, bool)
            if (number and not 0 <= entry <= 1_000_000) or (isinstance(entry, str) and len(entry) > 100):
                raise ValueError(f"{name} is {str(entry)[:30]}, beyond 0 to 1000000")
    return values


def _network(name: str) -> str:
    if not REGISTRY.offers(name):
        raise ValueError(f"should be one of {', '.join(REGISTRY)}, or module:Class")
    return name


class NetworkArguments(BaseModel):
    """Architecture of a network and its arguments."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[Name, AfterValidator(_network)]
    arguments: Annotated[dict[str, Any], PlainValidator(_arguments)]


class _Source(BaseModel):
    """File of imported weights."""

    model_config = ConfigDict(extra="forbid")

    file: str
    format: str
    sha256: Checksum


class NetworkDescription(Description):
    """A network with weights imported from another package."""

    task: Literal["network"]
    model: NetworkArguments
    source: _Source | None = None
