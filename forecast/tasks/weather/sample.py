"""The sample forecast that is drawn while a forecast model is trained."""

import numpy as np

from ....datasets.loaders.batches import StoreBatches
from ....datasets.store.open import Store
from ....fno.training import ForecastObjective
from ...monitoring.pictures import Sample


class ValidationSample:
    """Forecast the sample in the middle of the validation period.

    Args:
        objective: objective of the model.
        source: training and validation batches.
        store: store that they come from.
        steps: number of steps of the forecast; fewer if the period is too short.
    """

    def __init__(
        self, objective: ForecastObjective, source: StoreBatches, store: Store, *, steps: int
    ) -> None:
        self.objective = objective
        self.source = source
        self.store = store
        self.steps = steps

    def __call__(self) -> Sample | None:
        """Return the forecast with the present weights; None without validation data."""
        chosen = self.source.validation_sample(self.steps)
        if chosen is None:
            return None
        batch, time = chosen
        device = str(self.objective.weights.device)
        forecast, truth = (
            fields[0].float().cpu().numpy() for fields in self.objective.forecast(batch.to(device))
        )
        steps = batch.state.shape[1] - self.objective.stepper.window
        lead: np.timedelta64 = steps * self.store.step
        return Sample(forecast, truth, self.store.channels, self.store.grid, time, lead)
