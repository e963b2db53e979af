"""SECURITY.md names a test for each promise, and the tests exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "SECURITY.md").read_text()
ROWS = re.findall(r"^\| (?!Promise|---)(.+?) \| (.+?) \|$", TEXT, flags=re.MULTILINE)
NAMED = [name for _, cell in ROWS for name in re.findall(r"`([^`]+)`", cell)]


def defined(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_promise_names_a_test():
    assert len(ROWS) > 20
    assert all(re.search(r"`tests/[^`]+::test_\w+`", cell) for _, cell in ROWS)


@pytest.mark.parametrize("name", NAMED)
def test_every_test_that_is_named_exists(name):
    path, _, function = name.partition("::")
    assert function in defined(ROOT / path)


def test_what_is_not_promised_and_how_to_report_are_said():
    assert "## What is not promised" in TEXT
    assert "## How to report" in TEXT
