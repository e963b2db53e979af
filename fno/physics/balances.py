"""Balances of the atmosphere for states given as channels: which can be asked of them, and what is left of
each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from . import atmosphere as air

# Other names of what a balance needs, and what to multiply by; the pressure at sea level stands for that at
# the ground.
_NAMES: dict[str, tuple[tuple[str, float], ...]] = {
    "geopotential": (("geopotential", 1.0), ("geopotential_height", air.GRAVITY), ("gh", air.GRAVITY)),
    "ground": (("surface_pressure", 1.0), ("sp", 1.0), ("mean_sea_level_pressure", 1.0), ("msl", 1.0)),
}


@dataclass(frozen=True)
class _Balance:
    """One balance.

    Attributes:
        units: of what is left.
        needs: variables on levels; ``ground`` is the pressure at the ground, or at sea level in its stead.
        on_sphere: whether it needs a grid of the whole sphere.
        left: from the fields, the pressures [Pa] and the sphere to what is left, one tensor for all its
            components.
    """

    units: str
    needs: tuple[str, ...]
    on_sphere: bool
    left: Callable[[Mapping[str, Tensor], Tensor, air.Sphere], Tensor]


def _hydrostatic(f: Mapping[str, Tensor], p: Tensor, _: air.Sphere) -> Tensor:
    return air.hydrostatic(f["geopotential"], f["temperature"], p, f.get("specific_humidity"))


def _thermal_wind(f: Mapping[str, Tensor], p: Tensor, sphere: air.Sphere) -> Tensor:
    warm = air.virtual_temperature(f["temperature"], f.get("specific_humidity"))
    return torch.stack(
        air.thermal_wind(f["u_component_of_wind"], f["v_component_of_wind"], warm, p, sphere), dim=-4
    )


def _continuity(f: Mapping[str, Tensor], p: Tensor, sphere: air.Sphere) -> Tensor:
    return air.continuity(
        f["u_component_of_wind"], f["v_component_of_wind"], f["vertical_velocity"], p, sphere
    )


def _dry_mass(f: Mapping[str, Tensor], p: Tensor, sphere: air.Sphere) -> Tensor:
    return air.dry_mass(f["ground"], f["specific_humidity"], p, sphere)


def _energy(f: Mapping[str, Tensor], p: Tensor, sphere: air.Sphere) -> Tensor:
    wind = f["u_component_of_wind"], f["v_component_of_wind"]
    return air.energy(f["temperature"], *wind, f["specific_humidity"], f["ground"], p, sphere)


_WIND = ("u_component_of_wind", "v_component_of_wind")
_BALANCES: dict[str, _Balance] = {
    "hydrostatic": _Balance("m", ("geopotential", "temperature"), False, _hydrostatic),
    "thermal_wind": _Balance("m s**-1", ("temperature", *_WIND), True, _thermal_wind),
    "continuity": _Balance("s**-1", (*_WIND, "vertical_velocity"), True, _continuity),
    "dry_mass": _Balance("Pa", ("specific_humidity", "ground"), True, _dry_mass),
    "energy": _Balance("J m**-2", ("temperature", *_WIND, "specific_humidity", "ground"), True, _energy),
}
BALANCES = tuple(_BALANCES)


class Balances:
    """What is left of some balances in a state.

    Args:
        names: which, of ``BALANCES``.
        channels: variable and level [hPa] (None for one without) of each channel of a state.
        sphere: grid, where it covers the whole sphere.
        southward: whether the rows of a state run from north to south.

    Raises:
        InputError: no such balance, or the channels or the grid do not let it be computed.
    """

    def __init__(
        self,
        names: Sequence[str],
        channels: Sequence[tuple[str, int | None]],
        sphere: air.Sphere | None,
        southward: bool = True,
    ) -> None:
        self.names, self.sphere, self.southward = tuple(names), sphere, southward
        held: dict[str, dict[int | None, int]] = {}
        for at, (variable, level) in enumerate(channels):
            held.setdefault(variable, {})[level] = at
        self.where: dict[str, dict[str, tuple[list[int], float]]] = {}
        self.pressure: dict[str, Tensor] = {}
        for name in names:
            if name not in _BALANCES:
                raise InputError(f"there is no balance {name!r}; there are {', '.join(BALANCES)}")
            balance = _BALANCES[name]
            wanted = [
                *balance.needs,
                *(
                    ["specific_humidity"]
                    if name in ("hydrostatic", "thermal_wind") and "specific_humidity" in held
                    else []
                ),
            ]
            found = {
                n: next(((other, f) for other, f in _NAMES.get(n, ((n, 1.0),)) if other in held), None)
                for n in dict.fromkeys(wanted)
            }
            if missing := [_NAMES.get(n, ((n, 1.0),))[0][0] for n, at in found.items() if at is None]:
                raise InputError(
                    f"the balance {name} needs {', '.join(missing)}, which the data lack; they have {', '.join(held)}"
                )
            if balance.on_sphere and sphere is None:
                raise InputError(f"the balance {name} needs a grid of the whole sphere")
            shared = set.intersection(
                *(set(held[at[0]]) for n, at in found.items() if at and n != "ground")
            ) - {None}
            levels = sorted((level for level in shared if level is not None), reverse=True)
            if len(levels) < 2:
                raise InputError(
                    f"the balance {name} needs at least two levels that {', '.join(n for n in found if n != 'ground')} share"
                )
            places = {n: [None] if n == "ground" else levels for n in found}
            self.where[name] = {
                n: ([held[at[0]][level] for level in places[n]], at[1]) for n, at in found.items() if at
            }
            self.pressure[name] = torch.tensor([100.0 * level for level in levels])

    @property
    def units(self) -> dict[str, str]:
        """Units of what is left of each."""
        return {name: _BALANCES[name].units for name in self.names}

    def left(self, state: Tensor) -> dict[str, Tensor]:
        """Return what is left of each balance, in its units.

        Args:
            state: in physical units, shape (batch, channel, latitude, longitude).
        """
        state = state if self.southward else state.flip(-2)
        found = {}
        for name in self.names:
            fields = {
                n: factor * (state[:, at] if n != "ground" else state[:, at[0]])
                for n, (at, factor) in self.where[name].items()
            }
            sphere = self.sphere or air.Sphere(*state.shape[-2:])
            found[name] = _BALANCES[name].left(fields, self.pressure[name].to(state), sphere)
        return found
