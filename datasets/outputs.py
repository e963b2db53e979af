"""What each kind of output may be called: the ending of a name says which format is written."""

import re
from pathlib import Path

FORMATS = {
    "forecast": (".zarr", ".nc"),
    "solution": (".zarr", ".nc"),
    "store": (".zarr", ".icechunk"),
    "simulation": (".zarr",),
    "file of scores": (".nc",),
    "report": (".html", ".htm"),
    "picture": (".png", ".pdf", ".svg"),
    "torch-export program": (".pt2",),
    "onnx model": (".onnx",),
}
"""Endings by kind of output. A name without an ending is written in the first format, which is zarr wherever that is one."""


def check_output(path: str | Path, kind: str) -> Path:
    """Return the path of an output once its ending, if it has one, is one of its kind.

    What begins with a digit, as in ``era5_2.5`` or ``run.v2``, is part of the name. A ``checkpoint`` is a folder of any name but those of
    other kinds.

    Raises:
        ValueError: any other ending, whose format would not be the one that is written.
    """
    suffix = re.sub(r"^\.v?\d.*$", "", Path(path).suffix)
    if kind == "checkpoint" and suffix in {ending for endings in FORMATS.values() for ending in endings}:
        raise ValueError(f"{path}: a checkpoint is a folder, not a {suffix}; leave out the ending")
    if kind != "checkpoint" and suffix and suffix not in FORMATS[kind]:
        raise ValueError(f"{path}: a {kind} is not written as {suffix}; use {' or '.join(FORMATS[kind])}")
    return Path(path)
