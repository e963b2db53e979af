"""Sizes that determine the cost of training a forecast model, and models and batches of these sizes."""

from dataclasses import dataclass

import torch

from ....datasets.forcings import static_fields
from ....datasets.store.open import Store
from ....fno.batch import Batch
from ....fno.models import build_model
from ....fno.models.base import Clipping
from ....fno.models.stepper import Scales, Stepper
from ....fno.training.footprint import without_values
from ....fno.training.objectives.forecast import ForecastObjective
from ...config.weather import WeatherConfig
from ...model import assemble_stepper
from .forcing_inputs import ForcingPlan
from .objective import build_objective


@dataclass(frozen=True)
class Shapes:
    """Sizes that determine the cost of training.

    Attributes:
        config: configuration.
        store: store with the variables to forecast.
        forcing: the forcings.
        masked: whether points without values are masked, which adds a mask of each channel to the inputs.
    """

    config: WeatherConfig
    store: Store
    forcing: ForcingPlan
    masked: bool = False

    def stepper(self) -> Stepper:
        """Return a model of this size, with scales of one."""
        grid = self.store.grid
        count = len(self.store.channels)
        static = len(static_fields(grid)) + count + len(self.store.static(self.config.data.static))
        static += count * self.masked
        one = torch.ones(count)
        return assemble_stepper(
            self.config.model,
            grid,
            scales=Scales(one, one, one, one),
            static=torch.zeros(static, *grid.shape),
            mask=torch.ones(count, *grid.shape, dtype=torch.bool),
            lead_times=self.config.train.lead_times,
            forcings=self.forcing.count,
            quiet=True,
        )

    def objective(self, stepper: Stepper) -> ForecastObjective:
        """Return the objective of a model, without physics terms."""
        weights = torch.ones(stepper.mask.shape, device=stepper.mask.device)
        return build_objective(self.config, stepper, self.store, weights=weights)

    def batch(self, samples: int, steps: int) -> Batch:
        """Return a batch of random anomalies."""
        times = self.config.model.window + steps
        shape = (samples, times, len(self.store.channels), *self.store.grid.shape)
        forcing = (samples, times, self.forcing.count, *self.store.grid.shape)
        return Batch(torch.randn(shape), torch.zeros(shape), torch.zeros(forcing))

    def batch_bytes(self, samples: int, steps: int) -> int:
        """Return the size of a batch [bytes]."""
        values = 2 * len(self.store.channels) + self.forcing.count
        rows, columns = self.store.grid.shape
        return 4 * samples * (self.config.model.window + steps) * values * rows * columns

    @property
    def longest(self) -> int:
        """Largest number of steps after the window in a training batch."""
        settings = self.config.train
        return max(settings.rollout_lengths or (settings.rollout_length(settings.epochs - 1),))

    @property
    def parts(self) -> int:
        """Number of parts that a batch is divided into."""
        return max(1, min(self.config.train.accumulation, self.config.train.batch_size))

    @property
    def validation_samples(self) -> int:
        """Number of samples in a validation batch."""
        settings = self.config.train
        return min(settings.batch_size, settings.validation_samples)


def clippings(shapes: Shapes) -> list[Clipping]:
    """Return the options of the model that the grid cannot resolve.

    Raises:
        ValueError: the model cannot run on the grid.
    """
    model = shapes.config.model
    options = model.network_options
    try:
        with without_values():
            _, clipped = build_model(model.kind, shapes.store.grid, in_channels=1, out_channels=1, **options)
    except (NotImplementedError, RuntimeError):  # a model of another package that computes with values
        return []
    return clipped
