"""The result of an attempt, which another process wrote: read within bounds, and nothing taken that is not a
result.
"""

import json
import re
from pathlib import Path
from typing import Any

from ..text import one_line
from .files import read_small
from .masking import mask
from .spec import Job

RESULT = "result.json"
_MOST = 2**20  # bytes of a result
_MANIFEST = 2**16  # bytes of a manifest
_PICTURES = 200


def read_result(folder: Path, job: Job, cycle: str) -> dict[str, Any]:
    """Return the result that an attempt left in its folder.

    Raises:
        FileNotFoundError: it left none.
        OSError: the file is none, or cannot be read.
        ValueError: it is not a result.
    """
    try:
        return check_result(json.loads(read_small(folder / RESULT, _MOST)), job, cycle)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the attempt's result is not understood: {one_line(str(error), 200)}") from error


def check_result(values: Any, job: Job, cycle: str) -> dict[str, Any]:
    """Return the parts of a result that are known.

    Args:
        values: what an attempt returned.
        job: the job that was attempted.
        cycle: initial time that was attempted.

    Raises:
        ValueError: it is not a result.
    """
    if not isinstance(values, dict):
        raise ValueError("it is no object of keys and values")
    for key in ("waits", "error", "killed"):
        if key in values:
            return {key: one_line(mask(_text(values, key)))}
    if "scores" in values:
        return {"scores": _text(values, "scores"), "said": one_line(mask(_text(values, "said")))}
    manifest, beside, folder = values.get("manifest"), values.get("beside"), values.get("folder", "")
    if not isinstance(manifest, dict) or len(json.dumps(manifest)) > _MANIFEST:
        raise ValueError("it holds no manifest")
    if (manifest.get("job"), manifest.get("cycle")) != (job.name, cycle):
        raise ValueError(f"its manifest is of {manifest.get('job')} {manifest.get('cycle')}")
    if not re.fullmatch(r"[0-9a-f]{64}", str(manifest.get("checksum"))):
        raise ValueError("its manifest lacks a checksum")
    if values.get("made") != f"forecast{Path(job.output).suffix}":
        raise ValueError(f"it names {values.get('made')!r}")
    if (
        not isinstance(beside, list)
        or len(beside) > _PICTURES
        or not all(isinstance(name, str) and is_picture(name) for name in beside)
    ):
        raise ValueError("its pictures are none")
    if not isinstance(folder, str) or not re.fullmatch(r"[0-9a-f]*", folder):
        raise ValueError(f"it names the folder {folder!r}")
    return {"manifest": manifest, "made": values["made"], "beside": beside, "folder": folder}


def is_picture(name: str) -> bool:
    """Return whether a name is one of a picture, and not a path."""
    return (
        name.endswith(".png")
        and "/" not in name
        and "\0" not in name
        and len(name.encode(errors="replace")) < 200
    )


def _text(values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str):
        raise ValueError(f"its {key} is no text")
    return value
