"""Files of the status page: their names, and a check that no other file is replaced."""

import re
from pathlib import Path

from .files import FileKind, kind_of, read_start

MAPS = "maps"
_STARTS = {
    "index.html": re.compile(rb"<!doctype html>.*http-equiv='refresh'.*<title>Forecasts</title>", re.DOTALL),
    "status.json": re.compile(rb'\{\s*"now": "\d{4}-'),
    "metrics.prom": re.compile(rb"# HELP fourcaster_"),
}
_LONGEST_START = 4096  # bytes


def refuse_foreign_pages(folder: Path) -> None:
    """Check that files in the folder of the status page may be replaced.

    Raises:
        ValueError: the folder contains files with names of the status page that were not written from here.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(
            f"status {folder} is {kind_of(folder)}, not a folder; let `status` name a folder of its own"
        )
    for name, start in _STARTS.items():
        path = folder / name
        kind = kind_of(path)
        if kind is None:
            continue
        if kind is not FileKind.FILE or not start.match(read_start(path, _LONGEST_START)):
            raise ValueError(
                f"{path} is {kind} that is not of the status page, so it is not replaced; "
                "let `status` name a folder of its own"
            )
    if (kind := kind_of(folder / MAPS)) not in (None, FileKind.FOLDER):
        raise ValueError(f"{folder / MAPS} is {kind}, not a folder; let `status` name a folder of its own")
