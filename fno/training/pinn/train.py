"""Training of physics-informed networks on an equation with its initial and boundary values.

Time is divided into windows, each with a network that starts from the end of the one before. The random
numbers of iteration n of window w are seeded by the seed of the run, w and n, and the state is saved after
each window, so that a run that is killed and resumed ends with the same bits as an uninterrupted one.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from ...errors import StoppedError
from ...physics.equations import Problem
from ...progress import Progress
from ...random import Stream, seeded_torch
from ..log import TrainingLog
from ..loggers import LoggerGroup, RunInfo, check_loggers
from ..pictures import draw
from ..protocols import Pictures
from ..reporter import run_name
from ..state import load_own_state, not_a_state, restore_model, save_state
from .settings import PinnLoss, PinnSettings
from .window import JetNetwork, Window

log = logging.getLogger(__name__)
_HELD_OUT_RATIO = 10.0  # of held-out residual to residual, above which a warning is logged

N = TypeVar("N", bound=JetNetwork)


@dataclass(frozen=True)
class PinnRecord:
    """Result of a training run.

    Attributes:
        iterations: number of iterations over all windows, where a step of up to 20 L-BFGS iterations counts
            as one.
        residual: root mean square of the residual of the equation at the collocation points.
        held_out: root mean square at held-out points.
    """

    iterations: int
    residual: float
    held_out: float


def train_pinn(
    problem: Problem,
    network: Callable[[float, float], N],
    settings: PinnSettings,
    *,
    folder: Path,
    fingerprint: str = "",
    description: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    loss: PinnLoss | None = None,
    stop: Callable[[], bool] | None = None,
    pictures: Pictures | None = None,
) -> tuple[list[N], PinnRecord]:
    """Train a network for each window of time, and return them (see ``TimeWindows``).

    Args:
        problem: equation with its initial and boundary values.
        network: function that builds the network of a window, given its first and last time.
        settings: training settings.
        folder: folder of ``training.safetensors`` (the state, from which an interrupted run resumes) and
            ``log.jsonl``.
        fingerprint: identifies everything that the result depends on; a saved state with another fingerprint
            is an error.
        description: what the fingerprint was computed from, as nested JSON values, so that the error can
            list what changed.
        progress: called with (finished windows, total windows, text).
        loss: weights of the terms of the loss.
        stop: called after each Gauss-Newton step, every 50 Adam steps, every 20 L-BFGS iterations and after
            the last step of a stage; if it returns True, training ends. Finished windows are saved, and under
            ``gauss_newton`` also the state of the unfinished one.
        pictures: pictures to draw after windows; an error in them is reported and ends no training.

    Raises:
        StoppedError: ``stop`` returned True.
        OtherRunError: the saved state belongs to other settings.
        NonFiniteError: a term of the loss, its gradient or the saved state are not finite; the message names
            the iteration and the term or parameter, and finished windows are kept.
        RegistryError: a logger does not exist or its package is not installed.
    """
    check_loggers(settings.loggers)
    run = _Run(
        problem,
        network,
        settings,
        loss=loss or PinnLoss(),
        folder=folder,
        fingerprint=fingerprint,
        description=description,
    )
    run.resume()
    info = RunInfo(run_name(folder), folder, run.position, description or {})
    loggers = LoggerGroup(() if run.finished else settings.loggers, info)
    try:
        _train_windows(run, folder, loggers, progress=progress, stop=stop, pictures=pictures)
    finally:
        loggers.close(finished=run.finished)
    return run.networks, run.record()


def _train_windows(
    run: "_Run[N]",
    folder: Path,
    loggers: LoggerGroup,
    *,
    progress: Progress | None,
    stop: Callable[[], bool] | None,
    pictures: Pictures | None,
) -> None:
    """Train the windows of a run that are not finished; arguments as for ``train_pinn``."""
    settings = run.settings
    records = TrainingLog(folder / "log.jsonl", run.position)
    for i in range(run.done, settings.windows):
        window = run.window(i)
        for iteration, terms in window.train():
            position = run.step + iteration
            records.write({"step": position, "window": i, **terms})
            if position % settings.log_every == 0:
                loggers.add({f"train/{name}": value for name, value in terms.items()}, position)
            if stop is not None and stop():
                if settings.optimizer != "gauss_newton":
                    raise StoppedError(f"{i} of {settings.windows} windows of time are saved")
                run.save(window)
                loggers.release(position)
                text = f"iteration {iteration} of window {i + 1} of {settings.windows}"
                raise StoppedError(f"the state after {text} is saved")
            if progress and iteration % 10 == 0:
                values = ", ".join(f"{name} {value:.1e}" for name, value in terms.items())
                progress(i, settings.windows, f"window {i + 1}, iteration {iteration}: {values}")
        residual, held_out = window.verify()
        if held_out > _HELD_OUT_RATIO * residual:
            log.warning(
                "window %d: the residual is %.1e at the collocation points and %.1e between them; use more "
                "points, or resample them",
                i + 1,
                residual,
                held_out,
            )
        run.finish(window, residual, held_out)
        records.write({"step": run.step, "window": i, "held_out": held_out})
        loggers.add({"validation/residual": residual, "validation/held_out": held_out}, run.step)
        run.save()
        loggers.release(run.step)
        if pictures is not None:
            paths = draw(pictures, last=run.finished)
            pictures = None if paths is None else pictures
            for name, path in (paths or {}).items():
                loggers.picture(name, path, run.step)
        if progress:
            progress(i + 1, settings.windows, f"residual {residual:.1e}, held out {held_out:.1e}")


class _Run(Generic[N]):
    """The networks of a run and its state on disk.

    Attributes:
        networks: networks of all windows.
        done: number of finished windows.
        step: number of iterations of the finished windows.
        unfinished: metadata of the window that a resumed run continues, else empty.
    """

    def __init__(
        self,
        problem: Problem,
        network: Callable[[float, float], N],
        settings: PinnSettings,
        *,
        loss: PinnLoss,
        folder: Path,
        fingerprint: str,
        description: Mapping[str, Any] | None,
    ) -> None:
        self.problem = problem
        self.settings = settings
        self.loss = loss
        self.path = folder / "training.safetensors"
        self.fingerprint = fingerprint
        self.description = description
        self.networks: list[N] = []
        for i in range(settings.windows):
            with seeded_torch(settings.seed, Stream.INITIAL_WEIGHTS):
                self.networks.append(network(*self._interval(i)))
        self.done = 0
        self.step = 0
        self.totals = {"residual": 0.0, "held_out": 0.0}
        self.unfinished: dict[str, Any] = {}
        self._unfinished_tensors: dict[str, Tensor] = {}

    @property
    def position(self) -> int:
        """Number of iterations up to the saved state."""
        return self.step + int(self.unfinished.get("iterations", 0))

    @property
    def finished(self) -> bool:
        """Whether all windows are finished."""
        return self.done == self.settings.windows

    def window(self, number: int) -> Window:
        """Return a window to train, restored if it is the unfinished one of the saved state."""
        networks = self.networks
        if number and not self.unfinished:
            weights = parameters_to_vector(networks[number - 1].parameters()).detach().clone()
            vector_to_parameters(weights, networks[number].parameters())
        window = Window(
            self.problem,
            networks[number],
            self.settings,
            interval=self._interval(number),
            number=number,
            loss=self.loss,
            previous=networks[number - 1] if number else None,
        )
        if self.unfinished:
            try:
                window.restore(self._unfinished_tensors, self.unfinished)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise not_a_state(self.path, f"its unfinished window: {error}") from error
            self.unfinished = {}
        return window

    def finish(self, window: Window, residual: float, held_out: float) -> None:
        """Count a window as finished.

        Args:
            window: the window.
            residual: root mean square of the residual at the collocation points.
            held_out: root mean square at held-out points.
        """
        self.step += window.iterations
        self.done = window.number + 1
        self.totals["residual"] += residual**2
        self.totals["held_out"] += held_out**2

    def record(self) -> PinnRecord:
        """Return the result of the finished run."""
        root = {name: math.sqrt(total / self.settings.windows) for name, total in self.totals.items()}
        return PinnRecord(self.step, root["residual"], root["held_out"])

    def save(self, unfinished: Window | None = None) -> None:
        """Write the state: the networks of finished windows, and an unfinished window if there is one."""
        count = self.done + (unfinished is not None)
        groups = {str(i): dict(self.networks[i].state_dict()) for i in range(count)}
        meta = {
            "fingerprint": self.fingerprint,
            "description": dict(self.description or {}),
            "step": self.step,
            "totals": self.totals,
            "done": self.done,
        }
        if unfinished is not None:
            groups["window"], meta["window"] = unfinished.state()
        save_state(self.path, groups, meta)

    def resume(self) -> None:
        """Restore the saved state, if there is one.

        Raises:
            OtherRunError: the state belongs to other settings.
            ValueError: the state is damaged, or is not that of the networks.
        """
        state = load_own_state(self.path, self.fingerprint, description=self.description)
        if state is None:
            return
        groups, meta = state
        self.done = meta["done"]
        self.step = meta["step"]
        self.totals = meta["totals"]
        count = self.done + ("window" in meta)
        if count > len(self.networks):
            raise ValueError(
                f"{self.path} has {self.done} finished windows of time, of {len(self.networks)}; remove it "
                "to start over"
            )
        for i in range(count):
            restore_model(cast(nn.Module, self.networks[i]), groups, str(i), path=self.path)
        if "window" in meta:
            self.unfinished = meta["window"]
            self._unfinished_tensors = groups.get("window", {})

    def _interval(self, number: int) -> tuple[float, float]:
        """Return the first and the last time of a window."""
        count = self.settings.windows
        return number / count, (number + 1) / count
