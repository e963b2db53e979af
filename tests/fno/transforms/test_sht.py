"""Spherical harmonics: round trips, known functions, rotations, adjoints, vector calculus, other packages."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import sph_harm_y

from fourcaster.fno import InputError, InverseRealSHT, ModesError, RealSHT, SphereCalculus, SphericalConv
from fourcaster.fno.grids import LatLon, sphere_nodes
from fourcaster.fno.transforms.legendre import legendre, legendre_derivatives

GRIDS = ["equiangular", "equiangular-no-poles", "legendre-gauss"]


def coefficients(lmax, mmax, seed=0, batch=2):
    """Return coefficients of a real field: none above the diagonal, real for order 0."""
    z = torch.randn(
        batch, lmax, mmax, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed)
    ).tril()
    z[..., 0] = z[..., 0].real.to(z.dtype)
    return z


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("nlat", [2, 3, 8, 9, 64])
def test_quadrature_is_exact_for_polynomials(grid, nlat):
    theta, weights = sphere_nodes(nlat, grid)
    degree = 2 * nlat - 1 if grid == "legendre-gauss" else nlat - 1
    for k in range(min(degree, 20) + 1):
        assert np.isclose((weights * np.cos(theta) ** k).sum(), 0 if k % 2 else 2 / (k + 1), atol=1e-13)
    assert (np.diff(theta) > 0).all() and (weights > 0).all()


def test_legendre_functions_agree_with_scipy():
    theta = np.array([0.0, 0.3, 1.0, 2.2, math.pi])
    p = legendre(9, 9, theta)
    for l in range(9):
        for m in range(l + 1):
            assert np.allclose(p[m, l], sph_harm_y(l, m, theta, 0).real, atol=1e-14)


def test_derivatives_agree_with_finite_differences_and_are_finite_at_poles():
    theta, h = np.array([0.2, 1.1, 2.7]), 1e-6
    derivative, over_sine = legendre_derivatives(12, 10, theta)
    assert np.allclose(
        derivative, (legendre(12, 10, theta + h) - legendre(12, 10, theta - h)) / (2 * h), atol=1e-7
    )
    assert np.allclose(
        over_sine, np.arange(10)[:, None, None] * legendre(12, 10, theta) / np.sin(theta), atol=1e-12
    )
    near, at = (legendre_derivatives(12, 10, np.array([angle])) for angle in (1e-7, 0.0))
    for a, b in zip(near, at, strict=True):
        assert np.allclose(a, b, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(GRIDS), st.integers(3, 24), st.integers(1, 40))
def test_round_trip_is_exact(grid, nlat, nlon):
    forward = RealSHT(nlat, nlon, grid=grid)
    mmax = min(forward.mmax, (nlon + 1) // 2)  # the order at the Nyquist wavenumber has no sine
    forward = RealSHT(nlat, nlon, forward.lmax, mmax=mmax, grid=grid)
    z = coefficients(forward.lmax, mmax, nlat)
    field = InverseRealSHT(nlat, nlon, forward.lmax, mmax=mmax, grid=grid)(z)
    assert torch.allclose(forward(field), z, atol=1e-12)
    assert torch.allclose(forward(field.float()).to(z.dtype), z, atol=1e-4)


def test_a_harmonic_has_one_coefficient():
    theta, _ = sphere_nodes(12, "legendre-gauss")
    phi = 2 * np.pi * np.arange(24) / 24
    field = sph_harm_y(5, 3, theta[:, None], phi[None]).real  # (Y_53 + conj Y_53) / 2
    z = RealSHT(12, 24, grid="legendre-gauss")(torch.from_numpy(field))
    assert abs(z[5, 3] - 0.5) < 1e-14
    z[5, 3] = 0
    assert z.abs().max() < 1e-14


@pytest.mark.parametrize("grid", GRIDS)
def test_gradients_are_adjoints(grid):
    forward, inverse = RealSHT(9, 16, grid=grid), InverseRealSHT(9, 16, grid=grid)
    assert torch.autograd.gradcheck(forward, torch.randn(9, 16, dtype=torch.float64, requires_grad=True))
    z = torch.randn(forward.lmax, forward.mmax, dtype=torch.complex128, requires_grad=True)
    assert torch.autograd.gradcheck(inverse, z)
    assert torch.autograd.gradgradcheck(lambda z: inverse(z) ** 2, z)


@pytest.mark.parametrize(
    ("nlat", "nlon", "grid"),
    [(24, 48, "legendre-gauss"), (33, 40, "equiangular"), (32, 45, "equiangular-no-poles")],
)
def test_gradient_divergence_and_curl_satisfy_vector_identities(nlat, nlon, grid):
    full = RealSHT(nlat, nlon, grid=grid)
    sphere = SphereCalculus(nlat, nlon, full.lmax - 1, mmax=full.lmax - 2, grid=grid)
    z = coefficients(sphere.lmax, sphere.mmax, 3)
    z[:, -1:] = 0  # a derivative raises the degree by one
    radius = 6.371e6
    u, v = sphere.gradient(z, radius)
    size = (z.abs().max() * sphere.lmax**2 / radius**2).item()
    assert torch.allclose(sphere.divergence(u, v, radius), sphere.laplacian(z, radius), atol=1e-11 * size)
    assert sphere.curl(u, v, radius).abs().max() < 1e-11 * size
    # The rotated gradient is the wind of a stream function: nondivergent, with the Laplacian as vorticity.
    assert sphere.divergence(-v, u, radius).abs().max() < 1e-11 * size
    assert torch.allclose(sphere.curl(-v, u, radius), sphere.laplacian(z, radius), atol=1e-11 * size)


def test_solid_body_rotation_has_vorticity_twice_the_sine_of_latitude():
    theta, _ = sphere_nodes(16, "equiangular")
    sphere = SphereCalculus(16, 32)
    u = torch.from_numpy(np.sin(theta))[:, None].expand(16, 32)
    vorticity = InverseRealSHT(16, 32, sphere.lmax, mmax=sphere.mmax)(sphere.curl(u, torch.zeros_like(u)))
    assert torch.allclose(vorticity, torch.from_numpy(2 * np.cos(theta))[:, None].expand(16, 32), atol=1e-13)


def test_gradient_has_eastward_and_northward_components():
    theta, _ = sphere_nodes(16, "equiangular")
    phi = 2 * np.pi * np.arange(32) / 32
    field = torch.from_numpy(np.sin(theta)[:, None] * np.cos(phi)[None] + np.cos(theta)[:, None])
    sphere = SphereCalculus(16, 32)
    u, v = sphere.gradient(RealSHT(16, 32, sphere.lmax, mmax=sphere.mmax)(field))
    assert torch.allclose(u, torch.from_numpy(-np.sin(phi))[None].expand(16, 32), atol=1e-13)
    assert torch.allclose(
        v, torch.from_numpy(-np.cos(theta)[:, None] * np.cos(phi)[None] + np.sin(theta)[:, None]), atol=1e-13
    )


def rotated(field_of, nlat, nlon, grid, angle):
    """Sample a function of points on the sphere on the grid tilted about the y axis."""
    theta, _ = sphere_nodes(nlat, grid)
    phi = 2 * np.pi * np.arange(nlon) / nlon
    t, p = np.meshgrid(theta, phi, indexing="ij")
    x, y, z = np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t)
    c, s = np.cos(angle), np.sin(angle)
    return torch.from_numpy(field_of(c * x + s * z, y, -s * x + c * z))


def test_the_power_spectrum_is_invariant_under_rotation():
    def field(x, y, z):
        return x * y * z + z**3 - 0.3 * x + y**4

    spectra = []
    for angle in (0.0, 0.7):
        a = RealSHT(12, 24, grid="legendre-gauss")(rotated(field, 12, 24, "legendre-gauss", angle)).abs() ** 2
        spectra.append(2 * a.sum(1) - a[:, 0])
    assert torch.allclose(*spectra, atol=1e-13)


def test_spherical_convolution_commutes_with_zonal_rotations_and_with_all_if_its_weights_are_real():
    def field(x, y, z):
        return x * y * z + z**3 - 0.3 * x + y**4

    conv = SphericalConv(1, 1, 8, grid="legendre-gauss", bias=False).double()
    x = torch.randn(1, 1, 12, 24, dtype=torch.float64)
    assert torch.allclose(conv(x.roll(5, -1)), conv(x).roll(5, -1), atol=1e-12)
    with torch.no_grad():
        conv.weight[:, :, 1] = 0
    smooth = conv(rotated(field, 12, 24, "legendre-gauss", 0.0)[None, None])
    tilted = conv(rotated(field, 12, 24, "legendre-gauss", 0.7)[None, None])
    powers = [RealSHT(12, 24, 8, mmax=8, grid="legendre-gauss")(y).abs() ** 2 for y in (smooth, tilted)]
    spectra = [2 * a.sum(-1) - a[..., 0] for a in powers]
    assert torch.allclose(*spectra, atol=1e-12)
    # The filtered field is a polynomial in the coordinates, fitted on the grid that is not tilted.
    powers = [(i, j, k) for i in range(5) for j in range(5) for k in range(5) if i + j + k <= 4]

    def basis(angle):
        return torch.stack(
            [
                rotated(
                    lambda x, y, z, p=p: x ** p[0] * y ** p[1] * z ** p[2], 12, 24, "legendre-gauss", angle
                ).flatten()
                for p in powers
            ],
            1,
        )

    fitted = torch.linalg.lstsq(basis(0.0), smooth.flatten(), driver="gelsd").solution
    assert torch.allclose(basis(0.7) @ fitted, tilted.flatten(), atol=1e-10)


@pytest.mark.parametrize("grid", GRIDS)
def test_spherical_convolution_is_independent_of_resolution(grid):
    conv = SphericalConv(2, 3, 6, grid=grid).double()
    z = coefficients(6, 6, batch=2)
    outs = []
    for nlat, nlon in ((13, 24), (20, 36), (31, 60)):
        y = conv(InverseRealSHT(nlat, nlon, 6, mmax=6, grid=grid)(z)[None])
        outs.append(RealSHT(nlat, nlon, 6, mmax=6, grid=grid)(y))
    assert torch.allclose(outs[0], outs[1], atol=1e-12) and torch.allclose(outs[0], outs[2], atol=1e-12)


def test_transforms_agree_with_torch_harmonics():
    th = pytest.importorskip("torch_harmonics", reason="torch-harmonics is not installed")
    for nlat, nlon, grid in ((16, 32, "legendre-gauss"), (17, 36, "equiangular")):
        ours, theirs = (
            RealSHT(nlat, nlon, 9, mmax=9, grid=grid),
            th.RealSHT(nlat, nlon, lmax=9, mmax=9, grid=grid).double(),
        )
        x = torch.randn(2, nlat, nlon, dtype=torch.float64)
        assert torch.allclose(ours(x), theirs(x), atol=1e-12)


def test_quadratures_are_recognised_from_latitudes():
    longitude = np.arange(0, 360, 10.0)
    for grid in GRIDS:
        latitude = 90 - np.rad2deg(sphere_nodes(19, grid)[0])
        assert LatLon(latitude, longitude).sphere == LatLon(latitude[::-1], longitude).sphere == grid
    assert LatLon(np.linspace(80, -80, 19), longitude).sphere is None
    assert LatLon(np.linspace(90, -90, 19), longitude[:20]).sphere is None


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="unknown grid"):
        RealSHT(8, 16, grid="gauss")
    with pytest.raises(ValueError, match="lmax must lie"):
        RealSHT(8, 16, lmax=9)
    with pytest.raises(ValueError, match="mmax must lie"):
        RealSHT(8, 16, lmax=4, mmax=10)
    with pytest.raises(InputError, match="expected fields of 8 latitudes"):
        RealSHT(8, 16)(torch.zeros(9, 16))
    with pytest.raises(InputError, match="expected coefficients"):
        InverseRealSHT(8, 16)(torch.zeros(9, 16, dtype=torch.complex64))
    with pytest.raises(ModesError, match="resolves 4 degrees, not 5"):
        SphericalConv(1, 1, 5)(torch.zeros(1, 1, 8, 16))
    with pytest.raises(InputError, match="expected a tensor of shape"):
        SphericalConv(1, 1, 4)(torch.zeros(1, 2, 8, 16))
    with pytest.raises(ValueError, match="at least 1"):
        SphericalConv(0, 1, 4)
    with pytest.raises(ValueError, match="at least 2 latitudes"):
        sphere_nodes(1, "equiangular")


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(GRIDS), st.integers(2, 24), st.integers(1, 48))
def test_least_squares_inverts_the_synthesis_of_nearly_all_degrees(grid, nlat, nlon):
    forward = RealSHT(nlat, nlon, grid=grid, analysis="least_squares")
    assert forward.lmax == (nlat if grid == "legendre-gauss" else max(1, nlat - 1))
    mmax = min(forward.mmax, (nlon + 1) // 2)
    forward = RealSHT(nlat, nlon, mmax=mmax, grid=grid, analysis="least_squares")
    z = coefficients(forward.lmax, mmax, nlat)
    field = InverseRealSHT(nlat, nlon, forward.lmax, mmax=mmax, grid=grid)(z)
    assert torch.allclose(forward(field), z, atol=1e-11)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("nlat", [9, 16])
def test_least_squares_minimises_the_weighted_error_of_the_synthesis(grid, nlat):
    lmax = nlat - 3
    forward = RealSHT(nlat, 2 * nlat, lmax, grid=grid, analysis="least_squares")
    inverse = InverseRealSHT(nlat, 2 * nlat, lmax, grid=grid)
    field = torch.randn(nlat, 2 * nlat, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    residual = field - inverse(forward(field))
    projection = RealSHT(nlat, 2 * nlat, lmax, grid=grid)(residual)  # orthogonal to every harmonic
    assert projection.abs().max() < 1e-12


def test_least_squares_agrees_with_the_quadrature_where_that_is_exact():
    field = torch.randn(12, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for grid, lmax in (("legendre-gauss", 12), ("equiangular", 6), ("equiangular-no-poles", 6)):
        a, b = (RealSHT(12, 24, lmax, grid=grid, analysis=kind) for kind in ("quadrature", "least_squares"))
        assert torch.allclose(a(field), b(field), atol=1e-13)


def test_least_squares_refuses_what_the_rows_do_not_determine():
    with pytest.raises(ValueError, match=r"lmax must lie in 1 ... 11 for 12 equiangular latitudes"):
        RealSHT(12, 24, 12, grid="equiangular", analysis="least_squares")
    with pytest.raises(ValueError, match="analysis must be one of quadrature, least_squares"):
        RealSHT(12, 24, analysis="lsq")
    with pytest.raises(InputError, match="exists for values only"):
        RealSHT(12, 24, analysis="least_squares").analyse(torch.zeros(1, 12, 24, 1), "derivative")


def test_a_convolution_with_least_squares_is_the_same_operator_on_every_grid_that_resolves_it():
    torch.manual_seed(0)
    conv = SphericalConv(1, 1, 15, grid="equiangular-no-poles", analysis="least_squares").double()
    results = []
    for nlat in (16, 40):
        z = coefficients(15, 15, batch=1)
        inverse = InverseRealSHT(nlat, 2 * nlat, 15, mmax=15, grid="equiangular-no-poles")
        forward = RealSHT(nlat, 2 * nlat, 15, mmax=15, grid="equiangular-no-poles", analysis="least_squares")
        results.append(forward(conv(inverse(z)[:, None])))
    assert torch.allclose(*results, atol=1e-11)
    with pytest.raises(ModesError, match="resolves 14 degrees, not 15"):
        conv(torch.zeros(1, 1, 15, 30, dtype=torch.float64))
