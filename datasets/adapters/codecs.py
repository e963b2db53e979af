"""Allow-list of the zarr codecs that may decode chunks of an untrusted store.

A store names the codecs of each array, and the zarr libraries run whatever is registered under a name:
``pickle`` executes arbitrary code, and any package may register further codecs. Only codecs that turn bytes
into numbers or text are allowed; they are checked in the metadata, before an array is opened.
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
_INDEX_CODECS = frozenset({"bytes", "endian", "crc32c"})
_TYPES = ("dtype", "astype", "encode_dtype", "decode_dtype")
_NUMBERS = "biufcmM"
_LARGEST_ITEM = 16  # bytes of a number
_LARGEST_TEXT = 2**14  # bytes of a text of fixed length
_LZMA_RAW = 3  # ``lzma.FORMAT_RAW``
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


def item_size_v2(dtype: Any, codecs: Sequence[Any], array: str) -> int | None:
    """Return the item size [bytes] of a zarr format 2 array, or None for strings of variable length.

    Args:
        dtype: data type, as in the metadata.
        codecs: filters, then the compressor.
        array: name of the array, for error messages.

    Raises:
        UntrustedDataError: the values are neither numbers nor text, or a codec is not allowed.
    """
    names = [codec.get("id") if isinstance(codec, Mapping) else codec for codec in codecs]
    text = dtype == "|O" and names.count(TEXT) == 1
    for name, codec in zip(names, codecs, strict=True):
        if not (
            isinstance(name, str) and (name in COMPRESSORS | CHECKSUMS | FILTERS or (text and name == TEXT))
        ):
            raise _codec_not_allowed(name, array)
        _check_configuration(name, codec, array)
    if text:
        if set(names) & FILTERS:
            raise UntrustedDataError(
                f"{array} contains text with filters for numbers; rewrite it without filters"
            )
        return None
    return _item_size(dtype, array)


def item_size_v3(data_type: Any, codecs: Sequence[Any], array: str) -> int | None:
    """Return the item size [bytes] of a zarr format 3 array, or None for strings of variable length.

    Args:
        data_type: data type, as in the metadata.
        codecs: codecs, including those within shards.
        array: name of the array, for error messages.

    Raises:
        UntrustedDataError: the values are neither numbers nor text, or a codec is not allowed.
    """
    _check_chain(codecs, array, text=data_type == "string", depth=0)
    if data_type == "string":
        return None
    name = data_type.get("name") if isinstance(data_type, Mapping) else data_type
    if isinstance(name, str) and name in _V3_NUMBERS:
        return _V3_NUMBERS[name]
    if name in _V3_TEXT and isinstance(data_type, Mapping):
        configuration = data_type.get("configuration")
        length = configuration.get("length_bytes") if isinstance(configuration, Mapping) else None
        if isinstance(length, int) and 0 < length <= _LARGEST_TEXT:
            return length
    raise _unsupported_type(data_type, array)


def max_item_size(codecs: Sequence[Any], item_size: int) -> int:
    """Return the largest item size [bytes] during decoding, which filters may increase temporarily.

    Args:
        codecs: codecs, as in the metadata.
        item_size: item size of the array [bytes].
    """
    names = [
        str(_configuration(codec).get(key))
        for codec in codecs
        for key in _TYPES
        if key in _configuration(codec)
    ]
    return max([item_size, *(np.dtype(name).itemsize for name in names)])


def codec_name(codec: Any) -> Any:
    """Return the name of a zarr format 3 codec."""
    return codec.get("name") if isinstance(codec, Mapping) else codec


def sharding_of(codecs: Sequence[Any]) -> Mapping[str, Any] | None:
    """Return the configuration of the sharding codec among ``codecs``, or None without sharding."""
    return next((_configuration(codec) for codec in codecs if codec_name(codec) == SHARDING), None)


def _check_chain(codecs: Any, array: str, *, text: bool, depth: int) -> None:
    if not isinstance(codecs, Sequence) or isinstance(codecs, str) or not codecs:
        raise UntrustedDataError(f"{array} has no list of codecs")
    for codec in codecs:
        name = codec_name(codec)
        if (
            not isinstance(name, str)
            or name not in _ARRAY_TO_ARRAY | _ARRAY_TO_BYTES | _BYTES_TO_BYTES
            or (name == TEXT and not text)
        ):
            raise _codec_not_allowed(name, array)
        _check_configuration(name.removeprefix(_NUMCODECS), codec, array)
    if (inner := sharding_of(codecs)) is not None:
        if depth:
            raise UntrustedDataError(f"{array} has nested shards, which are not supported")
        _check_chain(inner.get("codecs"), array, text=text, depth=depth + 1)
        for name in _index_codec_names(inner, array):
            if name not in _INDEX_CODECS:
                raise _codec_not_allowed(name, array)


def _index_codec_names(configuration: Mapping[str, Any], array: str) -> Iterator[Any]:
    codecs = configuration.get("index_codecs", ["bytes"])
    if not isinstance(codecs, Sequence) or isinstance(codecs, str):
        raise UntrustedDataError(f"{array} has no list of index codecs for its shards")
    return (codec_name(codec) for codec in codecs)


def _configuration(codec: Any) -> Mapping[str, Any]:
    """Return the configuration of a codec: all of a format 2 codec, a member of a format 3 codec."""
    if not isinstance(codec, Mapping):
        return {}
    configuration = codec if "id" in codec else codec.get("configuration", {})
    return configuration if isinstance(configuration, Mapping) else {}


def _check_configuration(name: str, codec: Any, array: str) -> None:
    configuration = _configuration(codec)
    for key in _TYPES:
        if configuration.get(key) is not None:
            _item_size(configuration[key], f"{array}, in its codec {name!r},")
    if name == "lzma" and (
        configuration.get("format") == _LZMA_RAW or configuration.get("filters") is not None
    ):
        raise UntrustedDataError(
            f"{array} is compressed by raw lzma, whose memory use is unbounded; rewrite it with blosc or zstd"
        )
    if (
        name == "shuffle"
        and (size := configuration.get("elementsize")) is not None
        and not (isinstance(size, int) and 0 < size <= _LARGEST_TEXT)
    ):
        raise UntrustedDataError(
            f"{array} is shuffled with the element size {size!r}, which is not the size of a value"
        )


def _item_size(dtype: Any, array: str) -> int:
    try:
        parsed = np.dtype(dtype) if isinstance(dtype, str) and len(dtype) < 64 else None
    except (TypeError, ValueError):
        parsed = None
    if parsed is not None and parsed.subdtype is None and parsed.names is None:
        if parsed.kind in _NUMBERS and 0 < parsed.itemsize <= _LARGEST_ITEM:
            return parsed.itemsize
        if parsed.kind in "SU" and 0 < parsed.itemsize <= _LARGEST_TEXT:
            return parsed.itemsize
    raise _unsupported_type(dtype, array)


def _unsupported_type(dtype: Any, array: str) -> UntrustedDataError:
    what = "Python objects" if dtype == "|O" else f"values of the type {str(dtype)[:80]!r}"
    return UntrustedDataError(
        f"{array} contains {what}, which are neither numbers nor text; rewrite the store without them"
    )


def _codec_not_allowed(name: Any, array: str) -> UntrustedDataError:
    return UntrustedDataError(
        f"{array} is encoded by the codec {str(name)[:80]!r}, which is not allowed for untrusted stores; "
        f"rewrite it with one of {', '.join(sorted(COMPRESSORS))}"
    )
