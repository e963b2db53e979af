"""JSON schema of configurations (draft 2020-12), with descriptions from the docstrings of the sections."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from .docstrings import field_descriptions, introduction, unit_of

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _DescribedSchema(GenerateJsonSchema):
    """Schema whose properties have the descriptions and units of docstrings, and no repeated titles."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Leave out titles that only repeat the key."""
        return False

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        """Return the schema of a section that is a pydantic model."""
        return _described(super().model_schema(schema), schema["cls"])

    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:
        """Return the schema of a section that is a dataclass, which accepts no unknown keys either."""
        result = super().dataclass_schema(schema)
        result.setdefault("additionalProperties", False)
        return _described(result, schema["cls"])


def _described(schema: JsonSchemaValue, cls: type) -> JsonSchemaValue:
    """Return a schema with the introduction of a docstring and the descriptions of its fields."""
    if cls.__doc__:
        schema["description"] = introduction(cls.__doc__)
    texts = field_descriptions(cls)
    for name, entry in schema.get("properties", {}).items():
        if name in texts:
            entry["description"] = texts[name]
            if unit := unit_of(texts[name]):
                entry["unit"] = unit
        if isinstance(entry.get("default"), dict) and entry["default"]:
            del entry["default"]  # a section, whose keys have their own defaults
    return schema


def config_schema(configs: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """Return the JSON schema of configurations.

    Args:
        configs: configuration class of each task by name; a document matches the schema if it is a
            configuration of one of them.
    """
    if len(configs) == 1:
        (config,) = configs.values()
        return {"$schema": DIALECT, **_schema(config)}
    definitions: dict[str, Any] = {}
    alternatives = []
    for task, config in configs.items():
        schema = _schema(config)
        definitions |= schema.pop("$defs", {})
        definitions[task] = schema
        alternatives.append({"$ref": f"#/$defs/{task}"})
    title = f"Configuration of a training run: {', '.join(configs)}"
    return {"$schema": DIALECT, "title": title, "anyOf": alternatives, "$defs": definitions}


def _schema(config: type[BaseModel]) -> dict[str, Any]:
    return config.model_json_schema(schema_generator=_DescribedSchema)


def resolve(entry: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the definition that a part of a schema refers to, or the part itself."""
    while "$ref" in entry:
        entry = schema["$defs"][entry["$ref"].removeprefix("#/$defs/")]
    return entry


def properties(
    schema: Mapping[str, Any], part: Mapping[str, Any] | None = None, prefix: str = ""
) -> Iterator[tuple[str, str, Mapping[str, Any], bool]]:
    """Yield key, alternative, schema and whether it is required, for each key of a configuration.

    The alternative is a value of ``kind`` such as ``fno`` for the keys of one kind of model, otherwise empty.

    Args:
        schema: schema of one task.
        part: section to list; the whole configuration by default.
        prefix: key of the section with a dot.
    """
    part = schema if part is None else part
    for name, entry in part.get("properties", {}).items():
        section = resolve(entry, schema)
        required = name in part.get("required", ())
        alternatives = [resolve(one, schema) for one in section.get("oneOf", section.get("anyOf", ()))]
        sections = [one for one in alternatives if "properties" in one]
        if "properties" in section:
            yield from properties(schema, section, f"{prefix}{name}.")
        elif sections:
            for one in sections:
                kind = one["properties"].get("kind", {})
                label = str(kind.get("const", kind.get("enum", ["other"])[0]))
                for key, _, inner, needed in properties(schema, one, f"{prefix}{name}."):
                    yield key, label, inner, needed
        else:
            yield f"{prefix}{name}", "", entry, required
