"""The task ``inverse``: a solution operator trained together with the unknown parameters of an experiment."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from ...datasets.adapters.opening import open_raw
from ...fno.progress import Progress
from ...fno.training.objectives.inverse import InverseObjective, LatentParameters
from ..checkpoint.description_operator import InverseDescription
from ..config.operator import InverseConfig
from ..sensors import read_sensors
from .base import TrainResult
from .operator.task import SolutionTask
from .operator.training import Setting, run_identity, train_setting

log = logging.getLogger(__name__)


class InverseTask(SolutionTask):
    """Unknown parameters of an equation from sensors, with a solution operator."""

    name = "inverse"
    config = InverseConfig
    description = InverseDescription

    def train(self, config: InverseConfig, *, device: str | None, progress: Progress | None) -> TrainResult:
        """Train a solution operator and the unknown parameters, or resume an interrupted run."""
        setting = Setting.of(config, device)
        return train_setting(
            setting,
            self.name,
            self.description,
            identity=run_identity(setting, open_raw(str(config.data.experiment)).to_dict()),
            prepare=_prepare,
            results=_recovered,
            progress=progress,
        )

    def wrote(self, attrs: Mapping[str, Any]) -> bool:
        """Return False: solutions are those of the task ``operator``."""
        return False


def _prepare(setting: Setting) -> tuple[nn.Module, InverseObjective]:
    """Return a module of the operator and the unknown parameters, and the objective that trains both."""
    config = setting.config
    assert config.data.experiment is not None  # by the rules of ``InverseConfig``
    if not setting.layout.parameters:
        raise ValueError(
            f"{config.equation.name} has no unknown coefficient: none of its coefficients differs between "
            "samples"
        )
    sensors = read_sensors(config.data.experiment, setting.layout)
    unknowns = LatentParameters.from_simulations(setting.first.state, setting.first.parameters)
    objective: Any = setting.objective()
    module = nn.ModuleDict({"operator": setting.model, "unknowns": unknowns})
    return module, InverseObjective(objective, unknowns, sensors, weight=config.loss.experiment)


def _recovered(objective: InverseObjective) -> dict[str, Any]:
    """Return the recovered parameters; warn where they lie at the edge of the training data."""
    recovered = objective.recover()
    if edges := objective.latent.in_the_tails():
        log.warning(
            "%s of the experiment is at the edge of the simulations that the operator was trained on: the "
            "estimate may be wrong; simulate a wider range",
            " and ".join(edges),
        )
    return {"recovered": {name: asdict(estimate) for name, estimate in recovered.items()}}
