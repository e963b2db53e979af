"""Forecasts with neural operators: load, train, ingest, simulate, inspect, verify, plot.

    from fourcaster import forecast
    forecast.load("run/checkpoint").run("store.zarr", times="2014-03-01", lead="72h")

Names are imported on first use, so that ``import fourcaster.forecast`` takes milliseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..datasets.pde.simulate import simulate
    from .inference.forecaster import Forecaster
    from .inference.open import open_forecast
    from .inference.operator import SolutionOperator, score, solve
    from .inference.pinn import PinnSolution, evaluate
    from .ingestion import ingest
    from .inspection import inspect
    from .interop import load_network, save_network
    from .tasks.dispatch import check, finetune, load, load_config, train
    from .verification.plots import plot
    from .verification.verify import verify

_MODULES = {
    "Forecaster": ".inference.forecaster",
    "PinnSolution": ".inference.pinn",
    "SolutionOperator": ".inference.operator",
    "check": ".tasks.dispatch",
    "evaluate": ".inference.pinn",
    "finetune": ".tasks.dispatch",
    "ingest": ".ingestion",
    "inspect": ".inspection",
    "load": ".tasks.dispatch",
    "load_config": ".tasks.dispatch",
    "load_network": ".interop",
    "open_forecast": ".inference.open",
    "plot": ".verification.plots",
    "save_network": ".interop",
    "score": ".inference.operator",
    "simulate": "..datasets.pde.simulate",
    "solve": ".inference.operator",
    "train": ".tasks.dispatch",
    "verify": ".verification.verify",
}

__all__ = [
    "Forecaster",
    "PinnSolution",
    "SolutionOperator",
    "check",
    "evaluate",
    "finetune",
    "ingest",
    "inspect",
    "load",
    "load_config",
    "load_network",
    "open_forecast",
    "plot",
    "save_network",
    "score",
    "simulate",
    "solve",
    "train",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
