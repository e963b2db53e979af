"""Configuration of the task ``pinn``: a physics-informed network."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ...datasets.suggestions import suggest
from ...fno.physics import equations
from ...fno.training.pinn.settings import PinnLoss, PinnSettings
from .sections import EquationConfig, Layers, Modes, Strict, Width


def _is_number(value: Any) -> bool:
    """Return whether a value is a finite number that a float of 64 bits can represent."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < sys.float_info.max


class PinnModelConfig(Strict):
    """A network of the coordinates; the keys are the arguments of ``fno.models.pinn.CoordinateNetwork``.

    Attributes:
        width: neurons of a hidden layer.
        depth: number of hidden layers.
        harmonics: number of Fourier harmonics of each periodic coordinate.
        fourier_features: number of random Fourier features of the coordinates; 0 for none.
        fourier_scale: standard deviation of their wavenumbers.
        initialisation: initial weights: ``xavier`` or ``orthogonal``.
    """

    width: Width = 20
    depth: Layers = 3
    harmonics: Modes = 1
    fourier_features: Annotated[int, Field(ge=0, le=65_536)] = 0
    fourier_scale: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    initialisation: Literal["xavier", "orthogonal"] = "xavier"


class PinnConfig(Strict):
    """Training of a physics-informed network.

    Attributes:
        task: ``pinn``.
        equation: equation and coefficients; the initial and boundary values are those of its default problem.
        model: the network.
        loss: weights of its terms; see ``fno.training.pinn.settings.PinnLoss``.
        train: settings of the training; see ``fno.training.pinn.settings.PinnSettings``.
        output: folder of the run.
    """

    task: Literal["pinn"] = "pinn"
    equation: EquationConfig
    model: PinnModelConfig = PinnModelConfig()
    loss: PinnLoss = PinnLoss()
    train: PinnSettings = PinnSettings()
    output: Path

    @model_validator(mode="after")
    def _check_equation(self) -> "PinnConfig":
        try:
            coefficients = equations.get(self.equation.name).problem().coefficients
        except ValueError as error:
            raise ValueError(f"equation: {error}") from error
        for key, value in self.equation.parameters.items():
            if key not in coefficients:
                raise ValueError(f"equation: unknown key equation.{key}; {suggest(key, coefficients)}")
            if not _is_number(value):
                raise ValueError(f"equation.{key} must be a number, got {value!r}")
        return self

    @model_validator(mode="after")
    def _check_curriculum(self) -> "PinnConfig":
        known = equations.get(self.equation.name).problem().coefficients
        for key in self.train.curriculum:
            if key not in known:
                raise ValueError(
                    f"train.curriculum names {key!r}, which {self.equation.name} does not have; "
                    f"{suggest(key, known)}"
                )
        return self
