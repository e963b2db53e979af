"""Solvers on refined grids: the stored initial state or coefficient determines the stored solution."""

import logging

import numpy as np
import pytest
import xarray as xr

from fourcaster.datasets.pde import line
from fourcaster.datasets.pde import simulate as module
from fourcaster.datasets.pde.darcy import bilinear_in_logarithm, conductances_of_cells, steady_state
from fourcaster.datasets.pde.random_fields import GaussianField
from fourcaster.datasets.pde.resample import resample
from fourcaster.datasets.pde.shallow_water import ShallowWater
from fourcaster.datasets.pde.simulate import SYSTEMS, make_system, simulate
from fourcaster.datasets.pde.system import _warn_once


def relative(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def waves(points, coefficients, axes=1):
    """Return a sum of cosines ``c cos(2 pi k x + k)`` along each axis, at the points of a periodic grid."""
    x = np.arange(points) / points
    series = sum(c * np.cos(2 * np.pi * k * x + k) for k, c in coefficients.items())
    return series if axes == 1 else series[:, None] + 2 * series[None] * series[:, None]


# Fourier series on another grid


@pytest.mark.parametrize(("fine", "coarse"), [(64, 16), (64, 15), (45, 15), (45, 16), (33, 32), (16, 16)])
def test_coarsening_retains_exactly_the_waves_that_the_grid_resolves(fine, coarse):
    largest = (coarse - 1) // 2
    resolved = {0: 0.3, 1: 1.0, largest: 0.7}
    beyond = {largest + 1: 0.4, (fine - 1) // 2: 0.2} if (fine - 1) // 2 > largest else {}
    field = waves(fine, resolved | beyond)
    assert np.allclose(resample(field, coarse), waves(coarse, resolved), atol=1e-14)
    assert resample(field, coarse).mean() == pytest.approx(field.mean(), abs=1e-15)
    assert np.allclose(resample(waves(coarse, resolved), fine), waves(fine, resolved), atol=1e-14)


def test_the_nyquist_wave_of_an_even_grid_is_omitted():
    assert np.allclose(resample(np.cos(np.pi * np.arange(8)), 16), 0, atol=1e-15)
    assert np.allclose(resample(waves(32, {8: 1.0, 2: 0.5}), 16), waves(16, {2: 0.5}), atol=1e-14)


@pytest.mark.parametrize("coarse", [12, 13])
def test_planes_are_filtered_along_both_axes(coarse):
    resolved = {0: 0.2, 1: 1.0, 2: 0.4}
    field = waves(40, resolved, axes=2)
    x = np.arange(40) / 40
    tall = np.cos(2 * np.pi * 9 * x)[:, None] * np.cos(2 * np.pi * x)[None]
    for unresolved in (tall, tall.T):
        assert np.allclose(
            resample(field + unresolved, coarse, (-2, -1)), waves(coarse, resolved, axes=2), atol=1e-14
        )
    assert resample(np.stack([field] * 3), coarse, (-2, -1)).shape == (3, coarse, coarse)


# Solvers


PERIODIC = [
    ("burgers", {"resolution": 64, "viscosity": 0.02}, 1e-5),
    ("burgers", {"resolution": 63, "viscosity": 0.02}, 1e-5),
    ("shock_pipe", {"resolution": 64, "viscosity": 0.03}, 1e-5),
    ("allen_cahn", {"resolution": 64, "diffusivity": 2e-2, "sigma": 5.0}, 1e-5),
    ("reaction_diffusion", {"resolution": 32, "nu": 0.5}, 1e-6),
    ("cahn_hilliard", {"resolution": 64, "gamma_1": 1e-3, "gamma_2": 0.1, "sigma": 5.0}, 1e-6),
    ("navier_stokes", {"resolution": 24, "refine": 2, "viscosity": 2e-3, "duration": 2.0}, 1e-5),
    ("navier_stokes", {"resolution": 21, "refine": 3, "viscosity": 2e-3, "duration": 2.0}, 1e-5),
]


def solve_from(initial, system, refine):
    """Return the solution from a stored initial state on a grid ``refine`` times as fine, and its axes."""
    axes = (-1,) if initial.ndim == 1 else (-2, -1)

    class Restarted(type(system)):
        def initial_state(self, rng, points):
            return resample(initial, points, axes)

    parameters = system.model_dump() | {"refine": 1, "resolution": system.resolution * refine}
    # The same seed, because a shock pipe draws its viscosity first.
    field = Restarted(**parameters).solve(np.random.default_rng(3))
    return field["u" if initial.ndim == 1 else "vorticity"], axes


@pytest.mark.parametrize(("name", "parameters", "tolerance"), PERIODIC)
def test_the_stored_initial_state_determines_the_stored_solution(name, parameters, tolerance):
    """Storing every second value of the finer solution instead has errors of 1e-3 and more."""
    system = make_system(name, {"frames": 3, **parameters})
    field = system.solve(np.random.default_rng(3))["vorticity" if name == "navier_stokes" else "u"]
    fine, axes = solve_from(field[0], system, 4)
    assert relative(resample(fine, system.resolution, axes), field) < tolerance


@pytest.mark.parametrize("name", ["burgers", "allen_cahn", "cahn_hilliard", "navier_stokes"])
def test_the_stored_solution_is_low_pass_filtered(name):
    small = {"frames": 2, "resolution": 16, "refine": 4} | (
        {"initial": "standard"} if name != "navier_stokes" else {"duration": 0.5}
    )
    system = make_system(name, small)
    field = system.solve(np.random.default_rng(3))["vorticity" if name == "navier_stokes" else "u"]
    fine, axes = solve_from(field[0], system, 4)
    assert np.allclose(field, resample(fine, 16, axes), atol=1e-9 * np.abs(fine).max())
    assert not np.allclose(
        field, fine[:, ::4] if len(axes) == 1 else fine[:, ::4, ::4], atol=1e-7 * np.abs(fine).max()
    )


@pytest.mark.parametrize("name", ["burgers", "cahn_hilliard", "navier_stokes"])
def test_conserved_means_are_conserved_in_the_stored_solution(name):
    small = {"frames": 4, "resolution": 16} | ({"initial": "standard"} if name == "cahn_hilliard" else {})
    small |= {"viscosity": 0.005, "refine": 3, "duration": 1.0} if name == "navier_stokes" else {}
    field = next(iter(make_system(name, small).solve(np.random.default_rng(1)).values()))
    means = field.reshape(len(field), -1).mean(axis=1)
    assert np.ptp(means) < 1e-14 and np.ptp(field) > 0.1


@pytest.mark.parametrize(
    "name", [n for n in SYSTEMS if n not in ("heat_sink", "barotropic", "shallow_water")]
)
@pytest.mark.parametrize("points", [16, 17])
def test_sampled_inputs_equal_those_of_the_solution(name, points):
    evolving = {"frames": 1, "duration": 0.01} if "frames" in SYSTEMS[name].model_fields else {}
    system = make_system(name, {"resolution": points, **evolving})
    inputs = system.sample_inputs(np.random.default_rng(4))
    stored = system.solve(np.random.default_rng(4))
    for key, values in inputs.items():
        first = stored[key][0] if evolving and stored[key].ndim else stored[key]
        assert np.allclose(values, first, atol=1e-13 * max(1, np.abs(first).max())), key


@pytest.mark.parametrize(
    ("name", "more"),
    [("burgers", {"viscosity": 0.05}), ("navier_stokes", {"viscosity": 1e-2, "duration": 0.5})],
)
def test_a_rough_initial_state_is_filtered_before_it_is_solved(name, more):
    """Waves that the stored grid does not resolve have no effect on the stored solution."""
    smooth = make_system(name, {"resolution": 16, "refine": 3, "frames": 2, **more})

    class Rough(type(smooth)):
        def initial_state(self, rng, points):
            wave = np.cos(2 * np.pi * 11 * np.arange(points) / points)  # of 48 points, not of 16
            return super().initial_state(rng, points) + wave

    rough = Rough(**smooth.model_dump())
    for key in ("u",) if name == "burgers" else ("vorticity",):
        expected, solution = (system.solve(np.random.default_rng(6))[key] for system in (smooth, rough))
        assert np.allclose(solution, expected, atol=1e-12 * np.abs(expected).max())
        assert np.allclose(rough.sample_inputs(np.random.default_rng(6))[key], expected[0], atol=1e-12)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_a_band_limited_field_is_the_fourier_interpolant_of_the_coarse_one(dimensions):
    distribution = GaussianField(2.0, 5.0, 25.0)
    axes = (-2, -1)[-dimensions:]
    for band, points in ((16, 40), (15, 33)):
        coarse = distribution.draw(np.random.default_rng(2), band, dimensions)
        fine = distribution.draw(np.random.default_rng(2), points, dimensions, band=band)
        assert np.allclose(fine, resample(coarse, points, axes), atol=1e-13)


def test_refining_the_solver_changes_only_the_accuracy():
    for name, parameters in (("reaction_diffusion", {"nu": 0.5}), ("burgers", {"viscosity": 0.05})):
        a, b = (
            make_system(name, {"resolution": 32, "frames": 1, "refine": r, **parameters}).solve(
                np.random.default_rng(2)
            )["u"]
            for r in (2, 4)
        )
        assert np.allclose(a[0], b[0], atol=1e-9) and relative(a[1], b[1]) < 1e-6


def test_stored_height_and_wind_determine_the_flow_on_the_sphere():
    class Restarted(ShallowWater):
        def initial_state(self, latitude, longitude):
            coriolis, _, _, _, mountain = super().initial_state(latitude, longitude)
            height, u, v = (
                stored[name][0] for name in ("height", "u_component_of_wind", "v_component_of_wind")
            )
            return coriolis, u, v, height, mountain

    parameters = {"case": "williamson5", "resolution": 16, "duration": 0.5, "frames": 2}
    stored = ShallowWater(**parameters).solve(np.random.default_rng(0))
    solved = Restarted(**parameters).solve(np.random.default_rng(0))
    assert all(relative(solved[name], stored[name]) < 1e-9 for name in stored)


def test_an_unresolved_stored_solution_is_reported_once(caplog):
    _warn_once.cache_clear()
    system = line.Burgers(initial="standard", viscosity=0.002, resolution=32, frames=2)
    with caplog.at_level(logging.WARNING):
        system.solve(np.random.default_rng(0))
        system.solve(np.random.default_rng(0))
        line.Burgers(initial="standard", viscosity=0.05, resolution=32, frames=2).solve(
            np.random.default_rng(0)
        )
    assert caplog.text.count("32 points do not resolve") == 1 and "use resolution=64" in caplog.text


# Coefficients of steady diffusion


@pytest.mark.parametrize("refine", [1, 2, 3, 4])
def test_values_at_nodes_determine_the_coefficient_between_them(refine):
    a = np.exp(np.random.default_rng(0).standard_normal((9, 9)))
    smooth = bilinear_in_logarithm(a, refine)
    assert smooth.shape == (8 * refine + 1,) * 2 and np.allclose(smooth[::refine, ::refine], a)
    _, west = conductances_of_cells(a, refine)
    assert np.allclose(conductances_of_cells(a.T, refine)[0], west.T)
    along = 1 / west[refine - 1 :: refine] / refine  # of faces between the coarse nodes of a row, in series
    assert np.allclose(along.reshape(7, 8, refine).sum(axis=2), (1 / a[1:-1, 1:] + 1 / a[1:-1, :-1]) / 2)
    layers = np.exp(np.arange(9.0) % 3)[:, None] * np.ones(9)  # flow along layers: conductances in parallel
    across = conductances_of_cells(layers, refine)[1][:, 0]
    inner = across[refine // 2 : len(across) - refine // 2] if refine > 1 else across
    assert inner.min() == pytest.approx(1) and inner.max() == pytest.approx(np.exp(2))
    assert np.allclose(conductances_of_cells(np.full((5, 5), 3.0), refine)[0], 3)
    slope = np.exp(np.linspace(0, 2, 9)[:, None] * np.ones(9))
    assert np.allclose(bilinear_in_logarithm(slope, refine)[:, 0], np.exp(np.linspace(0, 2, 8 * refine + 1)))


@pytest.mark.parametrize("name", ["darcy", "heat_conduction"])
def test_a_finer_solver_converges_to_the_solution_of_the_stored_coefficient(name):
    solved = {
        r: make_system(name, {"resolution": 13, "refine": r}).solve(np.random.default_rng(5))
        for r in (1, 3, 5, 9)
    }
    a, u = solved[1]
    assert all(np.array_equal(s[a], solved[1][a]) for s in solved.values())
    assert np.array_equal(solved[1][u], steady_state(solved[1][a], np.ones((13, 13))))
    errors = [relative(solved[r][u], solved[9][u]) for r in (1, 3, 5)]
    assert errors[1] < 0.4 * errors[0] and errors[2] < 0.5 * errors[1] and errors[2] < 2e-3
    for s in solved.values():
        edge = np.concatenate([s[u][0], s[u][-1], s[u][:, 0], s[u][:, -1]])
        assert (edge == 0).all() and s[u][1:-1, 1:-1].min() > 0


# Stores


def test_a_run_of_another_solver_revision_is_not_resumed(tmp_path, monkeypatch):
    parameters = {"resolution": 16, "duration": 0.5, "frames": 2}
    monkeypatch.setattr(module, "REVISION", 1)
    monkeypatch.setattr(module, "consolidate", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        simulate("burgers", tmp_path / "a.zarr", parameters, samples=2)
    monkeypatch.undo()
    seen = []
    simulate(
        "burgers", tmp_path / "a.zarr", parameters, samples=2, progress=lambda *text: seen.append(text[0])
    )
    assert seen[0] == 0 and xr.open_zarr(tmp_path / "a.zarr").attrs["revision"] == "3"
