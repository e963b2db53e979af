"""The header of a classic netCDF file: whether the file has all that it lists, and whether that fits in
memory.

The netCDF library reads what a file lacks as zeros, and trusts the sizes in it. Format: "The NetCDF Classic
Format Specification" of Unidata, for CDF-1, CDF-2 (64-bit offsets) and CDF-5 (64-bit data).
"""

import os
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from ..errors import InvalidDataError
from ..memory import check_axis, show

OBJECTS = 10_000  # dimensions, variables, and attributes of one of them
_ATTRIBUTE = 2**26  # bytes of one attribute
_AXES = 1024  # of one variable
_STREAMING = (2**32 - 1, 2**64 - 1)  # number of records that is known from the length of the file alone
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}  # bytes of a value by type
_DIMENSION, _VARIABLE, _ATTRIBUTES = 10, 11, 12


@dataclass(frozen=True)
class _Variable:
    name: str
    dimensions: tuple[int, ...]
    itemsize: int
    begin: int


def check_classic(path: str) -> None:
    """Raise unless a classic netCDF file has all values that its header lists, within bounds.

    Raises:
        InvalidDataError: more objects, a longer attribute or a longer axis than are read.
        ValueError: the header is damaged, or values are missing.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        header = _Header(file, path, size)
        header.check()


class _Header:
    """Reader of one header.

    Args:
        file: open at its start.
        path: named in errors.
        size: bytes of the file.
    """

    def __init__(self, file: BinaryIO, path: str, size: int) -> None:
        self.file = file
        self.path = path
        self.size = size
        version = self.bytes(4)[3]
        self.count_bytes = 8 if version == 5 else 4
        self.offset_bytes = 4 if version == 1 else 8

    def check(self) -> None:
        """Read the header and compare it with the length of the file."""
        records = self.number(self.count_bytes)
        dimensions = [
            (self.name(), self.number(self.count_bytes)) for _ in range(self.listed(_DIMENSION, "dimensions"))
        ]
        self.attributes("the file")
        variables = [self.variable(dimensions) for _ in range(self.listed(_VARIABLE, "variables"))]
        self.values(dimensions, variables, records)

    def values(self, dimensions: list[tuple[str, int]], variables: list[_Variable], records: int) -> None:
        """Compare where values lie with the length of the file."""
        in_records = [v for v in variables if v.dimensions and dimensions[v.dimensions[0]][1] == 0]
        one = {v.name: _count(v, dimensions) * v.itemsize for v in variables}
        record = sum(_padded(one[v.name]) for v in in_records)
        if len(in_records) == 1:
            record = one[in_records[0].name]
        if records in _STREAMING:
            first = min((v.begin for v in in_records), default=self.size)
            records = max(0, self.size - first) // max(1, record)
        for variable in variables:
            repeated = variable in in_records
            if len(variable.dimensions) == 1 and dimensions[variable.dimensions[0]][0] == variable.name:
                check_axis(
                    self.path,
                    variable.name,
                    records if repeated else one[variable.name] // variable.itemsize,
                    variable.itemsize,
                )
            end = variable.begin + one[variable.name] + (record * (records - 1) if repeated else 0)
            if one[variable.name] and (records or not repeated) and end > self.size:
                raise ValueError(f"{variable.name!r} ends at byte {end}, and the file at {self.size}")

    def variable(self, dimensions: list[tuple[str, int]]) -> _Variable:
        name = self.name()
        axes = self.number(self.count_bytes)
        if axes > _AXES:
            raise ValueError(f"{name!r} has {axes} dimensions")
        indices = tuple(self.number(self.count_bytes) for _ in range(axes))
        if any(index >= len(dimensions) for index in indices):
            raise ValueError(f"{name!r} has a dimension that is not listed")
        self.attributes(repr(name))
        itemsize = self.itemsize(name)
        self.number(self.count_bytes)  # its size again, which is cut off for large ones
        return _Variable(name, indices, itemsize, self.number(self.offset_bytes))

    def attributes(self, owner: str) -> None:
        for _ in range(self.listed(_ATTRIBUTES, f"attributes of {owner}")):
            name = self.name()
            itemsize = self.itemsize(name)
            size = itemsize * self.number(self.count_bytes)
            if size > _ATTRIBUTE:
                raise InvalidDataError(
                    f"{self.path}: the attribute {name!r} of {owner} has {show(size)}, more than the {show(_ATTRIBUTE)} that are read"
                )
            self.bytes(_padded(size))

    def itemsize(self, name: str) -> int:
        kind = self.number(4)
        if kind not in _SIZES:
            raise ValueError(f"{name!r} is of the unknown type {kind}")
        return _SIZES[kind]

    def listed(self, kind: int, what: str) -> int:
        """Return how many entries a list has."""
        tag = self.number(4)
        count = self.number(self.count_bytes)
        if tag not in (0, kind) or (tag == 0 and count):
            raise ValueError(f"its list of {what} begins with {tag}")
        if count > OBJECTS:
            raise InvalidDataError(
                f"{self.path} has {count} {what}, more than the {OBJECTS} that are read; keep those that you need"
            )
        return count

    def name(self) -> str:
        length = self.number(self.count_bytes)
        if length > 1024:
            raise ValueError(f"a name has {length} bytes")
        return self.bytes(_padded(length))[:length].decode(errors="replace")

    def number(self, size: int) -> int:
        return int.from_bytes(self.bytes(size), "big")

    def bytes(self, count: int) -> bytes:
        data = self.file.read(count)
        if len(data) < count:
            raise ValueError("the header is cut off")
        return data


def _count(variable: _Variable, dimensions: list[tuple[str, int]]) -> int:
    """Return the number of values of a variable, or of one of its records."""
    sizes = [dimensions[index][1] for index in variable.dimensions]
    return int(np.prod([size for place, size in enumerate(sizes) if place or size], dtype=object))


def _padded(size: int) -> int:
    return -(-size // 4) * 4
