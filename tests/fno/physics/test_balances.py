"""Balances of the atmosphere, and their terms in the loss of forecast models."""

import pytest
import torch

from fourcaster.fno.batch import Batch
from fourcaster.fno.errors import InputError
from fourcaster.fno.models.stepper import Scales, Stepper
from fourcaster.fno.physics import atmosphere as air
from fourcaster.fno.physics.balances import BALANCES, Balances
from fourcaster.fno.physics.sphere import Sphere
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
SPHERE = Sphere(19, 36, "equiangular", 10)
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


def test_balances_do_not_depend_on_the_order_of_channels_and_rows():
    state = states()
    residuals = Balances(BALANCES, CHANNELS, SPHERE).residuals(state)
    assert set(residuals) == set(BALANCES)
    pressure = torch.tensor([85000.0, 50000.0])
    phi, t, u, v, q, w = (state[:, [2 * i + 1, 2 * i]] for i in range(6))
    grid = {"pressure": pressure, "sphere": SPHERE}
    thermal_wind = air.thermal_wind(u, v, air.virtual_temperature(t, q), **grid)
    expected = {
        "hydrostatic": air.hydrostatic(phi, t, pressure, humidity=q),
        "thermal_wind": torch.stack(thermal_wind, dim=-4),
        "continuity": air.continuity(u, v, w, **grid),
        "dry_mass": air.dry_mass(state[:, -1], q, **grid),
        "energy": air.energy(t, u, v, humidity=q, surface_pressure=state[:, -1], **grid),
    }
    assert all(torch.equal(residuals[name], expected[name]) for name in BALANCES)
    upside_down = Balances(BALANCES, CHANNELS, SPHERE, southward=False).residuals(state.flip(-2))
    order = torch.randperm(len(CHANNELS), generator=torch.Generator().manual_seed(3)).tolist()
    shuffled = Balances(BALANCES, [CHANNELS[i] for i in order], SPHERE).residuals(state[:, order])
    for name in BALANCES:
        assert torch.equal(residuals[name], upside_down[name]), name
        assert torch.equal(residuals[name], shuffled[name]), name


def test_geopotential_height_and_sea_level_pressure_are_accepted_as_alternatives():
    other = [({"geopotential": "gh", "surface_pressure": "msl"}.get(n, n), level) for n, level in CHANNELS]
    state = states()
    metres = state.clone()
    metres[:, :2] /= air.GRAVITY
    a = Balances(("hydrostatic", "dry_mass"), CHANNELS, SPHERE).residuals(state)
    b = Balances(("hydrostatic", "dry_mass"), other, SPHERE).residuals(metres)
    assert torch.allclose(a["hydrostatic"], b["hydrostatic"], atol=1e-2)
    assert torch.equal(a["dry_mass"], b["dry_mass"])


@pytest.mark.parametrize(
    ("names", "channels", "sphere", "message"),
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
def test_a_balance_that_cannot_be_computed_raises_an_error(names, channels, sphere, message):
    with pytest.raises(InputError, match=message):
        Balances(names, channels, sphere)


class FixedTendency(torch.nn.Module):
    """A network that predicts the same tendency for every input."""

    def __init__(self, tendency: torch.Tensor) -> None:
        super().__init__()
        self.tendency = torch.nn.Parameter(tendency)

    def forward(self, x):
        return self.tendency.expand(len(x), -1, -1, -1)


def test_a_perfect_forecast_has_no_imbalance_and_the_weights_ramp_up():
    now, then = states(1, 1), states(1, 2)
    std = torch.tensor([SIZES.get(name, 10.0) for name, _ in CHANNELS])
    scales = Scales(torch.zeros(len(std)), std, std, std)
    zero = torch.zeros(len(CHANNELS), 19, 36)
    step = (then - now)[0] / std[:, None, None]
    batch = Batch(torch.stack([now, then], 1), torch.zeros(1, 2, *zero.shape), torch.zeros(1, 2, 0, 19, 36))
    terms = BalanceTerms(
        Balances(("hydrostatic", "dry_mass"), CHANNELS, SPHERE),
        {"hydrostatic": 1.0, "dry_mass": 2.0},
        warmup=0.5,
    )
    losses = {}
    for name, tendency in (("perfect", step), ("persistent", zero)):
        stepper = Stepper(FixedTendency(tendency), scales, torch.zeros(0, 19, 36), mask=zero == 0, window=1)
        objective = ForecastObjective(stepper, torch.ones_like(zero), physics=terms)
        losses[name] = [objective.loss(batch, share, torch.Generator()) for share in (0.0, 0.25, 0.5, 1.0)]
    perfect = losses["perfect"][-1]
    persistent = losses["persistent"]
    assert perfect.terms["hydrostatic"].item() < 0.02
    assert perfect.terms["dry_mass"].item() < 0.1
    assert perfect.value.item() < 1e-5
    data = persistent[0].value.item()
    # Persistence is off by one change of the truth in each balance, by definition of the scale.
    extra = [loss.value.item() - data for loss in persistent]
    assert extra == pytest.approx([0, 1.5, 3.0, 3.0], rel=1e-4)
    assert persistent[0].terms["data"].item() == pytest.approx(data)
