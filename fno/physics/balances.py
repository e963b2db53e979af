"""Balances of the atmosphere for states with variables and levels as channels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from . import atmosphere as air
from .sphere import Sphere

# Alternative variables, with the factor that converts them. Mean sea level pressure replaces the pressure at
# the surface where that is not available.
_ALTERNATIVES: dict[str, tuple[tuple[str, float], ...]] = {
    "geopotential": (("geopotential", 1.0), ("geopotential_height", air.GRAVITY), ("gh", air.GRAVITY)),
    "surface": (("surface_pressure", 1.0), ("sp", 1.0), ("mean_sea_level_pressure", 1.0), ("msl", 1.0)),
}


@dataclass(frozen=True)
class _Balance:
    """One balance.

    Attributes:
        units: units of the residual.
        variables: required variables on levels; ``surface`` is the surface pressure or an alternative.
        on_sphere: whether it needs a global grid.
        residual: function of the fields, the pressures [Pa] and the sphere that returns the residual, one
            tensor for all its components.
        optional: variables that are used on the levels where they are available, and zero on the others.
    """

    units: str
    variables: tuple[str, ...]
    on_sphere: bool
    residual: Callable[[Mapping[str, Tensor], Tensor, Sphere], Tensor]
    optional: tuple[str, ...] = ()


def _hydrostatic(f: Mapping[str, Tensor], p: Tensor, _: Sphere) -> Tensor:
    return air.hydrostatic(f["geopotential"], f["temperature"], p, humidity=f.get("specific_humidity"))


def _thermal_wind(f: Mapping[str, Tensor], p: Tensor, sphere: Sphere) -> Tensor:
    temperature = air.virtual_temperature(f["temperature"], f.get("specific_humidity"))
    u, v = (f[name] for name in _WIND)
    return torch.stack(air.thermal_wind(u, v, temperature, pressure=p, sphere=sphere), dim=-4)


def _continuity(f: Mapping[str, Tensor], p: Tensor, sphere: Sphere) -> Tensor:
    u, v = (f[name] for name in _WIND)
    return air.continuity(u, v, f["vertical_velocity"], pressure=p, sphere=sphere)


def _dry_mass(f: Mapping[str, Tensor], p: Tensor, sphere: Sphere) -> Tensor:
    return air.dry_mass(f["surface"], f["specific_humidity"], pressure=p, sphere=sphere)


def _energy(f: Mapping[str, Tensor], p: Tensor, sphere: Sphere) -> Tensor:
    u, v = (f[name] for name in _WIND)
    return air.energy(
        f["temperature"],
        u,
        v,
        humidity=f["specific_humidity"],
        surface_pressure=f["surface"],
        pressure=p,
        sphere=sphere,
    )


_WIND = ("u_component_of_wind", "v_component_of_wind")
_HUMIDITY = ("specific_humidity",)
_BALANCES: dict[str, _Balance] = {
    "hydrostatic": _Balance("m", ("geopotential", "temperature"), False, _hydrostatic, _HUMIDITY),
    "thermal_wind": _Balance("m s**-1", ("temperature", *_WIND), True, _thermal_wind, _HUMIDITY),
    "continuity": _Balance("s**-1", (*_WIND, "vertical_velocity"), True, _continuity),
    "dry_mass": _Balance("Pa", ("specific_humidity", "surface"), True, _dry_mass),
    "energy": _Balance("J m**-2", ("temperature", *_WIND, "specific_humidity", "surface"), True, _energy),
}
BALANCES = tuple(_BALANCES)


class Balances:
    """Residuals of some balances of a state.

    A balance is computed on the levels common to all variables that it requires. Moisture enters the
    hydrostatic and the thermal wind balance through the virtual temperature and is not required: air is taken
    as dry on a level without specific humidity, as it is everywhere where the data have none.

    Args:
        names: balances to compute, of ``BALANCES``.
        channels: variable and level [hPa] of each channel of a state; the level is None for a variable
            without levels.
        sphere: the grid, if it is global.
        southward: whether the rows of a state run from north to south.

    Raises:
        InputError: a balance is unknown, or cannot be computed from these channels on this grid.
    """

    def __init__(
        self,
        names: Sequence[str],
        channels: Sequence[tuple[str, int | None]],
        sphere: Sphere | None,
        *,
        southward: bool = True,
    ) -> None:
        self.names = tuple(names)
        self.sphere = sphere
        self.southward = southward
        available: dict[str, dict[int | None, int]] = {}
        for index, (variable, level) in enumerate(channels):
            available.setdefault(variable, {})[level] = index
        self.channels: dict[str, dict[str, tuple[list[int | None], float]]] = {}
        self.pressure: dict[str, Tensor] = {}
        for name in names:
            self.channels[name], self.pressure[name] = _select(name, available, sphere)

    @property
    def units(self) -> dict[str, str]:
        """Units of the residual of each balance."""
        return {name: _BALANCES[name].units for name in self.names}

    def residuals(self, state: Tensor) -> dict[str, Tensor]:
        """Return the residual of each balance, in its units.

        Args:
            state: in physical units, shape (batch, channel, latitude, longitude).
        """
        state = state if self.southward else state.flip(-2)
        residuals = {}
        for name in self.names:
            fields = {
                variable: factor
                * (_levels(state, indices) if variable != "surface" else state[:, indices[0]])
                for variable, (indices, factor) in self.channels[name].items()
            }
            sphere = self.sphere or Sphere(*state.shape[-2:])
            residuals[name] = _BALANCES[name].residual(fields, self.pressure[name].to(state), sphere)
        return residuals


def _levels(state: Tensor, indices: list[int | None]) -> Tensor:
    """Return the channels of a variable on levels, zero on a level without a channel."""
    if None not in indices:
        return state[:, indices]
    zero = torch.zeros_like(state[:, 0])
    return torch.stack([zero if i is None else state[:, i] for i in indices], dim=1)


def _select(
    name: str, available: Mapping[str, Mapping[int | None, int]], sphere: Sphere | None
) -> tuple[dict[str, tuple[list[int | None], float]], Tensor]:
    """Return channel indices and conversion factor of each variable of a balance, and its levels [Pa].

    The index is None on a level that an optional variable lacks.

    Raises:
        InputError: the balance is unknown, or variables, levels or a global grid are missing.
    """
    if name not in _BALANCES:
        raise InputError(f"there is no balance {name!r}; there are {', '.join(BALANCES)}")
    balance = _BALANCES[name]
    sources: dict[str, tuple[str, float]] = {}
    missing = []
    for variable in balance.variables:
        alternatives = _ALTERNATIVES.get(variable, ((variable, 1.0),))
        present = [a for a in alternatives if a[0] in available]
        if variable == "surface":
            present = [a for a in present if None in available[a[0]]]
        if present:
            sources[variable] = present[0]
        else:
            missing.append(alternatives[0][0])
    if missing:
        raise InputError(
            f"the balance {name} needs {', '.join(missing)}, which the data lack; "
            f"they have {', '.join(available)}"
        )
    if balance.on_sphere and sphere is None:
        raise InputError(f"the balance {name} needs a grid of the whole sphere")
    on_levels = {variable: available[source] for variable, (source, _) in sources.items()}
    on_levels.pop("surface", None)
    common = set.intersection(*(set(levels) for levels in on_levels.values())) - {None}
    levels = sorted((level for level in common if level is not None), reverse=True)
    if len(levels) < 2:
        raise InputError(f"the balance {name} needs at least two levels common to {', '.join(on_levels)}")
    for variable in balance.optional:
        if not available.get(variable, {}).keys().isdisjoint(levels):
            sources[variable] = (variable, 1.0)
    indices = {
        variable: (
            [available[source].get(level) for level in (levels if variable != "surface" else [None])],
            factor,
        )
        for variable, (source, factor) in sources.items()
    }
    return indices, torch.tensor([100.0 * level for level in levels])
