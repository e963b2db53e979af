"""Malformed or out-of-range options are rejected in one line, before anything is allocated or written."""

import os

import numpy as np
import pytest
from typer.testing import CliRunner

from fourcaster.datasets.adapters.untrusted import parse_bytes
from fourcaster.datasets.cluster import connected
from fourcaster.datasets.durations import parse_duration
from fourcaster.datasets.loaders.split import period
from fourcaster.datasets.pde.simulate import simulate
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.inference import rollout
from fourcaster.forecast.inference.initial_times import parse_lead, parse_times
from fourcaster.forecast.inference.perturbations import Ensemble
from fourcaster.forecast.interop import import_network

STEP = np.timedelta64(6, "h")


@pytest.mark.parametrize(
    "text", ["1e12h", "nan", "inf", "-1d", "", "h", "1", "9999999d", "9" * 400 + "h", "1\x00h", "1h1h"]
)
def test_invalid_durations_are_rejected(text):
    with pytest.raises(ValueError, match=r"is not a duration|is longer than 200 years") as caught:
        parse_duration(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["0h", "5h", "1s", "0.0000000001s"])
def test_invalid_lead_times_are_rejected(text):
    with pytest.raises(ValueError, match="not a positive multiple"):
        parse_lead(text, STEP)
    assert parse_lead("36h", STEP) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NaT", "is not a time"),
        ("", "is not a time"),
        ("1e300", "is not a time"),
        ("9999-01-01", "not a time between"),
        ("0001-01-01", "not a time between"),
        ("2001-01-01/NaT/1h", "is not a time"),
        ("2001-01-01/9999-01-01/1h", "not a time between"),
        ("1900-01-01/2200-01-01/1s", "contains 9467107201 times"),
        ("2001-01-01/2001-01-02/0s", "must be positive"),
        ("2001-01-01/2001-01-02/0.0000000001s", "must be positive"),
        ("2001-01-01/2001-01-02/-1h", "is not a duration"),
        ("2001-01-01/2001-01-02/1h/1h", "a range is START/STOP/STEP"),
        ("2001-01-02/2001-01-01/1h", "contains no time"),
        ("/", "is not a time"),
    ],
)
def test_invalid_initial_times_are_rejected(text, message):
    with pytest.raises(ValueError, match=message):
        parse_times([text], None, 1)


def test_time_zones_are_converted_and_time_ranges_are_inclusive():
    assert parse_times(["2001-01-08T00:00:00+02:00"], None, 1) == np.array(
        ["2001-01-07T22"], "datetime64[ns]"
    )
    assert parse_times("2001-01-01/2001-01-02/12h", None, 1).astype("datetime64[h]").astype(str).tolist() == [
        "2001-01-01T00",
        "2001-01-01T12",
        "2001-01-02T00",
    ]


@pytest.mark.parametrize("text", ["NaT", "NaT:NaT", "2001:NaT", "9999", "1", "", ":", "x", "9" * 30])
def test_invalid_periods_are_rejected(text):
    times = np.datetime64("2001-01-01", "ns") + np.arange(100) * STEP
    with pytest.raises(ValueError, match="is not a period"):
        period(times, text)


@pytest.mark.parametrize(
    "options",
    [
        {"members": 10**9},
        {"members": 3, "seed": 2**70},
        {"members": 3, "seed": 2**63},
        {"members": 3, "amplitude": np.inf},
    ],
)
def test_invalid_ensemble_options_are_rejected(options):
    with pytest.raises(ValueError, match="ensemble"):
        Ensemble.of(**options)


def test_oversized_ensemble_is_rejected_before_allocation(tiny_checkpoint, tiny_store, tmp_path, monkeypatch):
    monkeypatch.setattr(rollout, "_COPIES", 10**12)
    monkeypatch.setattr(rollout, "perturbations", lambda *_, **__: pytest.fail("allocated"))
    args = [
        "run",
        tiny_checkpoint,
        "--init",
        tiny_store,
        "-o",
        tmp_path / "x.zarr",
        "--lead",
        "6h",
        "--members",
        "2",
    ]
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == 2
    assert "2 members need about" in result.stderr
    assert not (tmp_path / "x.zarr").exists()


@pytest.mark.parametrize("text", ["1e400", "nan", "-1", "", "1.2.3GiB", "GiB"])
def test_invalid_byte_sizes_are_rejected(text):
    with pytest.raises(ValueError, match="memory"):
        parse_bytes(text)


@pytest.mark.parametrize(
    "scheduler", ["local:0", "local:-1", "local:x", "local:1000000", "local:" + "9" * 5000, "local:²"]
)
def test_invalid_schedulers_are_rejected(scheduler):
    with pytest.raises(ValueError, match="scheduler"), connected(scheduler):
        pass


@pytest.mark.parametrize(
    ("parameters", "options", "message"),
    [
        ({}, {"samples": 10**12}, "samples may be"),
        ({}, {"seed": 2**70}, "seed below"),
        ({"resolution": 10**9}, {}, "resolution"),
        ({"frames": 10**9}, {}, "frames"),
        ({"duration": float("nan")}, {}, "duration"),
        ({"duration": float("inf")}, {}, "duration"),
    ],
)
def test_invalid_simulation_options_are_rejected(parameters, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        simulate("burgers", tmp_path / "x.zarr", parameters, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_modes": None},
        {"n_modes": 3},
        {"n_modes": [float("nan"), 4]},
        {"n_modes": [10**12, 4]},
        {"n_modes": [[4], 4]},
        {"n_modes": list(range(100))},
        {"hidden_channels": {"a": 1}},
        {"norm": "x" * 1000},
        {1: 2},
    ],
)
def test_invalid_import_arguments_are_rejected(arguments, tmp_path):
    import torch

    torch.save(
        {"fno_blocks.convs.0.weight.tensor": torch.zeros(2, 2, 4, 3, dtype=torch.complex64)},
        tmp_path / "w.pt",
    )
    with pytest.raises(ValueError, match=r"is not understood|do not fit|w\.pt") as caught:
        import_network(tmp_path / "w.pt", "neuraloperator", tmp_path / "n", arguments=arguments)
    assert len(str(caught.value)) < 600
    assert os.listdir(tmp_path) == ["w.pt"]
