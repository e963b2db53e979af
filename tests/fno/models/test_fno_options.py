"""Options of the FNO: cosine series, stencils, injected input, blocks without outer activation."""

import numpy as np
import pytest
import torch

from fourcaster.fno import FNO, TFNO, InputError
from fourcaster.fno.grids import Box, LatLon
from fourcaster.fno.layers.padding import Period

SMALL = {"hidden_channels": 6, "n_layers": 2}


def even(x):
    """Return the even continuation of fields on nodes to periodic ones of twice the length."""
    for d in range(2, x.ndim):
        x = torch.cat([x, x.narrow(d, 1, x.shape[d] - 2).flip(d)], dim=d)
    return x


def smooth(n):
    """Return a smooth field on n x n nodes from edge to edge, the same function at every n."""
    z = torch.arange(n, dtype=torch.float64) / (n - 1)
    y, x = torch.meshgrid(z, z, indexing="ij")
    first = 0.3 + torch.cos(torch.pi * y) * torch.cos(2 * torch.pi * x)
    return torch.stack([first, torch.cos(torch.pi * y) - 0.5 * torch.cos(torch.pi * x)])[None]


def cosine_model(**options):
    torch.manual_seed(0)
    return FNO((4, 4), 2, 1, **SMALL, series="cosine", **options).double()


def test_cosine_model_is_the_periodic_one_on_the_even_continuation():
    model = cosine_model(reference_size=(9, 9), local="stencil", input_injection=True)
    periodic = FNO(
        (7, 7), 2, 1, **SMALL, reference_size=(16, 16), local="stencil", input_injection=True
    ).double()
    weights = dict(model.state_dict())
    for i in range(2):
        weight = weights[f"blocks.{i}.conv.weight"].reshape(4, 4, 6, 6)
        both = torch.zeros(7, 4, 6, 2, 6, dtype=torch.float64)
        both[..., 0, :] = weight[[3, 2, 1, 0, 1, 2, 3]]
        weights[f"blocks.{i}.conv.weight"] = both
        for each in (model, periodic):  # stencils that are even, as the continuation is
            kernel = each.blocks[i].local.weight.data
            kernel.copy_((kernel + kernel.flip(-1) + kernel.flip(-2) + kernel.flip(-1, -2)) / 4)
        weights[f"blocks.{i}.local.weight"] = model.blocks[i].local.weight.data
    periodic.load_state_dict(weights)
    x = torch.randn(2, 2, 9, 9, dtype=torch.float64)
    torch.testing.assert_close(model(x), periodic(even(x))[..., :9, :9])


@pytest.mark.parametrize("local", [False, "stencil"])
def test_cosine_model_is_the_same_function_on_refined_grids(local):
    model = cosine_model(reference_size=(17, 17), local=local, input_injection=True).eval()
    outputs = [model(smooth(n))[..., :: (n - 1) // 16, :: (n - 1) // 16] for n in (17, 33, 65)]
    size = outputs[0].std()
    first, second = ((b - a).abs().max() / size for a, b in zip(outputs[:-1], outputs[1:], strict=True))
    assert size > 0 and first < 1e-4
    assert second < 0.3 * first + 1e-12  # at least second order: a stencil alone is not even at edges


@pytest.mark.parametrize("margins", [(0.0, 0.0), (0.2, 0.0), (0.3, 0.2)])
def test_stencil_depends_on_the_points_of_the_reference_grid_alone(margins):
    model = FNO((4, 4), 2, 1, **SMALL, domain_padding=margins, reference_size=(9, 8), local="stencil")
    model = model.double()
    sizes = [3 * (n - 1) + 1 if p else 3 * n for p, n in zip(model.periods, (9, 8), strict=True)]
    fine = torch.randn(1, 6, *sizes, dtype=torch.float64)
    coarse = fine[..., ::3, ::3]
    assert coarse.shape[2:] == (9, 8)
    local = model.blocks[0].local
    results = [local(model._extend(x, model.periods)) for x in (fine, coarse)]
    torch.testing.assert_close(results[0][..., ::3, ::3], results[1])


def test_stencil_on_a_grid_that_does_not_contain_the_reference_is_refused():
    model = FNO((4, 4), 2, 1, **SMALL, reference_size=(8, 8), local="stencil")
    assert model(torch.randn(1, 2, 16, 8)).shape == (1, 1, 16, 8)
    with pytest.raises(InputError, match=r"\(12, 8\) points does not contain the reference grid of \(8, 8\)"):
        model(torch.randn(1, 2, 12, 8))


def test_stencil_on_edges_without_margin_continues_fields_evenly():
    options = {"n_modes": (5,), "in_channels": 1, "out_channels": 1, "local": "stencil"}
    periodic = FNO(**options, **SMALL, reference_size=(8,))
    edges = FNO(**options, **SMALL, reference_size=(9,), periodic=(False,))
    assert periodic.blocks[0].local.periodic == (True,) and periodic.blocks[0].local.reference == (8,)
    assert edges.blocks[0].local.periodic == (False,) and edges.blocks[0].local.reference == (8,)
    assert edges(torch.randn(1, 1, 17)).shape == (1, 1, 17)


@pytest.mark.parametrize("options", [{}, {"domain_padding": (0.25, 0.0), "positions": True}])
def test_injection_with_zero_weights_changes_nothing(options):
    plain = FNO((4, 4), 2, 1, **SMALL, **options).double()
    model = FNO((4, 4), 2, 1, **SMALL, **options, input_injection=True).double()
    x = torch.randn(2, 2, 9, 8, dtype=torch.float64)
    assert not set(plain.state_dict()) - set(model.state_dict())
    model.load_state_dict(plain.state_dict(), strict=False)
    assert not torch.allclose(model(x), plain(x))
    for layer in model.injections:
        torch.nn.init.zeros_(layer.weight)
    assert torch.equal(model(x), plain(x))


def test_injection_adds_the_input_before_every_block():
    model = FNO((4,), 2, 1, **SMALL, input_injection=True, domain_padding=0.25, reference_size=(9,)).double()
    a = torch.randn(1, 2, 9, dtype=torch.float64)
    period = model.periods[0]
    assert isinstance(period, Period)
    h = period.extend(model.lifting(a), 2)
    for layer, block in zip(model.injections, model.blocks, strict=True):
        h = block(h + period.extend(layer(a.movedim(1, -1)).movedim(-1, 1), 2), (9,))
    torch.testing.assert_close(model(a), model.projection(period.restrict(h, 2, 9)))


def test_without_outer_activation_blocks_of_zero_weights_are_the_identity():
    for outer in (True, False):
        model = FNO((4,), 2, 1, **SMALL, outer_activation=outer).double()
        for name, parameter in model.blocks.named_parameters():
            if "gate" not in name:
                torch.nn.init.zeros_(parameter)
        a = torch.randn(1, 2, 9, dtype=torch.float64)
        same = torch.equal(model(a), model.projection(model.lifting(a)))
        assert same is not outer


@pytest.mark.parametrize("kind", [FNO, TFNO])
def test_default_options_have_the_parameters_and_random_numbers_of_none(kind):
    states = []
    for options in (
        {},
        {"series": "fourier", "local": False, "input_injection": False, "outer_activation": True},
        {"periodic": (True, True)},
    ):
        torch.manual_seed(3)
        states.append(kind((4, 4), 2, 1, **SMALL, **options).state_dict())
    for state in states[1:]:
        assert list(state) == list(states[0])
        assert all(torch.equal(state[name], states[0][name]) for name in state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"periodic": (False, True)}, r"periodic=\(False, True\); use series='fourier'"),
        ({"edges": ("node", "cell")}, "cell centres.*use series='fourier'"),
        ({"domain_padding": 0.2}, r"domain_padding=\(0.2, 0.2\); set domain_padding to 0"),
        ({"factorization": "cp"}, "factorization='cp'; use an FNO with dense weights"),
        ({"activation": "alias_free"}, "activation='alias_free'; use 'gelu'"),
        ({"method": "dft"}, "method='dft'; leave it out"),
        ({"series": "chebyshev"}, "unknown series 'chebyshev'; use 'fourier' or 'cosine'"),
        ({"local": "stencil"}, "a stencil needs reference_size"),
        ({"local": "kernel"}, "unknown local 'kernel'; use True, False or 'stencil'"),
        (
            {"series": "fourier", "local": "stencil", "reference_size": (8, 8), "edges": "cell"}
            | {"periodic": (True, False)},
            "cell centres on a dimension that has edges.*set domain_padding",
        ),
        ({"periodic": (True,)}, "periodic has 1 entries, n_modes has 2"),
        (
            {"series": "fourier", "domain_padding": 0.2, "periodic": (True, False)},
            "a periodic dimension has no margin",
        ),
    ],
)
def test_what_cannot_be_combined_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        FNO((4, 4), 2, 1, **SMALL, **({"series": "cosine"} | options))
    assert "\n" not in str(caught.value)


def test_stencils_have_one_or_two_dimensions_and_factorized_models_no_cosines():
    with pytest.raises(ValueError, match="one or two dimensions"):
        FNO((2, 2, 2), 1, 1, **SMALL, local="stencil", reference_size=(4, 4, 4))
    with pytest.raises(ValueError, match="factorization='tucker'"):
        TFNO((4, 4), 1, 1, **SMALL, series="cosine")


def test_models_are_fitted_to_the_edges_of_a_grid():
    region = LatLon(np.linspace(20, 60, 9), np.arange(0, 100, 5.0))
    channel = Box(("y", "x"), (9, 16), (1.0, 2.0), (False, True))
    options = {"n_modes": (12, 8), "local": "stencil", **SMALL}
    model, (clipping,) = FNO.for_grid(region, 2, 1, series="cosine", **options)
    assert clipping.used == (9, 8) and model.blocks[0].local.reference == (8, 19)
    assert not model(torch.randn(1, 2, 17, 39)).any()
    model, _ = FNO.for_grid(channel, 2, 1, domain_padding=0.25, **options)
    assert model.blocks[0].local.reference == (model.periods[0].points(9), 16)
    with pytest.raises(ValueError, match=r"periodic dimensions.*use series='fourier'"):
        FNO.for_grid(channel, 2, 1, series="cosine", **options)


def test_options_are_printed():
    model = cosine_model(reference_size=(9, 9), local="stencil", input_injection=True)
    assert "series='cosine', local='stencil', input_injection=True, " in repr(model)
    assert "series" not in repr(FNO((4,), 1, 1)) and "local" not in repr(FNO((4,), 1, 1, local=True))
