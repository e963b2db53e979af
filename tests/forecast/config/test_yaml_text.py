"""YAML is parsed within limits, both in files and on the command line."""

import os
import time

import pytest
import yaml
from helpers import tiny_config
from typer.testing import CliRunner

from fourcaster.forecast.cli.main import app
from fourcaster.forecast.config.source import parse_arguments
from fourcaster.forecast.config.yaml_text import MOST_BYTES, parse_yaml, read_yaml
from fourcaster.forecast.jobs.load import load_jobs
from fourcaster.forecast.tasks.dispatch import load_config, make_config

TENFOLD = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
MERGED = "b0: &b0 {k: 1}\n" + "".join(
    f"b{i}: &b{i}\n  <<: [{','.join([f'*b{i - 1}'] * 10)}]\n" for i in range(1, 9)
)
NESTED = (
    "c0: &c0 "
    + "[" * 30
    + "]" * 30
    + "\n"
    + "".join(f"c{i}: &c{i} {'[' * 30}*c{i - 1}{']' * 30}\n" for i in range(1, 60))
)
HOSTILE = {
    "aliases": (TENFOLD, "once aliases are expanded"),
    "merges": (MERGED, "once aliases are expanded"),
    "nested aliases": (NESTED, "deep once aliases are expanded"),
    "self-reference": ("a: &a [*a]\n", "contains itself"),
    "deep lists": ("a: " + "[" * 10_000, "nested more than"),
    "deep mappings": ("{a: " * 10_000, "nested more than"),
    "deep blocks": ("- " * 10_000 + "x", "nested more than"),
    "many values": ("[" + "x," * 150_000 + "]", "more than 30000 values"),
    "decimal": ("a: " + "9" * 5_000, "a number has 5000 digits"),
    "hexadecimal": ("a: 0x" + "f" * 5_000, "digits"),
    "base 60": ("a: " + "1" + ":59" * 5_000, "digits"),
    "python": ("a: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
    "tag": ("a: !x 1\n", "could not determine a constructor"),
    "duplicate key": ("a: 1\nb: 2\na: 3\n", "'a' is given twice, line 1 and below"),
    "nested duplicate key": ("x:\n  a: 1\n  a: 3\n", "'a' is given twice, line 2"),
    "list as key": ("? [a]\n: 1\n", "unhashable key"),
    "two documents": ("a: 1\n---\nb: 1\n", "expected a single document"),
    "month": ("a: 2001-13-01\n", "month must be in 1..12"),
    "escape out of range": ('a: "\\U7FFFFFFF"\n', "is not YAML: a character is out of range"),
    "largest escape": ('a: "\\UFFFFFFFF"\n', "is not YAML: a character is out of range"),
    "tagged as timestamp": ("a: !!timestamp 9999999-99-99\n", "'9999999-99-99' is no timestamp, line 1"),
    "tagged as int": ("b: 1\na: !!int x\n", "'x' is no int"),
    "tagged as empty int": ("a: !!int ''\n", "'' is no int, line 1"),
    "tagged as bool": ("a: !!bool maybe\n", "'maybe' is no bool, line 1"),
    "tagged as binary": ("a: !!binary 'é'\n", "failed to convert base64 data"),
    "tagged as null": ("a: !!null []\n", "expected a scalar node"),
    "tagged as omap": ("a: !!omap 1\n", "line 1"),
    "null": ("a: b\x00c\n", "special characters are not allowed"),
    "unclosed": ("a: [1", "is not YAML"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_rejected_quickly(name):
    text, message = HOSTILE[name]
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"config: |config ") as caught:
        parse_yaml(text, "config")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400
    assert time.monotonic() - start < 10


def test_ordinary_aliases_and_merges_are_expanded():
    text = "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: [*a, *a]\nd: &d\n  <<: *a\n  x: 5\ne: {<<: *d}\n"
    assert parse_yaml(text, "config") == yaml.safe_load(text)
    assert parse_yaml("", "config") is None


def write_files(folder):
    (folder / "large.yaml").write_text("a: " + "x" * MOST_BYTES)
    (folder / "latin-1.yaml").write_bytes("a: é".encode("latin-1"))
    (folder / "utf-16.yaml").write_bytes("a: b".encode("utf-16"))
    os.mkfifo(folder / "pipe.yaml")
    (folder / "device.yaml").symlink_to("/dev/zero")
    (folder / "byte-order-mark.yaml").write_bytes("a: é".encode("utf-8-sig"))
    return folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("large", "is larger than"),
        ("latin-1", "is not text in UTF-8"),
        ("utf-16", "is not text in UTF-8"),
        ("pipe", "is not a regular file|is a pipe"),
        ("device", "is not a regular file|is a device"),
    ],
)
@pytest.mark.parametrize("read", [read_yaml, load_config, load_jobs])
def test_invalid_files_are_rejected_before_they_are_read(read, name, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read(write_files(tmp_path) / f"{name}.yaml")


def test_byte_order_mark_is_accepted(tmp_path):
    assert read_yaml(write_files(tmp_path) / "byte-order-mark.yaml") == {"a": "é"}


@pytest.mark.parametrize(
    "args",
    [
        ("train", "x.yaml"),
        ("jobs", "status", "x.yaml"),
        ("import", "w", "--format", "fourcastnet", "-o", "y", "--config", "x.yaml"),
    ],
)
@pytest.mark.parametrize("name", ["aliases", "deep lists", "python", "duplicate key", "decimal", "null"])
def test_every_command_that_reads_yaml_rejects_hostile_yaml_in_one_line(args, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(HOSTILE[name][0])
    result = CliRunner().invoke(app, list(args))
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "x.yaml" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.yaml"]


@pytest.mark.parametrize("name", HOSTILE)
def test_command_line_values_are_parsed_within_the_same_limits(name):
    text, _ = HOSTILE[name]
    with pytest.raises(ValueError, match=r"train\.epochs"):
        make_config({}, [f"train.epochs={text}"])
    if "\n" not in text and "," not in text:
        with pytest.raises(ValueError, match="n_modes"):
            parse_arguments([f"n_modes={text}"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.learning_rate=.nan", "finite"),
        ("train.learning_rate=.inf", "finite"),
        ("train.clip=.inf", "finite"),
        ("train.weight_decay=.nan", "finite"),
        ("train.weight_decay=-1", "at least 0"),
        ("train.epochs=true", "cannot be true or false"),
        ("train.learning_rate=yes", "cannot be true or false"),
        ("model.n_modes=[true, 4]", "cannot be true or false"),
        ("train.epochs=1000000000000000000", "at most"),
        ("train.batch_size=1000000000000", "at most"),
        ("train.rollout_steps=1000000000", "at most"),
        ("train.validation_steps=1000000000", "at most"),
        ("train.validation_samples=100000000000", "at most"),
        ("train.warmup_steps=-1", "at least 0"),
        ("train.seed=-1", "at least 0"),
        ("train.seed=1180591620717411303424", "at most"),
        ("train.seed=9223372036854775808", "at most"),
        ("data.samples_per_epoch=100000000000000", "less than or equal"),
        ("data.cache_bytes=1e30", "integer"),
        ("data.gap_steps=1000000000000", "less than or equal"),
        ("loss.physics={energy: .nan}", "finite"),
        ("loss.warmup=.nan", "finite"),
        ("data.store=''", "names no file or folder"),
        ("output=' '", "names no file or folder"),
        ("output=", "not a valid path"),
        ('output="a\\0b"', "names no file or folder"),
        (f"{'a.' * 20}b=1", "no key has that many parts"),
    ],
)
def test_nonsensical_values_are_rejected(override, message, tmp_path):
    with pytest.raises(ValueError, match=override.partition("=")[0].split(".")[-1]) as caught:
        tiny_config(tmp_path, tmp_path / "run", override)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        ("pinn/convection", "train.points=10000000000", "at most"),
        ("pinn/convection", "train.windows=1000000000", "at most"),
        ("pinn/convection", "train.learning_rate=.nan", "finite"),
        ("pinn/convection", "train.tolerance=.inf", "finite"),
        ("pinn/convection", "loss.initial=.inf", "finite"),
        ("pinn/convection", "equation.beta=.nan", "must be a number"),
        ("pinn/convection", "equation.beta=true", "must be a number"),
        ("pino/burgers", "loss.data=.nan", "finite"),
        ("pino/burgers", "loss.refine=1000000000", "in \\[1, 64\\]"),
        ("pino/burgers", "data.samples=1000000000000", "less than or equal"),
        ("pino/burgers", "train.epochs=false", "cannot be true or false"),
    ],
)
def test_nonsensical_values_of_equation_tasks_are_rejected(recipe, override, message):
    with pytest.raises(ValueError, match=message):
        load_config(recipe, ["output=x", override])


def test_long_value_is_truncated_in_its_error_message(tmp_path):
    with pytest.raises(ValueError, match="epochs") as caught:
        tiny_config(tmp_path, tmp_path / "run", f"train.epochs={'x' * 100_000}")
    assert len(str(caught.value)) < 400
