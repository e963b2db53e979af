"""Forcings of a forecast model in training: those that are computed, and those that a store contains."""

from dataclasses import dataclass
from typing import Any

from ....datasets.forcings import BUILTIN, FORCINGS, forcing_names
from ....datasets.forcings import forcings as compute_forcings
from ....datasets.schema import Channel
from ....datasets.store.fields import Fields
from ....datasets.store.open import Store, select_variables, store_statistics
from ....datasets.stored_forcings import ForcingScales, StoredForcings
from ....datasets.suggestions import suggest
from ...config.weather import DataConfig


@dataclass(frozen=True)
class ForcingPlan:
    """The forcings of a configuration.

    Attributes:
        computed: names of those that are functions of time and grid.
        store: store of the variables that are inputs and not forecast; None without any.
    """

    computed: tuple[str, ...]
    store: Store | None = None

    @property
    def channels(self) -> list[Channel]:
        """Channels of the stored forcings."""
        return [] if self.store is None else self.store.channels

    @property
    def names(self) -> list[str]:
        """Names of the forcing fields, in order."""
        return [*self.computed, *map(str, self.channels)]

    @property
    def count(self) -> int:
        """Number of forcing fields."""
        return len(self.names)

    @property
    def nbytes(self) -> int:
        """Size of the stored forcings [bytes]."""
        return 0 if self.store is None else int(Fields(self.store.dataset).array.nbytes)

    def open(self, fit: slice, cache_bytes: int) -> StoredForcings | None:
        """Return the stored forcings, normalised by the statistics of a period.

        Args:
            fit: positions of the training and validation period.
            cache_bytes: up to this size [B] they are kept in memory.

        Raises:
            DataError: one of them has intermittently missing values, or always the same value.
        """
        if self.store is None:
            return None
        fields = Fields(self.store.dataset, cache_bytes)
        scales = ForcingScales.of(self.channels, store_statistics(self.store, fields, fit))
        return StoredForcings(fields, scales, str(self.store.path))


def split_variables(store: Store, data: DataConfig) -> tuple[Store, ForcingPlan]:
    """Return the store of the variables to forecast, and the forcings.

    Args:
        store: open store.
        data: section ``data`` of the configuration.

    Raises:
        ValueError: a name is neither a variable of the store nor a forcing, is one of both, or occurs twice.
    """
    names = data.forcings
    variables = [str(name) for name in store.dataset.data_vars]
    standard = forcing_names(store.grid)
    stored = [name for name in names if name in variables]
    computed = [name for name in names if name not in variables]
    for name in names:
        if names.count(name) > 1 or name in standard:
            raise ValueError(f"data.forcings: {name!r} is a forcing already; name each once")
        if name in (data.variables or ()):
            raise ValueError(f"data.forcings: {name!r} is among data.variables; it cannot be both")
    for name in computed:
        if name in BUILTIN or not FORCINGS.offers(name):
            raise ValueError(
                f"data.forcings: {name!r} is neither a variable of {store.path} nor a forcing; "
                f"{suggest(name, [*variables, *(n for n in FORCINGS if n not in BUILTIN)])}"
            )
        FORCINGS.find(name)
        # Errors are raised before anything is read.
        compute_forcings(store.dataset["time"].values[:1], store.grid, store.step, names=[name])
    forecast = data.variables
    if forecast is None and stored:
        forecast = [name for name in variables if name not in stored]
        if not forecast:
            raise ValueError("data.forcings names all variables of the store; leave one to forecast")
    plan = ForcingPlan((*standard, *computed), select_variables(store, stored) if stored else None)
    return select_variables(store, forecast), plan


def with_attributes(attrs: dict[str, dict[str, Any]], plan: ForcingPlan) -> dict[str, dict[str, Any]]:
    """Return the attributes of the variables of a checkpoint, with those of the stored forcings."""
    if plan.store is None:
        return attrs
    added = {
        str(name): {k: v if isinstance(v, float) else str(v) for k, v in variable.attrs.items()}
        for name, variable in plan.store.dataset.data_vars.items()
    }
    return attrs | added
