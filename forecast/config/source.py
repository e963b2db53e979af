"""Reading of configurations: YAML file or packaged recipe, overrides, and validation of the result."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from ...datasets.suggestions import suggest
from ...datasets.validation import first_problem
from ...fno.errors import SettingError, UntrustedCodeError
from ..text import one_line
from .sections import MODEL_TAGS, EquationConfig, PluginModelConfig, Strict
from .yaml_text import parse_yaml, read_yaml

T = TypeVar("T", bound=BaseModel)
MAX_KEY_PARTS = 9


def read_config(source: str | Path) -> dict[str, Any]:
    """Return the keys of a YAML file, or of a recipe of the package.

    Raises:
        FileNotFoundError: no such file or recipe.
        ValueError: not YAML, or not a mapping.
    """
    recipes = dict(_recipes(files("fourcaster.configs")))
    if str(source) in recipes and not os.path.isfile(source):
        values = parse_yaml(recipes[str(source)].read_text(), str(source))
    elif os.path.exists(source) and not os.path.isdir(source):
        values = read_yaml(source)
    else:
        raise FileNotFoundError(
            f"no configuration {source}: no such file, and the recipes are {', '.join(sorted(recipes))}"
        )
    if not isinstance(values, dict):
        raise ValueError(f"{source} is not a mapping of keys; see configs/ for examples")
    return values


def _recipes(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    """Yield the name and the file of each recipe, e.g. ``pinn/burgers``."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _recipes(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".yaml"):
            yield prefix + entry.name.removesuffix(".yaml"), entry


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return nested keys with ``key=value`` overrides applied; keys are dotted, values are YAML.

    Raises:
        ValueError: an override is not of that form, or its parent key has a value that is not a mapping.
    """
    result = _copy(values)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ValueError(f"{override!r} is not an override; write key=value, e.g. train.epochs=20")
        *parents, last = key.split(".")
        if len(parents) >= MAX_KEY_PARTS:
            raise ValueError(f"{key[:80]} cannot be set: no key has that many parts")
        section = result
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ValueError(f"{key} cannot be set: {parent} is a value, not a section")
        section[last] = parse_yaml(text, key)
    return result


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of nested sections; the values themselves are shared."""
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in values.items()}


def validate(values: Mapping[str, Any], model: type[T], source: str) -> T:
    """Return the validated configuration.

    Args:
        values: nested keys.
        model: configuration class of a task.
        source: file or recipe, for messages.

    Raises:
        ValueError: an unknown key, or a value of the wrong type or out of range.
    """
    _refuse_unknown(values, model, source=source)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = first_problem(error, tags=MODEL_TAGS)
        location = ".".join(problem.location)
        received = "" if problem.kind == "missing" else f", got {one_line(repr(problem.value), 120)}"
        if location in ("", "equation") and problem.kind == "value_error":
            received = ""
        if location and isinstance(problem.cause, SettingError):
            # The message of a ``SettingError`` starts with the name of the setting.
            raise ValueError(f"{source}: {location}.{problem.message}") from error
        separator = ": " if location else ""
        if isinstance(problem.cause, UntrustedCodeError):
            raise UntrustedCodeError(f"{source}: {location}{separator}{problem.message}") from error
        raise ValueError(f"{source}: {location}{separator}{problem.message}{received}") from error


def to_yaml(config: Any) -> tuple[dict[str, Any], str]:
    """Return a configuration as nested keys, the task first, and as YAML that reads as the same one.

    Args:
        config: what ``validate`` returned.
    """
    values = config.model_dump(mode="json")
    values = {"task": values.pop("task")} | values
    return values, yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)


def _refuse_unknown(values: Mapping[str, Any], model: Any, *, prefix: str = "", source: str) -> None:
    """Raise ``ValueError`` for the first key that a section does not have, with the nearest one."""
    known = (
        {field.name: field.type for field in fields(model)}
        if is_dataclass(model)
        else {name: field.annotation for name, field in model.model_fields.items()}
    )
    for key, value in values.items():
        if key not in known:
            suggestion = suggest(f"{prefix}{key}", [prefix + name for name in known])
            raise ValueError(f"{source}: unknown key {prefix}{key}; {suggestion}")
        section = _section(known[key], value)
        if section is not None and isinstance(value, dict):
            _refuse_unknown(value, section, prefix=f"{prefix}{key}.", source=source)


def _section(annotation: Any, value: Any) -> Any:
    """Return the class of a section, of several alternatives the one that ``kind`` selects.

    None for values, and for sections that check their keys themselves.
    """
    alternatives = [get_args(a)[0] if get_origin(a) is Annotated else a for a in get_args(annotation)]
    sections = [a for a in alternatives if isinstance(a, type) and issubclass(a, Strict)]
    if sections:
        kind = value.get("kind") if isinstance(value, dict) else None
        annotation = next((s for s in sections if kind in get_args(s.model_fields["kind"].annotation)), None)
    if not isinstance(annotation, type) or annotation in (EquationConfig, PluginModelConfig):
        return None
    return annotation if is_dataclass(annotation) or issubclass(annotation, BaseModel) else None


def parse_arguments(words: Sequence[str]) -> dict[str, Any]:
    """Return KEY=VALUE, --key=VALUE and --key VALUE as a dict; values are YAML, lists may lack brackets.

    Raises:
        ValueError: a word is of none of these forms.
    """
    arguments: dict[str, Any] = {}
    remaining = list(words)
    while remaining:
        name, equals, text = remaining.pop(0).partition("=")
        if not equals:
            if not name.startswith("--") or not remaining:
                raise ValueError(
                    f"{name!r} is not understood; write KEY=VALUE or --key VALUE, e.g. inp_shape=720,1440"
                )
            text = remaining.pop(0)
        try:
            value = parse_yaml(f"[{text}]" if "," in text and "[" not in text else text, name)
        except ValueError as error:
            shown = one_line(repr(text), 120)
            raise ValueError(f"{name}: {shown} is not understood; write e.g. inp_shape=720,1440") from error
        arguments[name.removeprefix("--").replace("-", "_")] = value
    return arguments
