"""Non-finite losses, gradients and weights are never saved, and runs resume once the cause is removed."""

import json
import logging
import math

import pytest
import torch
from helpers import coordinate_network

from fourcaster.fno.batch import Instances
from fourcaster.fno.errors import NonFiniteError, WeightsError
from fourcaster.fno.models.base import load_weights
from fourcaster.fno.physics import equations
from fourcaster.fno.training import Loss, TrainSettings, train
from fourcaster.fno.training.finite import check_gradient, non_finite
from fourcaster.fno.training.objectives.inverse import InverseObjective, LatentParameters
from fourcaster.fno.training.objectives.sensors import Sensors
from fourcaster.fno.training.pinn import window as window_module
from fourcaster.fno.training.pinn.jacobian import row_jacobian
from fourcaster.fno.training.pinn.settings import PinnSettings
from fourcaster.fno.training.pinn.train import train_pinn
from fourcaster.fno.training.refine import _minimise
from fourcaster.fno.training.state import load_state, save_state


class RandomBatches:
    """Batches of random numbers: five per epoch, and one to validate on."""

    held_out = True

    def steps_per_epoch(self):
        return 5

    def epoch(self, epoch, rollout, start):
        for i in range(start, 5):
            yield self.batch(5 * epoch + i)

    def validation(self, steps, samples):
        return iter([self.batch(99)] if self.held_out else [])

    def batch(self, seed):
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed))
        return Instances(x, x)


class PoisonedGradient(torch.autograd.Function):
    """The identity with a given factor in its gradient, e.g. NaN."""

    @staticmethod
    def forward(ctx, x, value):
        ctx.value = value
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.value, None


class Fit:
    """The mean square error of a network that learns a sum, with a fault at one step."""

    def __init__(self, model, at=None, value=math.nan, layer="second"):
        self.model, self.at, self.value, self.layer, self.calls = model, at, value, layer, 0

    def loss(self, batch, share, generator):
        hidden = torch.tanh(self.model["first"](batch.state))
        if round(share * 15) == self.at and self.layer == "first":
            hidden = PoisonedGradient.apply(hidden, self.value)
        prediction = self.model["second"](hidden)
        if round(share * 15) == self.at and self.layer == "second":
            weight = PoisonedGradient.apply(self.model["second"].weight, self.value)
            prediction = hidden @ weight.T + self.model["second"].bias
        value = (prediction - batch.state.sum(1, keepdim=True)).square().mean()
        return Loss(value, {"data": value})

    @torch.no_grad()
    def errors(self, batch):
        return self.loss(batch, -1.0, None).value.reshape(1, 1)


def network():
    torch.manual_seed(0)
    return torch.nn.ModuleDict({"first": torch.nn.Linear(3, 8), "second": torch.nn.Linear(8, 1)})


def fit(model, folder, source=None, settings=None, **fault):
    return train(
        model, Fit(model, **fault), source or RandomBatches(), settings=settings or SETTINGS, folder=folder
    )


SETTINGS = TrainSettings(epochs=3, warmup_steps=2, learning_rate=1e-2, checkpoint_minutes=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(
    ("layer", "named"), [("second", r"second\.weight is"), ("first", r"first\.weight, first\.bias is")]
)
def test_a_gradient_that_is_not_finite_is_refused_before_the_step_and_the_run_resumes(
    tmp_path, value, precision, layer, named
):
    settings = TrainSettings(
        epochs=3, warmup_steps=2, learning_rate=1e-2, checkpoint_minutes=0, precision=precision
    )
    uninterrupted = network()
    fit(uninterrupted, tmp_path / "uninterrupted", settings=settings)
    for _ in range(2):  # the error persists as long as its cause
        broken = network()
        with pytest.raises(
            NonFiniteError,
            match=f"the gradient of {named} not finite at step 7; the saved state of step 7 is kept",
        ) as error:
            fit(broken, tmp_path / "a", settings=settings, at=7, value=value, layer=layer)
        assert "\n" not in str(error.value)
        groups, meta = load_state(tmp_path / "a" / "training.safetensors")
        assert meta["step"] == 7 and all(
            torch.isfinite(t).all() for tensors in groups.values() for t in tensors.values()
        )
        assert all(torch.isfinite(t).all() for t in broken.state_dict().values())
    resumed = network()
    assert fit(resumed, tmp_path / "a", settings=settings).steps == 15
    assert all(
        torch.equal(a, b)
        for a, b in zip(uninterrupted.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_a_fault_before_anything_was_saved_leaves_no_state(tmp_path):
    with pytest.raises(NonFiniteError, match="at step 0; no state was saved yet"):
        fit(network(), tmp_path, at=0)
    assert not (tmp_path / "training.safetensors").exists()


def test_a_gradient_whose_norm_overflows_is_refused_with_its_largest_parameter():
    model = network()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    assert float(check_gradient(model.named_parameters(), "at step 3")) == pytest.approx(math.sqrt(41))
    model["second"].bias.grad.fill_(1e30)
    with pytest.raises(NonFiniteError, match=r"overflows at step 3, with its largest entry in second\.bias"):
        check_gradient(model.named_parameters(), "at step 3")


def test_only_tensors_that_are_not_finite_are_named():
    finite = torch.arange(3)
    broken = torch.tensor([1 + 1j, complex(0, math.inf)])
    assert non_finite(
        [("a", finite), ("b", broken), ("c", None), ("d", torch.ones(2, dtype=torch.bfloat16))]
    ) == ["b"]
    assert non_finite([("big", torch.full((4,), 3e38))]) == []


def test_a_step_that_overflows_the_weights_is_not_saved(tmp_path):
    fit(network(), tmp_path, settings=TrainSettings(epochs=1, checkpoint_minutes=0))
    path = tmp_path / "training.safetensors"
    groups, meta = load_state(path)
    groups["optimizer"]["2.exp_avg"].fill_(3e38)  # finite moments that step too far
    save_state(path, groups, meta)
    before = path.read_bytes()
    with pytest.raises(
        NonFiniteError,
        match=r"weights of second\.weight are not finite after step 5; the saved state of step 5 is kept",
    ):
        fit(network(), tmp_path, settings=TrainSettings(epochs=2, learning_rate=1e3, warmup_steps=0))
    assert path.read_bytes() == before


def test_an_average_that_is_not_finite_is_not_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(TrainSettings, "ema_decay", lambda self, step: math.nan if step > 7 else 0.5)
    names = r"first\.weight, first\.bias, second\.weight and 1 more"
    with pytest.raises(NonFiniteError, match=f"the averages of {names} are not finite after step 7"):
        fit(network(), tmp_path)
    groups, meta = load_state(tmp_path / "training.safetensors")
    assert meta["step"] == 7 and torch.isfinite(groups["average"]["first.weight"]).all()


@pytest.mark.parametrize("group", ["model", "average", "optimizer"])
def test_a_saved_state_that_is_not_finite_is_refused_with_a_remedy(tmp_path, group):
    fit(network(), tmp_path)
    path = tmp_path / "training.safetensors"
    groups, meta = load_state(path)
    next(iter(groups[group].values())).view(-1)[0] = math.nan
    save_state(path, groups, {**meta, "step": 10})
    with pytest.raises(
        NonFiniteError,
        match=r"training\.safetensors \(step 10\) has values that are not finite .*remove .* to start over",
    ):
        fit(network(), tmp_path)
    path.unlink()
    assert fit(network(), tmp_path).steps == 15


def test_a_best_score_of_nan_from_an_older_version_is_replaced(tmp_path):
    fit(network(), tmp_path)
    path = tmp_path / "training.safetensors"
    groups, meta = load_state(path)
    groups["best"]["first.weight"].fill_(math.nan)
    save_state(path, groups, {**meta, "step": 10, "best_score": math.nan, "best_epoch": 0})
    model = network()
    record = fit(model, tmp_path)
    assert (
        record.best_epoch == 2
        and math.isfinite(record.best_score)
        and torch.isfinite(model["first"].weight).all()
    )


# Validation


def test_weights_with_a_validation_error_that_is_not_finite_are_reported_and_never_selected(tmp_path, caplog):
    model = network()

    class Diverging(Fit):
        def errors(self, batch):
            self.calls += 1
            bad = torch.tensor([[1.0], [math.nan if self.calls == 1 else math.inf], [math.inf]])
            return bad if self.calls < 3 else torch.ones(3, 1)

    with caplog.at_level(logging.WARNING):
        record = train(model, Diverging(model), RandomBatches(), settings=SETTINGS, folder=tmp_path)
    assert "epoch 1: the validation error is nan from step 2 of 3 on" in caplog.text
    assert (
        "epoch 2: the validation error is inf from step 2 of 3 on" in caplog.text and len(caplog.records) == 2
    )
    assert record.best_score == 1.0 and record.best_epoch == 2
    lines = [
        json.loads(line, parse_constant=pytest.fail)
        for line in (tmp_path / "log.jsonl").read_text().splitlines()
    ]
    assert [line["validation_rmse"] for line in lines] == [
        [1.0, None, None],
        [1.0, None, None],
        [1.0, 1.0, 1.0],
    ]


def test_no_validation_data_is_reported_before_training(tmp_path, caplog):
    class WithoutValidation(RandomBatches):
        held_out = False

        def epoch(self, epoch, rollout, start):
            assert "there is no validation data" in caplog.text
            return super().epoch(epoch, rollout, start)

    with caplog.at_level(logging.WARNING):
        record = fit(network(), tmp_path, WithoutValidation())
    assert record.best_score is None and len(caplog.records) == 1


# Other loops


def solve(folder, **settings):
    chosen = PinnSettings(**{"windows": 2, "points": 40, "initial_points": 16, "iterations": 5, **settings})
    return train_pinn(
        equations.get("advection").problem(),
        lambda a, b: coordinate_network(a, b, width=8),
        chosen,
        folder=folder,
    )


def test_a_jacobian_that_is_not_finite_is_not_mistaken_for_convergence(tmp_path, monkeypatch):
    calls = []

    def poisoned(rows, layers):
        calls.append(rows)
        jacobian = row_jacobian(rows, layers)
        if len(calls) == 7:
            jacobian[3, -1] = math.nan  # the bias of the last layer
        return jacobian

    monkeypatch.setattr(window_module, "row_jacobian", poisoned)
    with pytest.raises(
        NonFiniteError,
        match=r"layers\.\d+\.bias is not finite in iteration 2 of window 2; finished windows are kept",
    ):
        solve(tmp_path, resample_every=1)
    assert load_state(tmp_path / "training.safetensors")[1]["done"] == 1
    monkeypatch.undo()
    _, record = solve(tmp_path, resample_every=1)
    assert math.isfinite(record.residual) and load_state(tmp_path / "training.safetensors")[1]["done"] == 2


@pytest.mark.parametrize("steps", [{"adam_steps": 4, "lbfgs_steps": 0}, {"adam_steps": 0, "lbfgs_steps": 40}])
def test_gradients_of_collocation_are_checked_before_a_step(tmp_path, monkeypatch, steps):
    rows = window_module.Window.rows

    def poisoned(self):
        values, terms, layers = rows(self)
        bias = PoisonedGradient.apply(
            next(p for n, p in self.network.named_parameters() if n == "layers.0.bias"), math.nan
        )
        return torch.cat([values, 0 * bias]), terms, layers

    monkeypatch.setattr(window_module.Window, "rows", poisoned)
    with pytest.raises(
        NonFiniteError, match=r"the gradient of layers\.0\.bias is not finite in iteration 1 of window 1"
    ):
        solve(tmp_path, optimizer="adam_lbfgs", **steps)
    assert not (tmp_path / "training.safetensors").exists()


def test_a_saved_window_that_is_not_finite_is_refused(tmp_path):
    solve(tmp_path, windows=1)
    path = tmp_path / "training.safetensors"
    groups, meta = load_state(path)
    groups["0"]["layers.0.weight"].fill_(math.nan)
    save_state(path, groups, meta)
    with pytest.raises(NonFiniteError, match=r"has values that are not finite in layers\.0\.weight.*remove"):
        solve(tmp_path, windows=1)


def test_refinement_names_the_parameter_whose_gradient_is_not_finite():
    model = torch.nn.Linear(2, 1).double()

    def size(u):
        return PoisonedGradient.apply(u, math.inf).square().sum()

    with pytest.raises(NonFiniteError, match="the gradient of weight, bias is not finite while refining"):
        _minimise(model, lambda: model(torch.ones(1, 2, dtype=torch.float64)), size, steps=3)


def test_refinement_does_not_change_an_exact_solution():
    model = torch.nn.Linear(2, 1).double()
    assert (
        float(
            _minimise(
                model,
                lambda: 0 * model(torch.ones(1, 2, dtype=torch.float64)),
                lambda u: u.square().sum(),
                steps=3,
            )
        )
        == 0
    )


def test_an_operator_that_diverges_at_the_sensors_does_not_change_the_posterior():
    class Diverged:
        window = 1.0
        solution = torch.ones(1)

        def integrate_windows(self, state, inputs, parameters, *, windows):
            yield torch.full((len(state), 3, 1, 8), math.nan)

    class Base:
        model, windows = Diverged(), 1

    simulated = {"viscosity": torch.rand(5) + 0.1}
    latent = LatentParameters.from_simulations(torch.randn(5, 1, 8), simulated)
    positions = torch.tensor([[0.2], [0.6]])
    sensors = Sensors(positions, torch.tensor([0.5, 1.0]), torch.zeros(1, 2, 2), 0.01)
    with pytest.raises(NonFiniteError, match="solution at the sensors"):
        InverseObjective(Base(), latent, sensors, weight=1.0).recover()
    assert (latent.z == 0).all()
    assert (latent.factor == 0).all()


def test_weights_that_are_not_finite_are_not_loaded():
    model = network()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(WeightsError, match=r"the file has weights that are not finite: second\.bias"):
        load_weights(model, before | {"second.bias": torch.tensor([math.nan])}, "the file")
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
