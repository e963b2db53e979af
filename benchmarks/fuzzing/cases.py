"""Cases of invalid input: a command line, and a function that writes the files it names.

Each command runs in a separate folder. Files in ``in`` are inputs and must not change; outputs belong in
``out``. Valid inputs are in ``../fixtures``. A kind of input is a function that yields cases, registered with
``kind``.
"""

import json
import os
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

FIXTURES = "../fixtures"
CANARY = "../canary"
"""File that inputs with code try to create."""

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.dates()
    | st.binary(max_size=8)
    | st.sampled_from(["", ".", "/", "..", "nan", "1e400", "\x1b[31mred", "a" * 3000, "{cycle}"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4)
    ),
    max_leaves=8,
)
"""Nested values of all types that YAML and JSON have."""

SPECIAL_FILES: dict[str, Callable[[Path], Any]] = {
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path),
}
"""Functions that create something other than a regular file."""


class _Removed:
    """Class of the mark ``REMOVED``."""

    def __repr__(self) -> str:
        return "(removed)"


REMOVED: Any = _Removed()
"""Value for ``replaced`` that removes the entry."""


@dataclass(frozen=True)
class Case:
    """A command line to test.

    Attributes:
        words: arguments of ``forecast``.
        prepare: function that writes the inputs to the working folder of the command.
        label: defect of the input.
        refused: whether the command must refuse it.
        accepted: whether the command must accept it.
        codes: allowed exit codes.
        writable: folders outside the working folder that the command line names, so that an attempt to write
            there is no fault.
    """

    words: tuple[str, ...]
    prepare: Callable[[Path], Any] | None = None
    label: str = ""
    refused: bool = False
    accepted: bool = False
    codes: tuple[int, ...] = (0, 2)
    writable: tuple[str, ...] = ()


Generator = Callable[[random.Random], Iterator[Case]]
KINDS: dict[str, Generator] = {}


def kind(name: str) -> Callable[[Generator], Generator]:
    """Register a function that yields the cases of a kind."""

    def register(function: Generator) -> Generator:
        KINDS[name] = function
        return function

    return register


def draw(strategy: SearchStrategy, count: int, rng: random.Random) -> list[Any]:
    """Return examples of a Hypothesis strategy, which depend on the state of ``rng`` only."""
    examples: list[Any] = []

    @seed(rng.getrandbits(32))
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        examples.append(value)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collect()
    return examples[:count]


def write(name: str, content: bytes | str) -> Callable[[Path], None]:
    """Return a function that writes a file ``in/NAME``."""

    def prepare(folder: Path) -> None:
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode(errors="surrogatepass") if isinstance(content, str) else content)

    return prepare


def change(fixture: str, *edits: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Return a function that copies a fixture to ``in/NAME`` and edits the copy."""

    def prepare(folder: Path) -> None:
        source = folder / FIXTURES / fixture
        target = folder / "in" / Path(fixture).name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)
        for edit in edits:
            edit(target)

    return prepare


def create(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Return a function that creates ``in/NAME`` by calling ``make`` with the path."""

    def prepare(folder: Path) -> None:
        make(folder / "in" / name)

    return prepare


def leaves(values: Any, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path of every value in nested lists and dicts, including the containers."""
    yield path
    if isinstance(values, dict | list):
        for key in values if isinstance(values, dict) else range(len(values)):
            yield from leaves(values[key], (*path, key))


def replaced(values: Any, path: tuple, value: Any) -> Any:
    """Return a copy of nested values with the value at a path replaced, or removed if it is ``REMOVED``."""
    if not path:
        return value
    copy = dict(values) if isinstance(values, dict) else list(values)
    if len(path) == 1 and value is REMOVED:
        del copy[path[0]]
    else:
        copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


def as_json(value: Any) -> Any:
    """Return a value of ``ANYTHING`` as JSON can express it; ``REMOVED`` is kept."""
    return value if value is REMOVED else json.loads(json.dumps(value, default=str, skipkeys=True))


def damaging(rng: random.Random, file: Callable[[Path], Path] = lambda path: path) -> Callable[[Path], None]:
    """Return an edit that damages a file, always in the same way.

    Args:
        rng: random numbers, of which one is drawn.
        file: function that selects the file from the path that is edited.
    """
    state = rng.getrandbits(32)

    def edit(path: Path) -> None:
        target = file(path)
        target.write_bytes(damage(target.read_bytes(), random.Random(state)))

    return edit


def damage(content: bytes, rng: random.Random) -> bytes:
    """Return damaged bytes: truncated, with a flipped bit, zeros, ones or noise, or repeated."""
    if not content:
        return b"\xff"
    at = rng.randrange(len(content))
    if rng.random() < 0.5:
        at = min(at, rng.randrange(1, 2048))  # headers are at the start
    damage_kind = rng.randrange(6)
    if damage_kind == 0:
        return content[:at]
    if damage_kind == 1:
        return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
    if damage_kind == 2:
        return content[:at] + bytes(min(64, len(content) - at)) + content[at + 64 :]
    if damage_kind == 3:
        return content + content
    if damage_kind == 4:
        return content[:at] + b"\xff" * 8 + content[at + 8 :]
    return content[:at] + rng.randbytes(16) + content[at + 16 :]
