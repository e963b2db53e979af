"""The task ``network``: imported weights without variables, grid and normalisation, which cannot forecast."""

from dataclasses import dataclass
from typing import Any, NoReturn

from torch import nn

from ...fno.pretrained import construct
from ...fno.references import is_reference
from ..checkpoint.description import NetworkDescription
from ..checkpoint.folder import StoredCheckpoint
from .base import CheckpointSummary, Task

_OF_THE_DATA = ("in_channels", "out_channels", "inp_shape", "reference_size", "edges", "grid")
"""Arguments of a network that follow from the data."""


@dataclass(frozen=True)
class NetworkSummary(CheckpointSummary):
    """Summary of an imported network.

    Attributes:
        model: name of the architecture.
        arguments: arguments of the network by name.
        source: name, format and checksum of the imported file; None for a network of your own.
        versions: versions of the packages that wrote the checkpoint.
        sha256: checksum of the weights.
    """

    model: str
    arguments: dict[str, Any]
    source: dict[str, str] | None
    versions: dict[str, str]
    sha256: str


class NetworkTask(Task):
    """Weights of published networks; they can be inspected, loaded as modules and exported."""

    name = "network"
    title = "network"
    config = None
    description = NetworkDescription

    def load(self, stored: StoredCheckpoint, device: str | None) -> NoReturn:
        """Raise ``ValueError``: such a checkpoint has no ``run``."""
        raise ValueError(
            f"{stored.path} contains a network without variables, grid and normalisation, "
            "which cannot make a forecast; see forecast.load_network"
        )

    def child(self, stored: StoredCheckpoint) -> dict[str, Any]:
        """Return the task ``weather`` with this network; the data are missing."""
        model = stored.describe(NetworkDescription).model
        own = {name: v for name, v in model.arguments.items() if name not in _OF_THE_DATA}
        # As a class, it takes all arguments of its constructor, of which the configuration names fewer.
        kind = model.model if model.model == "afno" else f"fourcaster.fno:{model.model.upper()}"
        if is_reference(model.model):
            kind = model.model
        return {
            "task": "weather",
            "model": {"kind": kind, "window": 1, **own},
            "parent": str(stored.path),
        }

    def load_network(self, stored: StoredCheckpoint) -> nn.Module:
        """Return the network."""
        model = stored.describe(NetworkDescription).model
        entries = stored.entries()
        with stored.noting_changes():
            network = construct(model.model, model.arguments, entries, source=str(stored.path))
        stored.restore(network, entries)
        return network

    def describe(self, stored: StoredCheckpoint) -> NetworkSummary:
        """Return architecture, arguments and origin."""
        stored.describe(NetworkDescription)
        meta = stored.meta
        return NetworkSummary(
            kind=self.title,
            model=meta["model"]["model"],
            arguments=meta["model"]["arguments"],
            source=meta.get("source"),
            versions=meta["versions"],
            sha256=meta["sha256"],
        )
