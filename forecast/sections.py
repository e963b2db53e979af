"""What sections of configurations have in common: all keys are known, and numbers lie within bounds.

The bounds are far beyond what trains on any machine. They keep a number such as a billion layers from being built at all.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Width = Annotated[int, Field(ge=1, le=65_536)]
Layers = Annotated[int, Field(ge=1, le=10_000)]
Modes = Annotated[int, Field(ge=1, le=65_536)]
Ratio = Annotated[float, Field(gt=0, le=1_000)]


class Strict(BaseModel):
    """A section whose keys are all known."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class FourierKeys(Strict):
    """Arguments of ``fourcaster.fno.FNO``; ``domain_padding`` is the margin along dimensions that do not wrap."""

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
