"""Waves in a long pipe that steepen to shocks: Burgers' equation, each sample with a viscosity of its own."""

from typing import ClassVar

import numpy as np
import xarray as xr
from pydantic import model_validator

from .line import Burgers
from .system import Array, Count, NonNegative, Positive


class ShockPipe(Burgers):
    """``u_t + u u_x = viscosity u_xx`` on a length of the pipe that repeats, with long waves at first.

    Attributes:
        viscosity: of the thinnest fluid, for which the solver's grid is chosen; its samples are drawn evenly
            in the logarithm.
        viscosity_high: of the thickest.
    """

    viscosity: Positive = 0.004
    viscosity_high: Positive = 0.04
    alpha: NonNegative = 3.0
    tau: Positive = 5.0
    sigma: NonNegative = 200.0
    frames: Count = 50

    given: ClassVar[tuple[str, ...]] = ("viscosity",)
    bounds: ClassVar[tuple[tuple[str, str], ...]] = (("viscosity", "viscosity_high"),)

    @model_validator(mode="after")
    def _ordered(self) -> "ShockPipe":
        if self.viscosity_high < self.viscosity:
            raise ValueError("viscosity_high must not be less than viscosity")
        return self

    def template(self) -> xr.Dataset:
        """Return coordinates t and x, u and the viscosity."""
        attrs = {"long_name": "viscosity", "units": "1"}
        return super().template().assign(viscosity=((), np.zeros(()), attrs))

    def instance(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return viscosity and initial state."""
        return {"viscosity": np.asarray(self._viscosity(rng)), **super().instance(rng)}

    def solve(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return u and the viscosity."""
        viscosity = self._viscosity(rng)
        names = set(Burgers.model_fields)
        same = Burgers(
            **{name: value for name, value in self.model_dump().items() if name in names}
            | {"viscosity": viscosity}
        )
        return {"viscosity": np.asarray(viscosity), **same.solve(rng)}

    def _viscosity(self, rng: np.random.Generator) -> float:
        return float(np.exp(rng.uniform(np.log(self.viscosity), np.log(self.viscosity_high))))
