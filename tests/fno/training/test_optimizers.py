"""Muon and SOAP equal float64 references; weight decay of selected parameters; restored states."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from fourcaster.fno import AFNO, FNO, SFNO, TFNO
from fourcaster.fno.training import TrainSettings
from fourcaster.fno.training.optimizers import (
    OPTIMIZERS,
    SOAP,
    MatrixLayout,
    Muon,
    OptimizerOptions,
    build_optimizer,
    matrix_layouts,
)
from fourcaster.fno.training.optimizers.muon import orthogonalise
from fourcaster.fno.training.optimizers.options import without_decay
from fourcaster.fno.training.state import optimizer_tensors, restore_optimizer

OPTIONS = OptimizerOptions(learning_rate=0.02, weight_decay=0.1)


def models() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    small = {"in_channels": 2, "out_channels": 2, "hidden_channels": 4, "n_layers": 2}
    return {
        "fno": FNO((4, 5), local=True, norm="layer", **small),
        "tucker": TFNO((4, 4), factorization="tucker", rank=0.5, **small),
        "cp": TFNO((4, 4), factorization="cp", rank=0.5, **small),
        "depthwise": TFNO((4, 4), factorization="depthwise", **small),
        "sfno": SFNO(4, **small),
        "local": SFNO(4, local=True, reference=8, **small),
        "equivariant": SFNO(4, equivariant=True, **small),
        "afno": AFNO((8, 8), (4, 4), in_channels=2, embed_dim=8, depth=1, num_blocks=2),
    }


def gradients(model: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


class OneWeight(nn.Module):
    """The weight of one layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer


def as_matrices(weight: np.ndarray, complex_matrix: bool) -> np.ndarray:
    """Return a weight of shape (stack, rows, [2,] columns) as matrices."""
    return weight[:, :, 0] + 1j * weight[:, :, 1] if complex_matrix else weight


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 3, 7), (2, 7, 3)])
def test_newton_schulz_applies_its_polynomial_to_the_singular_values(dtype, shape):
    g = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    u, s, vh = torch.linalg.svd(g, full_matrices=False)
    s = s / s.square().sum(-1, keepdim=True).sqrt()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    assert torch.allclose(orthogonalise(g), u @ torch.diag_embed(s).to(dtype) @ vh, atol=1e-12)
    assert s.min() > 0.3 and s.max() < 1.3


def test_muon_equals_that_of_torch_on_real_matrices():
    """Up to bfloat16, in which torch computes."""
    ours = nn.Sequential(nn.Linear(12, 20, bias=False), nn.Linear(20, 8, bias=False))
    theirs = copy.deepcopy(ours)
    reference = torch.optim.Muon(
        theirs.parameters(), lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    optimizer = Muon(ours, OPTIONS)
    start = [p.detach().clone() for p in ours.parameters()]
    for step in range(4):
        gradients(ours, step)
        gradients(theirs, step)
        optimizer.step()
        reference.step()
    for p, q, before in zip(ours.parameters(), theirs.parameters(), start, strict=True):
        assert (p - q).norm() < 0.02 * (p - before).norm()


def spectral(kind: str) -> tuple[OneWeight, nn.Parameter, bool]:
    model = models()[kind].double()
    conv = model.blocks[0].conv
    return OneWeight(conv), conv.weight, kind != "equivariant"


@pytest.mark.parametrize("kind", ["sfno", "equivariant"])
def test_muon_orthogonalises_each_mode_as_one_complex_matrix(kind):
    model, weight, complex_matrix = spectral(kind)
    w = as_matrices(weight.detach().numpy().copy(), complex_matrix)
    optimizer = Muon(model, OPTIONS)
    m = np.zeros_like(w)
    for step in range(3):
        gradients(model, step)
        g = as_matrices(weight.grad.numpy().copy(), complex_matrix)
        optimizer.step()
        m = 0.95 * m + 0.05 * g
        nesterov = 0.05 * g + 0.95 * m
        for k in range(len(w)):
            u, s, vh = np.linalg.svd(nesterov[k])
            s /= np.sqrt((s**2).sum())
            for _ in range(5):
                s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
            scale = 0.2 * np.sqrt(4 * (2 if complex_matrix else 1))
            w[k] = (1 - 0.02 * 0.1) * w[k] - 0.02 * scale * (u * s) @ vh
    assert np.allclose(as_matrices(weight.detach().numpy(), complex_matrix), w, atol=1e-12)


@pytest.mark.parametrize("complex_matrix", [True, False])
def test_an_update_of_muon_has_the_root_mean_square_of_adamw(complex_matrix):
    model, weight, _ = spectral("sfno" if complex_matrix else "equivariant")
    before = weight.detach().clone()
    gradients(model, 0)
    Muon(model, OptimizerOptions(learning_rate=1.0)).step()
    assert 0.12 < (weight - before).square().mean().sqrt() < 0.25


def reference_soap(w: np.ndarray, gs: list[np.ndarray], *, lr: float, decay: float, frequency: int):
    """Return a matrix after the steps of SOAP, with plain loops."""
    b1 = b2 = 0.95
    mean_square = (lambda z: (z.real**2 + z.imag**2) / 2) if np.iscomplexobj(w) else np.square
    rows, columns = w.shape
    left = np.zeros((rows, rows), w.dtype)
    right = np.zeros((columns, columns), w.dtype)
    m, v = np.zeros_like(w), np.zeros(w.shape)
    p, q = np.eye(rows), np.eye(columns)
    for t, g in enumerate(gs):
        if t:
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * mean_square(p.conj().T @ g @ q)
            n = (p.conj().T @ m @ q) / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + 1e-8)
            w = (1 - lr * decay) * w - lr * p @ n @ q.conj().T
        left = b2 * left + (1 - b2) * g @ g.conj().T
        right = b2 * right + (1 - b2) * g.conj().T @ g
        if not t:
            p = np.linalg.eigh(left)[1][:, ::-1]
            q = np.linalg.eigh(right)[1][:, ::-1]
        elif t % frequency == 0:
            order = np.argsort(-np.einsum("ij,ik,kj->j", p.conj(), left, p).real)
            v, p = v[order], np.linalg.qr(left @ p[:, order])[0]
            order = np.argsort(-np.einsum("ij,ik,kj->j", q.conj(), right, q).real)
            v, q = v[:, order], np.linalg.qr(right @ q[:, order])[0]
    return w


@pytest.mark.parametrize("kind", ["sfno", "equivariant"])
def test_soap_equals_its_formula_in_float64(kind):
    model, weight, complex_matrix = spectral(kind)
    start = as_matrices(weight.detach().numpy().copy(), complex_matrix)
    optimizer = SOAP(model, OPTIONS, frequency=3)
    gs = []
    for step in range(8):
        gradients(model, step)
        gs.append(as_matrices(weight.grad.numpy().copy(), complex_matrix))
        optimizer.step()
    expected = [
        reference_soap(start[k], [g[k] for g in gs], lr=0.02, decay=0.1, frequency=3)
        for k in range(len(start))
    ]
    assert np.allclose(as_matrices(weight.detach().numpy(), complex_matrix), expected, atol=1e-10)


def test_soap_without_rotation_is_adam():
    model = nn.Sequential(nn.Linear(5, 7, bias=False)).double()
    other = copy.deepcopy(model)
    optimizer = SOAP(model, OPTIONS, largest=2)
    adam = torch.optim.AdamW(other.parameters(), lr=0.02, weight_decay=0.1, betas=(0.95, 0.95))
    gradients(model, 99)
    optimizer.step()  # the first gradient changes nothing
    assert torch.equal(model[0].weight, other[0].weight)
    for step in range(5):
        gradients(model, step)
        gradients(other, step)
        optimizer.step()
        adam.step()
    assert torch.allclose(model[0].weight, other[0].weight, atol=1e-12)


def test_soap_ignores_gradients_of_zero_before_the_first():
    model = nn.Sequential(nn.Linear(3, 4, bias=False))
    other = copy.deepcopy(model)
    optimizers = [SOAP(m, OPTIONS) for m in (model, other)]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizers[0].step()
    for step in range(4):
        for m, optimizer in zip((model, other), optimizers, strict=True):
            gradients(m, step)
            optimizer.step()
    assert torch.equal(model[0].weight, other[0].weight)


@pytest.mark.parametrize("scale", [0.0, 1e-25, 1e-12])
def test_modes_without_a_gradient_stay_finite(scale):
    """Smooth fields have modes whose gradient is zero, or so small that its square is."""
    for optimizer_class in (Muon, SOAP):
        model = models()["sfno"]
        optimizer = optimizer_class(model, OPTIONS)
        for step in range(25):
            gradients(model, step)
            for parameter in model.parameters():
                parameter.grad[-1:] *= scale
            optimizer.step()
        assert all(p.isfinite().all() for p in model.parameters())
        assert all(t.isfinite().all() for t in optimizer_tensors(optimizer).values())


@pytest.mark.parametrize("kind", models())
def test_matrices_of_a_parameter_convert_back(kind):
    layouts = matrix_layouts(models()[kind])
    assert layouts
    for parameter, layout in layouts.items():
        matrices = layout.matrices(parameter)
        assert matrices.shape == layout.shape(parameter)
        assert matrices.is_complex() == (layout.pair is not None)
        assert torch.equal(layout.tensor(matrices, parameter.shape), parameter)


def test_matrices_are_the_weights_of_layers_but_not_of_the_last():
    model = models()["fno"]
    layouts = matrix_layouts(model)
    names = [name for name, p in model.named_parameters() if p in layouts]
    block = ["skip.weight", "mlp.fc1.weight", "mlp.fc2.weight", "conv.weight", "local.matrices"]
    blocks = {f"blocks.{i}.{name}" for i in range(2) for name in block}
    assert set(names) == {"lifting.fc1.weight", "lifting.fc2.weight", "projection.fc1.weight"} | blocks
    assert layouts[model.blocks[0].conv.weight] == MatrixLayout(pair=-2)
    patches = models()["afno"]
    assert matrix_layouts(patches)[patches.patch_embed.proj.weight] == MatrixLayout(flat=True)
    assert patches.pos_embed not in matrix_layouts(patches)


@pytest.mark.parametrize("kind", models())
def test_biases_norms_and_vectors_are_excluded_from_weight_decay(kind):
    model = models()[kind]
    excluded = without_decay(model)
    names = {name for name, p in model.named_parameters() if p in excluded}
    expected = {
        name
        for name, p in model.named_parameters()
        if p.ndim == 1 or name.endswith((".bias", "filter.b1", "filter.b2"))
    }
    assert names == expected


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_alone_shrinks_only_the_parameters_it_applies_to(name):
    model = models()["fno"]
    options = OptimizerOptions(learning_rate=0.1, weight_decay=0.5, decay_all=False)
    optimizer = build_optimizer(name, model, options)
    gradients(model, 0)
    optimizer.step()  # SOAP applies nothing at its first gradient
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    state = copy.deepcopy(optimizer.state_dict())
    other = copy.deepcopy(model)
    undecayed = build_optimizer(name, other, OptimizerOptions(learning_rate=0.1))
    restored = undecayed.state_dict()
    indices = {id(p): i for i, p in enumerate(q for g in optimizer.param_groups for q in g["params"])}
    pairs = dict(zip(map(id, other.parameters()), map(id, model.parameters()), strict=True))
    restored["state"] = {
        i: state["state"][indices[pairs[id(p)]]]
        for i, p in enumerate(q for g in undecayed.param_groups for q in g["params"])
    }
    undecayed.load_state_dict(restored)
    for m in (model, other):
        gradients(m, 1)
    optimizer.step()
    undecayed.step()
    excluded = without_decay(model)
    for (n, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        shrink = 0.0 if p in excluded else 0.1 * 0.5 * before[n]
        assert torch.allclose(p, q - shrink, atol=1e-6), n


def test_fused_adamw_equals_the_default_up_to_rounding():
    results = []
    for fused in (False, True):
        model = models()["sfno"]
        optimizer = build_optimizer("adamw", model, OptimizerOptions(1e-2, 1e-3, fused=fused))
        for step in range(5):
            gradients(model, step)
            optimizer.step()
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.allclose(*results, atol=1e-6)


def test_default_optimizer_is_adamw_of_all_parameters():
    """Whose steps have the bits of the first version."""
    settings = TrainSettings()
    one = models()["sfno"]
    other = copy.deepcopy(one)
    optimizer = build_optimizer(settings.optimizer, one, settings.optimizer_options)
    first = torch.optim.AdamW(other.parameters(), lr=2e-3, weight_decay=1e-4, betas=(0.9, 0.95))
    for step in range(3):
        gradients(one, step)
        gradients(other, step)
        optimizer.step()
        first.step()
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["fno", "sfno", "afno"])
def test_a_restored_optimizer_continues_with_the_same_bits(name, kind, fused):
    model = models()[kind]
    options = OptimizerOptions(0.01, 0.1, decay_all=False, fused=fused)
    optimizer = build_optimizer(name, model, options)
    for step in range(12):
        gradients(model, step)
        optimizer.step()
    other = copy.deepcopy(model)
    restored = build_optimizer(name, other, options)
    restore_optimizer(restored, copy.deepcopy(optimizer_tensors(optimizer)))
    for step in range(12, 24):
        for m, o in ((model, optimizer), (other, restored)):
            gradients(m, step)
            o.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def test_states_of_soap_that_do_not_fit_are_refused():
    model = models()["sfno"]
    optimizer = build_optimizer("soap", model, OPTIONS)
    gradients(model, 0)
    optimizer.step()
    whole = optimizer_tensors(optimizer)
    key = next(name for name in whole if name.endswith("left_basis"))
    with pytest.raises(ValueError, match="fit no parameter"):
        restore_optimizer(optimizer, whole | {key: whole[key][:, :-1]})
    with pytest.raises(ValueError, match="not those of all parameters"):
        restore_optimizer(optimizer, {name: t for name, t in whole.items() if name != key})
    with pytest.raises(ValueError, match="fit no parameter"):
        restore_optimizer(build_optimizer("muon", model, OPTIONS), whole)


class Other(torch.optim.Optimizer):
    """An optimizer of another package, which keeps numbers."""

    def __init__(self, parameters, extra=None):
        super().__init__(parameters, {"lr": 0.1})
        self.extra = extra

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                state.update(step=state.get("step", 0) + 1, scale=0.1, warm=True, window=torch.zeros(3, 2))
                if self.extra is not None:
                    state["extra"] = self.extra


def test_numbers_in_the_state_of_other_optimizers_keep_their_type():
    model = nn.Linear(2, 2)
    optimizer = Other(model.parameters())
    optimizer.step()
    restored = Other(model.parameters())
    restore_optimizer(restored, optimizer_tensors(optimizer))
    state = restored.state[model.weight]
    assert (state["step"], state["scale"], state["warm"]) == (1, 0.1, True)
    assert [type(state[name]) for name in ("step", "scale", "warm")] == [int, float, bool]
    assert state["window"].shape == (3, 2)
    broken = Other(model.parameters(), extra=[1, 2])
    broken.step()
    with pytest.raises(ValueError, match="Other keeps 'extra' as a list, which cannot be saved"):
        optimizer_tensors(broken)


def test_parameters_that_are_not_used_need_no_state():
    model = nn.ModuleDict({"used": nn.Linear(2, 2), "unused": nn.Linear(2, 2)})
    for name in OPTIMIZERS:
        optimizer = build_optimizer(name, model, OPTIONS)
        model.zero_grad()
        gradients(model["used"], 0)
        optimizer.step()
        restore_optimizer(build_optimizer(name, model, OPTIONS), optimizer_tensors(optimizer))


def test_a_closure_is_refused():
    with pytest.raises(ValueError, match="Muon takes no closure"):
        Muon(nn.Linear(2, 2), OPTIONS).step(lambda: 0.0)
