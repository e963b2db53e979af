"""Balances in the loss of forecast models."""

import pytest
import torch

from fourcaster.fno.batch import Batch
from fourcaster.fno.errors import InputError
from fourcaster.fno.models.stepper import Scales, Stepper
from fourcaster.fno.physics import atmosphere as air
from fourcaster.fno.physics.balances import BALANCES, Balances
from fourcaster.fno.training.objectives.forecast import BalanceTerms, ForecastObjective

NAMES = (
    "geopotential",
    "temperature",
    "u_component_of_wind",
    "v_component_of_wind",
    "specific_humidity",
    "vertical_velocity",
)
CHANNELS = [(name, level) for name in NAMES for level in (500, 850)] + [("surface_pressure", None)]
SPHERE = air.Sphere(19, 36, "equiangular", 10)
SIZES = {
    "geopotential": 3e4,
    "temperature": 270.0,
    "specific_humidity": 5e-3,
    "vertical_velocity": 0.1,
    "surface_pressure": 1e5,
}


def states(count: int = 2, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(count, len(CHANNELS), 19, 36, generator=torch.Generator().manual_seed(seed))
    size = torch.tensor([SIZES.get(name, 10.0) for name, _ in CHANNELS])[:, None, None]
    return size * (1 + 0.01 * noise)


def test_balances_are_those_of_the_fields_whatever_the_order():
    state = states()
    left = Balances(BALANCES, CHANNELS, SPHERE).left(state)
    assert set(left) == set(BALANCES)
    pressure = torch.tensor([85000.0, 50000.0])
    phi, t, u, v, q, w = (state[:, [2 * i + 1, 2 * i]] for i in range(6))
    assert torch.equal(left["hydrostatic"], air.hydrostatic(phi, t, pressure, q))
    warm = air.virtual_temperature(t, q)
    assert torch.equal(
        left["thermal_wind"], torch.stack(air.thermal_wind(u, v, warm, pressure, SPHERE), dim=-4)
    )
    assert torch.equal(left["continuity"], air.continuity(u, v, w, pressure, SPHERE))
    assert torch.equal(left["dry_mass"], air.dry_mass(state[:, -1], q, pressure, SPHERE))
    assert torch.equal(left["energy"], air.energy(t, u, v, q, state[:, -1], pressure, SPHERE))
    upside_down = Balances(BALANCES, CHANNELS, SPHERE, southward=False).left(state.flip(-2))
    order = torch.randperm(len(CHANNELS), generator=torch.Generator().manual_seed(3)).tolist()
    shuffled = Balances(BALANCES, [CHANNELS[i] for i in order], SPHERE).left(state[:, order])
    assert all(torch.equal(left[n], upside_down[n]) and torch.equal(left[n], shuffled[n]) for n in BALANCES)


def test_heights_in_metres_and_pressure_at_sea_level_will_do():
    other = [({"geopotential": "gh", "surface_pressure": "msl"}.get(n, n), level) for n, level in CHANNELS]
    state = states()
    metres = state.clone()
    metres[:, :2] /= air.GRAVITY
    a, b = (
        Balances(("hydrostatic", "dry_mass"), CHANNELS, SPHERE).left(state),
        Balances(("hydrostatic", "dry_mass"), other, SPHERE).left(metres),
    )
    assert torch.allclose(a["hydrostatic"], b["hydrostatic"], atol=1e-2) and torch.equal(
        a["dry_mass"], b["dry_mass"]
    )


@pytest.mark.parametrize(
    ("names", "channels", "sphere", "said"),
    [
        (["vorticity"], CHANNELS, SPHERE, "no balance 'vorticity'"),
        (["hydrostatic"], CHANNELS[2:], SPHERE, "needs geopotential, which the data lack"),
        (["energy"], CHANNELS[:-1], SPHERE, "needs surface_pressure"),
        (["thermal_wind"], CHANNELS, None, "grid of the whole sphere"),
        (
            ["hydrostatic"],
            [("geopotential", 500), ("temperature", 850), ("temperature", 500)],
            None,
            "at least two levels",
        ),
    ],
)
def test_a_balance_that_cannot_be_computed_is_refused(names, channels, sphere, said):
    with pytest.raises(InputError, match=said):
        Balances(names, channels, sphere)


class Truth(torch.nn.Module):
    """A network that says a fixed tendency."""

    def __init__(self, tendency: torch.Tensor) -> None:
        super().__init__()
        self.tendency = torch.nn.Parameter(tendency)

    def forward(self, x):
        return self.tendency.expand(len(x), -1, -1, -1)


def test_a_right_forecast_has_no_imbalance_and_weights_rise():
    now, then = states(1, 1), states(1, 2)
    std = torch.tensor([SIZES.get(name, 10.0) for name, _ in CHANNELS])
    scales = Scales(torch.zeros(len(std)), std, std, std)
    zero, step = torch.zeros(len(CHANNELS), 19, 36), (then - now)[0] / std[:, None, None]
    batch = Batch(torch.stack([now, then], 1), torch.zeros(1, 2, *zero.shape), torch.zeros(1, 2, 0, 19, 36))
    terms = BalanceTerms(
        Balances(("hydrostatic", "dry_mass"), CHANNELS, SPHERE),
        {"hydrostatic": 1.0, "dry_mass": 2.0},
        warmup=0.5,
    )
    losses = {}
    for name, tendency in (("right", step), ("persistent", zero)):
        stepper = Stepper(Truth(tendency), scales, torch.zeros(0, 19, 36), zero == 0, window=1)
        objective = ForecastObjective(stepper, torch.ones_like(zero), physics=terms)
        losses[name] = [objective.loss(batch, share, torch.Generator()) for share in (0.0, 0.25, 0.5, 1.0)]
    right, persistent = losses["right"][-1], losses["persistent"]
    assert (
        right.terms["hydrostatic"].item() < 0.02
        and right.terms["dry_mass"].item() < 0.1
        and right.value.item() < 1e-5
    )
    data = persistent[0].value.item()
    # Persistence is off by one change of the truth in each balance, by definition of the scale.
    extra = [loss.value.item() - data for loss in persistent]
    assert extra == pytest.approx([0, 1.5, 3.0, 3.0], rel=1e-4)
    assert persistent[0].terms["data"].item() == pytest.approx(data)
