"""Forecasts with neural operators: train, run, verify, plot.

    from fourcaster import forecast
    forecast.load("run/checkpoint").run("store.zarr", times="2014-03-01", lead="72h")

Names are imported when they are first used, so that the command answers at once.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Forecaster": "api",
    "evaluate": "pinn",
    "load": "api",
    "open_forecast": "api",
    "load_config": "config",
    "load_network": "networks",
    "train": "training",
    "verify": "verification",
    "plot": "plots",
    "score": "solutions",
    "solve": "solutions",
}

__all__ = ["Forecaster", "evaluate", "load", "load_config", "load_network", "open_forecast", "plot", "score", "solve", "train", "verify"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
