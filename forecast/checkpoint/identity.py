"""What the result of a training run depends on: a fingerprint, and a description that can be compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .folder import fingerprint


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
