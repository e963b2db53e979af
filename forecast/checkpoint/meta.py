"""``meta.json`` of a checkpoint as it is written and read: bounded, sealed by one checksum over itself and
the weights.

From format version 2 on ``checksum`` is the SHA-256 of the description as canonical JSON without that key.
The description holds the SHA-256 of the weights, so that the one checksum changes with any number in either.
It tells damage and edits from what was trained; as it lies with the files it cannot tell who wrote them.
Checkpoints of format version 1 have a checksum of the weights alone, and load with a note.

Links are followed, since caches of models keep files under their checksums and link to them; what they lead
to must be a regular file and is checked like any other.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from ...datasets.store import atomic
from ...fno.errors import WeightsError
from ...fno.weights.regular_file import open_regular, read_regular
from ...fno.weights.strict_json import parse_json
from .description import KINDS, Description, first_error

log = logging.getLogger(__name__)
D = TypeVar("D", bound=Description)

FORMAT_VERSION = 2
LARGEST = 8 * 2**20
"""Most bytes of ``meta.json``; coordinates of a grid of a kilometre round the globe take a tenth of it."""


def write_meta(path: Path, meta: dict[str, Any]) -> None:
    """Write the description of a checkpoint whose weights lie in ``path``."""
    described = {"format_version": FORMAT_VERSION, **meta, "sha256": sha256(path / "weights.safetensors")}
    described = json.loads(json.dumps(described))  # lists for tuples, texts for keys: what will be read
    atomic.write_file(
        path / "meta.json", json.dumps(described | {"checksum": checksum(described)}, indent=1).encode()
    )


def checksum(meta: Mapping[str, Any]) -> str:
    """Return the checksum of a description, which does not depend on the order of keys or on white space."""
    content = {name: value for name, value in meta.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def identity(meta: Mapping[str, Any]) -> str:
    """Return what tells a checkpoint from any other with other weights or another description."""
    return str(meta.get("checksum") or meta["sha256"])


def read_meta(path: str | Path, *, verify: bool = True) -> dict[str, Any]:
    """Return the description of a checkpoint, of which the format and the kind are known to be those of a
    checkpoint.

    Args:
        path: folder.
        verify: compare the checksum; for whoever does it later.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: damaged, changed after it was written, or of a format or kind this version does not know.
    """
    path = Path(path)
    atomic.recover(path)
    file = path / "meta.json"
    if not file.exists():
        raise FileNotFoundError(
            f"{path} holds no checkpoint (no meta.json); name the folder that `forecast train` made, e.g. RUN/checkpoint"
        )
    try:
        meta = parse_json(read_regular(file, LARGEST), str(file))
    except ValueError as error:
        raise ValueError(f"{error}; restore it or train again") from error
    if not isinstance(meta, dict):
        raise ValueError(
            f"{file} is damaged (it holds {_kind(meta)}, not a description); restore it or train again"
        )
    if "format_version" not in meta:
        raise ValueError(f"{file} is damaged (format_version is missing); restore it or train again")
    number = meta["format_version"]
    if type(number) is not int or not 1 <= number <= FORMAT_VERSION:
        shown = number if isinstance(number, int | float | str) else _kind(number)
        raise ValueError(
            f"{path} has format version {str(shown)[:30]}, this version of fourcaster reads 1 to {FORMAT_VERSION}; use a newer one"
        )
    kind = meta.get("kind")
    if "kind" in meta and (not isinstance(kind, str) or kind not in KINDS):
        shown = repr(kind)[:80] if isinstance(kind, str) else _kind(kind)
        raise ValueError(
            f"{file}: kind is {shown}; it should be {', '.join(str(name) for name in KINDS if name)}, or left out"
        )
    if verify:
        refuse_changed(path, meta)
    return meta


def _kind(value: Any) -> str:
    return {dict: "keys", list: "a list", str: "a text", type(None): "null"}.get(type(value), "a number")


def validated(path: Path, meta: Mapping[str, Any], kind: type[D]) -> D:
    """Return what ``meta.json`` holds as a description.

    Raises:
        ValueError: a key is missing, unknown, of the wrong type or out of bounds.
    """
    try:
        return cast(D, kind.model_validate_json(json.dumps(meta), strict=True))
    except (ValidationError, RecursionError) as error:
        text = first_error(error) if isinstance(error, ValidationError) else "nested too deeply"
        raise ValueError(f"{path}/meta.json: {text}; restore it or train again") from error


@contextmanager
def noting_changes(path: Path, meta: Mapping[str, Any]) -> Iterator[None]:
    """Add to an error raised inside that ``meta.json`` was changed after it was written, where it was."""
    try:
        yield
    except ValueError as error:
        if _sealed(meta):
            raise
        kind = WeightsError if isinstance(error, WeightsError) else ValueError
        raise kind(f"{error}; {path}/meta.json was changed after it was written") from error


def _sealed(meta: Mapping[str, Any]) -> bool:
    """Return whether the checksum of a description is the one in it, or there need not be one."""
    return (meta["format_version"] == 1 and "checksum" not in meta) or meta.get("checksum") == checksum(meta)


def refuse_changed(path: Path, meta: Mapping[str, Any], *, weights: bool = False) -> None:
    """Refuse a checkpoint whose description, or weights too, are not what was written.

    Raises:
        ValueError: a checksum is missing or another.
    """
    if weights and "checksum" not in meta:
        _note(str(path))
    if not _sealed(meta):
        raise ValueError(
            f"{path}/meta.json was changed after it was written: its checksum is not the one in it; restore it or train again"
        )
    if weights and sha256(path / "weights.safetensors") != meta["sha256"]:
        raise ValueError(
            f"{path}/weights.safetensors is damaged or was changed after it was written: its checksum is not the one in meta.json; "
            f"restore it or train again"
        )


@lru_cache(maxsize=256)
def _note(path: str) -> None:
    log.warning(
        "%s was written by an older version, with a checksum of its weights alone: changes of its meta.json would not be noticed",
        path,
    )


def sha256(path: Path) -> str:
    """Return the checksum of a regular file."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
