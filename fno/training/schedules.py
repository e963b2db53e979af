"""Schedules of the learning rate: functions of the step alone, so that resuming needs no further state.

Each returns the learning rate of a step as a fraction of the peak.
"""

import math
from typing import Protocol


class Schedule(Protocol):
    """A function of the step and the number of steps."""

    def __call__(self, step: int, total: int, *, warmup: int, cycles: int) -> float:
        """Return the learning rate as a fraction of the peak.

        Args:
            step: number of the step, from 0.
            total: number of steps.
            warmup: steps over which the rate rises linearly, at most a fifth of all.
            cycles: number of cycles.
        """


def cosine(step: int, total: int, *, warmup: int, cycles: int = 1) -> float:
    """Return a linear rise times a cosine decay from 1 to 0.05; arguments as for ``Schedule``.

    min(1, (step + 1) / warmup) (0.05 + 0.475 (1 + cos(pi step / total)))
    """
    return _rise(step, total, warmup) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / max(1, total))))


def one_cycle(step: int, total: int, *, warmup: int = 0, cycles: int = 1) -> float:
    """Return one cycle of Smith and Topin 2018 (arXiv:1708.07120).

    The rate rises from 1/25 to 1 along half a cosine over the first 30 % of the steps, and falls to 4e-6
    along another, as ``torch.optim.lr_scheduler.OneCycleLR`` does by default.

    Args:
        step: number of the step, from 0.
        total: number of steps.
        warmup: not used; the rise is part of the cycle.
        cycles: not used.
    """
    first = 1 / 25
    last = first / 1e4
    peak = 0.3 * total - 1
    if step <= peak:
        return _half_cosine(first, 1.0, step / peak if peak > 0 else 1.0)
    return _half_cosine(1.0, last, (step - peak) / max(1e-12, total - 1 - peak))


def warm_restarts(step: int, total: int, *, warmup: int, cycles: int) -> float:
    """Return cosine decays from 1 to 0, each twice as long as the one before it.

    After Loshchilov and Hutter 2017 (arXiv:1608.03983), T_mult = 2. The cycles fill all steps exactly: the
    first is total / (2^cycles - 1) long. Only the first has a linear rise. Arguments as for ``Schedule``.
    """
    shortest = total / (2**cycles - 1)
    number = min(cycles - 1, int(math.log2(step / shortest + 1)) if shortest else 0)
    done = (step - shortest * (2**number - 1)) / max(1e-12, shortest * 2**number)
    return _rise(step, total, warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _rise(step: int, total: int, warmup: int) -> float:
    return min(1.0, (step + 1) / max(1, min(warmup, total // 5)))


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


SCHEDULES: dict[str, Schedule] = {"cosine": cosine, "onecycle": one_cycle, "restarts": warm_restarts}
"""Schedules that settings can name."""
