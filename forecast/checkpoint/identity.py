"""What the result of a training run depends on: a fingerprint, and a description that can be compared."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...fno.training.settings import TrainSettings
from .folder import fingerprint

# Keys of ``train`` that change no result: when states are saved and kept, and how a failed run goes on, which
# the state records.
_WITHOUT_EFFECT = ("checkpoint_minutes", "keep_last", "on_non_finite", "restore_factor", "max_restores")
# Keys that later versions added; a run with their defaults has the fingerprint that it had before.
_ADDED = ("patience", "rollout_lengths", "pushforward", "lead_times", "freeze")
_DEFAULTS = {
    field.name: list(field.default) if isinstance(field.default, tuple) else field.default
    for field in fields(TrainSettings)
}


@dataclass(frozen=True)
class RunIdentity:
    """What the result of a training run depends on.

    Attributes:
        digest: fingerprint.
        description: configuration and data as nested JSON values, for the list of what changed.
    """

    digest: str
    description: Mapping[str, Any]

    @classmethod
    def of(cls, content: Any, description: Mapping[str, Any]) -> "RunIdentity":
        """Return the identity of a run.

        Args:
            content: what the fingerprint is computed from.
            description: the same as nested JSON values with short texts for long lists.
        """
        return cls(fingerprint(content), description)


def train_content(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those settings of the training loop that the result depends on.

    Args:
        values: section ``train`` of a configuration.
    """
    return {
        name: value
        for name, value in values.items()
        if name not in _WITHOUT_EFFECT and not (name in _ADDED and value == _DEFAULTS[name])
    }
