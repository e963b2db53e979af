"""Layers and models with torch.func, torch.compile, parametrizations, precisions, empty and complex input."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.autograd.forward_ad import dual_level, make_dual, unpack_dual
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vmap
from torch.nn.utils import parametrizations, parametrize, prune

from fourcaster.fno import (
    AFNO,
    AFNO2D,
    FNO,
    SFNO,
    TFNO,
    InputError,
    InverseRealSHT,
    RealSHT,
    SpectralConv,
    SphereCalculus,
    SphericalConv,
)
from fourcaster.fno.grids import Box
from fourcaster.fno.layers.activation import AliasFreeGELU
from fourcaster.fno.layers.blocks import ChannelMLP, InstanceNorm
from fourcaster.fno.layers.linear import linear
from fourcaster.fno.layers.local import FiniteDifference
from fourcaster.fno.layers.modes import mode_product
from fourcaster.fno.models.ensemble import Ensemble
from fourcaster.fno.models.operators import EvolutionOperator, SolutionScales, SteadyOperator
from fourcaster.fno.models.pinn import CoordinateNetwork, TimeWindows
from fourcaster.fno.models.stepper import Scales, Stepper
from fourcaster.fno.physics.evolution import EvolutionEquation
from fourcaster.fno.transforms.fourier import analyse, from_modes, synthesise, to_modes
from fourcaster.fno.transforms.sht import SphereTransform

# Raised by PyTorch's own forward mode.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


class Pack(nn.Module):
    """A module of several arguments, as a function of one tensor."""

    def __init__(self, inner, split):
        super().__init__()
        self.inner, self.split = inner, split

    def forward(self, x):
        return self.inner(*self.split(x))


class Pairs(nn.Module):
    """A spherical transform whose complex coefficients are real pairs in the last dimension."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        y = self.inner(
            torch.view_as_complex(x.float() if x.dtype in (torch.bfloat16, torch.float16) else x)
            if x.shape[-1] == 2
            else x
        )
        return torch.view_as_real(y) if y.is_complex() else y


class Calculus(SphereCalculus):
    def forward(self, x):
        east, north = self.gradient(self.laplacian(self.curl(x, 2 * x)))
        return east + north


def split_state(x):
    """Return anomaly, background and forcing of two steps, for a stepper of two channels and one forcing."""
    background = x[:, 4:8].to(torch.promote_types(x.dtype, torch.float32))
    return (
        x[:, :4].unflatten(1, (2, 2)),
        2e5 + 300 * background.unflatten(1, (2, 2)),
        x[:, 8:].unflatten(1, (2, 1)),
    )


def make_stepper():
    one, grid = torch.ones(2), torch.arange(9 * 12).reshape(1, 9, 12)
    scales = Scales(2e5 * one, 1e3 * one, 100 * one, 30 * one)  # the mean is beyond the largest float16
    return Pack(
        Stepper(
            FNO((4, 4), 11, 2, hidden_channels=4, n_layers=1),
            scales,
            grid / 108,
            mask=(grid % 5 > 0).repeat(2, 1, 1),
        ),
        split_state,
    )


def make_evolution(nodes=2, **coefficients):
    equation = EvolutionEquation("burgers", coefficients, box=Box(("x",), (16,), (1.0,), (True,)), window=0.1)
    names = () if coefficients else ("viscosity",)
    scales = SolutionScales([0.6], parameter_mean=[0.0] * len(names), parameter_std=[1.0] * len(names))
    channels = EvolutionOperator.channels(1, 0, len(names), edges=("periodic",), positions=True)
    model = EvolutionOperator(
        FNO((4,), channels, nodes, hidden_channels=4, n_layers=1),
        scales,
        window=0.1,
        nodes=nodes,
        parameters=names,
        positions=True,
        rates=equation.rates,
    )
    return Pack(model, lambda x: (x, x[:, :0], {name: 0.1 + x.square().mean((1, 2)) for name in names}))


def make_network(**options):
    return CoordinateNetwork(
        {"t": 0.0, "x": 0.0}, {"t": 1.0, "x": 1.0}, ("x",), width=5, depth=2, **options
    ).float()


CONVOLUTIONS = {
    f"conv-{factorization}-{method}": (
        lambda f=factorization, m=method: SpectralConv(4, 4, (4, 3), factorization=f, method=m),
        (2, 4, 7, 6),
    )
    for factorization in ("dense", "depthwise", "cp", "tucker")
    for method in ("dft", "fft")
}
LAYERS = CONVOLUTIONS | {
    "conv-1d": (lambda: SpectralConv(3, 2, (4,)), (2, 3, 9)),
    "conv-3d": (lambda: SpectralConv(3, 2, (4, 3, 2)), (2, 3, 5, 4, 3)),
    "spherical": (lambda: SphericalConv(3, 2, 3), (2, 3, 5, 6)),
    "mixer": (lambda: AFNO2D(4, 2, hidden_size_factor=2), (2, 5, 6, 4)),
    "alias-free": (lambda: AliasFreeGELU((2, 3)), (2, 7, 8, 3)),
    "local": (lambda: FiniteDifference(3, 2, (True, False)), (2, 3, 7, 6)),
    "mlp": (lambda: ChannelMLP(3, 5, 2), (2, 3, 5, 6)),
    "instance-norm": (lambda: InstanceNorm(3), (2, 5, 6, 3)),
    "sht": (lambda: Pairs(RealSHT(5, 8)), (2, 3, 5, 8)),
    "inverse-sht": (lambda: Pairs(InverseRealSHT(6, 8, grid="legendre-gauss", lmax=4)), (2, 4, 4, 2)),
    "calculus": (lambda: Calculus(7, 8), (2, 7, 8)),
}
MODELS = {
    "fno": (lambda: FNO((4, 3), 2, 3, hidden_channels=4, n_layers=2), (2, 2, 7, 6)),
    "fno-1d": (lambda: FNO((4,), 2, 3, hidden_channels=4, n_layers=2), (2, 2, 9)),
    "fno-3d": (lambda: FNO((2, 2, 2), 2, 1, hidden_channels=3, n_layers=1), (2, 2, 4, 5, 3)),
    "fno-cosine": (
        lambda: FNO(
            (3, 3),
            2,
            3,
            hidden_channels=4,
            n_layers=2,
            series="cosine",
            local="stencil",
            reference_size=(4, 6),
            input_injection=True,
            outer_activation=False,
        ),
        (2, 2, 7, 6),
    ),
    "fno-options": (
        lambda: FNO(
            (3, 3),
            2,
            3,
            hidden_channels=4,
            n_layers=1,
            domain_padding=(0.3, 0.0),
            positions=True,
            local=True,
            activation="alias_free",
            norm="instance",
        ),
        (2, 2, 8, 7),
    ),
    "fno-reflect": (
        lambda: FNO(
            (3, 3),
            2,
            3,
            hidden_channels=4,
            n_layers=1,
            domain_padding=0.2,
            padding_mode="reflect",
            norm="layer",
            skip="identity",
        ),
        (2, 2, 8, 7),
    ),
    "tfno": (lambda: TFNO((4, 3), 2, 3, hidden_channels=4, n_layers=2), (2, 2, 7, 6)),
    "tfno-cp": (
        lambda: TFNO((4, 3), 2, 3, hidden_channels=4, n_layers=1, factorization="cp", rank=0.5),
        (2, 2, 7, 6),
    ),
    "sfno": (lambda: SFNO(3, 2, 3, hidden_channels=4, n_layers=2), (2, 2, 5, 6)),
    "sfno-local": (
        lambda: SFNO(
            4, 2, 3, hidden_channels=4, n_layers=1, analysis="least_squares", local=True, reference=5
        ),
        (2, 2, 5, 6),
    ),
    "afno": (
        lambda: AFNO((7, 8), (2, 3), in_channels=2, out_channels=3, embed_dim=4, depth=1, num_blocks=2),
        (2, 2, 7, 8),
    ),
    "ensemble": (
        lambda: Ensemble(
            [
                FNO((3, 3), 2, 1, hidden_channels=4, n_layers=1),
                FNO((3, 3), 2, 1, hidden_channels=4, n_layers=1),
            ]
        ),
        (2, 2, 5, 6),
    ),
    "coordinates": (make_network, (5, 2)),
    "time-windows": (lambda: TimeWindows([make_network(), make_network()]), (5, 2)),
    "evolution": (lambda: make_evolution(viscosity=0.1), (2, 1, 12)),
    "evolution-parameters": (make_evolution, (2, 1, 12)),
    "steady": (
        lambda: Pack(
            SteadyOperator(
                FNO((3, 3), 3, 1, hidden_channels=4, n_layers=1), SolutionScales([0.05], [8.0], [4.0])
            ),
            lambda x: (x[:, :0], x, {}),
        ),
        (2, 1, 6, 7),
    ),
    "stepper": (make_stepper, (2, 10, 9, 12)),
}
MODULES = LAYERS | MODELS
WITH_WEIGHTS = [name for name, (make, _) in MODULES.items() if any(True for _ in make().parameters())]
all_modules = pytest.mark.parametrize("name", MODULES)
with_weights = pytest.mark.parametrize("name", WITH_WEIGHTS)


def sample(name, dtype=torch.float32, seed=0):
    """Return a layer or model in a precision, with an input of order one."""
    torch.manual_seed(seed)
    make, shape = MODULES[name]
    module = make().to(dtype)
    return module, torch.rand(shape, dtype=torch.float64).to(dtype)


def close(a, b, tolerance):
    return (a.double() - b.double()).norm() <= tolerance * b.double().norm()


# Precision.


@all_modules
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, 0.06), (torch.float16, 0.01), (torch.float64, 1e-4)]
)
def test_models_run_in_other_precisions(name, dtype, tolerance):
    module, x = sample(name)
    expected = module(x)
    other, x = module.to(dtype), x.to(dtype)
    y = other(x.requires_grad_())
    assert close(torch.nan_to_num(y), torch.nan_to_num(expected), tolerance)
    returns_single = (
        name in ("sht", "inverse-sht", "calculus") and dtype != torch.float64
    )  # coefficients of half precision do not exist
    assert y.dtype == (torch.float32 if returns_single else dtype)
    y.float().square().mean().backward()
    assert all(
        t.grad is not None and t.grad.dtype == dtype and t.grad.isfinite().all()
        for t in [x, *other.parameters()]
    )


@all_modules
def test_autocast_runs_forward_and_backward(name):
    module, x = sample(name)
    expected = module(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = module(x.requires_grad_())
        y.float().square().mean().backward()
    assert close(y, expected, 0.03)
    assert x.grad.isfinite().all() and all(p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("name", ["sht", "inverse-sht", "calculus", "alias-free", *CONVOLUTIONS])
def test_spectral_operations_are_exact_under_autocast(name):
    module, x = sample(name)
    x.requires_grad_()
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = module(x)
            results.append((y, *torch.autograd.grad(y.square().sum(), x)))
    for a, b in zip(*results, strict=True):
        assert a.dtype == torch.float32
        assert (
            close(a, b, 1e-6) or "cp" in name or "tucker" in name
        )  # gradients by PyTorch's own products follow autocast


def test_dtypes_are_promoted_or_refused():
    conv, x = SpectralConv(2, 2, (3, 3)), torch.rand(1, 2, 5, 6)
    for a, b in [
        (torch.float64, torch.float32),
        (torch.float32, torch.float64),
        (torch.bfloat16, torch.float32),
        (torch.bfloat16, torch.bfloat16),
    ]:
        assert conv.to(b)(x.to(a)).dtype == torch.promote_types(a, b)
    exact = conv.double()(x.float())
    assert close(exact, conv(x.float().double()), 1e-12)  # computed in the precision of the weights
    for name in ("fno", "tfno", "sfno", "afno", "ensemble"):
        model, x = sample(name)
        for wrong in (torch.float64, torch.float16, torch.int64):
            with pytest.raises(
                InputError, match=rf"expected a tensor of torch.float32, the type of the weights, got {wrong}"
            ):
                model(x.to(wrong))
    with torch.autocast("cpu", torch.bfloat16):
        assert (
            FNO((3, 3), 2, 1, hidden_channels=4, n_layers=1)(torch.rand(1, 2, 5, 6).bfloat16())
            .isfinite()
            .all()
        )


def test_scales_keep_full_precision_in_half_precision_models():
    module, x = sample("stepper")
    exact = module(x)
    half = copy.deepcopy(module).half()
    assert (
        half.inner.mean.dtype == torch.float32
        and half.inner.network.lifting.fc1.weight.dtype == torch.float16
    )
    assert torch.equal(half.inner.mean, module.inner.mean)
    window, background, forcing = split_state(x)
    assert close(
        half.inner(window.half(), background, forcing.half()), exact, 1e-2
    )  # backgrounds of 2e5 do not exist in float16
    assert module.double().inner.mean.dtype == torch.float64


def test_a_forecast_in_inference_mode_does_not_break_later_training():
    module, x = sample("evolution")
    with torch.inference_mode():
        expected = module(x)
    y = module(x.requires_grad_())
    y.sum().backward()
    assert torch.equal(y, expected)


@all_modules
def test_complex_input_is_refused(name):
    module, x = sample(name)
    wrong = torch.complex(x, x)
    if name == "inverse-sht":
        module, wrong = module.inner, x[..., 0]
    with pytest.raises(InputError, match=r"float32" if name == "inverse-sht" else r"complex64"):
        module(wrong)


def test_functions_of_real_fields_refuse_complex_ones():
    z = torch.ones(1, 2, 3, 2, 1, dtype=torch.complex128)
    for function in (
        lambda: to_modes(z[0], (3, 2)),
        lambda: linear(z, torch.ones(2, 1)),
        lambda: from_modes(z, (3, 2), (5, 4)),
    ):
        with pytest.raises(InputError, match=r"complex128"):
            function()
    with pytest.raises(InputError, match=r"complex coefficients, got a tensor of torch.float64"):
        SphereCalculus(7, 8).gradient(torch.ones(4, 4, dtype=torch.float64))


@all_modules
def test_an_empty_batch_gives_an_empty_result(name):
    module, x = sample(name)
    module.train()
    y = module(x)
    empty = x[:0].clone().requires_grad_()
    result = module(empty)
    assert result.shape == (0, *y.shape[1:]) and result.dtype == y.dtype
    result.abs().sum().backward()
    assert empty.grad.shape == empty.shape
    assert all(p.grad is None or (p.grad == 0).all() for p in module.parameters())


def test_an_empty_batch_of_large_fields_gives_an_empty_result():
    # Sizes whose first dimension is transformed first, and sizes that use FFTs.
    y = SpectralConv(64, 64, (33, 33))(torch.zeros(0, 64, 128, 128))
    assert y.shape == (0, 64, 128, 128)
    assert SpectralConv(2, 2, (256, 256), method="fft")(torch.zeros(0, 2, 256, 256)).shape == (0, 2, 256, 256)


# torch.func.


@all_modules
def test_function_transforms_agree_with_autograd(name):
    module, x = sample(name, torch.float64)
    v = torch.randn_like(x)
    parameters = {key: p.detach() for key, p in module.named_parameters()}

    def f(x):
        return module(x)

    def loss(parameters, x):
        return (functional_call(module, parameters, (x,)) ** 3).sum()

    # Gradients are those of autograd.
    gradients = grad(loss, argnums=(0, 1))(parameters, x)
    leaf = x.clone().requires_grad_()
    expected = torch.autograd.grad((module(leaf) ** 3).sum(), [*module.parameters(), leaf])
    for a, b in zip([*gradients[0].values(), gradients[1]], expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)
    # Forward mode and forward over reverse agree with difference quotients.
    step = 1e-5
    y, tangent = jvp(f, (x,), (v,))
    assert torch.allclose(y, f(x))
    assert close(tangent, (f(x + step * v) - f(x - step * v)) / (2 * step), 1e-6)
    slope = grad(lambda x: loss(parameters, x))
    assert close(jvp(slope, (x,), (v,))[1], (slope(x + step * v) - slope(x - step * v)) / (2 * step), 1e-5)
    # vmap over instances equals a loop.
    instances = torch.stack([x, 0.5 * x, x.flip(-1)])
    assert torch.allclose(vmap(f)(instances), torch.stack([f(i) for i in instances]))
    assert torch.allclose(
        vmap(f, in_dims=1, out_dims=1)(instances.movedim(0, 1)).movedim(1, 0), vmap(f)(instances)
    )
    assert torch.allclose(vmap(slope)(instances), torch.stack([slope(i) for i in instances]))


@all_modules
def test_jacobians_and_hessians_agree_in_all_modes(name):
    module, x = sample(name, torch.float64)
    v = torch.randn_like(x)

    def few(s):
        return module(x + 0.1 * s[0] * v + s[1] * x).flatten()[-5:]

    s = torch.tensor([0.3, 0.2], dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(few, s)
    assert torch.allclose(jacrev(few)(s), expected) and torch.allclose(jacfwd(few)(s), expected)
    curvature = torch.autograd.functional.hessian(lambda s: (few(s) ** 3).sum(), s)
    for transform in (
        hessian,
        lambda f: jacrev(jacrev(f)),
        lambda f: jacrev(jacfwd(f)),
        lambda f: jacfwd(jacfwd(f)),
    ):
        assert torch.allclose(transform(lambda s: (few(s) ** 3).sum())(s), curvature)


@with_weights
def test_several_sets_of_weights_are_evaluated_at_once(name):
    module, x = sample(name, torch.float64)
    modules = [sample(name, torch.float64, seed)[0] for seed in range(3)]
    for i, m in enumerate(modules):
        for p in m.parameters():
            nn.init.normal_(p, std=0.3 + 0.1 * i)
    stacked = stack_module_state(modules)
    shared = vmap(lambda p, b: functional_call(module, (p, b), (x,)))(*stacked)
    assert torch.allclose(shared, torch.stack([m(x) for m in modules]))
    xs = torch.stack([x, 2 * x, x.flip(-1)])
    each = vmap(lambda p, b, x: functional_call(module, (p, b), (x,)))(*stacked, xs)
    assert torch.allclose(each, torch.stack([m(i) for m, i in zip(modules, xs, strict=True)]))
    # A single parameter.
    for key, values in stacked[0].items():
        one = vmap(lambda value, key=key: functional_call(module, {key: value}, (x,)))(values)
        assert torch.allclose(one[1], functional_call(module, {key: values[1]}, (x,)))


def random(*shape):
    torch.manual_seed(0)
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


SPHERE = SphereTransform(5, 8, 3)
FUNCTIONS = {
    "to-modes-dft": (lambda x: to_modes(x, (3, 4), "dft"), [random(2, 5, 4, 1)]),
    "to-modes-fft": (lambda x: to_modes(x, (3, 4), "fft"), [random(2, 5, 4, 1)]),
    "from-modes-dft": (lambda z: from_modes(z, (3, 4), (5, 4), method="dft"), [random(2, 2, 3, 3, 1)]),
    "from-modes-fft": (lambda z: from_modes(z, (3, 4), (5, 4), method="fft"), [random(2, 2, 3, 3, 1)]),
    "window-dft": (lambda x: analyse(x, (range(1, 4), range(2)), "dft"), [random(2, 5, 4, 1)]),
    "window-fft": (
        lambda z: synthesise(z, (range(1, 4), range(2)), (5, 4), method="fft"),
        [random(2, 2, 3, 2, 1)],
    ),
    **{
        f"sphere-{kind}": (lambda x, kind=kind: SPHERE.analyse(x, kind), [random(2, 5, 8, 1)])
        for kind in ("value", "derivative", "over_sine")
    },
    **{
        f"sphere-back-{kind}": (lambda z, kind=kind: SPHERE.synthesise(z, kind), [random(2, 2, 3, 3, 1)])
        for kind in ("value", "derivative")
    },
    "mode-product": (mode_product, [random(2, 2, 3, 2), random(3, 2, 2, 1)]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_of_functions_agree_with_finite_differences(name):
    function, inputs = FUNCTIONS[name]
    assert torch.autograd.gradcheck(function, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(
        lambda *x: function(*x) ** 2, inputs, check_fwd_over_rev=True, check_rev_over_rev=True
    )
    with dual_level():
        y = function(*(make_dual(x.detach(), 2 * x.detach()) for x in inputs))
        value, tangent = unpack_dual(y)
        assert torch.allclose(tangent, 2 * len(inputs) * value)  # homogeneous of degree one in each argument


@pytest.mark.parametrize(("groups", "bias"), [(1, True), (1, False), (4, True)])
def test_large_dense_layers_transform_like_those_of_torch(groups, bias):
    """Enough rows for the fast product, in float32; the layer in float64 is the reference."""
    torch.manual_seed(0)
    x, weight = torch.randn(3, 2, 512, 32), torch.randn(3, 64, 32 // groups)
    offset = torch.randn(3, 64) if bias else None

    def exact(x, weight, offset):
        return linear(x.double(), weight.double(), None if offset is None else offset.double(), groups=groups)

    def fast(x, weight, offset):
        return linear(x, weight, offset, groups=groups)

    one = (x[0], weight[0], None if offset is None else offset[0])
    for of_x, of_weight, of_bias in [
        (0, None, None),
        (2, None, None),
        (0, 0, 0),
        (None, 0, None),
        (0, None, 0),
    ]:
        dims = (of_x, of_weight, of_bias if bias else None)
        whole = (x.movedim(0, 2) if of_x == 2 else x, weight, offset)
        arguments = [b if d is not None else a for a, b, d in zip(one, whole, dims, strict=True)]
        assert close(vmap(fast, dims)(*arguments), vmap(exact, dims)(*arguments), 1e-6)
    arguments, count = [t for t in one if t is not None], 3 if bias else 2

    def cubed(f):
        return lambda *t: (f(*t, *[None] * (3 - len(t))) ** 3).mean()

    direction = tuple(torch.randn_like(t) for t in arguments)
    every = tuple(range(count))
    for transform in (lambda f: jvp(f, tuple(arguments), direction)[1], lambda f: grad(f)(*arguments)):
        assert close(transform(cubed(fast)), transform(cubed(exact)), 1e-5)
    for a, b in zip(
        *(jvp(grad(cubed(f), every), tuple(arguments), direction)[1] for f in (fast, exact)), strict=True
    ):
        assert close(a, b, 1e-5)
    (a, b) = (vmap(grad(lambda w, f=f: cubed(f)(one[0], w, *arguments[2:])))(weight) for f in (fast, exact))
    assert close(a, b, 1e-5)


# Compilation.


def compiled(module, backend, dynamic=True):
    torch._dynamo.reset()
    return torch.compile(module, fullgraph=True, dynamic=dynamic, backend=backend)


def assert_compiles(name, backend, sizes, dynamic=True):
    module, x = sample(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler
        fast = compiled(module, backend, dynamic)
        for size in sizes:
            x = torch.rand(size, requires_grad=True)
            y, expected = fast(x), module(x)
            assert close(y, expected, 1e-5)
            inputs = [x, *module.parameters()]
            gradients, expected_gradients = (
                torch.autograd.grad(out.square().sum(), inputs) for out in (y, expected)
            )
            assert all(
                (a - b).norm() < 1e-5 * max(g.norm() for g in expected_gradients)
                for a, b in zip(gradients, expected_gradients, strict=True)
            )


@pytest.mark.parametrize(
    "name", ["conv-cp-dft", "local", "instance-norm", "sht", "inverse-sht", "calculus", *MODELS]
)
def test_dynamic_shapes_compile_to_one_graph(name):
    shape = MODULES[name][1]
    assert_compiles(name, "eager", [shape, (shape[0] + 1, *shape[1:])])


@pytest.mark.parametrize("name", ["conv-dense-fft", "conv-tucker-dft", "spherical", "mixer", "alias-free"])
def test_dynamic_shapes_have_eager_gradients(name):
    shape = MODULES[name][1]
    assert_compiles(name, "aot_eager", [shape, (shape[0] + 2, *shape[1:])])


def test_another_grid_triggers_recompilation():
    assert_compiles("fno-options", "aot_eager", [(2, 2, 8, 7), (3, 2, 11, 9), (2, 2, 8, 7)])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "conv-dense-fft",
        "conv-3d",
        "fno-options",
        "tfno",
        "sfno",
        "afno",
        "evolution",
        "steady",
        "stepper",
        "sht",
    ],
)
def test_dynamic_shapes_compile_to_machine_code(name):
    shape = MODULES[name][1]
    assert_compiles(name, "inductor", [shape, (shape[0] + 1, *shape[1:])])


# Wrappers of parameters.


class Double(nn.Module):
    def forward(self, weight):
        return 2 * weight


def halve(module):
    for part in list(module.modules()):
        for name, parameter in list(part.named_parameters(recurse=False)):
            if not isinstance(part, nn.ParameterList):
                parameter.data /= 2
                parametrize.register_parametrization(part, name, Double())


def prune_nothing(module):
    for part in list(module.modules()):
        for name, _ in list(part.named_parameters(recurse=False)):
            if not isinstance(part, nn.ParameterList):
                prune.identity(part, name)


def normalise(how):
    def change(module):
        for part in list(module.modules()):
            if isinstance(getattr(part, "weight", None), nn.Parameter) and part.weight.ndim > 1:
                how(part)

    return change


@pytest.fixture(scope="module")
def process_group():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def fsdp(**options):
    from torch.distributed.fsdp import FullyShardedDataParallel

    return lambda module: FullyShardedDataParallel(module, device_id=torch.device("cpu"), **options)


def fsdp2(module):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (1,))
    for part in module.modules():
        for block in getattr(part, "blocks", []):
            fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)


WRAPPERS = {
    "copy": copy.deepcopy,
    "parametrize": halve,
    "prune": prune_nothing,
    "weight-norm": normalise(parametrizations.weight_norm),
    "old-weight-norm": normalise(nn.utils.weight_norm),
    "ddp": nn.parallel.DistributedDataParallel,
    "fsdp1": fsdp(use_orig_params=True),
    "fsdp1-flat": fsdp(use_orig_params=False),
    "fsdp2": fsdp2,
}


@with_weights
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # of the older wrappers
def test_wrapped_parameters_give_the_same_output(name, wrapper, process_group):
    module, x = sample(name)
    expected = module(x)
    change = WRAPPERS[wrapper]
    changed = change(module) or module
    y = changed(x)
    assert close(y, expected, 1e-5)
    y.square().mean().backward()
    gradients = [p.grad for p in changed.parameters() if p.grad is not None]
    assert (
        gradients and all(g.isfinite().all() for g in gradients) and any(g.abs().max() > 0 for g in gradients)
    )


@with_weights
def test_modules_can_be_pickled(name):
    module, x = sample(name)
    module = module.inner if isinstance(module, Pack) else module
    arguments = (
        MODULES[name][0]().split(x)
        if name in ("evolution", "evolution-parameters", "steady", "stepper")
        else (x,)
    )
    assert torch.equal(pickle.loads(pickle.dumps(module))(*arguments), module(*arguments))
