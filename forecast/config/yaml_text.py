"""Parsing of untrusted YAML, within limits that are checked before values are constructed."""

import os
import stat
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 2**19
MOST_NODES = 30_000
MOST_DEPTH = 40
MOST_DIGITS = 100  # of a number
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def read_yaml(path: str | Path) -> Any:
    """Return what a YAML file contains.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a regular file, too large, or not YAML that ``parse_yaml`` accepts.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:  # a null byte
        raise ValueError(f"{str(path)!r} is not a path") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"{path} is not a regular file; name a file with YAML")
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(MOST_BYTES + 1)
    if content is None:  # a kernel file, such as /proc/kmsg, without data at present
        raise ValueError(f"{path} cannot be read; name a file with YAML")
    if len(content) > MOST_BYTES:
        raise ValueError(
            f"{path} is larger than {MOST_BYTES} bytes, so it is not a configuration; name another file"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not text in UTF-8 (byte {error.start}); save it in that encoding"
        ) from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Any:
    """Return what a YAML text contains.

    Args:
        text: one YAML document with plain values: no tags that construct objects.
        source: name of the text in errors.

    Raises:
        ValueError: not YAML, a key that is given twice, a number of many digits, values that are nested too
            deeply, or too many of them once aliases are expanded.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"{source} is longer than {MOST_BYTES} characters; shorten it")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _Sizes().add(node)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    except (ValueError, OverflowError) as error:  # an escape beyond the last character
        raise ValueError(f"{source} is not YAML: a character is out of range") from error


class _Loader(yaml.SafeLoader):
    """Loader that refuses too many values, and nesting that would reach Python's recursion limit."""

    depth = 0
    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise yaml.YAMLError(f"more than {MOST_NODES} values")
        if self.depth > MOST_DEPTH:
            raise yaml.YAMLError(f"values are nested more than {MOST_DEPTH} deep, line {self.line + 1}")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception as error:  # a 13th month, or a text that does not match its tag
            reason = f" ({error})" if isinstance(error, ValueError) else ""
            kind = str(node.tag).rpartition(":")[2]
            raise yaml.YAMLError(
                f"{str(node.value)[:80]!r} is no {kind}{reason}, line {node.start_mark.line + 1}"
            ) from error


class _Sizes:
    """Number of values and depth of nodes with their aliases expanded; each node is visited once."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[int, int] | None] = {}

    def add(self, node: yaml.Node) -> tuple[int, int]:
        """Return the number of values and the depth of a node; raise ``YAMLError`` where one is too large."""
        line = node.start_mark.line + 1
        if id(node) in self.known:
            known = self.known[id(node)]
            if known is None:
                raise yaml.YAMLError(f"a value contains itself, line {line}")
            return known
        self.known[id(node)] = None
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            _refuse_repeated_keys(node)
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        elif node.tag in _NUMBERS and len(node.value) > MOST_DIGITS:
            raise yaml.YAMLError(f"a number has {len(node.value)} digits, line {line}")
        total = 1
        depth = 1
        for child in children:
            size, below = self.add(child)
            total += size
            depth = max(depth, 1 + below)
            if total > MOST_NODES:
                raise yaml.YAMLError(f"more than {MOST_NODES} values once aliases are expanded, line {line}")
            if depth > MOST_DEPTH:
                raise yaml.YAMLError(
                    f"values are nested more than {MOST_DEPTH} deep once aliases are expanded, line {line}"
                )
        self.known[id(node)] = (total, depth)
        return total, depth


def _refuse_repeated_keys(node: yaml.MappingNode) -> None:
    """Raise ``YAMLError`` where a mapping has a key twice; merge keys may repeat."""
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
            continue
        if key.value in seen:
            raise yaml.YAMLError(
                f"{key.value[:80]!r} is given twice, line {node.start_mark.line + 1} and below"
            )
        seen.add(key.value)
