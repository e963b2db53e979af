"""Forecasts with neural operators: load, train, ingest, simulate, inspect, verify, plot.

    from fourcaster import forecast
    forecast.load("run/checkpoint").run("store.zarr", times="2014-03-01", lead="72h")

Names are imported on first use, so that ``import fourcaster.forecast`` takes milliseconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..datasets.pde.simulate import simulate
    from .config.load import load_config
    from .inference.forecaster import Forecaster, load, open_forecast
    from .ingestion import ingest
    from .inspection import inspect
    from .interop import load_network
    from .pinn import evaluate
    from .solutions import score, solve
    from .training import train
    from .verification.plots import plot
    from .verification.verify import verify

_MODULES = {
    "Forecaster": ".inference.forecaster",
    "evaluate": ".pinn",
    "ingest": ".ingestion",
    "inspect": ".inspection",
    "load": ".inference.forecaster",
    "load_config": ".config.load",
    "load_network": ".interop",
    "open_forecast": ".inference.forecaster",
    "plot": ".verification.plots",
    "score": ".solutions",
    "simulate": "..datasets.pde.simulate",
    "solve": ".solutions",
    "train": ".training",
    "verify": ".verification.verify",
}

__all__ = [
    "Forecaster",
    "evaluate",
    "ingest",
    "inspect",
    "load",
    "load_config",
    "load_network",
    "open_forecast",
    "plot",
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
