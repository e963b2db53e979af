"""Base classes of simulated systems: parameters, layout of a sample and its numerical solution."""

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
MAX_STEPS = 10**6
"""Largest number of time steps between two stored states."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Real = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10**6)]
Points = Annotated[int, Field(ge=4, le=2**16)]

NUMERICAL = frozenset({"resolution", "refine", "frames", "step", "duration", "spin_up"})
"""Parameters of grids, times and solvers, which do not change the distribution of samples."""


class UnstableError(ValueError):
    """A time step that exceeds the stability limit of the method."""


class System(BaseModel):
    """A physical system. Its fields are the parameters of a simulation.

    Attributes:
        resolution: grid points along each dimension of space.
        coefficients: names of the coefficients of the equation, which are parameters or variables.
        input_variables: variables that are prescribed rather than solved for.
        sampled_ranges: pairs of parameters between which a value is drawn for each sample.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    resolution: Points = 64

    coefficients: ClassVar[tuple[str, ...]] = ()
    input_variables: ClassVar[tuple[str, ...]] = ()
    sampled_ranges: ClassVar[tuple[tuple[str, str], ...]] = ()

    @abstractmethod
    def template(self) -> xr.Dataset:
        """Return coordinates and attributes of one sample; the values of variables are arbitrary."""

    @abstractmethod
    def solve(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the variables of one sample, float64.

        Args:
            rng: source of the sample's random numbers.

        Raises:
            UnstableError: the requested time step is unstable; the message names the longest stable one.
        """

    def is_random(self) -> bool:
        """Return whether samples differ."""
        return True

    def differences(self, other: "System") -> list[str]:
        """Describe the parameters that give another system of this kind a different sample distribution.

        A bound of a sampled range counts only if it exceeds the range of this system.
        """
        own = self.model_dump()
        others = other.model_dump()
        paired = {name for pair in self.sampled_ranges for name in pair}
        names = [
            name
            for name in own
            if name in others and name not in NUMERICAL and name not in paired and own[name] != others[name]
        ]
        for low, high in self.sampled_ranges:
            names += [low] * (others[low] < own[low]) + [high] * (others[high] > own[high])
        return [f"{name}={others[name]}, in training {own[name]}" for name in names]

    def sample_inputs(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the initial state or the input variables of one sample without solving it.

        Args:
            rng: source of the sample's random numbers; ``solve`` draws the same inputs from an equal one.

        Raises:
            ValueError: the system cannot draw inputs without solving.
        """
        raise ValueError(
            f"inputs of {type(self).__name__} cannot be drawn without solving it; "
            "use simulated samples instead"
        )


class EvolvingSystem(System):
    """A system that evolves in time from an initial state, random or from the literature.

    Attributes:
        duration: length of the simulation.
        frames: number of stored states after the initial one, evenly spaced in time.
        step: time step; by default a fraction of the longest stable one, short enough to be accurate.
    """

    duration: Positive = 1.0
    frames: Count = 100
    step: Positive | None = None

    @property
    def times(self) -> Array:
        """Times of the stored states, both ends included."""
        return np.linspace(0, self.duration, self.frames + 1)

    def time_coordinate(self) -> tuple[str, Array, dict[str, str]]:
        """Return the time coordinate for a data set."""
        return "time", self.times, {"long_name": "time", "axis": "T"}

    def substeps(self, longest: float, default: float, *, unit: float = 1.0) -> int:
        """Return the number of time steps between two stored states.

        Args:
            longest: longest stable step from the current state.
            default: step to use if ``step`` is None.
            unit: length of a unit of ``duration`` in units of ``step``.

        Raises:
            UnstableError: ``step`` is longer than ``longest``.
            ValueError: more than ``MAX_STEPS`` steps would be needed.
        """
        if self.step is not None and self.step > longest:
            raise UnstableError(
                f"step={self.step:g} is unstable here; use step={_round_down(longest):g} or less, "
                "or leave it out"
            )
        count = np.ceil(unit * self.duration / self.frames / (self.step or default) * (1 - 1e-12))
        if not count <= MAX_STEPS:
            raise ValueError(
                f"{count:.3g} steps would be needed between two states, more than {MAX_STEPS}; "
                "use a smaller amplitude or speed, a lower resolution or more frames"
            )
        return max(1, int(count))


def _round_down(x: float) -> float:
    """Return ``x`` rounded down to two significant digits."""
    unit = 10.0 ** (np.floor(np.log10(x)) - 1)
    return float(f"{np.floor(x / unit) * unit:.3g}")


def warn_unresolved(spectrum: Array, name: str, remedy: str) -> None:
    """Warn once if the shortest third of the waves contains more than 0.01 % of the variance.

    Args:
        spectrum: variance by wave number.
        name: name of the system for the message.
        remedy: advice that ends the message.
    """
    if spectrum[2 * len(spectrum) // 3 :].sum() > 1e-4 * spectrum.sum():
        _warn_once(
            f"{name} is not resolved: its shortest waves contain more than 0.01 % of the variance; {remedy}"
        )


def warn_truncated(fine: Array, stored: Array, *, name: str, points: int) -> None:
    """Warn once if the stored grid loses more than 0.01 % of the variance at some time.

    Args:
        fine: periodic states on the solver's grid, shape (time, *grid).
        stored: the same states, low-pass filtered to the stored grid.
        name: name of the system for the message.
        points: points along each dimension of the stored grid.
    """
    before, after = (field.reshape(len(field), -1).var(axis=1) for field in (fine, stored))
    rounding = 1e-24 * np.square(fine).mean()
    if (before - after > 1e-4 * before + rounding).any():
        _warn_once(
            f"{name} has waves that {points} points do not resolve, with more than 0.01 % of the variance: "
            f"they are filtered out of the stored solution; use resolution={2 * points}"
        )


@lru_cache(maxsize=64)
def _warn_once(text: str) -> None:
    log.warning(text)


def periodic_axis(
    name: str, points: int, *, start: float, length: float
) -> tuple[str, Array, dict[str, Any]]:
    """Return the coordinate of a periodic axis, whose last point is one spacing from its end.

    Args:
        name: name of the axis.
        points: number of points.
        start: first coordinate.
        length: period.
    """
    return (
        name,
        start + length / points * np.arange(points, dtype=np.float64),
        {"long_name": name, "periodic": "true", "length": length},
    )


def variable(
    dims: tuple[str, ...], sizes: Mapping[str, int], *, long_name: str, units: str = "1"
) -> tuple[Any, ...]:
    """Return a variable of zeros that occupies no memory, for a data set.

    Args:
        dims: dimensions of the variable.
        sizes: sizes of dimensions by name.
        long_name: CF attribute.
        units: CF attribute.
    """
    return (
        dims,
        np.broadcast_to(np.zeros(()), tuple(sizes[d] for d in dims)),
        {"long_name": long_name, "units": units},
    )
