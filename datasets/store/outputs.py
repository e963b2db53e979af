"""Where results may be written: which ending names which format, what may be replaced, and what is never
touched.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import xarray as xr

from ..errors import OutputExistsError

Input: TypeAlias = "str | Path | xr.Dataset | None"
"""What is read: a path; a URL or None, which no output can touch; or a data set, which names the file it was
opened from.
"""

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
"""Endings by kind of output. A name without an ending is written in the first format, which is zarr wherever
that is one.
"""

_METADATA = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata", ".zarray")
_CHUNK = re.compile(r"c|\d+(\.\d+)*")
_LARGEST_TEXT = 2**26


def mark(kind: str) -> str:
    """Return what a file of a kind without attributes (report, picture, program) contains where this package
    wrote it.
    """
    return f"fourcaster:{kind}"


def check_output(path: str | Path, kind: str) -> Path:
    """Return the path of an output once its ending, if it has one, is one of its kind.

    What begins with a digit, as in ``era5_2.5`` or ``run.v2``, is part of the name. A ``checkpoint`` is a
    folder of any name but those of other kinds.

    Raises:
        ValueError: any other ending, whose format would not be the one that is written.
    """
    if not str(path) or Path(path).name in ("", "..") or "\0" in str(path):
        raise ValueError(f"{str(path)!r} is not the name of a {kind}; write e.g. -o out/NAME")
    suffix = re.sub(r"^\.v?\d.*$", "", Path(path).suffix)
    if kind == "checkpoint" and suffix in {ending for endings in FORMATS.values() for ending in endings}:
        raise ValueError(f"{path}: a checkpoint is a folder, not a {suffix}; leave out the ending")
    if kind != "checkpoint" and suffix and suffix not in FORMATS[kind]:
        raise ValueError(f"{path}: a {kind} is not written as {suffix}; use {' or '.join(FORMATS[kind])}")
    return Path(path)


def check_apart(output: str | Path, inputs: Iterable[Input]) -> None:
    """Raise ``ValueError`` where an output is, contains or lies in an input, by whatever links or mounts lead
    there.
    """
    output = Path(output)
    own, above = _identity(output), _identities_above(output)
    paths = (i if i is None or isinstance(i, str | Path) else i.encoding.get("source") for i in inputs)
    for source in paths:
        if source is None or "://" in str(source) or (identity := _identity(Path(source))) is None:
            continue
        relation = None
        if own == identity:
            relation = "is"
        elif identity in above:
            relation = "lies in"
        elif own is not None and own in _identities_above(Path(source)):
            relation = "contains"
        if relation:
            raise ValueError(f"the output {output} {relation} the input {source}; choose another name")


def check_replaceable(path: Path, kind: str, overwrite: bool) -> None:
    """Raise ``FileExistsError`` where something is at ``path`` that may not be replaced by an output of this
    kind.

    That is anything without ``overwrite``, and with it anything but an output of the same kind that this
    package wrote: links, other formats, folders that have come to hold more than the output, and outputs of
    other kinds.
    """
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise OutputExistsError(f"{path} exists; overwrite it, or choose another name")
    if path.is_symlink():
        raise FileExistsError(f"{path} is a link, which overwriting does not replace; name what it points to")
    if not is_output(path, kind):
        raise FileExistsError(
            f"{path} is not a {kind} that fourcaster wrote, or contains other files, so overwriting does not "
            "replace it; "
            f"choose another name, or move it away"
        )


def is_output(path: Path, kind: str) -> bool:
    """Return whether ``path`` is an output of this kind that this package wrote, and nothing else; empty ones
    pass.
    """
    if path.is_dir():
        names = set(os.listdir(path))
        if not names:
            return True
        if kind == "checkpoint":
            return names == {"meta.json", "weights.safetensors"} and {"format_version", "sha256"} <= set(
                _json(path / "meta.json")
            )
        return kind in _ATTRIBUTES and _only_zarr(path) and has_attributes(_zarr_attributes(path), kind)
    if not path.is_file():
        return False
    if path.stat().st_size == 0:
        return True
    if kind in _ATTRIBUTES and path.suffix == ".nc":
        return has_attributes(_netcdf_attributes(path), kind)
    if kind == "table of scores":
        return {"scores", "train_period", "simulated"} <= set(_json(path))
    return kind in FORMATS and kind not in _ATTRIBUTES and _contains(path, mark(kind))


def has_attributes(attrs: Mapping[str, Any], kind: str) -> bool:
    """Return whether a data set's attributes are those of an output of this kind."""
    return _ATTRIBUTES[kind](attrs)


def _is_store(attrs: Mapping[str, Any]) -> bool:
    return {"time_step_seconds", "train_period", "gaps", "variables"} <= set(attrs)


def _is_simulation(attrs: Mapping[str, Any]) -> bool:
    return {"system", "parameters", "samples", "seed"} <= set(attrs)


def _is_forecast(attrs: Mapping[str, Any]) -> bool:
    return attrs.get("title") == "forecast" and str(attrs.get("source", "")).startswith("fourcaster")


def _is_solution(attrs: Mapping[str, Any]) -> bool:
    return "checkpoint" in attrs and ("equation" in attrs or attrs.get("title") == "solved by an operator")


def _is_scores(attrs: Mapping[str, Any]) -> bool:
    return {"initial_times", "weighting"} <= set(attrs) or attrs.get("title") == "scores of solutions"


_ATTRIBUTES: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "store": _is_store,
    "simulation": _is_simulation,
    "forecast": _is_forecast,
    "solution": _is_solution,
    "file of scores": _is_scores,
}


def _json(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_TEXT:
            return {}
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _zarr_attributes(path: Path) -> dict[str, Any]:
    third, second = _json(path / "zarr.json").get("attributes"), _json(path / ".zattrs")
    return third if isinstance(third, dict) else second


def _only_zarr(folder: Path) -> bool:
    """Return whether a folder is a zarr group that contains only arrays and groups."""
    if not any((folder / name).is_file() for name in ("zarr.json", ".zgroup")):
        return False
    for entry in folder.iterdir():
        known = _only_chunks(entry) or _only_zarr(entry) if entry.is_dir() else entry.name in _METADATA
        if entry.is_symlink() or not known:
            return False
    return True


def _only_chunks(folder: Path) -> bool:
    """Return whether a folder is a zarr array and its first level contains only metadata and chunks."""
    array = _json(folder / "zarr.json").get("node_type") == "array" or (folder / ".zarray").is_file()
    return array and all(name in _METADATA or _CHUNK.fullmatch(name) for name in os.listdir(folder))


def _netcdf_attributes(path: Path) -> dict[str, Any]:
    import netCDF4

    try:
        with netCDF4.Dataset(path) as dataset:
            return {name: dataset.getncattr(name) for name in dataset.ncattrs()}
    except (OSError, RuntimeError, ValueError):
        return {}


def _contains(path: Path, text: str) -> bool:
    pattern = text.encode()
    tail = b""
    with open(path, "rb") as file:
        while block := file.read(2**20):
            if pattern in tail + block:
                return True
            tail = block[-len(pattern) :]
    return False


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a path; None where nothing is there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _identities_above(path: Path) -> set[tuple[int, int] | None]:
    return {_identity(folder) for folder in path.resolve().parents} - {None}
