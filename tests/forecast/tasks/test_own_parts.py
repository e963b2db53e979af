"""Models, forcings and samplers of a user's own, in the configuration and in the checkpoint."""

import json
import sys

import numpy as np
import pytest
from helpers import tiny_config
from typer.testing import CliRunner

from fourcaster import forecast
from fourcaster.datasets.loaders.samplers import Shuffled, sample_order
from fourcaster.fno.errors import UntrustedCodeError
from fourcaster.fno.references import trusting
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.tasks.dispatch import train

CODE = '''
import numpy as np
import torch


class Smoother(torch.nn.Module):
    """A linear map of the neighbourhood."""

    def __init__(self, in_channels, out_channels, width=3):
        super().__init__()
        self.map = torch.nn.Conv2d(in_channels, out_channels, width, padding=width // 2)

    def forward(self, x):
        return self.map(x)


class Latest:
    """The last samples only, in order."""

    def __init__(self, count=8):
        self.count = count

    def __call__(self, starts, times, rng):
        assert (np.diff(times) > np.timedelta64(0)).all()
        return starts[-self.count :]


def weekday(times, grid):
    """Return the day of the week, scaled to [-1, 1]."""
    days = times.astype("datetime64[D]").astype(int) % 7
    return (days / 3 - 1)[:, None, None]


def wrong(times, grid):
    return np.zeros(3)
'''


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    folder = tmp_path_factory.mktemp("code")
    (folder / "parts_of_a_user.py").write_text(CODE)
    yield folder
    sys.modules.pop("parts_of_a_user", None)


@pytest.fixture(scope="module")
def run(code, tiny_store, tmp_path_factory):
    """Train a model of which network, forcing and sampler are a user's own, by the command."""
    output = tmp_path_factory.mktemp("own")
    (output / "own.yaml").write_text(
        f"""
data:
  store: {tiny_store}
  forcings: [parts_of_a_user:weekday]
  sampler: {{kind: parts_of_a_user:Latest, count: 20}}
model: {{kind: parts_of_a_user:Smoother, width: 5, window: 2}}
train: {{epochs: 1, batch_size: 8, validation_steps: 2}}
output: {output}
"""
    )
    result = CliRunner().invoke(app, ["train", str(output / "own.yaml"), "--trust", str(code)])
    assert result.exit_code == 0, result.output
    return output


def test_the_checkpoint_records_the_class_and_loads_from_the_trusted_folder(run, code, tiny_store, tmp_path):
    meta = json.loads((run / "checkpoint" / "meta.json").read_text())
    assert meta["config"]["model"]["kind"] == "parts_of_a_user:Smoother"
    assert meta["forcings"] == ["toa_radiation", "cos_year", "sin_year", "parts_of_a_user:weekday"]
    with trusting(code):
        model = forecast.load(run / "checkpoint")
    network = model.checkpoint.stepper.network.networks[0]
    assert type(network).__name__ == "Smoother" and network.map.weight.shape[-1] == 5
    arguments = ["run", str(run / "checkpoint"), "--init", str(tiny_store), "--lead", "12h"]
    arguments += ["-o", str(tmp_path / "f.zarr"), "--trust", str(code)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    inspected = CliRunner().invoke(app, ["inspect", str(run / "checkpoint"), "--trust", str(code), "--json"])
    assert json.loads(inspected.output)["model"]["kind"] == "parts_of_a_user:Smoother"


@pytest.mark.parametrize("verb", ["run", "inspect", "train", "export"])
def test_without_trust_nothing_is_imported_and_one_line_says_so(run, code, tiny_store, tmp_path, verb, capfd):
    sys.modules.pop("parts_of_a_user", None)
    checkpoint = str(run / "checkpoint")
    arguments = {
        "run": [checkpoint, "--init", str(tiny_store), "-o", str(tmp_path / "f.zarr")],
        "inspect": [checkpoint],
        "train": [str(run / "own.yaml")],
        "export": [checkpoint, "--format", "torch-export", "-o", str(tmp_path / "x.pt2")],
    }[verb]
    result = CliRunner().invoke(app, [verb, *arguments])
    lines = (result.output + capfd.readouterr().err).strip().splitlines()
    assert result.exit_code == 2 and len(lines) == 1, lines
    assert "there is no module parts_of_a_user" in lines[0] and lines[0].endswith("(--trust FOLDER)")
    assert "parts_of_a_user" not in sys.modules and not (tmp_path / "f.zarr").exists()


def test_a_checkpoint_that_names_any_code_is_refused(run, tmp_path):
    """A description that names a module of the standard library, sealed as if it had been written so."""
    from fourcaster.forecast.checkpoint.meta import checksum

    (tmp_path / "c").mkdir()
    for file in (run / "checkpoint").iterdir():
        (tmp_path / "c" / file.name).write_bytes(file.read_bytes())
    meta = json.loads((tmp_path / "c" / "meta.json").read_text())
    meta["config"]["model"]["kind"] = "antigravity:geohash"
    meta["config"]["data"]["sampler"]["kind"] = "antigravity:geohash"
    meta["checksum"] = checksum(meta)
    (tmp_path / "c" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(UntrustedCodeError, match="antigravity"):
        forecast.load(tmp_path / "c")
    assert "antigravity" not in sys.modules


def test_invalid_parts_are_refused_before_training(code, tiny_store, tmp_path):
    def refused(*overrides, match):
        with trusting(code), pytest.raises(ValueError, match=match):
            train(tiny_config(tiny_store, tmp_path / "run", *overrides))
        assert not (tmp_path / "run" / "state").exists()

    refused("data.forcings=[parts_of_a_user:wrong]", match=r"parts_of_a_user:wrong returned .* shape \(3,\)")
    refused("data.forcings=[sst]", match="'sst' is neither a variable of .* nor a forcing")
    refused("data.forcings=[cos_year]", match="'cos_year' is a forcing already")
    refused("data.forcings=[t2m,t2m]", match="name each once")
    refused("data.forcings=[t2m,u10]", match="leave one to forecast")
    refused("data.variables=[t2m]", "data.forcings=[t2m]", match="cannot be both")
    refused("data.sampler={kind: shufled}", match="there is no sampler 'shufled'")
    refused("data.sampler={kind: shuffled, size: 3}", match="sampler shuffled has no option 'size'")
    refused("model={kind: 'parts_of_a_user:Smoother', depth: 3}", match="unknown key depth")
    refused("model={kind: 'parts_of_a_user:weekday'}", match="not a subclass of torch.nn.Module")
    refused("model={kind: unet}", match="or module:Class")


def test_the_shuffled_sampler_gives_each_sample_once():
    starts = np.arange(5, 40)
    order = sample_order(Shuffled(), starts, starts.astype("datetime64[h]"), rng=np.random.default_rng(0))
    assert sorted(order) == starts.tolist() and (order != starts).any()
    with pytest.raises(ValueError, match="returned int64"):
        sample_order(lambda s, t, r: s + 99, starts, starts.astype("datetime64[h]"), rng=None)
