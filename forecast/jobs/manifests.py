"""Manifests: the record of what was published, in a JSON file or object next to each output.

Attachments are the files published with an output: maps, scores and a report.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import open_file, read_small

LARGEST_MANIFEST = 2**20
"""Bytes of a manifest, or of the object ``latest``."""
_LONGEST_NAME = 4096
_CHECKSUM = re.compile(r"[0-9a-f]{64}")
_HOOK_PENDING = "pending"
_HOOK_ENDED = "ended"


@dataclass(frozen=True)
class Manifest:
    """Record of a published output.

    Attributes:
        values: the JSON object, with at least ``job``, ``cycle`` and ``checksum``; keys that other versions
            write are preserved.
    """

    values: dict[str, Any]

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Manifest | None":
        """Return the manifest with some values, or None where they are not those of a manifest."""
        valid = (
            isinstance(values.get("job"), str)
            and isinstance(values.get("cycle"), str)
            and is_checksum(values.get("checksum"))
        )
        return cls(values) if valid else None

    @property
    def cycle(self) -> str:
        """Initial time, as the ledger writes it."""
        return str(self.values["cycle"])

    @property
    def checksum(self) -> str:
        """SHA-256 of the output."""
        return str(self.values["checksum"])

    @property
    def hook_pending(self) -> bool:
        """Whether the command ``on_success`` is still to be run; earlier versions did not record it."""
        return self.values.get("on_success") == _HOOK_PENDING

    @property
    def is_being_removed(self) -> bool:
        """Whether the output was about to be removed."""
        return self.values.get("removing") is True

    def updated(self, **values: Any) -> "Manifest":
        """Return a manifest with other values of some keys."""
        return Manifest(self.values | values)

    def with_hook_pending(self) -> "Manifest":
        """Return a manifest that records that ``on_success`` is to be run.

        A scheduler whose ledger is lost and rebuilt from the manifests then runs it.
        """
        return self.updated(on_success=_HOOK_PENDING)

    def with_hook_ended(self) -> "Manifest":
        """Return a manifest that records that the command ``on_success`` was run."""
        return self.updated(on_success=_HOOK_ENDED)

    def with_attachments(self, names: list[str]) -> "Manifest":
        """Return a manifest with the names of the output's attachments."""
        return self.updated(beside=sorted(names))

    def published_attachments(self, output: str, names: list[str]) -> list[str]:
        """Return those of some files that were published with an output.

        Manifests of earlier versions do not list attachments; all are then taken for published.
        """
        stem = output.rpartition(".")[0]
        listed = self.values.get("beside")
        scores = [f"{stem}.scores.nc", f"{stem}.report.html"]
        return [name for name in names if name in scores or not isinstance(listed, list) or name in listed]

    def to_bytes(self) -> bytes:
        """Return the manifest as JSON."""
        return json.dumps(self.values, indent=1).encode()


def is_checksum(value: Any) -> bool:
    """Return whether a value is a SHA-256 checksum in hexadecimal digits."""
    return _CHECKSUM.fullmatch(str(value)) is not None


def parse_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object in some bytes; an empty one where there is none."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def manifest_path(output: Path) -> Path:
    """Return the path of an output's manifest."""
    return output.with_name(f"{output.name}.json")


def read_manifest(output: Path) -> Manifest | None:
    """Return the manifest of an output, or None where there is no valid one."""
    return read_manifest_file(manifest_path(output))


def read_manifest_file(path: Path) -> Manifest | None:
    """Return the manifest in a file, or None where there is no valid one."""
    try:
        return Manifest.of(parse_object(read_small(path, LARGEST_MANIFEST)))
    except (OSError, ValueError):
        return None


def is_output_name(name: str) -> bool:
    """Return whether ``latest`` may contain a name: a relative one with the ending of an output."""
    return (
        name.endswith((".zarr", ".nc"))
        and not name.startswith("/")
        and ".." not in name.split("/")
        and len(name) < _LONGEST_NAME
    )


def replaced_path(output: Path) -> Path:
    """Return the path under which a damaged output is kept when it is replaced."""
    return output.with_name(f".{output.name}.replaced")


def is_attachment(name: str, output: str) -> bool:
    """Return whether a file name is that of a map, the scores or the report of an output."""
    stem = output.rpartition(".")[0]
    return (
        name.startswith(f"{stem}.")
        and name.endswith((".png", ".scores.nc", ".report.html"))
        and name != output
    )


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of all files in a folder."""
    if path.is_file():
        with os.fdopen(open_file(path, os.O_RDONLY), "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_symlink() or p.is_file()):
        name = file.relative_to(path).as_posix()
        if file.is_symlink():  # outputs contain none
            total.update(f"{name}\0-> {os.readlink(file)}\n".encode(errors="surrogateescape"))
        else:
            total.update(f"{name}\0{checksum(file)}\n".encode())
    return total.hexdigest()
