"""What sections of configurations have in common."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """A section whose keys are all known."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class FourierKeys(Strict):
    """Arguments of ``fourcaster.fno.FNO``; ``domain_padding`` is the margin along dimensions that do not wrap."""

    hidden_channels: Positive = 32
    n_layers: Positive = 4
    lifting_channel_ratio: Annotated[float, Field(gt=0)] = 2
    projection_channel_ratio: Annotated[float, Field(gt=0)] = 2
    domain_padding: Annotated[float, Field(ge=0, le=2)] = 0.2
    padding_mode: Literal["continued", "zero", "reflect"] = "continued"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    norm: Literal["none", "instance", "layer"] = "none"
    activation: Literal["gelu", "alias_free"] = "gelu"
    local: bool = False
