"""The task ``network``: imported weights without variables, grid and normalisation, which cannot forecast."""

from typing import Any, NoReturn

from torch import nn

from ...fno.pretrained import construct
from ..checkpoint.description import NetworkDescription
from ..checkpoint.folder import StoredCheckpoint
from ..config.sections import Strict
from .base import Task


class NetworkTask(Task):
    """Weights of published networks; they can be inspected, loaded as modules and exported."""

    name = "network"
    title = "network"
    config = Strict
    description = NetworkDescription

    def load(self, stored: StoredCheckpoint, device: str | None) -> NoReturn:
        """Raise ``ValueError``: such a checkpoint has no ``run``."""
        raise ValueError(
            f"{stored.path} contains a network without variables, grid and normalisation, which cannot make "
            "a "
            "forecast; see forecast.load_network"
        )

    def load_network(self, stored: StoredCheckpoint) -> nn.Module:
        """Return the network."""
        model = stored.describe(NetworkDescription).model
        entries = stored.entries()
        with stored.noting_changes():
            network = construct(model.model, model.arguments, entries, source=str(stored.path))
        stored.restore(network, entries)
        return network

    def describe(self, stored: StoredCheckpoint) -> dict[str, Any]:
        """Return architecture, arguments and origin."""
        stored.describe(NetworkDescription)
        meta = stored.meta
        return {"kind": self.title, **meta["model"], **{k: meta[k] for k in ("source", "versions", "sha256")}}
