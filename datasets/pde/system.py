"""What every system is: its parameters, what it looks like on a grid, and how one sample is made."""

import logging
from abc import abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

log = logging.getLogger(__name__)

Array = NDArray[np.float64]
MOST_STEPS = 10**6
"""Steps of a solver between two stored states."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Real = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10**6)]
Points = Annotated[int, Field(ge=4, le=2**16)]


NUMERICAL = frozenset({"resolution", "refine", "frames", "step", "duration", "spin_up"})
"""Parameters of grids, times and solvers: two systems that differ in these alone draw samples from one law.
"""


class UnstableError(ValueError):
    """A time step that the method does not bear."""


class System(BaseModel):
    """A physical system; its fields are the parameters that ``forecast simulate`` takes.

    Attributes:
        resolution: grid points along each dimension of space.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    resolution: Points = 64

    given: ClassVar[tuple[str, ...]] = ()  # variables that are given, not solved for
    bounds: ClassVar[tuple[tuple[str, str], ...]] = ()  # pairs of parameters between which a number is drawn

    @abstractmethod
    def template(self) -> xr.Dataset:
        """Return a data set of one sample: coordinates, and variables of any value with their attributes."""

    @abstractmethod
    def solve(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the variables of one sample, float64.

        Raises:
            UnstableError: the time step asked for is too long; the longest that is stable is said.
        """

    def random(self) -> bool:
        """Whether samples differ."""
        return True

    def differences(self, other: "System") -> list[str]:
        """Return the parameters in which the law of another system of this kind differs from this one's, as
        text.

        Of numbers that are drawn between two bounds, those that reach further than here.
        """
        own, others = self.model_dump(), other.model_dump()
        paired = {name for pair in self.bounds for name in pair}
        names = [
            name
            for name in own
            if name in others and name not in NUMERICAL and name not in paired and own[name] != others[name]
        ]
        for low, high in self.bounds:
            names += [low] * (others[low] < own[low]) + [high] * (others[high] > own[high])
        return [f"{name}={others[name]}, in training {own[name]}" for name in names]

    def instance(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return what is given of one sample without solving it: its initial state, or its coefficients.

        Raises:
            ValueError: the system does not know.
        """
        raise ValueError(
            f"{type(self).__name__} cannot be drawn without being solved; simulate a store and name it as data.store"
        )


class Evolution(System):
    """A system that evolves in time from a state drawn at random or the one known from the literature.

    Attributes:
        duration: length of the simulation.
        frames: states after the initial one, evenly spaced in time.
        step: time step; by default one that is short enough to be accurate, a small part of the longest
            stable one.
    """

    duration: Positive = 1.0
    frames: Count = 100
    step: Positive | None = None

    @property
    def times(self) -> Array:
        """Times of the states, both ends included."""
        return np.linspace(0, self.duration, self.frames + 1)

    def time_coordinate(self) -> tuple[str, Array, dict[str, str]]:
        """Return the coordinate of time for a data set."""
        return "time", self.times, {"long_name": "time", "axis": "T"}

    def substeps(self, longest: float, default: float, unit: float = 1.0) -> int:
        """Return how many steps lie between two states.

        Args:
            longest: the longest stable step from here.
            default: the step to take where none was asked for.
            unit: length of a unit of ``duration`` in those of steps.

        Raises:
            UnstableError: the step asked for is longer than ``longest``.
            ValueError: more than ``MOST_STEPS``, which would take days.
        """
        if self.step is not None and self.step > longest:
            raise UnstableError(
                f"step={self.step:g} is unstable here; use step={_below(longest):g} or less, or leave it out"
            )
        count = np.ceil(unit * self.duration / self.frames / (self.step or default) * (1 - 1e-12))
        if not count <= MOST_STEPS:
            raise ValueError(
                f"{count:.3g} steps would be needed between two states, more than {MOST_STEPS}; "
                "use a smaller amplitude or speed, a lower resolution or more frames"
            )
        return max(1, int(count))


def _below(x: float) -> float:
    """Return a number of two digits that is not above ``x``."""
    unit = 10.0 ** (np.floor(np.log10(x)) - 1)
    return float(f"{np.floor(x / unit) * unit:.3g}")


def warn_unresolved(spectrum: Array, name: str, remedy: str) -> None:
    """Warn, once, where the finest third of the waves holds more than a ten-thousandth of the variance.

    Args:
        spectrum: variance by wave number.
        name: of the system.
        remedy: what to change.
    """
    if spectrum[2 * len(spectrum) // 3 :].sum() > 1e-4 * spectrum.sum():
        _warn_once(
            f"{name} is not resolved: its finest waves hold more than 0.01 % of the variance; {remedy}"
        )


def warn_lost(fine: Array, stored: Array, name: str, points: int) -> None:
    """Warn, once, where the stored grid does not hold more than a ten-thousandth of the variance at some
    time.

    Args:
        fine: periodic states on the solver's grid, shape (time, *grid).
        stored: the same, low-pass filtered to the stored grid.
        name: of the system.
        points: along each dimension of the stored grid.
    """
    before, after = (field.reshape(len(field), -1).var(axis=1) for field in (fine, stored))
    rounding = 1e-24 * np.square(fine).mean()
    if (before - after > 1e-4 * before + rounding).any():
        _warn_once(
            f"{name} has waves that {points} points do not hold, with more than 0.01 % of the variance: they are filtered out of what "
            f"is stored; use resolution={2 * points}"
        )


@lru_cache(maxsize=64)
def _warn_once(text: str) -> None:
    log.warning(text)


def periodic_axis(name: str, points: int, start: float, length: float) -> tuple[str, Array, dict[str, Any]]:
    """Return the coordinate of an axis that wraps, without its right end."""
    return (
        name,
        start + length / points * np.arange(points, dtype=np.float64),
        {"long_name": name, "periodic": "true", "length": length},
    )


def variable(
    dims: tuple[str, ...], sizes: Mapping[str, int], long_name: str, units: str = "1"
) -> tuple[Any, ...]:
    """Return a variable of zeros that take no memory."""
    return (
        dims,
        np.broadcast_to(np.zeros(()), tuple(sizes[d] for d in dims)),
        {"long_name": long_name, "units": units},
    )
