"""Data losses of forecasts: each equals its formula in float64, also for channels with a mask."""

import math

import numpy as np
import pytest
import torch

from fourcaster.fno.errors import SettingError
from fourcaster.fno.grids import Box, LatLon, sphere_nodes
from fourcaster.fno.losses.base import LossDomain
from fourcaster.fno.losses.data import area_weighted_mse
from fourcaster.fno.losses.ensemble import AlmostFairCRPS
from fourcaster.fno.losses.gradient import H1
from fourcaster.fno.losses.pointwise import Huber, MeanAbsoluteError, MeanSquareError, Quantile, RelativeL2
from fourcaster.fno.losses.registry import LOSSES
from fourcaster.fno.losses.spectral import PlaneSpectrum, Spectral, SphereSpectrum
from fourcaster.fno.transforms.sht import InverseRealSHT

REGION = LatLon(np.linspace(60, 30, 7), np.linspace(200, 255, 12))
GLOBE = LatLon(90 - np.rad2deg(sphere_nodes(16, "legendre-gauss")[0]), np.arange(0, 360, 11.25))
CYLINDER = Box(("y", "x"), (9, 8), (8.0, 16.0), (False, True))
GRIDS = [REGION, GLOBE, CYLINDER]


def make_domain(grid=REGION, masked=True, dtype=torch.float64):
    """Return a domain of two channels, of which the second has values on part of the points only."""
    weights = torch.from_numpy(grid.area_weights.copy()).to(dtype)[:, None].expand(2, *grid.shape).clone()
    if masked:
        weights[1, :, 3:7] = 0
        weights[1, 2] = 0
    return LossDomain(grid, weights, torch.tensor([2.0, 0.5], dtype=dtype))


def make_fields(domain, *shape, seed=0):
    torch.manual_seed(seed)
    field = torch.randn(*shape, *domain.weights.shape, dtype=domain.weights.dtype)
    return torch.where(domain.weights > 0, field, 0.0)


def by_points(domain, function):
    """Return the weighted mean over samples and points of ``function(sample, channel, i, j)``."""
    weights = domain.weights.numpy()
    result = []
    for c in range(len(weights)):
        terms = [
            weights[c, i, j] * function(b, c, i, j)
            for b in range(3)
            for i, j in zip(*np.nonzero(weights[c]), strict=True)
        ]
        result.append(sum(terms) / (3 * weights[c].sum()))
    return torch.tensor(result)


def check_pointwise(loss, domain, formula, lead=1):
    p, t = make_fields(domain, 2, 3)
    s = domain.scale.numpy()
    expected = by_points(domain, lambda b, c, i, j: formula(s[c] * float(p[b, c, i, j] - t[b, c, i, j])))
    assert torch.allclose(loss(p, t, lead), expected, rtol=1e-12)


def test_the_default_has_the_bits_of_the_area_weighted_error_times_the_ratio():
    domain = make_domain(dtype=torch.float32)
    p, t = make_fields(domain, 2, 3)
    expected = area_weighted_mse(p, t, domain.weights) * domain.scale.square()
    assert torch.equal(LOSSES["mse"](domain)(p, t), expected)


@pytest.mark.parametrize("grid", GRIDS)
def test_mean_square_and_absolute_errors(grid):
    domain = make_domain(grid)
    check_pointwise(MeanSquareError(domain), domain, lambda e: e**2)
    check_pointwise(MeanAbsoluteError(domain), domain, abs)


@pytest.mark.parametrize("lead", [1, 4])
def test_the_huber_loss_is_square_up_to_delta_and_linear_beyond(lead):
    domain = make_domain()
    d = 0.7 * lead**0.5
    loss = Huber(domain, delta=0.7)
    check_pointwise(loss, domain, lambda e: e**2 / 2 if abs(e) <= d else d * (abs(e) - d / 2), lead)
    p, t = make_fields(domain, 2, 3)
    alone = loss(p / lead**0.5, t / lead**0.5)
    assert torch.allclose(loss(p, t, lead) / lead ** (loss.degree / 2), alone)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_the_quantile_loss_weighs_errors_by_their_sign(level):
    domain = make_domain()
    check_pointwise(
        Quantile(domain, quantile=level), domain, lambda e: (1 - level) * e if e > 0 else level * -e
    )


def test_the_quantile_loss_is_minimal_at_the_quantile():
    domain = LossDomain(REGION, torch.ones(1, *REGION.shape).double(), torch.ones(1).double())
    truth = torch.linspace(0, 1, 84).double().reshape(1, 1, *REGION.shape)
    loss = Quantile(domain, quantile=0.8)
    values = [float(loss(torch.full_like(truth, v), truth)) for v in np.linspace(0, 1, 101)]
    assert np.argmin(values) == pytest.approx(80, abs=1)


def test_the_relative_error_is_that_of_each_sample_and_channel():
    domain = make_domain()
    p, t = make_fields(domain, 2, 3)
    w = domain.weights
    expected = ((w * (p - t) ** 2).sum((2, 3)) / (w * t**2).sum((2, 3))).sqrt().mean(0)
    assert torch.allclose(RelativeL2(domain)(p, t), expected, rtol=1e-12)
    assert torch.allclose(RelativeL2(domain)(3 * p, 3 * t), expected, rtol=1e-12)
    exact = t.clone().requires_grad_()
    RelativeL2(domain)(exact, t).sum().backward()
    assert exact.grad.isfinite().all()


@pytest.mark.parametrize("grid", [REGION, CYLINDER])
def test_the_h1_loss_adds_differences_of_neighbours_within_the_mask(grid):
    domain = make_domain(grid)
    p, t = make_fields(domain, 2, 3)
    e = (p - t).numpy()
    w = domain.weights.numpy()
    rows, columns = grid.shape
    dy, dx = grid.spacing
    expected = []
    for c in range(2):
        slopes = {"x": [], "y": []}
        for i in range(rows):
            across = dx * (math.cos(math.radians(grid.latitude[i])) if isinstance(grid, LatLon) else 1)
            stride = max(1, round(dy / across))
            for j in range(columns):
                k = (j + stride) % columns if grid.periodic[1] else j + stride
                if k < columns and w[c, i, j] and w[c, i, k]:
                    slope = (e[:, c, i, k] - e[:, c, i, j]) / (stride * across)
                    slopes["x"].append(((w[c, i, j] + w[c, i, k]) / 2, (slope**2).mean()))
                if i + 1 < rows and w[c, i, j] and w[c, i + 1, j]:
                    slope = (e[:, c, i + 1, j] - e[:, c, i, j]) / dy
                    slopes["y"].append(((w[c, i, j] + w[c, i + 1, j]) / 2, (slope**2).mean()))
        mean = [np.average([v for _, v in pairs], weights=[a for a, _ in pairs]) for pairs in slopes.values()]
        expected.append(sum(mean) * (1.5 * dy) ** 2)
    value = area_weighted_mse(p, t, domain.weights)
    loss = H1(domain, gradient_length=1.5)(p, t)
    assert torch.allclose(loss, (value + torch.tensor(expected)) * domain.scale**2, rtol=1e-10)


@pytest.mark.parametrize("kind", ["legendre-gauss", "equiangular", "equiangular-no-poles"])
def test_the_gradient_of_spherical_harmonics_has_the_square_l_times_l_plus_one(kind):
    rows, columns = 91, 180
    latitude = 90 - np.rad2deg(sphere_nodes(rows, kind)[0])
    grid = LatLon(latitude, np.arange(0, 360, 2.0))
    weights = torch.from_numpy(grid.area_weights.copy())[:, None].expand(1, rows, columns)
    domain = LossDomain(grid, weights, torch.ones(1).double())
    loss = H1(domain, gradient_length=10)
    length = math.radians(10 * grid.spacing[0])
    for l, m in ((1, 0), (1, 1), (3, 2), (5, 5), (6, 1)):
        z = torch.zeros(8, 8, dtype=torch.complex128)
        z[l, m] = 1.0
        field = InverseRealSHT(rows, columns, 8, mmax=8, grid=kind)(z)[None, None]
        square = float(area_weighted_mse(field, 0 * field, weights))
        slope = (float(loss(field, 0 * field)) - square) / length**2
        assert slope / square == pytest.approx(l * (l + 1), rel=0.01)


@pytest.mark.parametrize("grid", GRIDS)
def test_the_spectrum_adds_up_to_the_mean_square_error(grid):
    domain = make_domain(grid)
    p, t = make_fields(domain, 2, 3)
    spectrum = SphereSpectrum(domain, grid.sphere) if grid.sphere else PlaneSpectrum(domain)
    if grid.sphere:  # fields that the transform resolves, without a mask
        domain = make_domain(grid, masked=False)
        spectrum = SphereSpectrum(domain, grid.sphere)
        p, t = (spectrum.synthesise(spectrum.analyse(x)) for x in (p, t))
    a, b, c = spectrum.powers(p, t)
    expected = area_weighted_mse(p, t, domain.weights)
    tolerance = 1e-2 if grid.sphere else 1e-12  # cells between rows against the weights of the quadrature
    assert torch.allclose((a + b - 2 * c).sum(-1).mean(0), expected, rtol=tolerance)


def test_the_bins_of_a_spectrum_are_isotropic_wavenumbers():
    grid = Box(("y", "x"), (16, 16), (16.0, 16.0), (True, True))
    domain = LossDomain(grid, torch.ones(1, 16, 16).double(), torch.ones(1).double())
    y, x = torch.meshgrid(*[2 * torch.pi * torch.arange(16).double() / 16] * 2, indexing="ij")
    for (m, n), scale in {(3, 0): 3, (0, 5): 5, (3, 4): 5, (1, 1): 1, (0, 0): 0, (8, 0): 8}.items():
        wave = torch.cos(m * y + n * x)[None, None]
        power = PlaneSpectrum(domain).powers(wave, wave)[0][0, 0]
        assert power.argmax() == scale
        assert power[scale] == pytest.approx(float(wave.square().mean()))


@pytest.mark.parametrize("grid", GRIDS)
def test_the_spectral_loss_is_the_adjusted_mean_square_error(grid):
    domain = make_domain(grid)
    p, t = make_fields(domain, 2, 3)
    loss = Spectral(domain)
    a, b, c = (x.numpy() for x in loss.spectrum.powers(p, t))
    adjusted = (np.sqrt(a) - np.sqrt(b)) ** 2 + 2 * np.maximum(a, b) * (1 - c / np.sqrt(a * b))
    expected = torch.from_numpy(adjusted.sum(-1).mean(0)) + loss.spectrum.unresolved(p - t)
    assert torch.allclose(loss(p, t), expected * domain.scale**2, rtol=1e-5)
    assert loss(t, t).abs().max() < 1e-6


@pytest.mark.parametrize("grid", GRIDS)
def test_the_spectral_loss_of_the_wrong_amplitude_alone_is_the_mean_square_error(grid):
    domain = make_domain(grid, masked=False)
    t = make_fields(domain, 3)
    loss = Spectral(domain)
    if grid.sphere:
        t = loss.spectrum.synthesise(loss.spectrum.analyse(t))
    expected = 0.16 * t.square()
    assert torch.allclose(loss(0.6 * t, t), domain.mean(expected) * domain.scale**2, rtol=1e-2)


def test_the_spectral_loss_prefers_the_right_amplitude_where_the_square_error_prefers_a_smooth_field():
    grid = Box(("y", "x"), (16, 16), (16.0, 16.0), (True, True))
    domain = LossDomain(grid, torch.ones(1, 16, 16).double(), torch.ones(1).double())
    x = 2 * torch.pi * torch.arange(16).double() / 16
    truth = torch.cos(4 * x).expand(1, 1, 16, 16)
    displaced = torch.cos(4 * x - 1.4).expand(1, 1, 16, 16)
    amplitudes = np.linspace(0.05, 1.5, 30)
    best = {
        name: amplitudes[np.argmin([float(LOSSES[name](domain)(a * displaced, truth)) for a in amplitudes])]
        for name in ("mse", "spectral")
    }
    assert best["mse"] == pytest.approx(math.cos(1.4), abs=0.05)
    assert best["spectral"] == pytest.approx(1.0, abs=0.05)


def test_the_spectral_loss_of_a_field_of_zeros_has_a_finite_gradient():
    for grid in GRIDS:
        domain = make_domain(grid, dtype=torch.float32)
        p = torch.zeros(3, *domain.weights.shape, requires_grad=True)
        for truth in (make_fields(domain, 3), torch.zeros(3, *domain.weights.shape)):
            loss = Spectral(domain)(p, truth).sum()
            loss.backward()
            assert loss.isfinite() and p.grad.isfinite().all()


@pytest.mark.parametrize("alpha", [0.0, 0.95, 1.0])
@pytest.mark.parametrize("members", [2, 5])
def test_the_almost_fair_crps_mixes_the_fair_score_and_the_score(alpha, members):
    domain = make_domain()
    x = make_fields(domain, members, 3)
    t = make_fields(domain, 3, seed=1)
    error = (x - t).abs().mean(0)
    spread = (x[:, None] - x).abs().sum((0, 1))
    crps = error - spread / (2 * members**2)
    fair = error - spread / (2 * members * (members - 1))
    expected = domain.mean(alpha * fair + (1 - alpha) * crps) * domain.scale
    loss = AlmostFairCRPS(domain, members=members, alpha=alpha)
    assert loss.members == members and loss.ensemble
    assert torch.allclose(loss(x, t), expected, rtol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("grid", GRIDS)
def test_values_outside_the_mask_have_no_effect_on_any_loss(name, grid):
    domain = make_domain(grid)
    loss = LOSSES[name](domain)
    shape = (2, 3) if loss.ensemble else (3,)
    p = make_fields(domain, *shape)
    t = make_fields(domain, 3, seed=1)
    value = loss(p, t)
    assert value.shape == (2,) and value.isfinite().all() and (value > 0).all()
    outside = domain.weights == 0
    p[..., outside] = 100.0
    t[..., outside] = -100.0
    assert torch.allclose(loss(p, t), value, rtol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_the_degree_of_a_loss_is_that_of_large_and_small_errors(name):
    domain = make_domain()
    loss = LOSSES[name](domain)
    shape = (2, 3) if loss.ensemble else (3,)
    p = make_fields(domain, *shape)
    t = make_fields(domain, 3, seed=1)
    if name == "relative_l2":
        larger = loss(t + 2 * (p - t), t) / loss(p, t)
    else:
        larger = loss(2 * p, 2 * t, lead=4) / loss(p, t, lead=1)
    assert torch.allclose(larger, torch.full_like(larger, 2.0**loss.degree))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_losses_agree_with_differences(name):
    domain = make_domain()
    loss = LOSSES[name](domain)
    shape = (2, 3) if loss.ensemble else (3,)
    t = make_fields(domain, 3, seed=1)
    p = make_fields(domain, *shape).requires_grad_()
    direction = make_fields(domain, *shape, seed=2)
    loss(p, t).sum().backward()
    step = 1e-6
    with torch.no_grad():
        change = loss(p + step * direction, t).sum() - loss(p - step * direction, t).sum()
    assert float(change) / (2 * step) == pytest.approx(float((p.grad * direction).sum()), rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Huber, {"delta": 0.0}, "delta must be"),
        (Quantile, {"quantile": 1.0}, "quantile must lie"),
        (H1, {"gradient_length": -1.0}, "gradient_length must be"),
        (AlmostFairCRPS, {"members": 1}, "members must be"),
        (AlmostFairCRPS, {"alpha": 1.5}, "alpha must be"),
    ],
)
def test_options_out_of_range_are_refused(kind, options, message):
    with pytest.raises(SettingError, match=message):
        kind(make_domain(), **options)


def test_options_are_the_keyword_arguments():
    assert AlmostFairCRPS.options() == {"members": 2, "alpha": 0.95}
    assert MeanSquareError.options() == {}
