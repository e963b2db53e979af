"""Configuration of the task ``diagnostic``: variables diagnosed from the forecast of a frozen model."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from ...fno.training.settings import TrainSettings
from .sections import Strict
from .weather import AnyModel


class DiagnosticDataConfig(Strict):
    """Training data.

    Attributes:
        store: store with the variables of the forecast model and the target.
        train_period: ``START:STOP``; the period of the store by default.
        validation_fraction: fraction of the training period, at its end, on which the best epoch is chosen.
        samples_per_epoch: maximum number of samples per epoch; 0 for all.
        cache_bytes: stores up to this size [B] are kept in memory.
    """

    store: Path
    train_period: Annotated[
        str | None, BeforeValidator(lambda value: value if value is None else str(value))
    ] = None
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    samples_per_epoch: Annotated[int, Field(ge=0, le=10**12)] = 0
    cache_bytes: Annotated[int, Field(ge=0, le=2**50)] = 2**30


class TargetConfig(Strict):
    """The diagnosed variable.

    Attributes:
        variable: variable of the store, which is not negative, such as the precipitation of a time step.
        transform: ``log``, the transformation y = log(1 + x / epsilon) of its values.
        epsilon: value below which the transformation is about linear [units of the variable].
    """

    variable: str
    transform: Literal["log"] = "log"
    epsilon: Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)] = 1e-5


class DiagnosticConfig(Strict):
    """Training of a network that diagnoses a variable from the forecast of a frozen model.

    Attributes:
        task: ``diagnostic``.
        backbone: checkpoint of the forecast model, whose weights do not change.
        data: training data.
        target: the diagnosed variable.
        model: the network, as in the task ``weather``, for example ``precipnet``; ``window`` has no effect.
        parent: imported network whose weights training starts from. None by default.
        train: settings of the training loop; see ``fno.training.TrainSettings``.
        output: folder of the run.
    """

    task: Literal["diagnostic"] = "diagnostic"
    backbone: Path
    data: DiagnosticDataConfig
    target: TargetConfig
    model: AnyModel
    parent: Path | None = None
    train: TrainSettings = TrainSettings()
    output: Path
