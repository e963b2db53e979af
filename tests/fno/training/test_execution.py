"""Steps of training: accumulation, checkpointed activations, compilation, precision, averaged weights."""

import copy
import json
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

import fourcaster.fno.layers.spectral as spectral
import fourcaster.fno.layers.spherical as spherical
from fourcaster.fno import SFNO
from fourcaster.fno.batch import Batch, Instances
from fourcaster.fno.models import FNO
from fourcaster.fno.models.ensemble import Ensemble
from fourcaster.fno.models.stepper import Scales, Stepper
from fourcaster.fno.training import ForecastObjective, TrainSettings, train
from fourcaster.fno.training.execution import Execution
from fourcaster.fno.training.settings import identifying
from fourcaster.fno.training.trainer import Trainer

SIZE = (6, 8)
WEIGHTS = torch.ones(1, *SIZE)


def make_batch(seed: int, times: int, samples: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    phase = 6.28 * torch.rand(samples, 1, 1, 1, 1, generator=generator)
    t = torch.arange(times).reshape(1, -1, 1, 1, 1)
    x = torch.arange(SIZE[1]).reshape(1, 1, 1, 1, -1)
    state = torch.cos(0.785 * x - 0.5 * t + phase).expand(-1, -1, 1, *SIZE)
    return Batch(state, torch.zeros_like(state), torch.zeros(samples, times, 1, *SIZE))


class Waves:
    """Batches that depend only on their index; an interruption after some of them."""

    def __init__(self, stop_after: int | None = None, samples: int = 8) -> None:
        self.stop_after = stop_after
        self.samples = samples
        self.count = 0

    def steps_per_epoch(self) -> int:
        return 4

    def epoch(self, epoch, rollout, start):
        for i in range(start, 4):
            if self.count == self.stop_after:
                raise InterruptedError
            self.count += 1
            yield make_batch(epoch * 4 + i, 2 + rollout, self.samples)

    def validation(self, steps, samples):
        yield make_batch(999, 2 + steps, samples)


def make_stepper(members: int = 1, dropout: float = 0.0) -> Stepper:
    torch.manual_seed(1)
    one = torch.ones(1)
    count = Stepper.input_channels(1, window=2, forcings=1, static=1)
    nets = [FNO((4, 4), count, 1, hidden_channels=6, n_layers=2, dropout=dropout) for _ in range(members)]
    scales = Scales(0 * one, one, one, 0.3 * one)
    return Stepper(Ensemble(nets), scales, torch.zeros(1, *SIZE), mask=torch.ones(1, *SIZE, dtype=torch.bool))


def make_trainer(tmp_path, stepper: Stepper, **settings) -> Trainer:
    chosen = TrainSettings(epochs=2, warmup_steps=2, validation_steps=2, validation_samples=3, **settings)
    objective = ForecastObjective(stepper, WEIGHTS, chosen.noise)
    return Trainer(stepper, objective, Waves(), settings=chosen, folder=tmp_path, fingerprint="")


def gradient(stepper: Stepper) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in stepper.parameters()])


def fit(stepper: Stepper, source: Waves, settings: TrainSettings, folder):
    return train(
        stepper,
        ForecastObjective(stepper, WEIGHTS, settings.noise),
        source,
        settings=settings,
        folder=folder,
    )


SETTINGS = TrainSettings(
    epochs=2,
    warmup_steps=2,
    rollout_steps=2,
    noise=0.01,
    validation_steps=2,
    validation_samples=3,
    checkpoint_minutes=0,
)
VARIANTS = [
    {"optimizer": "adamw", "fused": True, "decay_all": False, "schedule": "onecycle"},
    {"optimizer": "muon", "schedule": "restarts", "cycles": 2, "accumulation": 3},
    {"optimizer": "soap", "activation_checkpointing": "steps", "decay_all": False},
    {"optimizer": "soap", "activation_checkpointing": "blocks", "accumulation": 2, "precision": "bf16"},
]


@pytest.mark.parametrize("stop_after", [1, 6])
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: f"{v['optimizer']}-{len(v)}")
def test_a_resumed_run_equals_an_uninterrupted_one_with_every_optimizer(tmp_path, variant, stop_after):
    settings = replace(SETTINGS, **variant)
    straight = make_stepper(dropout=0.1)
    fit(straight, Waves(), settings, tmp_path / "a")
    with pytest.raises(InterruptedError):
        fit(make_stepper(dropout=0.1), Waves(stop_after), settings, tmp_path / "b")
    resumed = make_stepper(dropout=0.1)
    assert fit(resumed, Waves(), settings, tmp_path / "b").steps == 8
    states = [(tmp_path / name / "training.safetensors").read_bytes() for name in "ab"]
    assert states[0] == states[1]
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(("optimizer", "rate"), [("muon", 0.1), ("soap", 0.03)])
def test_every_optimizer_lowers_the_error(tmp_path, optimizer, rate):
    settings = TrainSettings(epochs=5, optimizer=optimizer, learning_rate=rate, validation_steps=2, ema=0.8)
    fit(make_stepper(), Waves(), settings, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["validation_score"] < 0.6 * lines[0]["validation_score"]


@pytest.mark.parametrize(("members", "parts"), [(1, 2), (1, 3), (2, 4), (1, 8)])
def test_accumulated_gradients_equal_those_of_the_whole_batch(tmp_path, members, parts):
    results = []
    for accumulation in (1, parts):
        stepper = make_stepper(members)
        trainer = make_trainer(tmp_path, stepper, accumulation=accumulation, clip=1e9)
        values = trainer.train_step(make_batch(0, 4))
        results.append((gradient(stepper), values["loss"]))
    (whole, loss), (accumulated, other) = results
    assert other == pytest.approx(loss, rel=1e-5)
    assert (accumulated - whole).abs().max() < 1e-5 * whole.abs().max()


def test_a_batch_of_fewer_samples_than_parts_is_divided_into_samples(tmp_path):
    results = []
    for accumulation in (1, 8):
        stepper = make_stepper()
        make_trainer(tmp_path, stepper, accumulation=accumulation).train_step(make_batch(0, 3, samples=3))
        results.append(gradient(stepper))
    assert torch.allclose(*results, atol=1e-6)


def test_parts_of_a_batch_contain_every_sample_once():
    batch = make_batch(0, 3, samples=7)
    parts = [batch.part(i, 3) for i in range(3)]
    assert [len(part) for part in parts] == [3, 2, 2]
    assert torch.equal(torch.cat([p.state for p in parts]), batch.state[[0, 3, 6, 1, 4, 2, 5]])
    n = torch.arange(5.0)
    instances = Instances(n[:, None], n[:, None], {"viscosity": n}, n[:, None])
    part = instances.part(1, 2)
    assert part.parameters["viscosity"].tolist() == part.solution.flatten().tolist() == [1, 3]
    assert Instances(n[:, None], n[:, None]).part(0, 2).solution is None


@pytest.mark.parametrize("mode", ["blocks", "steps"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_checkpointed_activations_give_the_same_bits(tmp_path, mode, precision):
    results = []
    for checkpointing in ("none", mode):
        stepper = make_stepper(2, dropout=0.2)
        options = {"activation_checkpointing": checkpointing, "precision": precision, "noise": 0.1}
        trainer = make_trainer(tmp_path, stepper, **options)
        for step in range(3):
            trainer.train_step(make_batch(step, 5))
        results.append(torch.cat([p.detach().flatten() for p in stepper.parameters()]))
    assert torch.equal(*results)


def test_checkpointed_activations_need_less_memory():
    """Bytes that the backward pass stores; less with larger parts, whose inputs alone are stored."""
    saved = {}
    for mode in ("none", "blocks", "steps"):
        stepper = make_stepper()
        objective = ForecastObjective(stepper, WEIGHTS)
        sizes: dict[int, int] = {}

        def pack(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with (
            Execution(stepper, checkpointing=mode).active(),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t),
        ):
            value = objective.loss(make_batch(0, 8, samples=32), 0.0, torch.Generator()).value
        saved[mode] = sum(sizes.values())
        value.backward()
    assert saved["steps"] < 0.5 * saved["none"]
    assert saved["blocks"] < 0.8 * saved["none"]


def test_blocks_of_a_model_without_blocks_are_refused():
    with pytest.raises(ValueError, match="activation_checkpointing must be 'steps' or 'none'"):
        Execution(nn.Linear(2, 2), checkpointing="blocks")
    with pytest.raises(ValueError, match="compile cannot be combined"):
        Execution(make_stepper(), checkpointing="blocks", compiled=True)


@pytest.mark.parametrize("options", [{"checkpointing": "blocks"}, {"checkpointing": "steps"}])
def test_the_model_is_unchanged_outside_of_training(options):
    stepper = make_stepper()
    names = list(stepper.state_dict())
    execution = Execution(stepper, **options)
    with pytest.raises(KeyError), execution.active():
        assert list(stepper.state_dict()) == names
        raise KeyError
    assert all("forward" not in module.__dict__ for module in stepper.modules())
    copy.deepcopy(stepper)


@pytest.fixture
def eager_compiler(monkeypatch):
    """Let ``torch.compile`` trace without generating code, which takes minutes."""
    compile_function = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f: compile_function(f, backend="aot_eager"))
    yield
    torch._dynamo.reset()


def test_compiled_training_equals_training_up_to_rounding(tmp_path, eager_compiler, caplog):
    results = []
    for compiled in (False, True):
        stepper = make_stepper()
        names = list(stepper.state_dict())
        trainer = make_trainer(tmp_path, stepper, compile=compiled, clip=1e9)
        trainer.train_step(make_batch(0, 3))
        assert list(stepper.state_dict()) == names
        results.append(gradient(stepper))
    assert (results[0] - results[1]).abs().max() < 1e-5 * results[0].abs().max()
    assert not [r for r in caplog.records if r.levelname == "WARNING"]


def test_without_a_compiler_training_continues_after_one_message(tmp_path, caplog):
    results = []
    for compiled in (False, True):
        stepper = make_stepper(2)
        trainer = make_trainer(tmp_path, stepper, compile=compiled)
        with torch._inductor.config.patch({"cpp.cxx": (None, "/no/such/compiler")}):
            for step in range(2):
                trainer.train_step(make_batch(step, 3))
        results.append(torch.cat([p.detach().flatten() for p in stepper.parameters()]))
    assert torch.equal(*results)
    (record,) = caplog.records
    assert "the model cannot be compiled" in record.message and "/no/such/compiler" in record.message


def test_errors_of_the_model_are_raised_when_compiled(eager_compiler):
    model = nn.Linear(2, 2)
    with Execution(model, compiled=True).active(), pytest.raises(RuntimeError, match="shapes"):
        model(torch.ones(1, 3))


@pytest.mark.slow
def test_compiled_training_with_generated_code_equals_training(tmp_path):
    results = []
    for compiled in (False, True):
        stepper = make_stepper()
        trainer = make_trainer(tmp_path, stepper, compile=compiled, clip=1e9)
        trainer.train_step(make_batch(0, 4))
        results.append(gradient(stepper))
    assert (results[0] - results[1]).abs().max() < 1e-4 * results[0].abs().max()


def test_in_bfloat16_transforms_and_weights_of_spectral_layers_stay_in_float32(tmp_path, monkeypatch):
    seen = []

    def record(function):
        def recorded(z, *arguments, **options):
            seen.append((z.dtype, *(a.dtype for a in arguments if isinstance(a, torch.Tensor))))
            return function(z, *arguments, **options)

        return recorded

    for module, names in (
        (spectral, ["to_modes", "mode_product", "from_modes"]),
        (spherical, ["mode_product"]),
    ):
        for name in names:
            monkeypatch.setattr(module, name, record(getattr(module, name)))
    trainer = make_trainer(tmp_path, make_stepper(), precision="bf16")
    hidden = []
    handle = trainer.model.network.networks[0].lifting.fc1.register_forward_hook(
        lambda module, inputs, output: hidden.append(output.dtype)
    )
    losses = [trainer.train_step(make_batch(0, 3))["loss"] for _ in range(8)]
    handle.remove()
    assert losses[-1] < losses[0]
    assert set(hidden) == {torch.bfloat16}
    assert len(seen) == 8 * 2 * 3 and {dtype for dtypes in seen for dtype in dtypes} == {torch.float32}
    assert all(t.dtype == torch.float32 for t in trainer.average.values())
    seen.clear()
    with torch.autocast("cpu", torch.bfloat16):
        SFNO(4, 1, 1, hidden_channels=4, n_layers=1)(torch.randn(1, 1, 8, 16)).sum().backward()
    assert seen == [(torch.float32, torch.float32)]


def test_the_gradient_is_clipped_to_its_largest_norm(tmp_path):
    norms = {}
    for clip in (1e9, 1e-3):
        stepper = make_stepper()
        make_trainer(tmp_path, stepper, clip=clip).train_step(make_batch(0, 3))
        norms[clip] = gradient(stepper)
    assert norms[1e-3].norm() == pytest.approx(1e-3, rel=1e-3)
    assert torch.allclose(norms[1e-3], norms[1e9] * (1e-3 / norms[1e9].norm()), rtol=1e-3, atol=1e-9)


def test_averaged_weights_are_the_recursion_of_those_of_each_step(tmp_path):
    stepper = make_stepper()
    trainer = make_trainer(tmp_path, stepper, ema=0.6)
    expected = {name: t.double().clone() for name, t in stepper.state_dict().items()}
    for step in range(6):
        trainer.train_step(make_batch(step, 3))
        decay = min(0.6, (2 + step) / (11 + step))
        for name, t in stepper.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * t.double()
    for name, t in trainer.average.items():
        assert torch.allclose(t.double(), expected[name], atol=1e-6), name


def test_later_settings_identify_a_run_only_if_they_differ_from_the_default():
    first_version = {
        "epochs": 20,
        "batch_size": 16,
        "learning_rate": 2e-3,
        "weight_decay": 1e-4,
        "warmup_steps": 100,
        "clip": 1.0,
        "ema": 0.995,
        "noise": 0.0,
        "rollout_steps": 1,
        "rollout_share": 0.5,
        "rollout_rate": 0.25,
        "precision": "float32",
        "validation_steps": 12,
        "validation_samples": 64,
        "seed": 0,
    }

    def values(**changes) -> dict:
        return json.loads(json.dumps(asdict(TrainSettings(**changes))))

    defaults = values()
    assert identifying(defaults) == first_version
    changed = values(optimizer="soap", checkpoint_minutes=1, activation_checkpointing="steps")
    assert identifying(changed) == identifying(defaults) | {"optimizer": "soap"}


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        (
            {"optimizer": "adam"},
            "optimizer must be one of 'adamw', 'muon', 'soap' or module:Class, got 'adam'",
        ),
        ({"schedule": "linear"}, "schedule must be one of 'cosine', 'onecycle', 'restarts', got 'linear'"),
        ({"activation_checkpointing": "all"}, "activation_checkpointing must be one of 'none', 'blocks'"),
        ({"accumulation": 0}, "accumulation must be at least 1"),
        ({"accumulation": 5, "batch_size": 4}, "accumulation must be at most batch_size, 4, got 5"),
        ({"cycles": 0}, "cycles must be at least 1"),
        ({"compile": True, "activation_checkpointing": "steps"}, "compile cannot be combined with"),
    ],
)
def test_unknown_choices_are_refused(invalid, message):
    with pytest.raises(ValueError, match=message):
        TrainSettings(**invalid)
