"""The tasks by name: those of this package and the entry points of the group ``fourcaster.tasks``."""

from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel

from ...datasets.suggestions import suggest
from ..text import one_line
from .base import Task

GROUP = "fourcaster.tasks"
_PACKAGED = {
    "weather": ".weather.task:WeatherTask",
    "pinn": ".pinn:PinnTask",
    "operator": ".operator.task:OperatorTask",
    "inverse": ".inverse:InverseTask",
    "network": ".network:NetworkTask",
    "diagnostic": ".diagnostic:DiagnosticTask",
}


def task_names() -> list[str]:
    """Return the names of all tasks, those of this package first."""
    return [*_PACKAGED, *sorted(_entry_points())]


def get_task(name: str) -> Task:
    """Return a task.

    Raises:
        ValueError: no such task.
    """
    if name not in task_names():
        raise ValueError(f"no task {one_line(repr(name), 80)}; {suggest(name, task_names())}")
    return _load(name)


def config_classes(task: str | None = None) -> dict[str, type[BaseModel]]:
    """Return the configuration class of each task that can be trained, by the name of the task.

    Args:
        task: name of the only task to return.

    Raises:
        ValueError: no such task, or one without training.
    """
    configs = {name: get_task(name).config for name in ([task] if task else task_names())}
    trained = {name: config for name, config in configs.items() if config is not None}
    if not trained:
        raise ValueError(f"the task {task} has no training, so it has no configuration")
    return trained


@lru_cache(maxsize=64)
def _load(name: str) -> Task:
    if name in _PACKAGED:
        module, _, attribute = _PACKAGED[name].partition(":")
        kind: Any = getattr(import_module(module, __package__), attribute)
    else:
        kind = _entry_points()[name].load()
    task: Task = kind()
    return task


def _entry_points() -> dict[str, EntryPoint]:
    """Return the tasks of other packages; raises ``ValueError`` where two have the same name."""
    points: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if point.name in points or point.name in _PACKAGED:
            raise ValueError(f"two packages provide the task {point.name}; uninstall one of them")
        points[point.name] = point
    return points


def task_of_config(values: Mapping[str, Any], source: str = "the configuration") -> Task:
    """Return the task of a configuration, from its key ``task``.

    Configurations without the key, from before it existed, are told apart by their sections.

    Raises:
        ValueError: no such task.
    """
    name = values.get("task")
    if name is None:
        name = _task_without_key(values)
    if not isinstance(name, str):
        raise ValueError(
            f"{source}: task should be one of {', '.join(task_names())}, got {one_line(repr(name), 80)}"
        )
    try:
        return get_task(name)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _task_without_key(values: Mapping[str, Any]) -> str:
    if "equation" not in values:
        return "weather"
    sections = [values.get(name) for name in ("model", "data", "loss")]
    model, data, loss = (section if isinstance(section, dict) else {} for section in sections)
    if "kind" not in model:
        return "pinn"
    return "inverse" if data.get("experiment") is not None or loss.get("experiment") else "operator"


def task_that_wrote(attrs: Mapping[str, Any]) -> Task | None:
    """Return the task that writes data sets with such attributes; None for forecasts and foreign files."""
    return next((task for task in map(get_task, task_names()) if task.wrote(attrs)), None)


def task_of_output(attrs: Mapping[str, Any]) -> Task:
    """Return the task whose models write such data sets, by their attributes; ``weather`` by default."""
    return task_that_wrote(attrs) or get_task("weather")
