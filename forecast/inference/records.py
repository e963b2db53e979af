"""Records in a forecast of its values outside the training range and of clipped values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

import xarray as xr

from ...datasets.store.recorded import recorded

R = TypeVar("R", bound="_Record")

_OPTIONAL = ("level", "lower", "upper")


@dataclass(frozen=True)
class _Record:
    """Values of a variable on one level.

    Attributes:
        variable: name of the variable.
        level: pressure [hPa], or None.
    """

    variable: str
    level: int | None

    @property
    def channel(self) -> str:
        """Variable and level, e.g. ``geopotential 500 hPa``."""
        return self.variable if self.level is None else f"{self.variable} {self.level} hPa"

    def to_dict(self) -> dict[str, Any]:
        """Return the record as it is printed in JSON."""
        return asdict(self)

    def to_entry(self) -> dict[str, Any]:
        """Return the record as it is stored in an attribute of its variable."""
        return {name: value for name, value in self.to_dict().items() if name != "variable"}

    @classmethod
    def from_entry(cls: type[R], variable: str, entry: Mapping[str, Any]) -> R:
        """Return the record of an entry that ``to_entry`` wrote.

        Raises:
            ValueError: a value is missing or of another type.
        """
        if not isinstance(entry, Mapping):
            raise ValueError(f"a record of {variable!r} is damaged: {str(entry)[:80]!r}")
        values = {field.name: entry.get(field.name) for field in fields(cls) if field.name != "variable"}
        for name, value in values.items():
            optional = name in _OPTIONAL and value is None
            if not (optional or isinstance(value, int | float)):
                raise ValueError(f"a record of {variable!r} is damaged: its {name} is {str(value)[:80]!r}")
        return cls(variable, **values)


@dataclass(frozen=True)
class OutOfRange(_Record):
    """Values outside the range of the training data.

    Attributes:
        variable: name of the variable.
        level: pressure [hPa], or None.
        minimum: least value of the forecast.
        maximum: largest value of the forecast.
        training_minimum: least value of the training data.
        training_maximum: largest value of the training data.
        first_lead_hours: lead time of the first such value [h].
        values: number of such values.
        share: their share of all values.
    """

    minimum: float
    maximum: float
    training_minimum: float
    training_maximum: float
    first_lead_hours: float
    values: int
    share: float

    def describe(self) -> str:
        """Return the record as a line."""
        return (
            f"{self.channel} {_interval(self.minimum, self.maximum)}, "
            f"trained on {_interval(self.training_minimum, self.training_maximum)}; "
            f"first at {self.first_lead_hours:g} h, {100 * self.share:.3g} % of the values"
        )


@dataclass(frozen=True)
class Clipped(_Record):
    """Values that were clipped to bounds.

    Attributes:
        variable: name of the variable.
        level: pressure [hPa], or None.
        lower: lower bound, or None.
        upper: upper bound, or None.
        values: number of clipped values.
        share: their share of all values.
    """

    lower: float | None
    upper: float | None
    values: int
    share: float

    def describe(self) -> str:
        """Return the record as a line."""
        return (
            f"{self.channel} to {_interval(self.lower, self.upper)}, {100 * self.share:.3g} % of the values"
        )


@dataclass(frozen=True)
class LimitRecords:
    """Records of all variables of a forecast.

    Attributes:
        outside_training_range: channels with values outside the training range.
        clipped: channels that are clipped, whether or not a value was.
    """

    outside_training_range: list[OutOfRange]
    clipped: list[Clipped]

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Return the records as they are printed in JSON."""
        return {
            "outside_training_range": [record.to_dict() for record in self.outside_training_range],
            "clipped": [record.to_dict() for record in self.clipped],
        }

    def describe(self) -> dict[str, list[str]]:
        """Return lines by kind of record, without channels that have no such values and empty kinds."""
        lines = {
            "outside_training_range": [record.describe() for record in self.outside_training_range],
            "clipped": [record.describe() for record in self.clipped if record.values],
        }
        return {kind: texts for kind, texts in lines.items() if texts}


def read_records(forecast: xr.Dataset) -> LimitRecords:
    """Return what the attributes of a forecast record.

    Raises:
        ValueError: an attribute is damaged.
    """
    records = LimitRecords([], [])
    for name, array in forecast.data_vars.items():
        for entry in recorded(array.attrs, "outside_training_range", list, default="[]"):
            records.outside_training_range.append(OutOfRange.from_entry(str(name), entry))
        for entry in recorded(array.attrs, "clipped", list, default="[]"):
            records.clipped.append(Clipped.from_entry(str(name), entry))
    return records


def _interval(low: float | None, high: float | None) -> str:
    return " ... ".join("" if value is None else f"{value:.6g}" for value in (low, high)).strip()
