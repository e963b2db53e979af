"""Checks of output paths: the format by ending, what may be overwritten, and separation from inputs."""

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
"""A path, a URL, a data set (for the file it was opened from), or None. URLs overlap with no output."""

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
"""Endings by kind of output. The first is that of the format of names without an ending."""

_METADATA = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata", ".zarray")
_CHUNK = re.compile(r"c|\d+(\.\d+)*")
_LARGEST_TEXT = 2**26


def marker(kind: str) -> str:
    """Return the text by which outputs without attributes (report, picture, program) are recognised."""
    return f"fourcaster:{kind}"


def check_output(path: str | Path, kind: str) -> Path:
    """Return the path of an output, after checking that its ending, if any, is one of its kind.

    A suffix such as in ``era5_2.5`` or ``run.v2`` is part of the name. A ``checkpoint`` is a folder, whose
    name may have any ending except those of other kinds.

    Args:
        path: path to check.
        kind: key of ``FORMATS``, or ``checkpoint``.

    Raises:
        ValueError: the ending is that of another format, or the path is not a name.
    """
    if not str(path) or Path(path).name in ("", "..") or "\0" in str(path):
        raise ValueError(f"{str(path)!r} is not the name of a {kind}; write e.g. out/NAME")
    suffix = re.sub(r"^\.v?\d.*$", "", Path(path).suffix)
    if kind == "checkpoint" and suffix in {ending for endings in FORMATS.values() for ending in endings}:
        raise ValueError(f"{path}: a checkpoint is a folder, not a {suffix}; leave out the ending")
    if kind != "checkpoint" and suffix and suffix not in FORMATS[kind]:
        raise ValueError(f"{path}: a {kind} is not written as {suffix}; use {' or '.join(FORMATS[kind])}")
    return Path(path)


def check_separate(output: str | Path, inputs: Iterable[Input]) -> None:
    """Check that an output is not an input, does not contain one and is not inside one.

    Files are compared by device and inode, so that links and mounts are recognised.

    Args:
        output: path to write.
        inputs: data that are read.

    Raises:
        ValueError: the output and an input overlap.
    """
    output = Path(output)
    output_identity = _identity(output)
    parents = _parent_identities(output)
    paths = (i if i is None or isinstance(i, str | Path) else i.encoding.get("source") for i in inputs)
    for source in paths:
        if source is None or "://" in str(source) or (identity := _identity(Path(source))) is None:
            continue
        relation = None
        if output_identity == identity:
            relation = "is"
        elif identity in parents:
            relation = "lies in"
        elif output_identity is not None and output_identity in _parent_identities(Path(source)):
            relation = "contains"
        if relation:
            raise ValueError(f"the output {output} {relation} the input {source}; choose another name")


def check_replaceable(path: Path, kind: str, overwrite: bool) -> None:
    """Check that an output of a kind may be written at ``path``.

    With ``overwrite`` only an output of the same kind that this package wrote is replaced: no links, other
    formats, folders with further files, or outputs of other kinds.

    Args:
        path: path to write.
        kind: kind of output.
        overwrite: whether an existing output may be replaced.

    Raises:
        FileExistsError: the path exists, and may not be replaced.
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
            "replace it; choose another name, or move it away"
        )


def is_output(path: Path, kind: str) -> bool:
    """Return whether ``path`` contains only an output of this kind that this package wrote, or is empty."""
    if path.is_dir():
        names = set(os.listdir(path))
        if not names:
            return True
        if kind == "checkpoint":
            complete = names == {"meta.json", "weights.safetensors"}
            return complete and {"format_version", "sha256"} <= set(_json(path / "meta.json"))
        return kind in _ATTRIBUTES and _only_zarr(path) and has_attributes(_zarr_attributes(path), kind)
    if not path.is_file():
        return False
    if path.stat().st_size == 0:
        return True
    if kind in _ATTRIBUTES and path.suffix == ".nc":
        return has_attributes(_netcdf_attributes(path), kind)
    if kind == "table of scores":
        return {"scores", "train_period", "simulated"} <= set(_json(path))
    return kind in FORMATS and kind not in _ATTRIBUTES and _contains(path, marker(kind))


def has_attributes(attrs: Mapping[str, Any], kind: str) -> bool:
    """Return whether attributes of a data set are those of an output of this kind."""
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
    """Return the object in a JSON file; empty if there is none."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_TEXT:
            return {}
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _zarr_attributes(path: Path) -> dict[str, Any]:
    attributes = _json(path / "zarr.json").get("attributes")  # format 3
    return attributes if isinstance(attributes, dict) else _json(path / ".zattrs")


def _only_zarr(folder: Path) -> bool:
    """Return whether a folder is a zarr group that contains only arrays and groups."""
    if not any((folder / name).is_file() for name in ("zarr.json", ".zgroup")):
        return False
    for entry in folder.iterdir():
        expected = _only_chunks(entry) or _only_zarr(entry) if entry.is_dir() else entry.name in _METADATA
        if entry.is_symlink() or not expected:
            return False
    return True


def _only_chunks(folder: Path) -> bool:
    """Return whether a folder is a zarr array whose top level contains only metadata and chunks."""
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
    """Return whether a file contains a text."""
    pattern = text.encode()
    tail = b""
    with open(path, "rb") as file:
        while block := file.read(2**20):
            if pattern in tail + block:
                return True
            tail = block[-len(pattern) :]
    return False


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a path, or None if it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _parent_identities(path: Path) -> set[tuple[int, int] | None]:
    return {_identity(folder) for folder in path.resolve().parents} - {None}
