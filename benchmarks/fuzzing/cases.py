"""Cases of bad input: a command line, and what writes the files that it names.

A command runs in a folder of its own. What is written to ``in`` is input and must not change; what the
command writes belongs under ``out``. Valid inputs are in ``../fixtures``. A kind of input is one function
that yields cases, registered with ``kind``.
"""

import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

FIXTURES = "../fixtures"
CANARY = "../canary"
"""A file that inputs which contain code try to create."""


@dataclass(frozen=True)
class Case:
    """A command line to try.

    Attributes:
        words: the command line after ``forecast``.
        prepare: writes the inputs into the folder that the command runs in.
        label: what is wrong with the input.
        refused: whether the command must refuse it.
        accepted: whether the command must accept it.
        codes: exit codes that are allowed.
        named: folders outside of its own that the command line names, and may write to as far as the system
            lets it.
    """

    words: tuple[str, ...]
    prepare: Callable[[Path], Any] | None = None
    label: str = ""
    refused: bool = False
    accepted: bool = False
    codes: tuple[int, ...] = (0, 2)
    named: tuple[str, ...] = ()


Generator = Callable[[random.Random], Iterator[Case]]
KINDS: dict[str, Generator] = {}


def kind(name: str) -> Callable[[Generator], Generator]:
    """Register a function that yields the cases of a kind."""

    def register(function: Generator) -> Generator:
        KINDS[name] = function
        return function

    return register


def draw(strategy: SearchStrategy, count: int, chance: random.Random) -> list[Any]:
    """Return examples of a Hypothesis strategy, the same for the same state of ``chance``."""
    found: list[Any] = []

    @seed(chance.getrandbits(32))
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collect()
    return found[:count]


def write(name: str, content: bytes | str) -> Callable[[Path], None]:
    """Return what writes a file ``in/NAME``."""

    def prepare(folder: Path) -> None:
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode(errors="surrogatepass") if isinstance(content, str) else content)

    return prepare


def change(fixture: str, *edits: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Return what copies a fixture to ``in/NAME`` and edits the copy."""

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


def damage(content: bytes, chance: random.Random) -> bytes:
    """Return bytes with one kind of damage: cut, flipped, zeroed, doubled, or with a large number in them."""
    if not content:
        return b"\xff"
    at = chance.randrange(len(content))
    if chance.random() < 0.5:
        at = min(at, chance.randrange(1, 2048))  # headers are at the start
    how = chance.randrange(6)
    if how == 0:
        return content[:at]
    if how == 1:
        return content[:at] + bytes([content[at] ^ (1 << chance.randrange(8))]) + content[at + 1 :]
    if how == 2:
        return content[:at] + bytes(min(64, len(content) - at)) + content[at + 64 :]
    if how == 3:
        return content + content
    if how == 4:
        return content[:at] + b"\xff" * 8 + content[at + 8 :]
    return content[:at] + chance.randbytes(16) + content[at + 16 :]
