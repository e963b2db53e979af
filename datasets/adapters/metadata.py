"""Metadata of zarr stores, checked before the zarr library sees them: their own size, codecs, shapes and
chunks.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from ..errors import MemoryLimitError, UntrustedDataError
from . import codecs
from .untrusted import (
    ARRAY_BYTES,
    ARRAYS,
    CHUNKS_ALONG,
    CHUNKS_IN_SHARD,
    DIMENSIONS,
    METADATA_BYTES,
    NESTING,
    STRING_BYTES,
    Declared,
    advice,
    most_of_a_chunk,
    packed_bytes,
    show_bytes,
)

FILES = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
_GRIDS = ("regular",)


def check(source: str, key: str, value: bytes, memory: int) -> dict[str, Declared]:
    """Check one file of metadata and return what its arrays declare, by their paths in the store.

    Args:
        source: store, named in errors.
        key: path of the file in the store.
        value: its bytes.
        memory: bytes that may be used.

    Raises:
        UntrustedDataError: it asks for a codec that is not allowed, or for more memory than there may be.
        ValueError: it is not JSON.
    """
    check_size(source, key, len(value))
    try:
        document = json.loads(value)
    except RecursionError:
        raise _too_deep(source, key) from None
    except ValueError as error:  # also of bytes that are no text, and of numbers of thousands of digits
        raise ValueError(f"{key} is not JSON: {error}") from error
    _check_nesting(document, source, key)
    folder, _, name = key.rpartition("/")
    arrays: dict[str, Declared] = {}
    for path, array in _arrays(document, folder, name):
        if len(arrays) == ARRAYS:
            raise UntrustedDataError(
                f"{source}: {key} describes more than {ARRAYS} arrays; open a store of fewer"
            )
        arrays[path] = describe(array, f"{source}: the array {path or '/'}", memory)
    return arrays


def check_size(source: str, key: str, size: int) -> None:
    """Raise ``UntrustedDataError`` for a file of metadata that is too large to be read."""
    if size > METADATA_BYTES:
        raise UntrustedDataError(
            f"{source}: its metadata {key} are {show_bytes(size)} long, more than {show_bytes(METADATA_BYTES)}"
        )


def _too_deep(source: str, key: str) -> UntrustedDataError:
    return UntrustedDataError(f"{source}: its metadata {key} are nested more than {NESTING} deep")


def _check_nesting(document: Any, source: str, key: str) -> None:
    level, depth = [document], 0
    while level := [value for value in level if isinstance(value, dict | list)]:
        depth += 1
        if depth > NESTING:
            raise _too_deep(source, key)
        level = [inner for value in level for inner in (value.values() if isinstance(value, dict) else value)]


def _arrays(document: Any, folder: str, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the path and the metadata of each array in a file of metadata, consolidated ones included."""
    if not isinstance(document, Mapping):
        if name in (".zattrs", ".zgroup"):
            return
        raise ValueError(f"{name} holds {type(document).__name__}, not a mapping")
    if name == ".zarray" or (name == "zarr.json" and document.get("node_type") == "array"):
        yield folder, document
    inside = (
        document.get("metadata")
        if name == ".zmetadata"
        else _consolidated(document)
        if name == "zarr.json"
        else None
    )
    for key, value in inside.items() if isinstance(inside, Mapping) else ():
        path = f"{folder}/{key}" if folder else key
        if name == ".zmetadata":
            parent, _, last = path.rpartition("/")
            if last == ".zarray":
                yield from _arrays(value, parent, last)
        else:
            yield from _arrays(value, path, name)


def _consolidated(document: Mapping[str, Any]) -> Any:
    inside = document.get("consolidated_metadata")
    return inside.get("metadata") if isinstance(inside, Mapping) else None


def describe(array: Mapping[str, Any], name: str, memory: int) -> Declared:
    """Return what an array declares of its chunks.

    Args:
        array: its metadata, of format 2 or 3.
        name: what to call it in errors.
        memory: bytes that may be used.

    Raises:
        UntrustedDataError: it cannot be read, or would take too much memory.
    """
    shape = _sizes(array.get("shape"), f"{name}: its shape", least=0)
    if array.get("zarr_format") == 2:
        chain = [
            *_listed(array.get("filters")),
            *([] if array.get("compressor") is None else [array["compressor"]]),
        ]
        item, sharding = codecs.item_bytes_v2(array.get("dtype"), chain, name), None
        chunk = _chunks(array.get("chunks"), shape, name)
    else:
        if array.get("zarr_format") != 3:
            raise UntrustedDataError(
                f"{name} is of zarr format {array.get('zarr_format')!r}; formats 2 and 3 are read"
            )
        chain = _listed(array.get("codecs"))
        item, sharding = codecs.item_bytes_v3(array.get("data_type"), chain, name), codecs.sharding_of(chain)
        if array.get("storage_transformers"):
            raise UntrustedDataError(f"{name} has storage transformers, which are not read")
        chunk = _chunks(_grid(array.get("chunk_grid"), name), shape, name)
        _check_keys(array.get("chunk_key_encoding"), name)
    inner = _chunks(sharding.get("chunk_shape"), shape, name) if sharding is not None else chunk
    if any(whole % part for whole, part in zip(chunk, inner, strict=True)):
        raise UntrustedDataError(f"{name}: its shards {chunk} are no multiples of its chunks {inner}")
    return _declared(shape, chunk, inner, item, chain, name, memory)


def _declared(
    shape: Sequence[int],
    file: Sequence[int],
    inner: Sequence[int],
    item: int | None,
    chain: Sequence[Any],
    name: str,
    memory: int,
) -> Declared:
    size = STRING_BYTES if item is None else item
    if prod(shape) * size > ARRAY_BYTES:
        raise UntrustedDataError(f"{name} has the shape {_short(shape)}, larger than any store")
    for length, part in zip(shape, inner, strict=True):
        if part and -(-length // part) > CHUNKS_ALONG:
            raise UntrustedDataError(
                f"{name} of the shape {_short(shape)} is cut into chunks {_short(inner)}, more than can be counted"
            )
    count = prod(whole // part for whole, part in zip(file, inner, strict=True) if part)
    if count > CHUNKS_IN_SHARD:
        raise UntrustedDataError(f"{name} has {count} chunks in a shard, more than {CHUNKS_IN_SHARD}")
    # Around shards, a further codec unpacks a shard as a whole.
    at_once = inner if len(chain) < 2 else file
    chunk_bytes = prod(at_once) * (size if item is None else codecs.widest_item(chain, item))
    if chunk_bytes > most_of_a_chunk(memory):
        raise MemoryLimitError(
            f"{name} has chunks {_short(at_once)} of {show_bytes(chunk_bytes)}, {advice(memory)}"
        )
    if item is None:
        chunk_bytes = max(chunk_bytes, memory // 32)
    inside = prod(inner) * size if item is not None else chunk_bytes
    return Declared(chunk_bytes, packed_bytes(inside) * count + 16 * count + 4096, count)


def _short(sizes: Sequence[int]) -> str:
    text = " x ".join(str(size) for size in sizes) or "of one value"
    return text if len(text) < 120 else f"{text[:110]} ..."


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _sizes(value: Any, what: str, least: int) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not all(
        isinstance(n, int) and not isinstance(n, bool) and least <= n < 2**63 for n in value
    ):
        raise UntrustedDataError(f"{what} is {str(value)[:80]}, not a list of whole numbers from {least} on")
    if len(value) > DIMENSIONS:
        raise UntrustedDataError(f"{what} has {len(value)} dimensions, more than {DIMENSIONS}")
    return tuple(value)


def _chunks(value: Any, shape: Sequence[int], name: str) -> tuple[int, ...]:
    sizes = _sizes(value, f"{name}: the shape of its chunks", least=0 if 0 in shape else 1)
    if len(sizes) != len(shape):
        raise UntrustedDataError(f"{name} has {len(shape)} dimensions, but chunks of {len(sizes)}")
    if any(size == 0 and length for size, length in zip(sizes, shape, strict=True)):
        raise UntrustedDataError(f"{name} has chunks of size 0")
    return sizes


def _grid(grid: Any, name: str) -> Any:
    if (
        not isinstance(grid, Mapping)
        or grid.get("name") not in _GRIDS
        or not isinstance(grid.get("configuration"), Mapping)
    ):
        raise UntrustedDataError(f"{name} has no regular grid of chunks, and others are not read")
    return grid["configuration"].get("chunk_shape")


def _check_keys(encoding: Any, name: str) -> None:
    if encoding is not None and codecs.named(encoding) not in ("default", "v2"):
        raise UntrustedDataError(
            f"{name} names its chunks in a way that is not read: {str(codecs.named(encoding))[:80]!r}"
        )
