"""Losses and rollouts from the configuration: training lowers the error, and options must apply."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import make_source, tiny_config

from fourcaster import forecast
from fourcaster.datasets.schema import Channel
from fourcaster.datasets.store.open import open_store
from fourcaster.fno.losses.registry import LOSSES
from fourcaster.forecast.checkpoint.weather import load_checkpoint
from fourcaster.forecast.config.loss import LossConfig
from fourcaster.forecast.config.operator import OperatorModelConfig
from fourcaster.forecast.config.sections import identifying_keys
from fourcaster.forecast.inference.perturbations import Ensemble, noise_input
from fourcaster.forecast.tasks.dispatch import load_config, make_config
from fourcaster.forecast.tasks.weather.identity import run_identity
from fourcaster.forecast.tasks.weather.losses import channel_weights

CHANNELS = [Channel("t2m", None, "K"), Channel("t", 500, "K"), Channel("t", 850, "K"), Channel("z", 500, "m")]
SMALL = ["train.epochs=4", "train.rollout_steps=1", "train.learning_rate=0.01", "train.warmup_steps=2"]


def scores(output: Path) -> list[float]:
    lines = (output / "state" / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["validation_rmse"] for line in lines]


def train(store, output, *overrides):
    return forecast.train(tiny_config(store, output, *SMALL, *overrides))


@pytest.fixture(scope="module")
def persistence(tiny_store, tmp_path_factory):
    """Validation error of persistence by step: that of a model whose learning rate is almost zero."""
    output = tmp_path_factory.mktemp("persistence") / "run"
    train(tiny_store, output, "train.epochs=1", "train.learning_rate=1e-12")
    return scores(output)[-1]


@pytest.mark.parametrize(
    "overrides",
    [
        *([f"loss.kind={kind}"] for kind in LOSSES if kind != "afcrps"),
        ["loss.kind=afcrps", "model.noise_channels=2"],
        ["train.rollout_steps=3", "train.pushforward=true"],
        ["train.rollout_lengths=[1, 1, 2, 3]"],
        ["train.lead_times=[1, 2, 4]"],
        ["train.noise=0.2"],
        ["train.noise_spectrum=pink", "train.noise=0.2"],
    ],
    ids=lambda overrides: overrides[0].removeprefix("loss.kind="),
)
def test_training_lowers_the_validation_error(overrides, tiny_store, tmp_path, persistence):
    result = train(tiny_store, tmp_path / "run", *overrides)
    errors = scores(tmp_path / "run")
    assert min(np.mean(e) for e in errors) < 0.9 * np.mean(persistence)
    prediction = forecast.load(result.checkpoint, device="cpu").run(make_source(), "2001-02-01T00", "24h")
    assert np.isfinite(prediction["t2m"]).all()


def test_damping_is_kept_in_the_checkpoint_and_changes_forecasts_but_not_weights(tiny_store, tmp_path):
    runs = {}
    for damping in (0.0, 0.3):
        options = ["train.epochs=1", f"model.damping={damping}"]
        runs[damping] = forecast.load(
            train(tiny_store, tmp_path / f"{damping}", *options).checkpoint, device="cpu"
        )
    plain, damped = (runs[d].checkpoint.stepper for d in (0.0, 0.3))
    assert damped.damping == 0.3 and not plain.damping
    for name, weight in plain.state_dict().items():
        assert torch.equal(damped.state_dict()[name], weight)
    first, second = (run.run(make_source(), "2001-02-01T00", "12h")["t2m"] for run in runs.values())
    assert (first.isel(prediction_timedelta=0) == second.isel(prediction_timedelta=0)).all()
    assert abs(first - second).isel(prediction_timedelta=1).max() > 0.01
    with pytest.raises(ValueError, match="damping"):
        tiny_config(tiny_store, tmp_path / "run", "model.damping=1")


@pytest.fixture(scope="module")
def noisy(tiny_store, tmp_path_factory):
    """Return a model with a noise input."""
    output = tmp_path_factory.mktemp("noisy") / "run"
    options = ["loss.kind=afcrps", "loss.members=3", "model.noise_channels=2", "train.epochs=2"]
    return forecast.load(train(tiny_store, output, *options).checkpoint, device="cpu")


def test_a_model_with_a_noise_input_forecasts_without_noise(noisy):
    stepper = noisy.checkpoint.stepper
    assert stepper.noise_channels == 2 and not stepper.lead_times
    runs = [noisy.run(make_source(), "2001-02-01T00", "12h")["t2m"].values for _ in range(2)]
    assert np.array_equal(*runs)
    several = noisy.run(make_source(), ["2001-02-01T00", "2001-02-02T00"], "12h")["t2m"].values
    assert np.allclose(several[:1], runs[0], atol=1e-3)


def test_members_of_a_forecast_receive_noise_and_the_first_does_not(noisy):
    times = ["2001-02-01T00", "2001-02-02T00"]
    options = {"members": 3, "amplitude": 1e-6}
    first = noisy.run(make_source(), times, "24h", seed=1, **options)["t2m"]
    alone = noisy.run(make_source(), times[1], "24h", seed=1, **options)["t2m"]
    other = noisy.run(make_source(), times, "24h", seed=2, **options)["t2m"]
    control = noisy.run(make_source(), times, "24h")["t2m"]
    assert np.allclose(first.isel(time=1), alone.isel(time=0), atol=1e-3)
    assert np.allclose(first.isel(number=0), control, atol=1e-3)
    spread = first.std("number").mean(["time", "latitude", "longitude"])
    assert spread[0] < 1e-3 < 0.01 < spread[1] < spread[-1]
    assert np.abs(first - other).isel(number=1, prediction_timedelta=-1).max() > 0.01


def test_the_noise_input_of_a_member_depends_on_its_time_number_step_and_seed_alone():
    times = np.array(["2001-02-01", "2001-02-02"], dtype="datetime64[ns]")
    noise = noise_input(times, Ensemble(3, seed=4), step=2, shape=(2, 50, 60))
    assert (noise[:, 0] == 0).all() and noise[:, 1:].std() == pytest.approx(1, rel=0.02)
    assert abs((noise[:, 1] * noise[:, 2]).mean()) < 0.02
    alone = noise_input(times[1:], Ensemble(5, seed=4), step=2, shape=(2, 50, 60))
    assert np.array_equal(noise[1], alone[0, :3])
    assert noise_input(times, Ensemble(2), step=1, shape=(1, 4, 4)).all()


def test_a_model_with_lead_times_loads_again(tiny_store, tmp_path):
    result = train(tiny_store, tmp_path / "run", "train.lead_times=[1, 3]", "train.epochs=1")
    stepper = load_checkpoint(result.checkpoint).stepper
    assert stepper.lead_times == (1, 3)
    plain = train(tiny_store, tmp_path / "plain", "train.epochs=1")
    channels = [
        load_checkpoint(r.checkpoint).stepper.network.networks[0].in_channels for r in (result, plain)
    ]
    assert channels[0] == channels[1] + 1


def test_a_finished_run_of_an_ensemble_loss_is_recognised(tiny_store, tmp_path):
    options = ["loss.kind=afcrps", "model.noise_channels=1", "train.epochs=1", "loss.variables={t2m: 2}"]
    assert not train(tiny_store, tmp_path / "run", *options).already_done
    assert train(tiny_store, tmp_path / "run", *options).already_done


def test_settings_at_their_defaults_leave_the_fingerprint_of_a_run_as_it_was(tiny_store, tmp_path):
    store = open_store(tiny_store)
    plain = run_identity(tiny_config(tiny_store, tmp_path), store).digest
    for default in (
        "loss.kind=mse",
        "loss.channel_weights=tendency",
        "loss.variables={}",
        "model.noise_channels=0",
        "model.damping=0",
        "model.series=fourier",
        "model.local=false",
        "model.input_injection=false",
        "model.outer_activation=true",
        "train.rollout_lengths=[]",
        "train.pushforward=false",
        "train.lead_times=[]",
    ):
        assert run_identity(tiny_config(tiny_store, tmp_path, default), store).digest == plain
    changed = {
        run_identity(tiny_config(tiny_store, tmp_path, *overrides), store).digest
        for overrides in (
            ["loss.kind=huber"],
            ["loss.kind=huber", "loss.delta=2"],
            ["loss.channel_weights=state"],
            ["loss.variables={t2m: 2}"],
            ["loss.levels={500: 2}"],
            ["loss.kind=afcrps", "model.noise_channels=1"],
            ["loss.kind=afcrps", "model.noise_channels=2"],
            ["model.damping=0.01"],
            ["model.series=cosine"],
            ["model.local=true"],
            ["model.local=stencil"],
            ["model.input_injection=true"],
            ["model.outer_activation=false"],
            ["train.pushforward=true"],
            ["train.rollout_steps=1", "train.rollout_lengths=[1, 2]"],
            ["train.rollout_steps=1", "train.lead_times=[1, 2]"],
        )
    }
    assert len(changed | {plain}) == 17


def test_later_keys_of_models_at_their_defaults_do_not_identify_a_run():
    models = [
        make_config({"data": {"store": "s"}, "model": {"kind": kind}, "output": "o"}).model
        for kind in ("fno", "tfno", "sfno", "afno")
    ]
    models.append(OperatorModelConfig(kind="fno"))
    later = {"damping", "series", "input_injection", "outer_activation"}
    for model in models:
        assert not later & set(identifying_keys(model))
        assert set(identifying_keys(model)) | later >= set(model.model_dump())
    assert identifying_keys(OperatorModelConfig(kind="fno", series="cosine"))["series"] == "cosine"


def test_weights_of_channels_are_products_with_mean_one():
    config = LossConfig(variables={"t": 2, "z": 0}, levels={500: 3})
    weights = channel_weights(config, CHANNELS)
    assert torch.allclose(weights, torch.tensor([1.0, 6.0, 2.0, 0.0]) * 4 / 9)
    assert channel_weights(LossConfig(), CHANNELS) is None


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"variables": {"t3m": 1}}, "no variable 't3m'; did you mean t2m"),
        ({"levels": {400: 1}}, "no level 400 hPa; there are: 500, 850"),
        ({"variables": {"t2m": 0, "t": 0, "z": 0}}, "every channel the weight zero"),
    ],
)
def test_weights_of_unknown_channels_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        channel_weights(LossConfig(**weights), CHANNELS)


@pytest.mark.parametrize("kind", ["anomaly", "state"])
def test_units_of_the_errors_change_the_result(kind, tiny_store, tmp_path):
    runs = [
        train(tiny_store, tmp_path / name, f"loss.channel_weights={name}", "train.epochs=1")
        for name in ("tendency", kind)
    ]
    weights = [(r.checkpoint / "weights.safetensors").read_bytes() for r in runs]
    assert weights[0] != weights[1]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss.kind=hubert"], r"loss.kind: no such loss; did you mean huber"),
        (["loss.delta=1"], "delta has no effect on kind mse, only on huber"),
        (["loss.kind=mae", "loss.quantile=0.3"], "quantile has no effect on kind mae, only on quantile"),
        (["loss.members=4"], "members has no effect on kind mse, only on afcrps"),
        (["loss.kind=relative_l2", "loss.channel_weights=state"], "channel_weights has no effect"),
        (["loss.kind=afcrps"], "set model.noise_channels"),
        (["model.noise_channels=2"], "model.noise_channels has no effect with loss.kind mse"),
        (["loss.kind=quantile", "loss.quantile=1"], "loss.quantile"),
        (["loss.kind=afcrps", "model.noise_channels=1", "loss.members=1"], "loss.members"),
        (["loss.variables={t2m: -1}"], "loss.variables.t2m"),
        (["loss.lambda=2"], "unknown key loss.lambda"),
        (["train.pushforward=true", "train.rollout_steps=1"], "train.pushforward needs rollouts"),
        (["train.lead_times=[1, 2]"], "train.lead_times must not be combined"),
        (["train.lead_times=[2, 4]", "train.rollout_steps=1"], "train.lead_times must be"),
        (
            ["train.lead_times=[1, 2]", "train.rollout_steps=1", "loss.physics={hydrostatic: 1}"],
            "loss.physics compares consecutive states",
        ),
    ],
)
def test_options_that_do_not_apply_are_errors_that_name_them(overrides, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(Path("store"), Path("run"), *overrides)


def test_a_weight_of_an_unknown_variable_is_refused_before_training(tiny_store, tmp_path):
    with pytest.raises(ValueError, match=r"loss\.variables: the model has no variable 't3m'"):
        train(tiny_store, tmp_path / "run", "loss.variables={t3m: 2}")
    assert not (tmp_path / "run" / "state").exists()


@pytest.mark.parametrize(
    "setting", ["train.rollout_lengths=[1, 2]", "train.lead_times=[1, 2]", "train.pushforward=true"]
)
def test_settings_of_forecast_models_are_refused_for_solution_operators(setting):
    overrides = [setting, *(["train.rollout_steps=2"] if "pushforward" in setting else [])]
    with pytest.raises(ValueError, match=f"{setting.split('=')[0]} applies to forecast models alone"):
        load_config("pino/burgers", overrides)
