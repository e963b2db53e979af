"""Helpers for the tests of scheduled forecasts: cycles of a short period, and checks of the results."""

import json
from collections import Counter
from datetime import datetime
from pathlib import Path

from typer.testing import CliRunner

from fourcaster.forecast.cli.main import app
from fourcaster.forecast.jobs.output_store import LocalStore

NOW = "2001-01-06T00:30"
CYCLES = ["2001-01-05T00:00", "2001-01-05T06:00", "2001-01-05T12:00", "2001-01-05T18:00", "2001-01-06T00:00"]


def call(*args):
    """Run a subcommand of ``forecast jobs``; return its exit code and its output."""
    result = CliRunner().invoke(app, ["jobs", *map(str, args)])
    return result.exit_code, result.output


def verify_checksum(output: Path, expected: str | None = None):
    """Return the checksum of an output if it is complete and unchanged, else None."""
    return LocalStore(output.parent).verify_checksum(output.name, expected)


def clock(text=NOW):
    """Return a clock that is frozen at one time."""
    return lambda: datetime.fromisoformat(text)


def count_lines(path: Path, message: str) -> Counter:
    """Count the log messages of each cycle that start with a given text.

    Args:
        path: jobs file.
        message: prefix of the messages.
    """
    counts = Counter()
    for file in (path.parent / "logs").rglob("*.jsonl"):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            counts[record["cycle"]] += record["message"].startswith(message)
    return counts
