"""Waves in a long pipe that steepen to shocks: Burgers' equation with a viscosity drawn for each sample."""

from typing import ClassVar

import numpy as np
import xarray as xr
from pydantic import model_validator

from .line import Burgers
from .system import Array, Count, NonNegative, Positive


class ShockPipe(Burgers):
    """``u_t + u u_x = viscosity u_xx`` on a periodic section of the pipe, initially with long waves.

    The viscosity of a sample is drawn log-uniformly between two bounds.

    Attributes:
        viscosity: smallest viscosity, for which the solver's grid is chosen.
        viscosity_high: largest viscosity.
    """

    viscosity: Positive = 0.004
    viscosity_high: Positive = 0.04
    alpha: NonNegative = 3.0
    tau: Positive = 5.0
    sigma: NonNegative = 200.0
    frames: Count = 50

    input_variables: ClassVar[tuple[str, ...]] = ("viscosity",)
    sampled_ranges: ClassVar[tuple[tuple[str, str], ...]] = (("viscosity", "viscosity_high"),)

    @model_validator(mode="after")
    def _ordered(self) -> "ShockPipe":
        if self.viscosity_high < self.viscosity:
            raise ValueError(
                f"viscosity_high must not be less than viscosity={self.viscosity:g}, "
                f"got {self.viscosity_high:g}"
            )
        return self

    def template(self) -> xr.Dataset:
        """Return the coordinates time and x, u and the viscosity."""
        attrs = {"long_name": "viscosity", "units": "1"}
        return super().template().assign(viscosity=((), np.zeros(()), attrs))

    def sample_inputs(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the viscosity and the initial state."""
        return {"viscosity": np.asarray(self._viscosity(rng)), **super().sample_inputs(rng)}

    def solve(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return u and the viscosity."""
        viscosity = self._viscosity(rng)
        parameters = {name: getattr(self, name) for name in Burgers.model_fields}
        burgers = Burgers(**parameters | {"viscosity": viscosity})
        return {"viscosity": np.asarray(viscosity), **burgers.solve(rng)}

    def _viscosity(self, rng: np.random.Generator) -> float:
        return float(np.exp(rng.uniform(np.log(self.viscosity), np.log(self.viscosity_high))))
