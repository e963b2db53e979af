"""``meta.json`` of a checkpoint: bounded when read, and sealed by one checksum over itself and the weights.

``checksum`` is the SHA-256 of the metadata as canonical JSON without that key. The metadata contains the
SHA-256 of the weights, so that this one checksum changes with any value in either. It detects damage and
edits; as it lies next to the files it cannot prove who wrote them.

Format versions: 3 names the ``task``; 2 has ``kind`` instead, absent for forecast models; 1 has a checksum of
the weights alone. All of them load; checkpoints of version 1 with a note in the log.

Symbolic links are followed, since model caches store files by checksum and link to them; the target must be a
regular file and is checked like any other.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...datasets.store import atomic
from ...fno.weights.regular_file import open_regular, read_regular
from ...fno.weights.strict_json import parse_json

log = logging.getLogger(__name__)

FORMAT_VERSION = 3
MAX_BYTES = 8 * 2**20
"""Maximum size of ``meta.json``; the coordinates of a global grid of 1 km take a tenth of it."""
MAX_TASK_LENGTH = 100
_TASKS_BY_KIND = {None: "weather", "pinn": "pinn", "operator": "operator", "network": "network"}


def write_meta(path: Path, meta: Mapping[str, Any]) -> None:
    """Write the metadata of a checkpoint whose weights are in ``path``."""
    content = {"format_version": FORMAT_VERSION, **meta, "sha256": sha256(path / "weights.safetensors")}
    content = json.loads(json.dumps(content))  # with lists for tuples and texts for keys, as it will be read
    sealed = content | {"checksum": checksum(content)}
    atomic.write_file(path / "meta.json", json.dumps(sealed, indent=1).encode())


def checksum(meta: Mapping[str, Any]) -> str:
    """Return the checksum of metadata, independent of the order of keys and of white space."""
    content = {name: value for name, value in meta.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_meta(path: str | Path) -> dict[str, Any]:
    """Return the metadata of a checkpoint as stored, after a check of its format version.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: damaged, or of a format version or kind that this version does not support.
    """
    path = Path(path)
    atomic.recover(path)
    file = path / "meta.json"
    if not file.exists():
        raise FileNotFoundError(
            f"{path} is not a checkpoint (no meta.json); name the folder that `forecast train` wrote, "
            "e.g. RUN/checkpoint"
        )
    try:
        meta = parse_json(read_regular(file, MAX_BYTES), str(file))
    except ValueError as error:
        raise ValueError(f"{error}; restore it or train again") from error
    if not isinstance(meta, dict):
        raise ValueError(
            f"{file} is damaged (it contains {_type_name(meta)}, not a mapping); restore it or train again"
        )
    if "format_version" not in meta:
        raise ValueError(f"{file} is damaged (format_version is missing); restore it or train again")
    _check_version(path, meta["format_version"])
    _check_task(file, meta)
    return meta


def _check_version(path: Path, number: Any) -> None:
    if type(number) is not int or not 1 <= number <= FORMAT_VERSION:
        shown = number if isinstance(number, int | float | str) else _type_name(number)
        raise ValueError(
            f"{path} has format version {str(shown)[:30]}, this version of fourcaster reads 1 to "
            f"{FORMAT_VERSION}; use a newer one"
        )


def _check_task(file: Path, meta: Mapping[str, Any]) -> None:
    if meta["format_version"] < 3:
        kind = meta.get("kind")
        if "kind" in meta and (not isinstance(kind, str) or kind not in _TASKS_BY_KIND):
            names = ", ".join(name for name in _TASKS_BY_KIND if name)
            raise ValueError(f"{file}: kind is {_shown(kind)}; it should be {names}, or left out")
    elif not isinstance(meta.get("task"), str) or not 0 < len(meta["task"]) <= MAX_TASK_LENGTH:
        raise ValueError(f"{file}: task is {_shown(meta.get('task'))}; it should be the name of a task")


def upgraded(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata of any format version in the form of the present one, with ``task``."""
    result = dict(meta)
    if meta["format_version"] == FORMAT_VERSION:
        return result
    task = _TASKS_BY_KIND[result.pop("kind", None)]
    config = result.get("config")
    if isinstance(config, dict):
        data = config.get("data")
        if task == "operator" and isinstance(data, dict) and data.get("experiment") is not None:
            task = "inverse"
        result["config"] = {"task": task, **config}
    result["task"] = task
    return result


def is_sealed(meta: Mapping[str, Any]) -> bool:
    """Return whether the checksum of stored metadata is that of its content.

    Format version 1 has no such checksum, so its metadata counts as unchanged.
    """
    return (meta["format_version"] == 1 and "checksum" not in meta) or meta.get("checksum") == checksum(meta)


@lru_cache(maxsize=256)
def warn_of_old_format(path: str) -> None:
    """Log once that the metadata of a checkpoint of format version 1 is not covered by a checksum."""
    log.warning(
        "%s was written by an older version, with a checksum of its weights alone: "
        "changes to its meta.json would not be detected",
        path,
    )


def sha256(path: Path) -> str:
    """Return the SHA-256 checksum of a regular file."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shown(value: Any) -> str:
    return repr(value)[:80] if isinstance(value, str) else _type_name(value)


def _type_name(value: Any) -> str:
    """Return what a JSON value is, in words."""
    names = {dict: "keys", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
