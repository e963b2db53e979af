"""JSON schema of configurations and the reference of all keys."""

import importlib.util
import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from helpers import ROOT
from pydantic import BaseModel
from typer.testing import CliRunner

from fourcaster.forecast.cli.main import app
from fourcaster.forecast.config.docstrings import field_descriptions, introduction, parse_fields, unit_of
from fourcaster.forecast.config.reference import config_keys, config_tables
from fourcaster.forecast.config.schema import DIALECT, config_schema, properties
from fourcaster.forecast.config.source import read_config, to_yaml
from fourcaster.forecast.tasks.dispatch import load_config, make_config
from fourcaster.forecast.tasks.registry import config_classes

TASKS = ("weather", "pinn", "operator", "inverse", "diagnostic")
RECIPES = sorted(
    str(path.relative_to(ROOT / "configs").with_suffix("")) for path in (ROOT / "configs").rglob("*.yaml")
)
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


def matches(value: Any, entry: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Return whether a value matches a part of a schema; only the keywords that are used are known."""
    annotations = {"title", "description", "default", "unit", "format", "$schema", "$defs"}
    numbers = {
        "minimum": lambda n: value >= n,
        "maximum": lambda n: value <= n,
        "exclusiveMinimum": lambda n: value > n,
        "exclusiveMaximum": lambda n: value < n,
    }
    for keyword, argument in entry.items():
        if keyword in annotations or keyword in ("required", "additionalProperties", "propertyNames"):
            continue
        if keyword == "$ref":
            good = matches(value, schema["$defs"][argument.removeprefix("#/$defs/")], schema)
        elif keyword == "type":
            good = isinstance(value, TYPES[argument]) and (
                argument == "boolean" or not isinstance(value, bool)
            )
        elif keyword == "const":
            good = value == argument
        elif keyword == "enum":
            good = value in argument
        elif keyword == "not":
            good = not matches(value, argument, schema)
        elif keyword == "anyOf":
            good = any(matches(value, one, schema) for one in argument)
        elif keyword == "oneOf":
            good = sum(matches(value, one, schema) for one in argument) == 1
        elif keyword == "items":
            good = all(matches(one, argument, schema) for one in value)
        elif keyword == "prefixItems":
            good = all(matches(one, part, schema) for one, part in zip(value, argument, strict=False))
        elif keyword in ("minItems", "maxItems"):
            good = len(value) >= argument if keyword == "minItems" else len(value) <= argument
        elif keyword == "properties":
            good = all(matches(value[k], part, schema) for k, part in argument.items() if k in value)
        elif keyword in numbers:
            good = numbers[keyword](argument)
        else:
            raise AssertionError(f"unknown keyword {keyword}")
        if not good:
            return False
    if isinstance(value, dict) and ("properties" in entry or "additionalProperties" in entry):
        known = entry.get("properties", {})
        others = entry.get("additionalProperties", True)
        extra = [v for k, v in value.items() if k not in known]
        if others is False and extra:
            return False
        if isinstance(others, dict) and not all(matches(v, others, schema) for v in extra):
            return False
        return set(entry.get("required", ())) <= set(value)
    return True


def load_yaml(recipe: str) -> dict[str, Any]:
    return json.loads(json.dumps(read_config(recipe)))


@pytest.mark.parametrize("task", TASKS)
def test_every_key_of_every_section_has_a_description(task):
    schema = config_schema({task: config_classes()[task]})
    keys = list(properties(schema))
    assert len(keys) > 10
    missing = [f"{key} {kind}" for key, kind, entry, _ in keys if not entry.get("description")]
    assert not missing


@pytest.mark.parametrize("task", TASKS)
def test_no_description_belongs_to_a_key_that_does_not_exist(task):
    def check(cls: Any) -> None:
        fields = getattr(cls, "model_fields", None) or getattr(cls, "__dataclass_fields__", {})
        assert set(parse_fields(cls.__doc__ or "")) <= set(fields), cls
        for base in cls.__mro__[1:]:
            if base not in (object, BaseModel):
                check(base)

    for _, annotation in sections(config_classes()[task]):
        check(annotation)


def sections(config: type) -> list[tuple[str, type]]:
    from fourcaster.forecast.config.sections import _types_in

    result: list[tuple[str, type]] = [("", config)]
    for name, field in getattr(config, "model_fields", {}).items():
        for kind in _types_in(field.annotation):
            if isinstance(kind, type) and (
                hasattr(kind, "model_fields") or hasattr(kind, "__dataclass_fields__")
            ):
                result += sections(kind) if hasattr(kind, "model_fields") else [(name, kind)]
    return result


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_match_the_schema_of_their_task_and_of_all_tasks(recipe):
    values = load_yaml(recipe)
    task = load_config(recipe).task
    own = config_schema({task: config_classes()[task]})
    everything = config_schema(config_classes())
    assert own["$schema"] == everything["$schema"] == DIALECT
    assert matches(values, own, own)
    assert matches(values, everything, everything)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train", {"epoch": 3}),
        ("train", {"epochs": "many"}),
        ("model", {"kind": "fno", "lmax": 3}),
        ("model", {"kind": "fno", "n_modes": [0, 4]}),
        ("output", None),
        ("extra", 1),
    ],
)
def test_schema_refuses_unknown_keys_and_wrong_types(key, value):
    schema = config_schema({"weather": config_classes()["weather"]})
    values = load_yaml("ncep_temperature")
    assert matches(values, schema, schema)
    assert not matches(values | {key: value}, schema, schema)


def test_a_model_of_this_package_matches_one_alternative_only():
    schema = config_schema({"weather": config_classes()["weather"]})
    values = load_yaml("ncep_temperature")
    assert matches(values | {"model": {"kind": "unet", "width": 8}}, schema, schema)
    assert not matches(values | {"model": {"kind": "fno", "width": 8}}, schema, schema)


@pytest.mark.parametrize("recipe", RECIPES)
def test_shown_configuration_reads_as_the_same_one(recipe):
    config = load_config(recipe)
    values, text = to_yaml(config)
    assert next(iter(values)) == "task"
    assert make_config(yaml.safe_load(text)) == config


def test_keys_have_types_defaults_and_units():
    keys = {(key.key, key.kind): key for key in config_keys("weather", config_classes()["weather"])}
    assert keys["train.checkpoint_minutes", ""].unit == "min"
    assert keys["train.checkpoint_minutes", ""].default == "5.0"
    assert keys["data.cache_bytes", ""].unit == "B"
    assert keys["data.store", ""].default == "required"
    assert keys["data.store", ""].type == "path"
    assert keys["data.validation_fraction", ""].type == "number at least 0 below 1"
    assert keys["model.lmax", "sfno"].default == "16"
    assert ("model.lmax", "fno") not in keys


def test_site_lists_every_key(monkeypatch):
    spec = importlib.util.spec_from_file_location("site_conf", ROOT / "docs" / "conf.py")
    conf = importlib.util.module_from_spec(spec)
    pytest.importorskip("pygments")
    spec.loader.exec_module(conf)
    source = [(ROOT / "docs" / "configuration.md").read_text()]
    conf.insert_keys(None, "configuration", source)
    for task, config in config_classes().items():
        for key in config_keys(task, config):
            assert f"| `{key.key}` |" in source[0]
    rows = [line for line in source[0].splitlines() if line.startswith("| `")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 6 for row in rows)


def test_docstring_sections_end_and_continue():
    @dataclass
    class Base:
        """Settings.

        Args:
            rate: peak rate [1/s], which
                continues.

        Raises:
            ValueError: never.
        """

    class Derived(Base):
        """More settings.

        A second
        paragraph.

        Attributes:
            seed: seed in [0, 1].
        """

    assert field_descriptions(Derived) == {
        "rate": "peak rate [1/s], which continues.",
        "seed": "seed in [0, 1].",
    }
    assert introduction(Derived.__doc__) == "More settings.\nA second paragraph."
    assert [unit_of(text) for text in field_descriptions(Derived).values()] == ["1/s", ""]


def test_verbs_print_schema_keys_and_recipe():
    runner = CliRunner()
    schema = json.loads(runner.invoke(app, ["config", "schema", "weather"]).stdout)
    assert schema["title"] == "WeatherConfig"
    shown = runner.invoke(app, ["config", "show", "ncep_temperature", "train.epochs=3"]).stdout
    assert yaml.safe_load(shown)["train"]["epochs"] == 3
    assert yaml.safe_load(shown)["train"]["clip"] == 1.0
    keys = json.loads(runner.invoke(app, ["config", "keys", "pinn", "--json"]).stdout)
    assert {"key": "train.windows", "task": "pinn"}.items() <= {
        k: v for row in keys if row["key"] == "train.windows" for k, v in row.items()
    }.items()
    assert config_tables(config_classes("pinn")).startswith("## Task pinn")
    refused = runner.invoke(app, ["config", "schema", "network"])
    assert refused.exit_code == 2
    assert "has no training" in refused.stderr
