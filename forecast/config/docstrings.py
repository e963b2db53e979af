"""Descriptions of the fields of a class, from the sections ``Attributes:`` and ``Args:`` of docstrings."""

import inspect
import re

_SECTIONS = ("Attributes:", "Args:")
_HEADING = re.compile(r"^[A-Z][a-z]+:$")
_ENTRY = re.compile(r"^    (\w+): (.*)$")


def field_descriptions(cls: type) -> dict[str, str]:
    """Return the description of each documented field of a class, those of base classes included.

    Args:
        cls: class with Google docstrings; a derived class overrides descriptions of its bases.
    """
    result: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__ != "builtins" and base.__dict__.get("__doc__"):
            result |= parse_fields(str(base.__doc__))
    return result


def parse_fields(docstring: str) -> dict[str, str]:
    """Return the entries of the sections ``Attributes:`` and ``Args:`` by name, each as one line.

    >>> parse_fields("Settings.\\n\\n    Args:\\n        seed: seed of all\\n            numbers.\\n")
    {'seed': 'seed of all numbers.'}
    """
    entries: dict[str, list[str]] = {}
    inside = False
    current: list[str] | None = None
    for line in inspect.cleandoc(docstring).splitlines():
        if line and not line.startswith(" "):
            inside = line in _SECTIONS
            current = None
        elif inside and (match := _ENTRY.match(line)):
            current = entries.setdefault(match[1], [])
            current.append(match[2])
        elif inside and current is not None and line.strip():
            current.append(line.strip())
    return {name: " ".join(lines) for name, lines in entries.items()}


def introduction(docstring: str) -> str:
    """Return the part of a docstring before its first section, with paragraphs joined into lines."""
    lines = []
    for line in inspect.cleandoc(docstring).splitlines():
        if _HEADING.match(line):
            break
        lines.append(line)
    paragraphs = "\n".join(lines).strip().split("\n\n")
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def unit_of(description: str) -> str:
    """Return the unit in square brackets of a description, or an empty text.

    Intervals such as ``[0, 1)`` and ``[-1, 1]`` are no units.

    >>> unit_of("interval between saved states [min].")
    'min'
    >>> unit_of("a fraction in [0, 1]")
    ''
    """
    match = re.search(r"\[((?:1/)?[A-Za-z%][^\[\],]*)\]", description)
    return match[1] if match else ""
