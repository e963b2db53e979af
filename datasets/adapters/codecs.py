"""The codecs that chunks of zarr stores are decoded with: a list of our own, whatever else is installed.

A store names the codecs of each array, and the libraries run whatever is registered under that name:
``pickle`` runs any command, and a package may register others. Only codecs that turn bytes into numbers or
text are allowed, and they are checked from the metadata, before an array is opened.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import UntrustedDataError

COMPRESSORS = frozenset({"blosc", "zstd", "lz4", "zlib", "gzip", "bz2", "lzma"})
CHECKSUMS = frozenset({"crc32", "crc32c", "adler32", "fletcher32", "jenkins_lookup3"})
FILTERS = frozenset({"shuffle", "delta", "fixedscaleoffset", "quantize", "bitround", "astype", "packbits"})
TEXT = "vlen-utf8"
SHARDING = "sharding_indexed"
_NUMCODECS = "numcodecs."
_ARRAY_TO_ARRAY = frozenset({"transpose", *(f"{_NUMCODECS}{name}" for name in FILTERS - {"shuffle"})})
_ARRAY_TO_BYTES = frozenset({"bytes", "endian", TEXT, SHARDING})
_BYTES_TO_BYTES = frozenset(
    {
        "blosc",
        "gzip",
        "zstd",
        "crc32c",
        *(f"{_NUMCODECS}{name}" for name in (*COMPRESSORS, *CHECKSUMS, "shuffle")),
    }
)
_INDEX = frozenset({"bytes", "endian", "crc32c"})
_TYPES = ("dtype", "astype", "encode_dtype", "decode_dtype")
_NUMBERS = "biufcmM"
_LARGEST_ITEM = 16
_LARGEST_TEXT = 2**14
_LZMA_RAW = 3
_V3_NUMBERS = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "uint64": 8,
    "float16": 2,
    "float32": 4,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
    "numpy.datetime64": 8,
    "numpy.timedelta64": 8,
}
_V3_TEXT = ("fixed_length_utf32", "null_terminated_bytes", "fixed_length_ascii")


def item_bytes_v2(dtype: Any, codecs: Sequence[Any], array: str) -> int | None:
    """Return the bytes of an item of a format 2 array, None of text of any length.

    Args:
        dtype: data type as the metadata have it.
        codecs: its filters, then its compressor.
        array: named in errors.

    Raises:
        UntrustedDataError: values that are neither numbers nor text, or a codec that is not allowed.
    """
    names = [codec.get("id") if isinstance(codec, Mapping) else codec for codec in codecs]
    text = dtype == "|O" and names.count(TEXT) == 1
    for name, codec in zip(names, codecs, strict=True):
        if not (
            isinstance(name, str) and (name in COMPRESSORS | CHECKSUMS | FILTERS or (text and name == TEXT))
        ):
            raise _not_allowed(name, array)
        _check_settings(name, codec, array)
    if text:
        if set(names) & FILTERS:
            raise UntrustedDataError(
                f"{array} holds text behind filters for numbers; write it again without filters"
            )
        return None
    return _item_bytes(dtype, array)


def item_bytes_v3(data_type: Any, codecs: Sequence[Any], array: str) -> int | None:
    """Return the bytes of an item of a format 3 array, None of text of any length.

    Args:
        data_type: data type as the metadata have it.
        codecs: its codecs, those within shards included.
        array: named in errors.

    Raises:
        UntrustedDataError: values that are neither numbers nor text, or a codec that is not allowed.
    """
    _check_chain(codecs, array, text=data_type == "string", depth=0)
    if data_type == "string":
        return None
    name = data_type.get("name") if isinstance(data_type, Mapping) else data_type
    if isinstance(name, str) and name in _V3_NUMBERS:
        return _V3_NUMBERS[name]
    if name in _V3_TEXT and isinstance(data_type, Mapping):
        settings = data_type.get("configuration")
        length = settings.get("length_bytes") if isinstance(settings, Mapping) else None
        if isinstance(length, int) and 0 < length <= _LARGEST_TEXT:
            return length
    raise _no_values(data_type, array)


def widest_item(codecs: Sequence[Any], item_bytes: int) -> int:
    """Return the bytes of the widest item while an array is decoded, which filters may widen for a while."""
    names = [str(_settings(codec).get(key)) for codec in codecs for key in _TYPES if key in _settings(codec)]
    return max([item_bytes, *(np.dtype(name).itemsize for name in names)])


def named(codec: Any) -> Any:
    """Return the name of a format 3 codec."""
    return codec.get("name") if isinstance(codec, Mapping) else codec


def sharding_of(codecs: Sequence[Any]) -> Mapping[str, Any] | None:
    """Return the settings of the sharding codec among ``codecs``, None where there is none."""
    return next((_settings(codec) for codec in codecs if named(codec) == SHARDING), None)


def _check_chain(codecs: Any, array: str, *, text: bool, depth: int) -> None:
    if not isinstance(codecs, Sequence) or isinstance(codecs, str) or not codecs:
        raise UntrustedDataError(f"{array} has no list of codecs")
    for codec in codecs:
        name = named(codec)
        if (
            not isinstance(name, str)
            or name not in _ARRAY_TO_ARRAY | _ARRAY_TO_BYTES | _BYTES_TO_BYTES
            or (name == TEXT and not text)
        ):
            raise _not_allowed(name, array)
        _check_settings(name.removeprefix(_NUMCODECS), codec, array)
    if (inner := sharding_of(codecs)) is not None:
        if depth:
            raise UntrustedDataError(f"{array} has shards within shards, which are not read")
        _check_chain(inner.get("codecs"), array, text=text, depth=depth + 1)
        for name in _index_codecs(inner, array):
            if name not in _INDEX:
                raise _not_allowed(name, array)


def _index_codecs(settings: Mapping[str, Any], array: str) -> Iterator[Any]:
    codecs = settings.get("index_codecs", ["bytes"])
    if not isinstance(codecs, Sequence) or isinstance(codecs, str):
        raise UntrustedDataError(f"{array} has no list of codecs of its shards' index")
    return (named(codec) for codec in codecs)


def _settings(codec: Any) -> Mapping[str, Any]:
    """Return the settings of a codec: of format 2 the whole, of format 3 its configuration."""
    if not isinstance(codec, Mapping):
        return {}
    settings = codec if "id" in codec else codec.get("configuration", {})
    return settings if isinstance(settings, Mapping) else {}


def _check_settings(name: str, codec: Any, array: str) -> None:
    settings = _settings(codec)
    for key in _TYPES:
        if settings.get(key) is not None:
            _item_bytes(settings[key], f"{array}, in its codec {name!r},")
    if name == "lzma" and (settings.get("format") == _LZMA_RAW or settings.get("filters") is not None):
        raise UntrustedDataError(
            f"{array} is packed by raw lzma, whose memory is not bounded; write it again with blosc or zstd"
        )
    if (
        name == "shuffle"
        and (size := settings.get("elementsize")) is not None
        and not (isinstance(size, int) and 0 < size <= _LARGEST_TEXT)
    ):
        raise UntrustedDataError(f"{array} is shuffled by {size!r} bytes, which is no size of a value")


def _item_bytes(dtype: Any, array: str) -> int:
    try:
        parsed = np.dtype(dtype) if isinstance(dtype, str) and len(dtype) < 64 else None
    except (TypeError, ValueError):
        parsed = None
    if parsed is not None and parsed.subdtype is None and parsed.names is None:
        if parsed.kind in _NUMBERS and 0 < parsed.itemsize <= _LARGEST_ITEM:
            return parsed.itemsize
        if parsed.kind in "SU" and 0 < parsed.itemsize <= _LARGEST_TEXT:
            return parsed.itemsize
    raise _no_values(dtype, array)


def _no_values(dtype: Any, array: str) -> UntrustedDataError:
    what = "Python objects" if dtype == "|O" else f"values of the type {str(dtype)[:80]!r}"
    return UntrustedDataError(
        f"{array} holds {what}, which are neither numbers nor text; write it again without them"
    )


def _not_allowed(name: Any, array: str) -> UntrustedDataError:
    known = ", ".join(sorted(COMPRESSORS))
    return UntrustedDataError(
        f"{array} is packed by the codec {str(name)[:80]!r}, which is not run on files of others; write it again with one of {known}"
    )
