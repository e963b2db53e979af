"""What each kind of output may be called: the ending of a name says which format is written."""

import re
from pathlib import Path

FORMATS = {
    "forecast": (".zarr", ".nc", ""),
    "solution": (".zarr", ".nc", ""),
    "store": (".zarr", ".icechunk", ""),
    "simulation": (".zarr", ""),
    "checkpoint": ("",),
    "file of scores": (".nc",),
    "report": (".html", ".htm"),
    "picture": (".png", ".pdf", ".svg"),
    "torch-export program": (".pt2",),
    "onnx model": (".onnx",),
}
"""Endings by kind of output. A name without one is a folder: zarr, or a checkpoint."""


def check_output(path: str | Path, kind: str) -> Path:
    """Return the path of an output once its ending is one of its kind; a number, as in ``run.v2`` or ``era5_2.5``, is part of the name.

    Raises:
        ValueError: any other ending, whose format would not be the one that is written.
    """
    suffix = re.sub(r"^\.v?\d+$", "", Path(path).suffix)
    if suffix not in FORMATS[kind]:
        known = [ending or "no ending (a folder)" for ending in FORMATS[kind]]
        raise ValueError(f"{path}: a {kind} is not written as {suffix or 'a name without an ending'}; use {', '.join(known)}")
    return Path(path)
