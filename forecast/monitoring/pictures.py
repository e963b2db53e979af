"""Pictures of a training run: its curves, and a forecast with its spectrum."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...datasets.durations import format_duration, format_time
from ...datasets.schema import Channel
from ...fno.grids import Grid
from ...fno.training.files import replacing_file
from ...fno.training.log import read_lines
from ...fno.training.reporter import run_name
from ..verification.maps import ERROR, draw_maps
from .curves import draw_curves
from .spectra import draw_spectra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = "curves"
FORECAST = "forecast"
SPECTRUM = "spectrum"
NAMES = (CURVES, FORECAST, SPECTRUM)
"""Names of the pictures, which are PNG files in the folder of the state."""

SHARE = 0.02  # of the time of a run that drawing may take with ``auto``
_FIRST = 5.0  # assumed time of the first drawing, with imports [s]
_PANELS = 6  # of spectra
_DPI = 100
_PREFERRED = (("geopotential", 500), ("2m_temperature", None), ("temperature", 850))
"""Channels to draw, the first one that a model forecasts; otherwise its first channel."""


@dataclass(frozen=True)
class Sample:
    """A forecast and the truth.

    Attributes:
        forecast: fields, shape (channel, H, W), NaN outside the mask.
        truth: fields, same shape.
        channels: names and units of the fields.
        grid: their grid.
        time: initial time.
        lead: lead time.
    """

    forecast: NDArray[np.float32]
    truth: NDArray[np.float32]
    channels: Sequence[Channel]
    grid: Grid
    time: np.datetime64
    lead: np.timedelta64


class Sampler(Protocol):
    """A function that forecasts a sample of the validation period; None if there is none."""

    def __call__(self) -> Sample | None:
        """Return the forecast of the model with its present weights."""


class RunPictures:
    """Pictures of a run, drawn when they are due; see ``fno.training.protocols.Pictures``.

    Args:
        folder: folder of the state, for ``curves.png``, ``forecast.png`` and ``spectrum.png``.
        when: ``auto``, ``always`` or ``never``, see ``TrainSettings.pictures``.
        lead_hours: duration of a step of the validation rollouts [h]; None if unknown.
        sample: forecasts a sample; without one only the curves are drawn.
        clock: returns a time [s].
    """

    def __init__(
        self,
        folder: Path,
        when: str = "auto",
        *,
        lead_hours: float | None = None,
        sample: Sampler | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.when = when
        self.lead_hours = lead_hours
        self._sampler = sample
        self._sample: Sample | None = None
        self._clock = clock
        self._start = clock()
        self._begun = self._start
        self._spent = 0.0
        self._cost = _FIRST

    def due(self, *, last: bool) -> bool:
        """Return whether to draw now; arguments as for ``Pictures``."""
        self._begun = self._clock()
        if self.when != "auto":
            return self.when == "always"
        if last and (self.folder / f"{CURVES}.png").exists():
            return True
        return self._spent + self._cost <= SHARE * (self._begun - self._start)

    @property
    def predicts(self) -> bool:
        """Whether a sample is forecast."""
        return self._sampler is not None

    def predict(self) -> None:
        """Forecast the sample with the present weights of the model."""
        self._sample = None if self._sampler is None else self._sampler()

    def draw(self) -> dict[str, Path]:
        """Draw and replace the pictures, and return their paths by name."""
        records = read_lines(self.folder / "log.jsonl")
        name = run_name(self.folder)
        figures = {CURVES: draw_curves(records, title=name, lead_hours=self.lead_hours)}
        if self._sample is not None:
            epoch = records[-1]["epoch"] + 1
            figures[FORECAST] = _draw_maps(self._sample, epoch)
            figures[SPECTRUM] = _draw_spectra(self._sample, epoch)
            self._sample = None
        paths = {picture: self._write(picture, figure) for picture, figure in figures.items()}
        self._cost = self._clock() - self._begun
        self._spent += self._cost
        return paths

    def _write(self, picture: str, figure: "Figure") -> Path:
        path = self.folder / f"{picture}.png"
        with replacing_file(path) as temporary:
            figure.savefig(temporary, dpi=_DPI, format="png")
        return path


def pictures_of(folder: Path) -> dict[str, Path]:
    """Return the pictures of a run by name.

    Args:
        folder: folder of its state.
    """
    paths = {name: folder / f"{name}.png" for name in NAMES}
    return {name: path for name, path in paths.items() if path.is_file()}


def _draw_maps(sample: Sample, epoch: int) -> "Figure":
    index = _shown(sample.channels)
    channel = sample.channels[index]
    forecast = sample.forecast[index]
    truth = sample.truth[index]
    panels: list[Any] = [("forecast", forecast), ("truth", truth), (ERROR, forecast - truth)]
    title = f"{channel} [{channel.units}], {_when(sample)}, epoch {epoch}"
    rows, columns = (sample.grid.coordinates[axis] for axis in sample.grid.axes)
    earth = sample.grid.axes[0] == "latitude"
    return draw_maps(panels, rows, columns, title=title, units=channel.units, earth=earth)


def _draw_spectra(sample: Sample, epoch: int) -> "Figure":
    first = _shown(sample.channels)
    # One level of each variable, after the channel that is drawn as a map.
    others = {channel.variable: i for i, channel in enumerate(sample.channels)}
    others.pop(sample.channels[first].variable)
    chosen = [first, *others.values()][:_PANELS]
    names = [f"{sample.channels[i]} [{sample.channels[i].units}]" for i in chosen]
    title = f"power spectrum, {_when(sample)}, epoch {epoch}"
    return draw_spectra(sample.forecast[chosen], sample.truth[chosen], names, grid=sample.grid, title=title)


def _shown(channels: Sequence[Channel]) -> int:
    """Return the number of the channel that is drawn as a map."""
    keys = [(channel.variable, channel.level) for channel in channels]
    return next((keys.index(key) for key in _PREFERRED if key in keys), 0)


def _when(sample: Sample) -> str:
    return f"{format_duration(sample.lead)} from {format_time(sample.time)}"
