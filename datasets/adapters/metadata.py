"""Validation of zarr metadata before the zarr library reads them: size, codecs, shapes and chunks."""

import json
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

from ..errors import MemoryLimitError, UntrustedDataError
from ..memory import format_bytes
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
    DeclaredChunks,
    limit_advice,
    max_chunk_bytes,
    max_compressed_bytes,
)

FILES = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
_GRIDS = ("regular",)


def check(source: str, key: str, value: bytes, *, memory: int) -> dict[str, DeclaredChunks]:
    """Validate one metadata file and return the chunk sizes that its arrays declare, by path in the store.

    Args:
        source: store, for error messages.
        key: path of the file in the store.
        value: contents of the file.
        memory: memory limit [bytes].

    Raises:
        UntrustedDataError: the metadata name a codec that is not allowed, or exceed a limit.
        ValueError: the file is not JSON.
    """
    check_size(source, key, len(value))
    try:
        document = json.loads(value)
    except RecursionError:
        raise _too_deep(source, key) from None
    except ValueError as error:  # includes bytes that are not text, and numbers of thousands of digits
        raise ValueError(f"{key} is not JSON: {error}") from error
    _check_nesting(document, source, key)
    folder, _, name = key.rpartition("/")
    arrays: dict[str, DeclaredChunks] = {}
    for path, array in _arrays(document, folder, name):
        if len(arrays) == ARRAYS:
            raise UntrustedDataError(
                f"{source}: {key} describes more than {ARRAYS} arrays; open a store with fewer"
            )
        arrays[path] = describe(array, f"{source}: the array {path or '/'}", memory)
    return arrays


def check_size(source: str, key: str, size: int) -> None:
    """Raise ``UntrustedDataError`` if a metadata file is too large to be read."""
    if size > METADATA_BYTES:
        raise UntrustedDataError(
            f"{source}: its metadata {key} are {format_bytes(size)} long, "
            f"more than {format_bytes(METADATA_BYTES)}"
        )


def _too_deep(source: str, key: str) -> UntrustedDataError:
    return UntrustedDataError(f"{source}: its metadata {key} are nested more than {NESTING} deep")


def _check_nesting(document: Any, source: str, key: str) -> None:
    level = [document]
    depth = 0
    while level := [value for value in level if isinstance(value, dict | list)]:
        depth += 1
        if depth > NESTING:
            raise _too_deep(source, key)
        level = [inner for value in level for inner in (value.values() if isinstance(value, dict) else value)]


def _arrays(document: Any, folder: str, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield path and metadata of each array in a metadata file, including consolidated metadata."""
    if not isinstance(document, Mapping):
        if name in (".zattrs", ".zgroup"):
            return
        raise ValueError(f"{name} contains a JSON {type(document).__name__}, expected an object")
    if name == ".zarray" or (name == "zarr.json" and document.get("node_type") == "array"):
        yield folder, document
    consolidated = None
    if name == ".zmetadata":
        consolidated = document.get("metadata")
    elif name == "zarr.json":
        consolidated = _consolidated(document)
    for key, value in consolidated.items() if isinstance(consolidated, Mapping) else ():
        path = f"{folder}/{key}" if folder else key
        if name == ".zmetadata":
            parent, _, last = path.rpartition("/")
            if last == ".zarray":
                yield from _arrays(value, parent, last)
        else:
            yield from _arrays(value, path, name)


def _consolidated(document: Mapping[str, Any]) -> Any:
    """Return the consolidated metadata in those of a group of zarr format 3, or None."""
    inside = document.get("consolidated_metadata")
    return inside.get("metadata") if isinstance(inside, Mapping) else None


def describe(array: Mapping[str, Any], name: str, memory: int) -> DeclaredChunks:
    """Return the chunk sizes that an array declares.

    Args:
        array: metadata of the array, of zarr format 2 or 3.
        name: name of the array, for error messages.
        memory: memory limit [bytes].

    Raises:
        UntrustedDataError: the array cannot be read, or would take too much memory.
    """
    shape = _sizes(array.get("shape"), f"{name}: its shape", least=0)
    if array.get("zarr_format") == 2:
        chain = _listed(array.get("filters"))
        if array.get("compressor") is not None:
            chain.append(array["compressor"])
        item = codecs.item_size_v2(array.get("dtype"), chain, name)
        sharding = None
        chunk = _chunks(array.get("chunks"), shape, name)
    else:
        if array.get("zarr_format") != 3:
            raise UntrustedDataError(
                f"{name} has zarr format {array.get('zarr_format')!r}; formats 2 and 3 are supported"
            )
        chain = _listed(array.get("codecs"))
        item = codecs.item_size_v3(array.get("data_type"), chain, name)
        sharding = codecs.sharding_of(chain)
        if array.get("storage_transformers"):
            raise UntrustedDataError(f"{name} has storage transformers, which are not supported")
        chunk = _chunks(_grid(array.get("chunk_grid"), name), shape, name)
        _check_key_encoding(array.get("chunk_key_encoding"), name)
    inner = _chunks(sharding.get("chunk_shape"), shape, name) if sharding is not None else chunk
    if any(whole % part for whole, part in zip(chunk, inner, strict=True)):
        raise UntrustedDataError(f"{name}: its shards {chunk} are not multiples of its chunks {inner}")
    return _declare(shape, chunk, inner, item=item, chain=chain, name=name, memory=memory)


def _declare(
    shape: Sequence[int],
    file: Sequence[int],
    inner: Sequence[int],
    *,
    item: int | None,
    chain: Sequence[Any],
    name: str,
    memory: int,
) -> DeclaredChunks:
    """Return the chunk sizes of an array, after comparing them with the limits.

    Args:
        shape: shape of the array.
        file: shape of the part of the array in one file.
        inner: shape of a chunk within it.
        item: bytes of a value, or None for strings.
        chain: codecs.
        name: name of the array, for error messages.
        memory: memory limit [bytes].
    """
    size = STRING_BYTES if item is None else item
    if prod(shape) * size > ARRAY_BYTES:
        raise UntrustedDataError(f"{name} has the shape {_short(shape)}, larger than any real store")
    for length, part in zip(shape, inner, strict=True):
        if part and -(-length // part) > CHUNKS_ALONG:
            raise UntrustedDataError(
                f"{name} of shape {_short(shape)} has chunks of shape {_short(inner)}; "
                f"more than {CHUNKS_ALONG} chunks along an axis are not supported"
            )
    count = prod(whole // part for whole, part in zip(file, inner, strict=True) if part)
    if count > CHUNKS_IN_SHARD:
        raise UntrustedDataError(f"{name} has {count} chunks in a shard, more than {CHUNKS_IN_SHARD}")
    # A second codec next to sharding decodes a shard as a whole.
    decoded = inner if len(chain) < 2 else file
    chunk_bytes = prod(decoded) * (size if item is None else codecs.max_item_size(chain, item))
    if chunk_bytes > max_chunk_bytes(memory):
        raise MemoryLimitError(
            f"{name} has chunks {_short(decoded)} of {format_bytes(chunk_bytes)}, {limit_advice(memory)}"
        )
    if item is None:
        chunk_bytes = max(chunk_bytes, memory // 32)
    inside = prod(inner) * size if item is not None else chunk_bytes
    return DeclaredChunks(chunk_bytes, max_compressed_bytes(inside) * count + 16 * count + 4096, count)


def _short(sizes: Sequence[int]) -> str:
    text = " x ".join(str(size) for size in sizes) or "(scalar)"
    return text if len(text) < 120 else f"{text[:110]} ..."


def _listed(value: Any) -> list[Any]:
    """Return a list in metadata; empty if it is not one."""
    return list(value) if isinstance(value, list | tuple) else []


def _sizes(value: Any, what: str, least: int) -> tuple[int, ...]:
    """Return a list of sizes in metadata, each at least ``least``."""
    if not isinstance(value, list | tuple) or not all(
        isinstance(n, int) and not isinstance(n, bool) and least <= n < 2**63 for n in value
    ):
        raise UntrustedDataError(f"{what} is {str(value)[:80]}, expected a list of integers >= {least}")
    if len(value) > DIMENSIONS:
        raise UntrustedDataError(f"{what} has {len(value)} dimensions, more than {DIMENSIONS}")
    return tuple(value)


def _chunks(value: Any, shape: Sequence[int], name: str) -> tuple[int, ...]:
    """Return the shape of chunks in metadata."""
    sizes = _sizes(value, f"{name}: the shape of its chunks", least=0 if 0 in shape else 1)
    if len(sizes) != len(shape):
        raise UntrustedDataError(f"{name} has {len(shape)} dimensions, but chunks with {len(sizes)}")
    if any(size == 0 and length for size, length in zip(sizes, shape, strict=True)):
        raise UntrustedDataError(f"{name} has chunks of size 0")
    return sizes


def _grid(grid: Any, name: str) -> Any:
    """Return the shape of chunks in the chunk grid of an array, unchecked."""
    if (
        not isinstance(grid, Mapping)
        or grid.get("name") not in _GRIDS
        or not isinstance(grid.get("configuration"), Mapping)
    ):
        raise UntrustedDataError(f"{name} has no regular chunk grid; other grids are not supported")
    return grid["configuration"].get("chunk_shape")


def _check_key_encoding(encoding: Any, name: str) -> None:
    if encoding is not None and codecs.codec_name(encoding) not in ("default", "v2"):
        raise UntrustedDataError(
            f"{name} has an unsupported chunk key encoding {str(codecs.codec_name(encoding))[:80]!r}"
        )
