"""Heat sinks and shock pipes: analytical solutions, heat budget, convergence and distribution of samples."""

import numpy as np
import pytest

from fourcaster.datasets.pde.heat_sink import HeatSink, steady_temperature
from fourcaster.datasets.pde.line import Burgers
from fourcaster.datasets.pde.shock_pipe import ShockPipe
from fourcaster.datasets.pde.simulate import make_system

K, H, Q = 200.0, 300.0, 2e4


def test_a_plate_without_fins_agrees_with_the_analytical_solution():
    metal = np.zeros((32, 32), dtype=bool)
    metal[:12] = True
    dx = 0.04 / 32
    t = steady_temperature(metal, dx, conductivity=K, transfer=H, flux=Q)
    depth = dx * (12 - 0.5 - np.arange(12))
    assert np.allclose(t[:12], (Q / H + Q * depth / K)[:, None]) and np.isnan(t[12:]).all()


def test_heat_flux_to_the_air_balances_the_heat_input():
    metal = HeatSink().draw(np.random.default_rng(1))
    dx = 0.04 / 32
    t = np.pad(
        steady_temperature(metal, dx, conductivity=K, transfer=H, flux=Q),
        ((0, 1), (0, 0)),
        constant_values=np.nan,
    )
    transfer = 1 / (1 / H + dx / (2 * K)) * dx
    total = 0.0
    for a, b in ((t[:-1], t[1:]), (t[:, :-1], t[:, 1:])):
        for inside, outside in ((a, b), (b, a)):
            total += transfer * inside[np.isfinite(inside) & np.isnan(outside)].sum()
    assert total == pytest.approx(Q * 0.04, rel=1e-10)


def test_a_thin_fin_agrees_with_the_analytical_solution():
    """cosh(m (L - y)) with m^2 = 2 h / (k w), far from the plate and with the heat loss of the tip."""
    n, width, length, k = 256, 8, 200, 20.0
    metal = np.zeros((n, n), dtype=bool)
    metal[:10] = True
    metal[:210, 124 : 124 + width] = True
    dx = 0.04 / n
    t = steady_temperature(metal, dx, conductivity=k, transfer=50.0, flux=Q)[:, 124 : 124 + width].mean(
        axis=1
    )
    m = np.sqrt(2 * 50.0 / (k * width * dx))
    y = dx * (np.arange(n) + 0.5)
    fin, tip = slice(60, 210), 210 * dx
    shape = np.cosh(m * (tip - y)) + 50.0 / (m * k) * np.sinh(m * (tip - y))
    assert length * dx > 0.03 and np.allclose(t[fin] / t[60], shape[fin] / shape[60], rtol=5e-3)


def test_the_solver_converges_and_commutes_with_mirroring():
    metal = HeatSink().draw(np.random.default_rng(2))
    means = []
    for refine in (1, 2, 4, 8):
        fine = np.kron(metal, np.ones((refine, refine), dtype=bool))
        means.append(
            np.nanmean(steady_temperature(fine, 0.04 / len(fine), conductivity=K, transfer=H, flux=Q))
        )
    changes = np.abs(np.diff(means))
    assert changes[1] < 0.6 * changes[0] and changes[2] < 0.6 * changes[1] and changes[2] < 1e-3 * means[-1]
    t, mirrored = (
        steady_temperature(m, 0.04 / 32, conductivity=K, transfer=H, flux=Q) for m in (metal, metal[:, ::-1])
    )
    assert np.allclose(t, mirrored[:, ::-1], equal_nan=True)


def test_sampled_shapes_are_the_same_on_finer_grids():
    coarse, fine = HeatSink(refine=2), HeatSink(resolution=64, refine=1)
    for seed in range(5):
        a, b = (s.solve(np.random.default_rng(seed)) for s in (coarse, fine))
        assert np.array_equal(np.kron(a["metal"], np.ones((2, 2))), b["metal"])
        assert a["transfer"] == b["transfer"]
        assert 50 <= a["transfer"] <= 500 and a["metal"][:2].all()
        assert np.allclose(
            a["temperature"], b["temperature"].reshape(32, 2, 32, 2).mean(axis=(1, 3)), equal_nan=True
        )
        metal = a["metal"] == 1
        assert np.array_equal(np.isfinite(a["temperature"]), metal)
        assert (a["temperature"][metal] > 0).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"resolution": 40}, "multiple of 32"),
        ({"fewest_fins": 7}, "fewest_fins"),
        ({"transfer_high": 1.0}, "transfer_high"),
    ],
)
def test_inconsistent_heat_sinks_raise_an_error(parameters, message):
    with pytest.raises(ValueError, match=message):
        make_system("heat_sink", parameters)


def test_a_shock_pipe_is_burgers_equation_with_the_stored_viscosity():
    pipe = ShockPipe(resolution=64, frames=5)
    sample = pipe.solve(np.random.default_rng(3))
    viscosity = float(sample["viscosity"])
    assert 0.004 <= viscosity <= 0.04
    burgers = Burgers(resolution=64, frames=5, viscosity=viscosity, alpha=3.0, sigma=200.0)
    rng = np.random.default_rng(3)
    rng.uniform()
    assert np.array_equal(sample["u"], burgers.solve(rng)["u"])
    inputs = pipe.sample_inputs(np.random.default_rng(3))
    assert inputs["viscosity"] == sample["viscosity"]
    assert not np.array_equal(sample["u"], pipe.solve(np.random.default_rng(4))["u"])
    with pytest.raises(ValueError, match="viscosity_high"):
        make_system("shock_pipe", {"viscosity_high": 0.001})
