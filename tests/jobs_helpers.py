"""What tests of scheduled rollouts share: the cycles of a short period, and ways to look at what became of
them.
"""

import json
from collections import Counter
from datetime import datetime
from pathlib import Path

from typer.testing import CliRunner

from fourcaster.forecast.cli.main import app
from fourcaster.forecast.jobs.places import Folder

NOW = "2001-01-06T00:30"
CYCLES = ["2001-01-05T00:00", "2001-01-05T06:00", "2001-01-05T12:00", "2001-01-05T18:00", "2001-01-06T00:00"]


def call(*words):
    result = CliRunner().invoke(app, ["jobs", *map(str, words)])
    return result.exit_code, result.output


def whole(output: Path, expected: str | None = None):
    return Folder(output.parent).whole(output.name, expected)


def clock(text=NOW):
    return lambda: datetime.fromisoformat(text)


def lines(path: Path, message: str) -> Counter:
    """How often each cycle's log says something."""
    found = Counter()
    for file in (path.parent / "logs").rglob("*.jsonl"):
        for line in file.read_text().splitlines():
            said = json.loads(line)
            found[said["cycle"]] += said["message"].startswith(message)
    return found
