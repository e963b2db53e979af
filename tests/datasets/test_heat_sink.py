"""Heat sinks and pipes: closed solutions, budgets, convergence, and what is drawn."""

import numpy as np
import pytest

from fourcaster.datasets.pde.heat_sink import HeatSink, steady_temperature
from fourcaster.datasets.pde.line import Burgers
from fourcaster.datasets.pde.shock_pipe import ShockPipe
from fourcaster.datasets.pde.simulate import make_system

K, H, Q = 200.0, 300.0, 2e4


def test_a_plate_without_fins_has_a_closed_solution():
    metal = np.zeros((32, 32), dtype=bool)
    metal[:12] = True
    dx = 0.04 / 32
    t = steady_temperature(metal, dx, K, H, Q)
    depth = dx * (12 - 0.5 - np.arange(12))
    assert np.allclose(t[:12], (Q / H + Q * depth / K)[:, None]) and np.isnan(t[12:]).all()


def test_what_comes_in_goes_out():
    metal = HeatSink().draw(np.random.default_rng(1))
    dx = 0.04 / 32
    t = np.pad(steady_temperature(metal, dx, K, H, Q), ((0, 1), (0, 0)), constant_values=np.nan)
    out = 1 / (1 / H + dx / (2 * K)) * dx
    total = 0.0
    for a, b in ((t[:-1], t[1:]), (t[:, :-1], t[:, 1:])):
        for inside, outside in ((a, b), (b, a)):
            total += out * inside[np.isfinite(inside) & np.isnan(outside)].sum()
    assert total == pytest.approx(Q * 0.04, rel=1e-10)


def test_a_thin_fin_cools_like_the_closed_fin():
    """cosh(m (L - y)) with m^2 = 2 h / (k w), far from the plate and with the tip's own loss."""
    n, width, length, k = 256, 8, 200, 20.0
    metal = np.zeros((n, n), dtype=bool)
    metal[:10] = True
    metal[:210, 124 : 124 + width] = True
    dx = 0.04 / n
    t = steady_temperature(metal, dx, k, 50.0, Q)[:, 124 : 124 + width].mean(axis=1)
    m = np.sqrt(2 * 50.0 / (k * width * dx))
    y = dx * (np.arange(n) + 0.5)
    fin, tip = slice(60, 210), 210 * dx
    shape = np.cosh(m * (tip - y)) + 50.0 / (m * k) * np.sinh(m * (tip - y))
    assert length * dx > 0.03 and np.allclose(t[fin] / t[60], shape[fin] / shape[60], rtol=5e-3)


def test_finer_grids_converge_and_mirror_images_agree():
    metal = HeatSink().draw(np.random.default_rng(2))
    means = []
    for refine in (1, 2, 4, 8):
        fine = np.kron(metal, np.ones((refine, refine), dtype=bool))
        means.append(np.nanmean(steady_temperature(fine, 0.04 / len(fine), K, H, Q)))
    changes = np.abs(np.diff(means))
    assert changes[1] < 0.6 * changes[0] and changes[2] < 0.6 * changes[1] and changes[2] < 1e-3 * means[-1]
    t, mirrored = (steady_temperature(m, 0.04 / 32, K, H, Q) for m in (metal, metal[:, ::-1]))
    assert np.allclose(t, mirrored[:, ::-1], equal_nan=True)


def test_drawn_shapes_are_whole_and_the_same_on_finer_grids():
    coarse, fine = HeatSink(refine=2), HeatSink(resolution=64, refine=1)
    for seed in range(5):
        a, b = (s.solve(np.random.default_rng(seed)) for s in (coarse, fine))
        assert (
            np.array_equal(np.kron(a["metal"], np.ones((2, 2))), b["metal"])
            and a["transfer"] == b["transfer"]
        )
        assert 50 <= a["transfer"] <= 500 and a["metal"][:2].all()
        assert np.allclose(
            a["temperature"], b["temperature"].reshape(32, 2, 32, 2).mean(axis=(1, 3)), equal_nan=True
        )
        assert (
            np.array_equal(np.isfinite(a["temperature"]), a["metal"] == 1)
            and (a["temperature"][a["metal"] == 1] > 0).all()
        )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"resolution": 40}, "multiple of 32"),
        ({"fewest_fins": 7}, "fewest_fins"),
        ({"transfer_high": 1.0}, "transfer_high"),
    ],
)
def test_heat_sinks_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        make_system("heat_sink", wrong)


def test_a_pipe_is_burgers_with_the_viscosity_it_says():
    pipe = ShockPipe(resolution=64, frames=5)
    made = pipe.solve(np.random.default_rng(3))
    viscosity = float(made["viscosity"])
    assert 0.004 <= viscosity <= 0.04
    same = Burgers(resolution=64, frames=5, viscosity=viscosity, alpha=3.0, sigma=200.0)
    rng = np.random.default_rng(3)
    rng.uniform()
    assert np.array_equal(made["u"], same.solve(rng)["u"])
    given = pipe.instance(np.random.default_rng(3))
    assert given["viscosity"] == made["viscosity"]
    assert not np.array_equal(made["u"], pipe.solve(np.random.default_rng(4))["u"])
    with pytest.raises(ValueError, match="viscosity_high"):
        make_system("shock_pipe", {"viscosity_high": 0.001})
