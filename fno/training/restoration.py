"""The record of a return to an earlier state after a loss, gradient or weight that was not finite."""

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Restoration:
    """A return to an earlier state.

    Attributes:
        step: number of completed steps of the state that training went back to.
        epoch: epoch that starts with that state.
        failed_step: step at which a value was not finite.
        rate_scale: factor on the learning rate from then on, over all returns.
        reason: what was not finite.
    """

    step: int
    epoch: int
    failed_step: int
    rate_scale: float
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return asdict(self)

    @classmethod
    def accepts(cls, values: Any) -> bool:
        """Return whether JSON values are those of a record."""
        if not isinstance(values, dict) or set(values) != set(cls.__dataclass_fields__):
            return False
        counts = [values[name] for name in ("step", "epoch", "failed_step")]
        scale = values["rate_scale"]
        return (
            all(type(count) is int and 0 <= count < 2**53 for count in counts)
            and isinstance(scale, float | int)
            and not isinstance(scale, bool)
            and math.isfinite(scale)
            and 0 < scale <= 1
            and isinstance(values["reason"], str)
        )
