"""Safetensors files, whose header is read and checked before any tensor.

A file is the length of the header as eight bytes, the header as JSON and the bytes of the tensors. The header
is accepted only if its tensors fill the file exactly, one after the other, so that what it describes is never
larger than the file.
"""

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import WeightsError
from .regular_file import open_regular
from .strict_json import parse_json

_LARGEST = 16 * 2**20  # bytes of a header, which describe some hundred thousand tensors
_MOST_TENSORS = 100_000
_DIMENSIONS = 16
_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
}


@dataclass(frozen=True)
class Entry:
    """Type and shape of a tensor according to the header of a file."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size of the tensor [bytes]."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(path: Path) -> dict[str, Entry]:
    """Return the tensors that a safetensors file describes, by name, without reading them.

    Raises:
        FileNotFoundError: no such file.
        WeightsError: not a complete safetensors file.
        ValueError: not a regular file.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(size - 8, _LARGEST):
            raise _damaged(
                path,
                f"{size} bytes with a header of {length}" if length else f"{size} bytes without a header",
            )
        content = file.read(length)
    try:
        described = parse_json(
            content, f"the header of {path}", longest=_MOST_TENSORS, most=50 * _MOST_TENSORS
        )
    except ValueError as error:
        raise WeightsError(f"{error}; restore the file, or write it again") from error
    if not isinstance(described, dict):
        raise _damaged(path, f"its header is a {type(described).__name__}")
    described.pop("__metadata__", None)
    entries: dict[str, Entry] = {}
    offsets: list[tuple[int, int, str]] = []
    for name, values in described.items():
        entries[name], offset = _entry(path, name, values)
        offsets.append((*offset, name))
    end = 0
    for first, last, name in sorted(offsets):
        if first != end or last - first != entries[name].nbytes:
            raise _damaged(path, f"the bytes of {name[:80]} are misplaced")
        end = last
    if end != size - 8 - length:
        raise _damaged(path, f"its tensors need {end} bytes, but it has {size - 8 - length}")
    return entries


def _entry(path: Path, name: str, values: Any) -> tuple[Entry, tuple[int, int]]:
    """Return type, shape and first and last byte of a tensor, from its description in the header."""
    try:
        dtype = _DTYPES[values["dtype"]]
        shape = values["shape"]
        first, last = values["data_offsets"]
        if (
            set(values) != {"dtype", "shape", "data_offsets"}
            or not isinstance(shape, list)
            or len(shape) > _DIMENSIONS
        ):
            raise ValueError
        if any(type(n) is not int or not 0 <= n < 2**63 for n in (*shape, first, last)):
            raise ValueError
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"its header does not describe {name[:80]!r}") from error
    return Entry(dtype, tuple(shape)), (first, last)


def _damaged(path: Path, why: str) -> WeightsError:
    return WeightsError(f"{path} is damaged or not a safetensors file ({why}); restore it, or write it again")


def read_file(path: Path, entries: Mapping[str, Entry]) -> dict[str, Tensor]:
    """Return the tensors of a file whose header has been read.

    Args:
        path: safetensors file.
        entries: types and shapes of its tensors, from ``read_header``.

    Raises:
        WeightsError: the file is damaged, or not the one whose header was read.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise _damaged(path, str(error)) from error
    if {name: (t.dtype, tuple(t.shape)) for name, t in tensors.items()} != {
        name: (e.dtype, e.shape) for name, e in entries.items()
    }:
        raise _damaged(path, "it changed while it was read")
    return tensors
