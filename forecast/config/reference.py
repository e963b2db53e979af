"""Reference of all configuration keys: type, default, unit and meaning, from the JSON schema."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel

from .schema import config_schema, properties, resolve

_LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}
_UNBOUNDED = 10**4
"""Larger limits only protect from absurd values and are not documented."""


@dataclass(frozen=True)
class ConfigKey:
    """A key of a configuration.

    Attributes:
        task: task that has it.
        key: dotted name, as in an override.
        kind: ``model.kind`` that has it; empty for keys of all.
        type: type and range.
        default: default as JSON; ``required`` without one.
        unit: unit; empty for numbers without one.
        meaning: description.
    """

    task: str
    key: str
    kind: str
    type: str
    default: str
    unit: str
    meaning: str

    def to_dict(self) -> dict[str, str]:
        """Return the values by name."""
        return asdict(self)


def config_keys(task: str, config: type[BaseModel]) -> list[ConfigKey]:
    """Return all keys of the configurations of a task.

    Args:
        task: name of the task.
        config: its configuration class.
    """
    schema = config_schema({task: config})
    return [
        ConfigKey(
            task=task,
            key=key,
            kind=kind,
            type=_type(entry, schema),
            default="required" if required else _default(entry),
            unit=str(entry.get("unit", "")),
            meaning=str(entry.get("description", "")),
        )
        for key, kind, entry, required in properties(schema)
    ]


def _default(entry: Mapping[str, Any]) -> str:
    if "default" not in entry:
        return "{}" if entry.get("type") == "object" else ""
    return json.dumps(entry["default"])


def _type(entry: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return the type of a value in words."""
    entry = resolve(entry, schema)
    if "const" in entry:
        return f"`{entry['const']}`"
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    if "anyOf" in entry:
        return " or ".join(_type(one, schema) for one in entry["anyOf"])
    kind = str(entry.get("type", "any"))
    if kind == "array":
        items: Mapping[str, Any] = entry.get("items") or next(iter(entry.get("prefixItems", ())), {})
        return f"list of {_type(items, schema)}"
    if kind == "object":
        values = entry.get("additionalProperties", {})
        return f"mapping to {_type(values, schema)}" if isinstance(values, dict) else "mapping"
    if entry.get("format") == "path":
        return "path"
    limits = [
        f"{words} {entry[name]:g}"
        for name, words in _LIMITS.items()
        if name in entry and abs(entry[name]) < _UNBOUNDED
    ]
    return " ".join([kind, *limits])


def config_tables(configs: Mapping[str, type[BaseModel]]) -> str:
    """Return tables of all keys in Markdown: a heading for each task, a table for each section.

    Args:
        configs: configuration class of each task by name.
    """
    lines: list[str] = []
    for task, config in configs.items():
        lines += [f"## Task {task}", ""]
        sections: dict[tuple[str, str], list[ConfigKey]] = {}
        for key in config_keys(task, config):
            section = key.key.rpartition(".")[0]
            sections.setdefault((section, key.kind), []).append(key)
        for (section, kind), keys in sections.items():
            heading = f"`{section}`" if section else "Top level"
            lines += [f"### {heading}{f', kind `{kind}`' if kind else ''}", ""]
            lines += ["| key | type | default | unit | meaning |", "|---|---|---|---|---|"]
            lines += [_row(key) for key in keys]
            lines.append("")
    return "\n".join(lines)


def _row(key: ConfigKey) -> str:
    default = key.default if key.default in ("", "required") else f"`{key.default}`"
    meaning = key.meaning.replace("``", "`")
    cells = (f"`{key.key}`", key.type, default, key.unit, meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
