"""Hostile or damaged jobs files, ledgers, logs and outputs of commands."""

import json
import os
import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from .cases import ANYTHING, CANARY, FIXTURES, REMOVED, Case, damaging, draw, kind, leaves, replaced
from .fixtures import job

FILE = "out/jobs/jobs.yaml"
CODES = (0, 1, 2, 3)
NOW = "2001-01-08T00:30"
VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    10**9,
    10**30,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../../x",
    "/",
    "/etc/passwd",
    "\x1b[31mred",
    "a" * 5000,
    [],
    {},
    [None],
    "{name}",
    "{cycle}",
    "{cycle:%Y}",
    "{0.__class__}",
    "{name.__class__.__mro__}",
    "{error}",
    "* * * * *",
    "0 0 31 2 *",
    "99h",
    "0s",
    "-1h",
    "1e12h",
    REMOVED,
    "s3://",
    "http://127.0.0.1:1/x",
    ["sh", "-c", f"echo {{error}}; touch {CANARY}"],
)


def verbs() -> list[tuple[str, ...]]:
    """Return the command lines that read a jobs file."""
    return [
        ("jobs", "status", FILE, "--now", NOW),
        ("jobs", "status", FILE, "--json", "--all"),
        ("jobs", "run-due", FILE, "--now", NOW),
        ("jobs", "retry", FILE, "tiny"),
        ("jobs", "logs", FILE, "tiny"),
        ("jobs", "cancel", FILE, "tiny", "--cycle", "2001-01-08T00:00"),
    ]


def written(values: Any, edit: Callable[[Path], Any] | None = None) -> Callable[[Path], None]:
    """Return a function that writes a jobs file, and then calls ``edit`` with its folder."""

    def prepare(folder: Path) -> None:
        path = folder / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(values))
        if edit is not None:
            edit(path.parent)

    return prepare


def full() -> dict[str, Any]:
    """Return a jobs file in which every key has a value."""
    values = job()
    values["jobs"][0] |= {
        "members": 2,
        "seed": 1,
        "amplitude": 0.1,
        "bounds": True,
        "clip": {"t2m": [0, 400]},
        "variables": ["t2m"],
        "prepare": ["true"],
        "truth": f"../../{FIXTURES}/store.zarr",
        "report": True,
        "keep": 2,
        "deadline": "1h",
        "catch_up": "newest",
        "max_catchup": 2,
        "on_success": ["true"],
        "on_failure": ["true"],
        "device": "cpu",
        "delay": "1h",
    }
    top = {
        "ledger": "ledger.sqlite",
        "shared": False,
        "status": "status",
        "engine": "local",
        "workers": 1,
        "scheduler": None,
        "lease": "60s",
    }
    return values | top


@kind("valid jobs")
def valid(rng: random.Random) -> Iterator[Case]:
    """Yield valid jobs files."""
    for values in (job(), full()):
        for words in (
            verbs()[0],
            verbs()[1],
            verbs()[3],
            ("jobs", "run", FILE, "tiny", "--cycle", "2001-01-08T00:00"),
        ):
            yield Case(words, written(values), " ".join(words[:2]), accepted=True)


@kind("jobs files")
def files(rng: random.Random) -> Iterator[Case]:
    """Yield jobs files with one value replaced, removed or added."""
    values = job()
    complete = full()
    drawn = draw(ANYTHING, 120, rng)
    paths = list(leaves(complete))
    for i in range(260):
        value = rng.choice(VALUES) if i % 3 else rng.choice(drawn)
        path = rng.choice(paths)
        if value is REMOVED and not path:
            continue
        words = rng.choice(verbs()[:2] + verbs()[3:])
        yield Case(
            words,
            written(replaced(complete, path, value)),
            f"{'.'.join(map(str, path))}: {str(value)[:30]!r}",
            codes=CODES,
        )
    for key in ("ledger", "status"):
        for target in (
            "../../in/x",
            "jobs.yaml",
            "/dev/null",
            "/dev/full",
            ".",
            "/",
            "../../in",
            f"../../{FIXTURES}/source.nc",
            f"../../{FIXTURES}/store.zarr",
            "/etc/passwd",
        ):

            def precious(folder: Path) -> None:
                (folder.parent.parent / "in" / "x").write_text("precious\n")

            yield Case(verbs()[0], written(values | {key: target}, precious), f"{key}: {target}", codes=CODES)
    for option, texts in {
        "--now": ("NaT", "", "9999-01-01", "x", "\x1b[31m"),
        "--cycle": ("", "x", "../../x", "9999-12-31", "NaT"),
    }.items():
        for text in texts:
            words = (
                ("jobs", "status", FILE, option, text)
                if option == "--now"
                else ("jobs", "logs", FILE, "tiny", option, text)
            )
            yield Case(words, written(values), f"{option} {text!r}", codes=CODES)
    for name in ("", "..", "../../x", "a" * 300, "\x1b[31m", "/"):
        yield Case(("jobs", "logs", FILE, name), written(values), f"name {name[:20]!r}", codes=CODES)
    for first, last in (
        ("2001-01-01", "9999-01-01"),
        ("x", "y"),
        ("2001-02-01", "2001-01-01"),
        ("0001-01-01", "0001-01-02"),
    ):
        yield Case(
            ("jobs", "backfill", FILE, "tiny", "--from", first, "--to", last),
            written(values),
            f"backfill {first} {last}",
            codes=CODES,
        )


def ledgers() -> dict[str, Callable[[Path], Any]]:
    """Return functions that write a file which is not a ledger of this package, by label."""

    def other(path: Path) -> None:
        with sqlite3.connect(path) as database:
            database.execute("create table photographs (name text)")
            database.execute("insert into photographs values ('holiday')")
        database.close()

    def view(path: Path) -> None:
        with sqlite3.connect(path) as database:
            database.execute("create table x (a)")
            database.execute("create view cycles as select * from x, x as y, x as z")
        database.close()

    return {
        "a text": lambda p: p.write_text("my diary\n"),
        "garbage": lambda p: p.write_bytes(bytes(range(256)) * 64),
        "another program's": other,
        "a view": view,
        "a folder": lambda p: p.mkdir(),
        "a pipe": os.mkfifo,
        "a link to a device": lambda p: p.symlink_to("/dev/zero"),
        "only the magic": lambda p: p.write_bytes(b"SQLite format 3\x00" + bytes(84)),
    }


@kind("ledgers")
def of_ledgers(rng: random.Random) -> Iterator[Case]:
    """Yield foreign and damaged ledgers."""
    for label, make in ledgers().items():
        for words in verbs():
            if words[1] == "run-due":
                continue

            def write_ledger(folder: Path, make: Any = make) -> None:
                make(folder.parent.parent / "in" / "ledger.sqlite")

            yield Case(
                words,
                written(job() | {"ledger": "../../in/ledger.sqlite"}, write_ledger),
                label,
                refused=True,
                codes=CODES,
            )
    for i in range(30):
        edit = damaging(rng, lambda folder: folder / "ledger.sqlite")

        def damaged(folder: Path, edit: Callable[[Path], None] = edit) -> None:
            from fourcaster.forecast.jobs.scheduler import Scheduler

            Scheduler(folder / "jobs.yaml").report()
            edit(folder)

        yield Case(rng.choice(verbs()[:2] + verbs()[3:]), written(job(), damaged), f"damage {i}", codes=CODES)


def outputs() -> dict[str, str]:
    """Return shell commands with hostile output, by label."""
    lines = [
        {"cycle": 2001020100},
        {"job": "../../x"},
        {"job": "../../x", "cycle": "../../y"},
        {"message": "\x1b[31mred"},
        {"attempt": "x"},
        {"level": [1]},
        {"time": None},
        {"message": {"a": [1]}},
        {"output": "/etc/passwd"},
        {"state": "done"},
        {"": ""},
        {"message": "x" * 100_000},
    ]
    texts = {f"line {json.dumps(line)[:40]}": f"printf '%s\\n' '{json.dumps(line)}'" for line in lines}
    return texts | {
        "list": "echo '[1, 2]'",
        "number": "echo 5",
        "null": "echo null",
        "deep": "head -c 200000 /dev/zero | tr '\\0' '['",
        "long line": "head -c 300000000 /dev/zero | tr '\\0' x",
        "many lines": "yes hello | head -n 20000",
        "not text": "head -c 100000 /dev/urandom",
        "fails with a message": "echo '; touch " + CANARY + "' >&2; exit 7",
        "ends by a signal": "kill -9 $$",
        "leaves a child": "sleep 100 & echo left",
    }


@kind("commands of jobs")
def commands(rng: random.Random) -> Iterator[Case]:
    """Yield jobs whose prepare command prints messages that could control the service."""
    for label, text in outputs().items():
        values = job()
        values["jobs"][0]["prepare"] = ["sh", "-c", text]
        yield Case(("jobs", "run-due", FILE, "--now", NOW), written(values), label, codes=CODES)
