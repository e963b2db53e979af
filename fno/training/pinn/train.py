"""Training of physics-informed networks: an equation, its initial and boundary values, and points where they
are asked to hold.

Time is cut into windows, each with a network that starts from the end of the one before. Whatever is random
in iteration n of window w is seeded by (seed, w, n), and the state after each window is saved, so that a run
that was killed ends with the same bits.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from ...errors import StoppedError
from ...physics.equations import Problem
from ...progress import Progress
from ..finite import check_saved
from ..log import TrainingLog
from ..state import load_state, restore_model, save_state
from .settings import PinnLoss, PinnSettings
from .window import JetNetwork, Window

log = logging.getLogger(__name__)
_HELD_OUT_RATIO = 10.0


N = TypeVar("N", bound=JetNetwork)


@dataclass(frozen=True)
class PinnRecord:
    """What came of a run: iterations, and root mean squares of the equation's residual where it was trained
    and where not.
    """

    iterations: int
    residual: float
    held_out: float


def train_pinn(
    problem: Problem,
    network: Callable[[float, float], N],
    settings: PinnSettings,
    folder: Path,
    fingerprint: str = "",
    progress: Progress | None = None,
    loss: PinnLoss | None = None,
    stop: Callable[[], bool] | None = None,
) -> tuple[list[N], PinnRecord]:
    """Train a network of each window of time, and return them (see ``TimeWindows``).

    Args:
        problem: what to solve.
        network: makes the network of a window of time.
        settings: how to train.
        folder: holds ``training.safetensors`` (the state, resumed from if there) and ``log.jsonl``.
        fingerprint: names everything that the result depends on; a state with another one is refused.
        progress: called with (windows done, windows in all, text).
        loss: weights of its terms.
        stop: called after each iteration; where it returns True, training ends. Finished windows are saved,
            and under ``gauss_newton`` also the state of the one that is not.

    Raises:
        StoppedError: ``stop`` returned True.
        ValueError: the saved state belongs to other settings.
        NonFiniteError: a term of the loss, its gradient or the saved state are not finite: iteration and term
            or parameter are named, and finished windows are kept.
    """
    path, done, step = folder / "training.safetensors", 0, 0
    edges = [i / settings.windows for i in range(settings.windows + 1)]
    networks: list[N] = []
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        torch.manual_seed(settings.seed)
        networks.append(network(start, end))
    totals = {"residual": 0.0, "held_out": 0.0}
    if path.exists():
        groups, meta = load_state(path)
        if meta["fingerprint"] != fingerprint:
            raise ValueError(
                f"{path} belongs to a run with other settings; choose another output, or remove it to start over"
            )
        check_saved(path, groups, meta["step"])
        done, step, totals = meta["done"], meta["step"], meta["totals"]
        if done + ("window" in meta) > len(networks):
            raise ValueError(
                f"{path} has {done} finished windows of time, of {len(networks)}; remove it to start over"
            )
        for i in range(done):
            restore_model(cast(nn.Module, networks[i]), groups, str(i), path)
    unfinished = meta.get("window") if path.exists() else None
    records = TrainingLog(folder / "log.jsonl", step + (unfinished or {}).get("iterations", 0))

    def save(windows: int, more: dict[str, dict[str, Tensor]], **about: Any) -> None:
        weights = {str(j): dict(networks[j].state_dict()) for j in range(windows)}
        save_state(
            path, weights | more, {"fingerprint": fingerprint, "step": step, "totals": totals, **about}
        )

    for i in range(done, settings.windows):
        if i and not unfinished:
            vector_to_parameters(
                parameters_to_vector(networks[i - 1].parameters()).detach().clone(), networks[i].parameters()
            )
        window = Window(
            problem,
            networks[i],
            edges[i],
            edges[i + 1],
            i,
            settings,
            loss or PinnLoss(),
            networks[i - 1] if i else None,
        )
        if unfinished:
            restore_model(cast(nn.Module, networks[i]), groups, str(i), path)
            try:
                window.restore(groups["window"], unfinished)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise ValueError(
                    f"{path} is not a training state (its unfinished window: {error}); remove it to start over"
                ) from error
            unfinished = None
        for iteration, terms in window.train():
            records.write({"step": step + iteration, "window": i, **terms})
            if stop is not None and stop():
                if settings.optimizer != "gauss_newton":
                    raise StoppedError(f"{i} of {settings.windows} windows of time are saved")
                tensors, about = window.state()
                save(i + 1, {"window": tensors}, done=i, window=about)
                raise StoppedError(
                    f"the state after iteration {iteration} of window {i + 1} of {settings.windows} is saved"
                )
            if progress and iteration % 10 == 0:
                shown = ", ".join(f"{name} {value:.1e}" for name, value in terms.items())
                progress(i, settings.windows, f"window {i + 1}, iteration {iteration}: {shown}")
        step += window.iterations
        residual, held_out = window.verify()
        totals = {"residual": totals["residual"] + residual**2, "held_out": totals["held_out"] + held_out**2}
        if held_out > _HELD_OUT_RATIO * residual:
            log.warning(
                "window %d: the residual is %.1e where it was trained and %.1e between; take more points, or resample them",
                i + 1,
                residual,
                held_out,
            )
        records.write({"step": step, "window": i, "held_out": held_out})
        save(i + 1, {}, done=i + 1)
        if progress:
            progress(i + 1, settings.windows, f"residual {residual:.1e}, held out {held_out:.1e}")
    root = {name: math.sqrt(value / settings.windows) for name, value in totals.items()}
    return networks, PinnRecord(step, root["residual"], root["held_out"])
