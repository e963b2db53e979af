"""Balances of the atmosphere, and their terms in the loss of forecast models."""

from collections.abc import Sequence

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
LEVELS = (1000, 850, 500, 300)
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


def columns(humid: Sequence[int], levels: Sequence[int] = LEVELS):
    """Return channels on levels with humidity on some of them, a state, and its fields by variable."""
    variables = ("geopotential", "temperature", "u_component_of_wind", "v_component_of_wind")
    channels = [(name, level) for name in variables for level in levels]
    channels += [("specific_humidity", level) for level in humid]
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(2, len(channels), 19, 36, generator=generator, dtype=torch.float64)
    size = torch.tensor([SIZES.get(name, 10.0) for name, _ in channels], dtype=torch.float64)
    state = size[:, None, None] * (1 + 0.01 * noise)
    n = len(levels)
    fields = {name: state[:, i * n : (i + 1) * n] for i, name in enumerate(variables)}
    humidity = torch.zeros_like(fields["temperature"])
    for i, level in enumerate(humid):
        if level in levels:
            humidity[:, levels.index(level)] = state[:, len(variables) * n + i]
    return channels, state, fields | {"specific_humidity": humidity}


@pytest.mark.parametrize("humid", [(), (850,), (1000, 850), (300, 1000), (700,), (1000, 850, 500, 300)])
def test_air_is_dry_on_a_level_without_humidity_and_the_level_remains(humid):
    channels, state, f = columns(humid)
    pressure = 100 * torch.tensor([1000.0, 850.0, 500.0, 300.0], dtype=torch.float64)
    balances = Balances(("hydrostatic", "thermal_wind"), channels, SPHERE)
    residuals = balances.residuals(state)
    phi, t, u, v, q = f.values()
    assert residuals["hydrostatic"].shape == (2, 3, 19, 36)
    assert torch.equal(residuals["hydrostatic"], air.hydrostatic(phi, t, pressure, humidity=q))
    virtual = air.virtual_temperature(t, q)
    wind = air.thermal_wind(u, v, virtual, pressure=pressure, sphere=SPHERE)
    assert torch.equal(residuals["thermal_wind"], torch.stack(wind, dim=-4))
    dry = air.hydrostatic(phi, t, pressure)
    layers = [i for i, pair in enumerate(zip(LEVELS, LEVELS[1:], strict=False)) if set(pair) & set(humid)]
    differs = (residuals["hydrostatic"] - dry).abs().amax(dim=(0, 2, 3)) > 1e-3
    assert differs.nonzero().flatten().tolist() == layers


def test_gradients_of_a_balance_with_humidity_on_some_levels_are_finite():
    channels, state, _ = columns((850,))
    balances = Balances(("hydrostatic", "thermal_wind"), channels, SPHERE)
    state.requires_grad_()
    sum(r.square().mean() for r in balances.residuals(state).values()).backward()
    assert torch.isfinite(state.grad).all()
    assert state.grad[:, -1].any()


def test_a_level_without_required_humidity_is_left_out_and_the_surface_has_no_level():
    channels, state, f = columns((1000, 850))
    surface = torch.full((2, 1, 19, 36), 1e5, dtype=torch.float64)
    both = torch.cat([state, surface], dim=1)
    pressure = torch.tensor([1e5, 85e3], dtype=torch.float64)
    residuals = Balances(("dry_mass",), [*channels, ("surface_pressure", None)], SPHERE).residuals(both)
    humidity = f["specific_humidity"][:, :2]
    expected = air.dry_mass(surface[:, 0], humidity, pressure=pressure, sphere=SPHERE)
    assert torch.equal(residuals["dry_mass"], expected)
    with pytest.raises(InputError, match="needs surface_pressure"):
        Balances(("dry_mass",), [*channels, ("surface_pressure", 850)], SPHERE)


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
