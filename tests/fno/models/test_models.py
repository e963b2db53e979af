"""Models: output grids, errors and warnings, compilation, precision, grid refinement, learning."""

import warnings

import pytest
import torch

from fourcaster.fno import AFNO, FNO, SFNO, TFNO, InputError, ModesError, ResolutionWarning
from fourcaster.fno.layers.patches import interpolation_matrix
from fourcaster.fno.models.base import mark_trained

MODELS = {
    "fno": (lambda: FNO((6, 6), 2, 3, hidden_channels=8, n_layers=2), (13, 18)),
    "fno-1d": (lambda: FNO((6,), 2, 3, hidden_channels=8, n_layers=2), (19,)),
    "fno-3d": (lambda: FNO((4, 4, 4), 2, 3, hidden_channels=6, n_layers=2), (7, 8, 9)),
    "fno-padded": (
        lambda: FNO(
            (5, 5),
            2,
            3,
            hidden_channels=8,
            n_layers=2,
            domain_padding=(0.25, 0),
            reference_size=(9, 12),
            local=True,
            activation="alias_free",
        ),
        (14, 18),
    ),
    "fno-cosine": (
        lambda: FNO(
            (5, 5),
            2,
            3,
            hidden_channels=8,
            n_layers=2,
            series="cosine",
            local="stencil",
            reference_size=(7, 18),
            input_injection=True,
        ),
        (13, 18),
    ),
    "tfno": (lambda: TFNO((6, 6), 2, 3, hidden_channels=8, n_layers=2, rank=0.4), (13, 18)),
    "tfno-cp": (
        lambda: TFNO((6, 6), 2, 3, hidden_channels=8, n_layers=2, factorization="cp", rank=0.4),
        (13, 18),
    ),
    "sfno": (lambda: SFNO(6, 2, 3, hidden_channels=8, n_layers=2), (13, 24)),
    "sfno-local": (
        lambda: SFNO(
            12, 2, 3, hidden_channels=8, n_layers=2, analysis="least_squares", local=True, reference=13
        ),
        (13, 24),
    ),
    "afno": (
        lambda: AFNO((16, 24), (4, 4), in_channels=2, out_channels=3, embed_dim=8, depth=2, num_blocks=2),
        (16, 24),
    ),
}


def waves(n, factor=1, dimensions=2):
    """Return a band-limited field, the same function at every n."""
    axes = [
        2 * torch.pi * torch.arange(round(n * factor), dtype=torch.float64) / round(n * factor)
    ] * dimensions
    coordinates = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([torch.sin(2 * coordinates[0] + coordinates[-1]), torch.cos(3 * coordinates[-1])])[
        None
    ]


@pytest.mark.parametrize("name", MODELS)
def test_models_keep_the_grid_and_use_all_parameters(name):
    make, size = MODELS[name]
    model = make()
    y = model(torch.randn(2, 2, *size))
    assert y.shape == (2, 3, *size)
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert not any(p.is_complex() for p in model.parameters())


@pytest.mark.parametrize("name", ["fno", "fno-padded", "fno-cosine", "tfno-cp", "sfno", "afno"])
def test_models_compile_to_one_graph(name):
    torch._dynamo.reset()  # the compiler limits the graphs of one function
    torch.manual_seed(0)
    make, size = MODELS[name]
    model, x = make(), torch.randn(2, 2, *size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        y = compiled(x)
    assert torch.allclose(y, model(x), atol=1e-5)
    grads = [torch.autograd.grad(out.square().sum(), list(model.parameters())) for out in (y, model(x))]
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(*grads, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_models_compile_to_machine_code(name):
    torch._dynamo.reset()  # the compiler limits the graphs of one function
    torch.manual_seed(0)
    make, size = MODELS[name]
    model, x = make(), torch.randn(2, 2, *size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = torch.compile(model, fullgraph=True)(x)
    assert torch.allclose(y, model(x), atol=1e-4)


@pytest.mark.parametrize("name", ["fno", "tfno", "sfno", "afno"])
def test_models_run_in_bfloat16(name):
    torch.manual_seed(0)
    make, size = MODELS[name]
    model, x = make(), torch.randn(2, 2, *size)
    with torch.autocast("cpu", torch.bfloat16):
        y = model(x)
    assert y.dtype == torch.bfloat16
    assert (y.float() - model(x)).norm() < 0.05 * model(x).norm()


@pytest.mark.parametrize(("make", "dimensions"), [(FNO, 1), (FNO, 2), (FNO, 3), (TFNO, 2)])
@pytest.mark.parametrize(("activation", "tolerance"), [("gelu", 1e-2), ("alias_free", 1e-10)])
def test_fnos_converge_under_refinement_of_the_grid(make, dimensions, activation, tolerance):
    torch.manual_seed(0)
    n = 16 if dimensions < 3 else 10
    model = (
        make((4,) * dimensions, 2, 1, hidden_channels=8, n_layers=2, activation=activation).double().eval()
    )
    outs = [
        model(waves(n, factor, dimensions))[(..., *[slice(None, None, int(2 * factor))] * dimensions)]
        for factor in (1, 1.5, 2, 3)
    ]
    for out in outs[:-1]:
        assert (out - outs[-1]).norm() < tolerance * outs[-1].norm()
    if activation == "gelu":
        errors = [(out - outs[-1]).norm().item() for out in outs[:-1]]
        assert errors[0] > errors[2]  # aliasing falls as the grid is refined


@pytest.mark.parametrize("options", [{}, {"local": True, "reference": 8, "analysis": "least_squares"}])
@pytest.mark.parametrize("grid", ["equiangular", "legendre-gauss", "equiangular-no-poles"])
def test_the_sfno_converges_under_refinement_of_the_grid(grid, options):
    from fourcaster.fno import InverseRealSHT, RealSHT

    torch.manual_seed(0)
    model = SFNO(6, 2, 1, hidden_channels=8, n_layers=2, grid=grid, **options).double().eval()
    z = torch.randn(2, 4, 4, dtype=torch.complex128).tril()
    z[..., 0] = z[..., 0].real.to(z.dtype)
    outs = []
    for nlat, nlon in ((17, 32), (25, 48), (33, 64), (49, 96)):
        y = model(InverseRealSHT(nlat, nlon, 4, mmax=4, grid=grid)(z)[None])
        outs.append(RealSHT(nlat, nlon, 6, mmax=6, grid=grid)(y))
    errors = [((out - outs[-1]).norm() / outs[-1].norm()).item() for out in outs[:-1]]
    first, last = (1e-3, 1e-6) if not options else (3e-3, 3e-4)  # cubic interpolation between rows
    assert errors[0] < first and errors[2] < last


def test_invalid_inputs_and_options_are_refused_with_a_reason(monkeypatch):
    model = FNO((8, 8), 2, 1, hidden_channels=4, n_layers=1)
    with pytest.raises(ModesError, match="cannot resolve"):
        model(torch.zeros(1, 2, 7, 9))
    with pytest.raises(InputError, match=r"expected a tensor of shape \(batch, 2, n, n\)"):
        model(torch.zeros(1, 3, 9, 9))
    with pytest.raises(InputError, match="expected a tensor"):
        model(torch.zeros(2, 9, 9))
    bad = torch.zeros(1, 2, 9, 9)
    bad[0, 1, 3, 4] = torch.nan
    model(bad)
    monkeypatch.setenv("FOURCASTER_DEBUG", "1")
    with pytest.raises(InputError, match="channel 1 contains NaN or infinity"):
        model(bad)
    with pytest.raises(ModesError, match="is smaller than a patch"):
        AFNO((8, 8), (8, 8), in_channels=1, out_channels=1, embed_dim=8, depth=1, num_blocks=2)(
            torch.zeros(1, 1, 4, 8)
        )
    with pytest.raises(ModesError, match="degrees"):
        SFNO(8, 1, 1, hidden_channels=4, n_layers=1)(torch.zeros(1, 1, 9, 16))
    for make in (lambda: FNO((4, 4), 1, 1, n_layers=0), lambda: SFNO(4, 1, 1, n_layers=0)):
        with pytest.raises(ValueError, match="n_layers"):
            make()
    with pytest.raises(ValueError, match="domain_padding has 1 entries"):
        FNO((4, 4), 1, 1, domain_padding=(0.1,))
    with pytest.raises(ValueError, match="activation: not an option of SFNO"):
        SFNO(4, 1, 1, activation="alias_free")
    with pytest.raises(ValueError, match="local needs reference"):
        SFNO(4, 1, 1, local=True)
    with pytest.raises(ValueError, match="not equivariant: use local or equivariant"):
        SFNO(4, 1, 1, local=True, reference=8, equivariant=True)
    with pytest.raises(ValueError, match="does not fit a grid"):
        AFNO((8, 8), (16, 16))


def test_a_grid_outside_the_training_range_gives_a_warning():
    model = FNO((4, 4), 1, 1, hidden_channels=4, n_layers=1)
    model.train()
    model(torch.zeros(1, 1, 12, 12))
    model(torch.zeros(1, 1, 16, 16))
    model.eval()
    model(torch.zeros(1, 1, 14, 16))
    with pytest.warns(
        ResolutionWarning,
        match=r"\(24, 24\) points lies outside what the model was trained on, \(12, 12\) to \(16, 16\)",
    ):
        model(torch.zeros(1, 1, 24, 24))
    mark_trained(model, (24, 24))
    model(torch.zeros(1, 1, 24, 24))


@pytest.mark.parametrize("mode", ["continued", "zero", "reflect"])
def test_padding_is_removed_from_the_output(mode):
    model = FNO((4, 4), 1, 2, hidden_channels=6, n_layers=2, domain_padding=(0.3, 0.0), padding_mode=mode)
    x = torch.randn(1, 1, 15, 12)
    y = model(x)
    assert y.shape == (1, 2, 15, 12)
    assert torch.allclose(model(x.roll(4, 3)), y.roll(4, 3), atol=1e-5)  # the periodic axis
    assert not torch.allclose(model(x.roll(4, 2)), y.roll(4, 2), atol=1e-3)


def test_a_resized_afno_has_the_tokens_of_the_original():
    torch.manual_seed(0)
    model = AFNO((16, 24), (4, 4), in_channels=2, out_channels=3, embed_dim=8, depth=2, num_blocks=2).eval()
    assert model(torch.randn(1, 2, 18, 25)).shape == (1, 3, 18, 25)
    same = model.resized((16, 24))
    x = torch.randn(1, 2, 16, 24)
    assert torch.allclose(same(x), model(x), atol=1e-5)
    # With twice the points and twice the patch, patchwise interpolated fields have the original tokens.
    twice = model.resized((32, 48))
    assert twice.patch_size == (8, 8) and twice.tokens == model.tokens
    up = interpolation_matrix((4, 4), (8, 8)).float()

    def enlarge(field):
        patches = field.unflatten(2, (4, 4)).unflatten(4, (6, 4)).permute(0, 1, 2, 4, 3, 5).flatten(4) @ up.T
        return patches.unflatten(-1, (8, 8)).permute(0, 1, 2, 4, 3, 5).flatten(4, 5).flatten(2, 3)

    assert torch.allclose(twice.patch_embed(enlarge(x)), model.patch_embed(x), atol=1e-5)
    assert torch.allclose(twice(enlarge(x)), enlarge(model(x)), atol=1e-4)


@pytest.mark.parametrize("shape", [(25, 53), (24, 48), (9, 8), (181, 360)])
def test_the_afno_keeps_the_grid_for_odd_and_even_sizes(shape):
    model = AFNO(shape, (4, 4), in_channels=2, out_channels=3, embed_dim=8, depth=1, num_blocks=2)
    assert model(torch.randn(1, 2, *shape)).shape == (1, 3, *shape)


def test_fno_learns_a_shift():
    torch.manual_seed(0)
    model = FNO((8, 8), 1, 1, hidden_channels=12, n_layers=2)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    x = torch.nn.functional.interpolate(torch.randn(16, 1, 4, 4), (16, 18), mode="bicubic")
    target = x.roll(3, 3)
    losses = []
    for _ in range(60):
        loss = (model(x) - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_unknown_edges_are_rejected_with_and_without_padding(margin):
    with pytest.raises(ValueError, match="unknown edge 'periodic'; use 'node' or 'cell'"):
        FNO((4, 4), 2, 1, hidden_channels=4, domain_padding=margin, edges=("cell", "periodic"))
