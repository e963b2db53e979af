"""What a training run of a forecast model depends on, and the names of what it trains on."""

from typing import Any

import numpy as np

from ....datasets.store.fields import Fields
from ....datasets.store.open import Store
from ....fno.training.changes import summarise_values
from ....fno.training.diagnosis import FieldLabels
from ....fno.training.settings import identifying
from ...checkpoint.identity import RunIdentity
from ...config.sections import identifying_keys
from ...config.weather import WeatherConfig
from .forcing_inputs import ForcingPlan
from .parent import Parent
from .reading import block_length


def run_identity(
    config: WeatherConfig, store: Store, forcing: ForcingPlan | None = None, *, parent: Parent | None = None
) -> RunIdentity:
    """Return what the result of a run depends on: its settings and the metadata of the store.

    Args:
        config: configuration of the run.
        store: store with the variables to forecast.
        forcing: its forcings; those of the grid by default.
        parent: checkpoint that training starts from.
    """
    # These keys affect the result only through the length of blocks.
    irrelevant = {"store", "cache_bytes", "buffer_bytes", "route"}
    excluded: Any = {"task": True, "output": True, "data": irrelevant, "loss": {"compare"}}
    settings: dict[str, Any] = config.model_dump(mode="json", exclude=excluded)
    more = 0 if forcing is None else forcing.nbytes
    if (block := block_length(Fields(store.dataset), config, more)) > 1:
        settings["data"]["block"] = block
    settings["data"].pop("static")
    if static := store.static(config.data.static):
        settings["data"]["static"] = list(static)
    if not config.data.gap_steps:
        settings["data"].pop("gap_steps")
    if config.data.validation_period is None:
        settings["data"].pop("validation_period")
    for name in ("forcings", "sampler"):
        if not settings["data"][name]:
            settings["data"].pop(name)
    balances = {name: settings["loss"][name] for name in ("physics", "warmup") if config.loss.physics}
    if not (loss := balances | config.loss.changed()):
        settings.pop("loss")
    else:
        settings["loss"] = loss
    settings["model"] = identifying_keys(config.model)
    if config.model.kind == "sfno":
        for key, default in (("analysis", "quadrature"), ("local", False)):
            if settings["model"][key] == default:
                settings["model"].pop(key)
    settings["train"] = identifying(settings["train"])
    if not settings["model"]["noise_channels"]:
        settings["model"].pop("noise_channels")
    settings.pop("parent")
    times = store.dataset["time"].values.astype(str).tolist()
    names = [str(c) for c in store.channels]
    axes = {axis: store.dataset[axis].values.astype(np.float64).tolist() for axis in store.grid.axes}
    content = [times, names, dict(store.dataset.attrs), *axes.values()]
    described = {
        "times": summarise_values(times),
        "channels": names,
        **{axis: summarise_values(values) for axis, values in axes.items()},
        "attributes": {str(name): str(value) for name, value in store.dataset.attrs.items()},
    }
    if forcing is not None and forcing.channels:
        described["forcings"] = [f"{channel} {channel.units}" for channel in forcing.channels]
        content.append(described["forcings"])
    if parent is not None:
        described["parent"] = parent.record["checksum"]
        content.append(described["parent"])
    return RunIdentity.of([settings, content], {**settings, "store": described})


def field_labels(store: Store) -> FieldLabels:
    """Return the names of the channels and the coordinates of the points of a store, for messages."""
    first, second = store.grid.axes
    channels = tuple(str(channel) for channel in store.channels)
    rows, columns = (store.dataset[axis].values.astype(np.float64) for axis in (first, second))
    return FieldLabels(channels, (first, second), rows, columns)
