"""Manifests: what was published with an output, and by whom, in a JSON file or object next to it."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from .files import open_file, read_small

MOST = 2**20
"""Bytes of a manifest, or of what ``latest`` contains."""
Manifest = dict[str, Any]


def is_manifest(found: Manifest) -> bool:
    """Return whether a manifest is one that was published with an output."""
    return (
        isinstance(found.get("job"), str)
        and isinstance(found.get("cycle"), str)
        and re.fullmatch(r"[0-9a-f]{64}", str(found.get("checksum"))) is not None
    )


def with_command_pending(manifest: Manifest) -> Manifest:
    """Return a manifest that says that the command ``on_success`` is yet to be run, which a rebuilt ledger
    would not know.
    """
    return manifest | {"on_success": "pending"}


def is_pending(found: Manifest) -> bool:
    """Return whether the command ``on_success`` is yet to be run for an output; earlier versions did not say."""
    return is_manifest(found) and found.get("on_success") == "pending"


def with_command_ended(found: Manifest) -> bytes:
    """Return a manifest that says that the command ``on_success`` was run, as JSON."""
    return json.dumps(found | {"on_success": "ended"}, indent=1).encode()


def manifest_of(output: Path) -> Path:
    """Return the path of an output's manifest."""
    return output.with_name(f"{output.name}.json")


def manifest_bytes(manifest: Manifest, beside: dict[str, Path]) -> bytes:
    """Return a manifest with the names of the pictures, scores and reports of its output, as JSON."""
    return json.dumps(manifest | {"beside": sorted(beside)}, indent=1).encode()


def read_manifest(path: Path) -> Manifest:
    """Return what a manifest says; nothing where it is none."""
    try:
        found = json.loads(read_small(path, MOST))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def is_output(name: str) -> bool:
    """Return whether ``latest`` may hold a name, which is relative and that of an output."""
    return (
        name.endswith((".zarr", ".nc"))
        and not name.startswith("/")
        and ".." not in name.split("/")
        and len(name) < 4096
    )


def published_beside(manifest: Manifest, output: str, near: list[str]) -> list[str]:
    """Return the names of pictures, scores and reports that were published with an output; earlier versions
    did not list their pictures.
    """
    stem, listed = output.rpartition(".")[0], manifest.get("beside")
    scores = [f"{stem}.scores.nc", f"{stem}.report.html"]
    return [name for name in near if name in scores or (not isinstance(listed, list) or name in listed)]


def aside_of(output: Path) -> Path:
    """Return where what stood under the name of an output, and was not whole, is kept."""
    return output.with_name(f".{output.name}.replaced")


def is_beside(name: str, output: str) -> bool:
    """Return whether a file is a picture, the scores or the report of an output."""
    stem = output.rpartition(".")[0]
    return (
        name.startswith(f"{stem}.")
        and name.endswith((".png", ".scores.nc", ".report.html"))
        and name != output
    )


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of a folder's files."""
    if path.is_file():
        with os.fdopen(open_file(path, os.O_RDONLY), "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_symlink() or p.is_file()):
        if file.is_symlink():  # none of ours is one
            total.update(
                f"{file.relative_to(path).as_posix()}\0-> {os.readlink(file)}\n".encode(
                    errors="surrogateescape"
                )
            )
            continue
        total.update(f"{file.relative_to(path).as_posix()}\0{checksum(file)}\n".encode())
    return total.hexdigest()
