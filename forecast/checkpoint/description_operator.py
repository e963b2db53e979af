"""Schemas of ``meta.json`` of solution operators; see ``description``."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, model_validator

from ..config.operator import InverseConfig, OperatorConfig, SolutionConfig
from .description import LARGEST, POINTS, SCALARS, Count, Description, Finite, Provenance, Scale, validated_as


class _Scales(BaseModel):
    """Scales of a solution operator; see ``fno.models.operators.SolutionScales``."""

    model_config = ConfigDict(extra="forbid")

    solution: list[Scale]
    input_mean: list[Finite]
    input_std: list[Scale]
    parameter_mean: list[Finite]
    parameter_std: list[Scale]


class _Range(BaseModel):
    """Distribution of an invariant of the training inputs; see ``fno.invariants.Range``."""

    model_config = ConfigDict(extra="forbid")

    mean: float
    std: float
    low: float
    high: float
    negligible: float = 0.0
    logarithm: bool = False


class _Ranges(BaseModel):
    """Ranges of the invariants by name, and the number of samples that they were computed from."""

    model_config = ConfigDict(extra="forbid")

    count: Annotated[int, Field(ge=1, lt=2**53)]
    ranges: dict[str, _Range]


def _parameters(values: Any) -> dict[str, Any]:
    """Return the parameters of a system; integers are bounded, since they determine the size of arrays."""
    if not isinstance(values, dict):
        raise ValueError("should be a mapping of parameters")
    for name, value in values.items():
        if not isinstance(value, SCALARS) or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{name} should be a text or a finite number")
        most = 100_000 if type(value) is int else LARGEST
        if isinstance(value, int | float) and abs(value) > most:
            raise ValueError(f"{name} is {str(value)[:30]}, beyond {most:g}")
    return values


class _OperatorProvenance(Provenance):
    """System, scales, ranges and results of a solution operator."""

    validation_score: float | None
    best_epoch: Count | None = None
    steps: Count | None = None
    system: Annotated[dict[str, Any], PlainValidator(_parameters)]
    scales: _Scales
    trained_grid: Annotated[list[Annotated[int, Field(ge=2, le=POINTS)]], Field(min_length=1, max_length=3)]
    ranges: _Ranges | None = None
    recovered: dict[str, dict[str, float | None]] | None = None


class SolutionDescription(Description):
    """A solution operator, of the task ``operator`` or ``inverse``."""

    config: SolutionConfig
    provenance: _OperatorProvenance

    @model_validator(mode="after")
    def _is_on_a_box(self) -> Self:
        # Refused here, before the Gauss grid of the sphere is computed, which is expensive.
        if self.config.equation.name == "shallow_water":
            raise ValueError("config.equation.name: an operator solves equations on a box, not on the sphere")
        return self


class OperatorDescription(SolutionDescription):
    """A solution operator."""

    task: Literal["operator"]
    config: Annotated[OperatorConfig, validated_as(OperatorConfig)]


class InverseDescription(SolutionDescription):
    """A solution operator trained together with the unknown parameters of an experiment."""

    task: Literal["inverse"]
    config: Annotated[InverseConfig, validated_as(InverseConfig)]
