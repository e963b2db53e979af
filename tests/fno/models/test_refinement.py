"""Resolution independence: padded models converge under grid refinement, at the documented order."""

import itertools

import pytest
import torch
from scipy.interpolate import make_interp_spline

from fourcaster.fno import FNO, ModesError


def coordinates(n, periodic, edge="node"):
    j = torch.arange(n, dtype=torch.float64)
    return j / n if periodic else j / (n - 1) if edge == "node" else (j + 0.5) / n


def output(model, sizes, periodic, edge="node"):
    """Return the output of a model for the same smooth function on any grid, and the axes of the grid."""
    axes = [coordinates(n, p, edge) for n, p in zip(sizes, periodic, strict=True)]
    grid = torch.meshgrid(*axes, indexing="ij")
    waves = [
        torch.sin(2 * torch.pi * x) if p else x**2 - 0.3 * x for x, p in zip(grid, periodic, strict=True)
    ]
    x = torch.stack([sum(waves), torch.cos(1.3 * waves[0]) * torch.exp(0.4 * waves[-1])])[None]
    with torch.no_grad():
        return model(x)[0].numpy(), axes


def difference(model, sizes, fine, periodic, edge="node"):
    """Return the largest difference from the output on a finer grid, by splines of degree five."""
    y, axes = output(model, sizes, periodic, edge)
    reference, fine_axes = output(model, fine, periodic, edge)
    for d, (p, x, new) in enumerate(zip(periodic, fine_axes, axes, strict=True)):
        if p:  # the grids are nested
            reference = reference.take(range(0, fine[d], fine[d] // sizes[d]), axis=d + 1)
        else:
            reference = make_interp_spline(x.numpy(), reference, k=5, axis=d + 1)(new.numpy())
    return float(abs(y - reference).max() / abs(reference).max())


def padded_model(dimensions, reference, padding, **options):
    torch.manual_seed(1)
    return (
        FNO(
            (5,) * dimensions,
            2,
            1,
            hidden_channels=8,
            n_layers=2,
            domain_padding=padding,
            reference_size=reference,
            **options,
        )
        .double()
        .eval()
    )


OPTIONS = [
    {},
    {"positions": True},
    {"activation": "alias_free", "positions": True},
    {"activation": "alias_free", "positions": True, "local": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("reference", [(17,), (24,), None])
def test_padded_fno_converges_at_second_order(reference, options):
    model = padded_model(1, reference, 0.25, **options)
    errors = {n: difference(model, [n], [1025], [False]) for n in (17, 24, 25, 33, 50, 65, 97, 130, 193)}
    assert errors[17] > 1e-7  # far above round-off
    scaled = {n: error * n**2 for n, error in errors.items()}
    coarse = max(scaled[n] for n in (17, 24, 25))
    assert all(scaled[n] < 1.5 * coarse for n in scaled), scaled


@pytest.mark.parametrize(
    ("options", "ratio"),
    [
        ({}, 3),
        ({"activation": "alias_free", "local": True}, 3),
        # The coordinate of a periodic axis jumps from one to zero, so that the order along it is one.
        ({"activation": "alias_free", "local": True, "positions": True}, 1.8),
    ],
)
def test_padded_fno_converges_in_two_dimensions_with_one_periodic_axis(options, ratio):
    model = padded_model(2, (17, 16), (0.2, 0.0), **options)
    for n in (24, 25, 33, 50):
        coarse, fine = (
            difference(model, size, [385, 256], [False, True]) for size in ([n, 32], [2 * n - 1, 64])
        )
        assert fine < coarse / ratio, (n, coarse, fine)


def test_padded_fno_converges_in_two_dimensions_without_periodic_axes():
    model = padded_model(2, (17, 20), (0.25, 0.1), activation="alias_free", local=True, positions=True)
    for size in ((24, 25), (25, 50), (33, 20)):
        coarse, fine = (
            difference(model, s, [257, 257], [False, False]) for s in (size, [2 * n - 1 for n in size])
        )
        assert fine < coarse / 2.5, (size, coarse, fine)


def test_padded_fno_on_cells_converges_at_first_order():
    model = padded_model(1, (16,), 0.25, edges="cell", positions=True)
    errors = [difference(model, [n], [1024], [False], "cell") for n in (24, 50, 101, 202)]
    assert all(a / b > 1.6 for a, b in itertools.pairwise(errors))


def test_the_reference_grid_determines_the_period_and_the_input_grid_the_modes():
    x = torch.randn(1, 2, 17, 17)
    models = [padded_model(2, size, 0.25).float() for size in ((17, 17), None)]
    assert models[0].periods[0].points(17) == 24 and models[1].periods[0].points(17) == 20
    assert [m(x).shape for m in models] == [(1, 1, 17, 17)] * 2
    with pytest.raises(ModesError, match="cannot resolve"):
        models[0](torch.zeros(1, 2, 17, 3))
    for name, value in (("reference_size", (17,)), ("edges", ("node",))):
        with pytest.raises(ValueError, match=f"{name} has 1 entries"):
            FNO((4, 4), 1, 1, domain_padding=0.1, **{name: value})


@pytest.mark.parametrize(
    "options", [{}, {"local": True, "positions": True, "activation": "alias_free"}], ids=str
)
@pytest.mark.filterwarnings("ignore::fourcaster.fno.ResolutionWarning")
def test_training_on_several_grids_does_not_change_the_period(options):
    model = padded_model(1, (17,), 0.25, **options).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for n in (17, 24, 33) * 3:
        x = coordinates(n, False)[None, None]
        loss = (model(torch.cat([x, x**2], 1)) - torch.sin(3 * x)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    scaled = [difference(model, [n], [1025], [False]) * n**2 for n in (17, 25, 50, 65, 130)]
    assert all(s < 1.5 * max(scaled[:2]) for s in scaled), scaled
