"""Configurations of training on equations: physics-informed networks and solution operators."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...datasets.schema import nearest
from ...fno.physics import equations
from ...fno.training.objectives.operator import SolvingLoss
from ...fno.training.pinn.settings import PinnLoss, PinnSettings
from ...fno.training.settings import TrainSettings
from .sections import FourierKeys, Layers, Modes, Positive, Ratio, Strict, Width


class EquationConfig(BaseModel):
    """Which equation, and those of its parameters that are not the usual ones.

    Attributes:
        name: of an equation, see ``fno.physics.equations``; for an operator, of one that can be simulated.
    """

    model_config = ConfigDict(extra="allow")

    name: str

    @property
    def parameters(self) -> dict[str, Any]:
        """Parameters of the equation."""
        return dict(self.__pydantic_extra__ or {})


def _is_number(value: Any) -> bool:
    """Return whether a value is a finite number, and not so long an integer that it cannot become one of 64
    bits.
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < sys.float_info.max


class PinnModelConfig(Strict):
    """A network of coordinates; the keys are the arguments of ``fno.models.pinn.CoordinateNetwork``."""

    width: Width = 20
    depth: Layers = 3
    harmonics: Modes = 1
    fourier_features: Annotated[int, Field(ge=0, le=65_536)] = 0
    fourier_scale: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    initialisation: Literal["xavier", "orthogonal"] = "xavier"


class PinnConfig(Strict):
    """A physics-informed network.

    Attributes:
        equation: what to solve.
        model: the network.
        loss: weights of its terms; see ``fno.training.pinn.settings.PinnLoss``.
        train: how to train; see ``fno.training.pinn.settings.PinnSettings``.
        output: folder of the run.
    """

    equation: EquationConfig
    model: PinnModelConfig = PinnModelConfig()
    loss: PinnLoss = PinnLoss()
    train: PinnSettings = PinnSettings()
    output: Path

    @model_validator(mode="after")
    def _known(self) -> "PinnConfig":
        try:
            equation = equations.get(self.equation.name)
            coefficients = equation.problem().coefficients
        except ValueError as error:
            raise ValueError(f"equation: {error}") from error
        for key, value in self.equation.parameters.items():
            if key not in coefficients:
                raise ValueError(f"equation: unknown key equation.{key}; {nearest(key, coefficients)}")
            if not _is_number(value):
                raise ValueError(f"equation.{key} must be a number, got {value!r}")
        return self

    @model_validator(mode="after")
    def _curriculum(self) -> "PinnConfig":
        known = equations.get(self.equation.name).problem().coefficients
        for key in self.train.curriculum:
            if key not in known:
                raise ValueError(
                    f"train.curriculum names {key!r}, which {self.equation.name} does not have; {nearest(key, known)}"
                )
        return self


class OperatorDataConfig(Strict):
    """What a solution operator learns from.

    Attributes:
        store: store that ``forecast simulate`` made; without one, instances are drawn and never solved.
        validation_fraction: share of the store's samples, its last ones, that weights are chosen on.
        samples: instances drawn for an epoch, where there is no store.
        experiment: netCDF or zarr with series of sensors, see ``forecast.experiment``.
    """

    store: Path | None = None
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    samples: Annotated[int, Field(ge=1, le=10**7)] = 1024
    experiment: Path | None = None


class OperatorModelConfig(FourierKeys):
    """A solution operator around a Fourier neural operator.

    Attributes:
        kind: with dense weights, or factorized.
        windows: parts of time that the operator goes through one after the other.
        nodes: nodes in time of a window, see ``fno.models.operators.EvolutionOperator``.

    The other keys are arguments of ``fourcaster.fno.FNO`` and ``TFNO``; ``domain_padding`` is the margin
    along axes that do not wrap.
    """

    kind: Literal["fno", "tfno"]
    windows: Positive = 1
    nodes: Annotated[int, Field(ge=1, le=64)] = 5
    n_modes: list[Modes] = Field(default=[16, 16], min_length=1, max_length=3)
    factorization: Literal["tucker", "cp", "depthwise"] = "tucker"
    rank: Ratio = 0.1


class OperatorConfig(Strict):
    """A solution operator.

    Attributes:
        equation: system, with the parameters that ``forecast simulate`` takes.
        data: what it learns from.
        model: the network.
        loss: weights of its terms; see ``fno.training.objectives.operator.SolvingLoss``.
        train: how to train; see ``fno.training.TrainSettings``.
        output: folder of the run.
    """

    equation: EquationConfig
    data: OperatorDataConfig = OperatorDataConfig()
    model: OperatorModelConfig
    loss: SolvingLoss = SolvingLoss()
    train: TrainSettings = TrainSettings()
    output: Path

    @model_validator(mode="after")
    def _learns(self) -> "OperatorConfig":
        if self.data.store is None and self.loss.data and not self.loss.equation:
            raise ValueError(
                "data.store is missing: name simulations to learn from, or set loss.equation to learn from the equation"
            )
        if (self.data.experiment is None) is bool(self.loss.experiment):
            raise ValueError(
                "an experiment needs both data.experiment, its file, and loss.experiment, its weight"
            )
        return self
