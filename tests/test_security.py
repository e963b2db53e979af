"""SECURITY.md names a test for each guarantee, and the tests exist."""

import ast
import re
from pathlib import Path

import pytest
from helpers import ROOT

TEXT = (ROOT / "SECURITY.md").read_text()
ROWS = re.findall(r"^\| (?!Guarantee|---)(.+?) \| (.+?) \|$", TEXT, flags=re.MULTILINE)
TESTS = [name for _, cell in ROWS for name in re.findall(r"`([^`]+)`", cell)]


def functions_in(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_guarantee_names_a_test():
    assert len(ROWS) > 20
    assert all(re.search(r"`tests/[^`]+::test_\w+`", cell) for _, cell in ROWS)


@pytest.mark.parametrize("name", TESTS)
def test_named_tests_exist(name):
    path, _, function = name.partition("::")
    assert function in functions_in(ROOT / path)


def test_limits_and_reporting_are_described():
    assert "## Not guaranteed" in TEXT
    assert "## Reporting a vulnerability" in TEXT
