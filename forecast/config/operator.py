"""Configurations of the tasks ``operator`` and ``inverse``, which train solution operators."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ...fno.training.objectives.operator import SolvingLoss
from ...fno.training.settings import TrainSettings
from .sections import EquationConfig, FourierKeys, Modes, Positive, Ratio, Strict


class OperatorDataConfig(Strict):
    """Training data of a solution operator.

    Attributes:
        store: store written by ``forecast simulate``; without one, inputs are sampled and only the equation
            is used.
        validation_fraction: fraction of the samples of the store, the last ones, on which the best epoch is
            chosen.
        samples: inputs sampled per epoch, without a store.
        experiment: netCDF or zarr with time series of sensors, for the task ``inverse``.
    """

    store: Path | None = None
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    samples: Annotated[int, Field(ge=1, le=10**7)] = 1024
    experiment: Path | None = None


FORECAST_SETTINGS = ("rollout_lengths", "pushforward", "lead_times")
"""Settings of training that solution operators do not have."""


class OperatorModelConfig(FourierKeys):
    """Network of a solution operator.

    Attributes:
        kind: ``fno`` with dense weights, or ``tfno`` with factorized ones.
        windows: number of time windows that are integrated one after the other.
        nodes: Radau nodes in time per window.
        n_modes: retained modes along each dimension of space.
        factorization: form of the spectral weights of a ``tfno``: ``tucker``, ``cp`` or ``depthwise``.
        rank: size of the factors of a ``tfno`` as a fraction of the dense weights; 1 means 1.0.

    The other keys are arguments of ``fourcaster.fno.FNO`` and ``TFNO``.
    """

    kind: Literal["fno", "tfno"]
    windows: Positive = 1
    nodes: Annotated[int, Field(ge=1, le=64)] = 5
    n_modes: list[Modes] = Field(default=[16, 16], min_length=1, max_length=3)
    factorization: Literal["tucker", "cp", "depthwise"] = "tucker"
    rank: Ratio = 0.1


class SolutionConfig(Strict):
    """Keys common to the tasks ``operator`` and ``inverse``.

    Attributes:
        equation: system and its parameters, those of ``forecast simulate``.
        data: training data.
        model: the network.
        loss: weights of its terms.
        train: settings of the training loop; see ``fno.training.TrainSettings``.
        output: folder of the run.
    """

    equation: EquationConfig
    data: OperatorDataConfig = OperatorDataConfig()
    model: OperatorModelConfig
    loss: SolvingLoss = SolvingLoss()
    train: TrainSettings = TrainSettings()
    output: Path

    @model_validator(mode="after")
    def _has_something_to_learn_from(self) -> Self:
        if self.data.store is None and self.loss.data and not self.loss.equation:
            raise ValueError(
                "data.store is missing: name simulations to learn from, or set loss.equation to learn from "
                "the equation"
            )
        return self

    @model_validator(mode="after")
    def _has_settings_of_operators(self) -> Self:
        for name in FORECAST_SETTINGS:
            if getattr(self.train, name):
                raise ValueError(
                    f"train.{name} applies to forecast models alone (task weather); leave it out"
                )
        return self


class OperatorConfig(SolutionConfig):
    """Training of a solution operator.

    Attributes:
        task: ``operator``.
    """

    task: Literal["operator"] = "operator"

    @model_validator(mode="after")
    def _has_no_experiment(self) -> Self:
        if self.data.experiment is not None or self.loss.experiment:
            raise ValueError(
                "data.experiment and loss.experiment belong to the task inverse; set task: inverse and both "
                "of them"
            )
        return self


class InverseConfig(SolutionConfig):
    """Training of a solution operator together with the unknown parameters of an experiment.

    ``data.experiment`` names the sensors, ``loss.experiment`` is the weight of the equation at the inputs
    that the sensors leave possible.

    Attributes:
        task: ``inverse``.
    """

    task: Literal["inverse"] = "inverse"

    @model_validator(mode="after")
    def _has_an_experiment(self) -> Self:
        if self.data.experiment is None or not self.loss.experiment:
            raise ValueError(
                "an experiment needs both data.experiment, its file, and loss.experiment, its weight"
            )
        return self
