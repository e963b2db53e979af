"""Validation of the header of a classic netCDF file: completeness of the file and size limits.

The netCDF library reads missing bytes as zeros and trusts the sizes in the header. Format: Unidata, "The
NetCDF Classic Format Specification", for CDF-1, CDF-2 (64-bit offsets) and CDF-5 (64-bit data).
"""

import os
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from ..errors import InvalidDataError
from ..memory import check_axis, format_bytes

OBJECTS = 10_000  # dimensions, variables, or attributes of one of them
_ATTRIBUTE = 2**26  # bytes of one attribute
_MAX_DIMENSIONS = 1024  # of one variable
_STREAMING = (2**32 - 1, 2**64 - 1)  # the number of records follows from the length of the file
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}  # bytes of a value by type
_DIMENSION, _VARIABLE, _ATTRIBUTES = 10, 11, 12


@dataclass(frozen=True)
class _Variable:
    """A variable in the header.

    Attributes:
        name: name of the variable.
        dimensions: indices of its dimensions; the first may be that of records.
        itemsize: bytes of a value.
        begin: position of its first value in the file [bytes].
    """

    name: str
    dimensions: tuple[int, ...]
    itemsize: int
    begin: int


def check_classic(path: str) -> None:
    """Raise unless a classic netCDF file contains all values that its header lists, within the limits.

    Raises:
        InvalidDataError: the file exceeds a limit on objects, attributes or coordinates.
        ValueError: the header is damaged, or values are missing.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        header = _Header(file, path, size)
        header.check()


class _Header:
    """Reader of a header.

    Args:
        file: open file, positioned at its start.
        path: path, for error messages.
        size: length of the file [bytes].
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
            (self.name(), self.number(self.count_bytes))
            for _ in range(self.list_length(_DIMENSION, "dimensions"))
        ]
        self.attributes("the file")
        variables = [self.variable(dimensions) for _ in range(self.list_length(_VARIABLE, "variables"))]
        self.check_values(dimensions, variables, records)

    def check_values(
        self, dimensions: list[tuple[str, int]], variables: list[_Variable], records: int
    ) -> None:
        """Compare the extent of all variables with the length of the file.

        Args:
            dimensions: name and length of each dimension; the length is 0 for that of records.
            variables: variables of the header.
            records: number of records.

        Raises:
            MemoryLimitError: a coordinate is too long.
            ValueError: a variable ends beyond the file.
        """
        in_records = [v for v in variables if v.dimensions and dimensions[v.dimensions[0]][1] == 0]
        sizes = {v.name: _count(v, dimensions) * v.itemsize for v in variables}  # bytes, or bytes of a record
        record = sum(_padded(sizes[v.name]) for v in in_records)
        if len(in_records) == 1:
            record = sizes[in_records[0].name]
        if records in _STREAMING:
            first = min((v.begin for v in in_records), default=self.size)
            records = max(0, self.size - first) // max(1, record)
        for variable in variables:
            size = sizes[variable.name]
            has_records = variable in in_records
            if len(variable.dimensions) == 1 and dimensions[variable.dimensions[0]][0] == variable.name:
                check_axis(
                    self.path,
                    variable.name,
                    records if has_records else size // variable.itemsize,
                    itemsize=variable.itemsize,
                )
            end = variable.begin + size + (record * (records - 1) if has_records else 0)
            if size and (records or not has_records) and end > self.size:
                raise ValueError(f"{variable.name!r} ends at byte {end}, but the file at {self.size}")

    def variable(self, dimensions: list[tuple[str, int]]) -> _Variable:
        """Read a variable."""
        name = self.name()
        rank = self.number(self.count_bytes)
        if rank > _MAX_DIMENSIONS:
            raise ValueError(f"{name!r} has {rank} dimensions")
        indices = tuple(self.number(self.count_bytes) for _ in range(rank))
        if any(index >= len(dimensions) for index in indices):
            raise ValueError(f"{name!r} has an undefined dimension")
        self.attributes(repr(name))
        itemsize = self.itemsize(name)
        self.number(self.count_bytes)  # vsize is redundant, and not valid for large variables
        return _Variable(name, indices, itemsize, self.number(self.offset_bytes))

    def attributes(self, owner: str) -> None:
        """Skip a list of attributes, after checking their sizes."""
        for _ in range(self.list_length(_ATTRIBUTES, f"attributes of {owner}")):
            name = self.name()
            itemsize = self.itemsize(name)
            size = itemsize * self.number(self.count_bytes)
            if size > _ATTRIBUTE:
                raise InvalidDataError(
                    f"{self.path}: the attribute {name!r} of {owner} has {format_bytes(size)}, "
                    f"more than the limit of {format_bytes(_ATTRIBUTE)}"
                )
            self.bytes(_padded(size))

    def itemsize(self, name: str) -> int:
        """Read a type, and return the size of its values [bytes]."""
        kind = self.number(4)
        if kind not in _SIZES:
            raise ValueError(f"{name!r} has the unknown type {kind}")
        return _SIZES[kind]

    def list_length(self, kind: int, what: str) -> int:
        """Read the head of a list, and return the number of its entries.

        Args:
            kind: tag of the list.
            what: entries of the list, for messages.
        """
        tag = self.number(4)
        count = self.number(self.count_bytes)
        if tag not in (0, kind) or (tag == 0 and count):
            raise ValueError(f"its list of {what} begins with {tag}")
        if count > OBJECTS:
            raise InvalidDataError(
                f"{self.path} has {count} {what}, more than the limit of {OBJECTS}; "
                "extract those that you need"
            )
        return count

    def name(self) -> str:
        """Read a name."""
        length = self.number(self.count_bytes)
        if length > 1024:
            raise ValueError(f"a name has {length} bytes")
        return self.bytes(_padded(length))[:length].decode(errors="replace")

    def number(self, size: int) -> int:
        """Read a number of ``size`` bytes."""
        return int.from_bytes(self.bytes(size), "big")

    def bytes(self, count: int) -> bytes:
        """Read ``count`` bytes."""
        data = self.file.read(count)
        if len(data) < count:
            raise ValueError("the header is cut off")
        return data


def _count(variable: _Variable, dimensions: list[tuple[str, int]]) -> int:
    """Return the number of values of a variable, or of one record of it."""
    sizes = [dimensions[index][1] for index in variable.dimensions]
    return int(np.prod([size for place, size in enumerate(sizes) if place or size], dtype=object))


def _padded(size: int) -> int:
    """Return a size rounded up to a multiple of four bytes."""
    return -(-size // 4) * 4
