"""Sweeps: training runs for the product of lists of values, in this process or on a Dask cluster."""

import itertools
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from ..datasets.cluster import connected
from ..fno.progress import Progress
from ..fno.references import trusting
from .config.source import read_config
from .tasks.dispatch import make_config, train
from .text import one_line

log = logging.getLogger(__name__)
MOST_RUNS = 10_000
_PAIRS = {"[": "]", "{": "}", "(": ")"}


class RunState(StrEnum):
    """Outcome of a run of a sweep."""

    TRAINED = "trained"
    FINISHED_BEFORE = "finished before"
    FAILED = "failed"


@dataclass(frozen=True)
class SweepRun:
    """A run of a sweep.

    Attributes:
        values: value of each key that differs between runs, as text.
        output: folder of the run.
        state: outcome.
        score: score of its checkpoint, None without validation data or a checkpoint.
        seconds: duration [s].
        error: message of the error that ended it; empty without one.
    """

    values: dict[str, str]
    output: str
    state: RunState
    score: float | None
    seconds: float
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, as JSON can represent them."""
        return asdict(self)


def split_values(text: str) -> list[str]:
    """Return the parts of a text at commas that are outside of brackets and quotes.

    >>> split_values("[8,8],[16,16]")
    ['[8,8]', '[16,16]']
    """
    parts = [""]
    closing: list[str] = []
    for character in text:
        if closing and character == closing[-1]:
            closing.pop()
        elif character in "'\"" and (not closing or closing[-1] not in "'\""):
            closing.append(character)
        elif character in _PAIRS and (not closing or closing[-1] not in "'\""):
            closing.append(_PAIRS[character])
        if character == "," and not closing:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def expand(overrides: Sequence[str]) -> tuple[list[str], list[dict[str, str]]]:
    """Return the overrides with one value, and the combinations of those with several.

    Args:
        overrides: ``key=value`` or ``key=value,value``.

    Raises:
        ValueError: an override has an empty value in its list or occurs twice, or there are too many runs.

    Example:
        >>> expand(["train.seed=1,2", "train.epochs=3"])
        (['train.epochs=3'], [{'train.seed': '1'}, {'train.seed': '2'}])
    """
    common = []
    lists: dict[str, list[str]] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        values = split_values(text)
        if not equals or len(values) == 1:
            common.append(override)
            continue
        if key in lists:
            raise ValueError(f"{key} is given twice; list all its values once")
        if not all(value.strip() for value in values):
            raise ValueError(f"{override!r} has an empty value; write e.g. {key}=1,2,3")
        lists[key] = list(dict.fromkeys(value.strip() for value in values))
    count = 1
    for values in lists.values():
        count *= len(values)
    if count > MOST_RUNS:
        raise ValueError(f"the sweep has {count} runs, more than {MOST_RUNS}; use fewer values")
    return common, [dict(zip(lists, one, strict=True)) for one in itertools.product(*lists.values())]


def sweep(
    source: str | Path,
    overrides: Sequence[str],
    *,
    scheduler: str | None = None,
    device: str | None = None,
    trust: Sequence[Path] = (),
    progress: Progress | None = None,
) -> list[SweepRun]:
    """Train a model for each combination of values, each in its own folder under ``output``.

    An interrupted sweep resumes: finished runs are skipped, and the others continue from their saved states.
    A run that fails does not end the others.

    Args:
        source: YAML file, or the name of a recipe of the package.
        overrides: ``key=value``, or ``key=value,value,...`` for values to combine.
        scheduler: address of a Dask scheduler, or ``local:N`` for N processes; by default one run after the
            other in this process.
        device: ``cpu`` or ``cuda``; a GPU where there is one by default.
        trust: folders from which runs may import code that a configuration names as ``module:Class``; the
            caller trusts them as well.
        progress: called with (runs done, number of runs, text).

    Raises:
        FileNotFoundError: no such file or recipe.
        ValueError: a configuration is not valid; then no run starts.
    """
    values = read_config(source)
    common, combinations = expand(overrides)
    base = make_config(values, common, source=str(source)).output
    plans = []
    for combination in combinations:
        folder = base / folder_name(combination) if combination else base
        own = [*common, *(f"{key}={text}" for key, text in combination.items())]
        if any(key == "output" for key in combination):
            raise ValueError("output cannot have several values: each run has its own folder under it")
        own.append(f"output={json.dumps(str(folder))}")
        make_config(values, own, source=str(source))
        plans.append((combination, own, str(folder)))
    done: list[SweepRun] = []
    order = {plan[2]: i for i, plan in enumerate(plans)}
    with _runner(scheduler) as runs:
        for run in runs(partial(run_one, values, device=device, trust=tuple(trust)), plans):
            done.append(run)
            if progress:
                name = folder_name(run.values) or run.output
                progress(len(done), len(plans), f"{name}: {run.state}")
    return sorted(done, key=lambda run: order[run.output])


def folder_name(combination: Mapping[str, str]) -> str:
    """Return the name of the folder of a run, such as ``train.seed=1,model.hidden_channels=32``."""
    name = ",".join(f"{key}={text}" for key, text in combination.items())
    return "".join(c if c.isalnum() or c in "=,.-_[]" else "_" for c in name)


def run_one(
    values: Mapping[str, Any],
    plan: tuple[dict[str, str], list[str], str],
    *,
    device: str | None,
    trust: Sequence[Path] = (),
) -> SweepRun:
    """Train one model of a sweep; errors of its configuration and data are part of the result.

    Args:
        values: configuration without overrides.
        plan: values of this run, all overrides and the folder of the run.
        device: device of training.
        trust: folders from which code may be imported.
    """
    combination, overrides, output = plan
    start = time.monotonic()
    try:
        with trusting(*trust):
            result = train(make_config(values, overrides), device)
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        message = one_line(f"{error}" or type(error).__name__, 300)
        return SweepRun(combination, output, RunState.FAILED, None, time.monotonic() - start, message)
    state = RunState.FINISHED_BEFORE if result.already_done else RunState.TRAINED
    return SweepRun(combination, output, state, result.best_score, time.monotonic() - start)


@contextmanager
def _runner(scheduler: str | None) -> Iterator[Any]:
    """Yield a function that yields the finished runs, in this process or on a cluster."""
    if scheduler is None:
        yield map
        return
    with connected(scheduler) as client:
        from distributed import as_completed

        def on_cluster(run: Callable[..., SweepRun], plans: Sequence[Any]) -> Iterator[SweepRun]:
            futures = [client.submit(run, plan, pure=False) for plan in plans]
            for future in as_completed(futures):
                yield future.result()

        yield on_cluster


def sweep_table(runs: Sequence[SweepRun]) -> str:
    """Return a table of the runs, with the best score marked."""
    keys = list(runs[0].values) if runs else []
    scores = [run.score for run in runs if run.score is not None]
    rows = [[*keys, "score", "time", "state"]]
    for run in runs:
        best = " *" if run.score is not None and run.score == min(scores) else ""
        score = "-" if run.score is None else f"{run.score:.4g}{best}"
        state = f"{run.state}: {run.error}" if run.error else str(run.state)
        rows.append([*(run.values[key] for key in keys), score, f"{run.seconds:.0f} s", state])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
