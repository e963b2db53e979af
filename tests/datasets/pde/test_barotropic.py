"""Barotropic flow on a beta plane: conservation, Rossby waves, reproducibility."""

import numpy as np
import pytest

from fourcaster.datasets.pde.barotropic import LENGTH, BarotropicFlow, simulate


def test_free_flow_conserves_energy_and_enstrophy():
    flow = BarotropicFlow(64, forcing=0, drag=0, diffusion=0)

    def integrals():
        f = flow.fields()
        energy = (f["u_component_of_wind"] ** 2 + f["v_component_of_wind"] ** 2).mean()
        return energy, (f["vorticity"] ** 2).mean()

    before = integrals()
    for _ in range(48):
        flow.step(1800)
    assert integrals() == pytest.approx(before, rel=1e-5)


def test_a_rossby_wave_propagates_at_its_phase_speed():
    beta = 2e-11
    flow = BarotropicFlow(32, forcing=0, drag=0, diffusion=0, beta=beta)
    x = np.arange(32) / 32 * LENGTH
    k = 2 * np.pi * 3 / LENGTH
    flow.vorticity = np.fft.rfft2(1e-6 * np.cos(k * x)[None].repeat(32, 0))
    hours = 24
    for _ in range(hours):
        flow.step(3600)
    speed = -beta / k**2
    expected = 1e-6 * np.cos(k * (x - speed * hours * 3600))
    assert np.allclose(flow.fields()["vorticity"][5], expected, atol=1e-12)


def test_wind_is_nondivergent_and_its_curl_is_the_vorticity():
    f = BarotropicFlow(32).fields()
    k = 2j * np.pi * np.fft.fftfreq(32, 1 / 32) / LENGTH

    def derivative(name, axis):
        factor = k[None] if axis else k[:, None]
        return np.fft.ifft(np.fft.fft(f[name], axis=axis) * factor, axis=axis).real

    u, v = "u_component_of_wind", "v_component_of_wind"
    assert np.allclose(derivative(v, 1) - derivative(u, 0), f["vorticity"], atol=1e-10)
    assert np.allclose(derivative(u, 1) + derivative(v, 0), 0, atol=1e-10)


def test_the_series_is_reproducible_by_its_seed_and_stays_bounded():
    a, b, c = (simulate(days=3, seed=s) for s in (1, 1, 2))
    assert a.equals(b) and not a.equals(c)
    assert a.sizes == {"time": 12, "latitude": 25, "longitude": 45}
    assert 2 < float(a["u_component_of_wind"].std()) < 20
