"""Untrusted zarr stores run no code, read no other files, and do not exceed the memory limit."""

import gzip
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import warnings
import zlib

import dask
import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr
from typer.testing import CliRunner

from fourcaster.datasets.adapters import metadata
from fourcaster.datasets.adapters.opening import open_group, open_lazily, open_raw
from fourcaster.datasets.adapters.remote import open_source
from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.adapters.unpacking import (
    ChunkSizeError,
    decode_bounded,
    decode_texts,
    zstd_decoded_size,
)
from fourcaster.datasets.errors import UntrustedDataError
from fourcaster.datasets.store.direct import DirectFields
from fourcaster.forecast.cli.main import app

MEMORY = 2**31
VALUES = np.random.default_rng(5).normal(280, 5, (12, 9, 16)).astype("f4")


def make(path, zarr_format=2, consolidated=False, encoding=None, extra=None):
    times = np.datetime64("2019-01-01", "ns") + np.arange(12) * np.timedelta64(6, "h")
    coords = {
        "time": times,
        "latitude": ("latitude", np.linspace(80, -80, 9), {"units": "degrees_north"}),
        "longitude": ("longitude", np.arange(0, 360, 22.5), {"units": "degrees_east"}),
    }
    dataset = xr.Dataset(
        {"air": (("time", "latitude", "longitude"), VALUES, {"units": "K"})}, coords | (extra or {})
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = {"air": {"chunks": (1, 9, 16)} | (encoding or {})}
        dataset.to_zarr(path, zarr_format=zarr_format, consolidated=consolidated, encoding=settings)
    return path


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def call(*words):
    result = CliRunner().invoke(app, [str(w) for w in words])
    return result.exit_code, " ".join(result.output.split())


def read(path, **options):
    with open_lazily(str(path), **options) as dataset:
        return dataset.load()


@pytest.fixture
def store(tmp_path):
    return make(tmp_path / "a.zarr")


class Command:
    """An object that runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def add_object_array(store, filters, marker, dtype="|O", compressor=None):
    """Add an array that runs a command when it is decoded by pickle."""
    (store / "station").mkdir()
    array = {
        "zarr_format": 2,
        "shape": [2],
        "chunks": [2],
        "dtype": dtype,
        "compressor": compressor,
        "filters": filters,
        "fill_value": None,
        "order": "C",
    }
    (store / "station" / ".zarray").write_text(json.dumps(array))
    (store / "station" / ".zattrs").write_text('{"_ARRAY_DIMENSIONS": ["station"]}')
    (store / "station" / "0").write_bytes(pickle.dumps(np.array([Command(marker)] * 2, dtype=object)))


@pytest.mark.parametrize(
    "filters",
    [
        [{"id": "vlen-utf8"}, {"id": "pickle"}],
        [{"id": "pickle"}],
        [{"id": "json2"}],
        [{"id": "msgpack2"}],
        [{"id": "vlen-bytes"}],
        [{"id": "vlen-array", "dtype": "<f4"}],
        [{"id": "categorize", "labels": ["a"], "dtype": "|O"}],
        None,
    ],
)
@pytest.mark.parametrize("consolidated", [False, True])
def test_object_arrays_are_rejected_and_run_no_code(store, tmp_path, filters, consolidated):
    add_object_array(store, filters, tmp_path / "ran")
    if consolidated:
        names = [f.relative_to(store) for f in store.rglob(".z*")]
        document = {
            "zarr_consolidated_format": 1,
            "metadata": {str(n): json.loads((store / n).read_text()) for n in names},
        }
        (store / ".zmetadata").write_text(json.dumps(document))
    code, text = call("inspect", store)
    assert code == 2 and "station" in text and ("pickle" in text or "rewrite" in text)
    assert call("ingest", store, "-o", tmp_path / "out.zarr")[0] == 2
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out.zarr").exists()


def test_pickle_as_compressor_of_numbers_is_rejected(store, tmp_path):
    add_object_array(store, None, tmp_path / "ran", "<f4", {"id": "pickle"})
    with pytest.raises(UntrustedDataError, match=r"array station is encoded by the codec 'pickle'"):
        open_lazily(str(store))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["bytes_bytes", "inner", "index", "array_bytes"])
def test_codecs_of_installed_packages_are_not_run(tmp_path, kind, monkeypatch):
    store = make(tmp_path / "a.zarr", 3)
    requested = []
    monkeypatch.setattr("zarr.registry.get_codec_class", lambda name, *_: requested.append(name))
    bytes_, own = (
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "own_codec", "configuration": {}},
    )
    shards = {"chunk_shape": [1, 9, 16], "codecs": [bytes_], "index_codecs": [bytes_, {"name": "crc32c"}]}
    codecs = {
        "bytes_bytes": [bytes_, own],
        "array_bytes": [own],
        "inner": [{"name": "sharding_indexed", "configuration": shards | {"codecs": [bytes_, own]}}],
        "index": [{"name": "sharding_indexed", "configuration": shards | {"index_codecs": [bytes_, own]}}],
    }
    edit(store / "air" / "zarr.json", codecs=codecs[kind])
    with pytest.raises(UntrustedDataError, match="'own_codec', which is not allowed"):
        open_lazily(str(store))
    assert "own_codec" not in requested


@pytest.mark.parametrize("group", ["statistics", "climatology"])
def test_nested_groups_are_checked(tmp_path, group):
    from fourcaster.datasets.adapters.opening import open_zarr

    make(tmp_path / "a.zarr", 3)
    make(tmp_path / "a.zarr" / group, 3)
    edit(tmp_path / "a.zarr" / group / "air" / "zarr.json", codecs=[{"name": "own_codec"}])
    with pytest.raises(UntrustedDataError, match=f"{group}/air is encoded by the codec 'own_codec'"):
        open_zarr(tmp_path / "a.zarr", group=group)


@pytest.mark.parametrize(
    "settings",
    [
        {"compressor": numcodecs.Blosc("zstd", 5, 2)},
        {"compressor": numcodecs.Zstd(1)},
        {"compressor": numcodecs.LZ4()},
        {"compressor": numcodecs.Zlib()},
        {"compressor": numcodecs.GZip()},
        {"compressor": numcodecs.BZ2()},
        {"compressor": numcodecs.LZMA()},
        {"compressor": None},
        {"compressor": numcodecs.Zlib(), "filters": [numcodecs.Shuffle(4)]},
        {"compressor": numcodecs.Blosc(), "filters": [numcodecs.Delta("<f4")]},
        {"compressor": numcodecs.Blosc(), "filters": [numcodecs.FixedScaleOffset(250, 1e4, "<f4", "<i4")]},
        {"compressor": numcodecs.Zlib(), "filters": [numcodecs.Quantize(2, "<f4")]},
        {"compressor": numcodecs.Zlib(), "filters": [numcodecs.BitRound(20)]},
        {"compressor": numcodecs.Zlib(), "filters": [numcodecs.Fletcher32()]},
        {"compressor": None, "filters": [numcodecs.AsType("<f8", "<f4")]},
    ],
    ids=str,
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_format_2_codecs_decode_as_the_library_does(tmp_path, settings, order):
    path = make(tmp_path / "a.zarr")
    shutil.rmtree(path / "air")
    array = zarr.create_array(
        path,
        name="air",
        shape=(12, 9, 16),
        chunks=(5, 9, 16),
        dtype="<f4",
        zarr_format=2,
        order=order,
        compressors=settings["compressor"],
        filters=settings.get("filters"),
        fill_value=None,
    )
    array[:] = VALUES
    array.attrs["_ARRAY_DIMENSIONS"] = ["time", "latitude", "longitude"]
    np.testing.assert_array_equal(read(path)["air"].values, zarr.open_array(path / "air")[:])
    if order == "C":  # in order F, the library does not decode its own output with some filters
        np.testing.assert_allclose(open_raw(str(path))["air"].values, VALUES, atol=0.01)


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not")
@pytest.mark.parametrize("shards", [None, (4, 9, 16)])
@pytest.mark.parametrize(
    ("filters", "compressors"),
    [
        ((), zarr.codecs.BloscCodec(cname="lz4")),
        ((), (zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec())),
        ((), zarr.codecs.GzipCodec()),
        ((zarr.codecs.TransposeCodec(order=(2, 0, 1)),), zarr.codecs.ZstdCodec()),
        ((), None),
        ([("Delta", {"dtype": "<f4"})], [("Zlib", {})]),
        ([("BitRound", {"keepbits": 20})], [("Shuffle", {"elementsize": 4}), ("LZ4", {})]),
        (
            [("FixedScaleOffset", {"offset": 250, "scale": 1e4, "dtype": "<f4", "astype": "<i4"})],
            zarr.codecs.ZstdCodec(),
        ),
    ],
)
def test_format_3_codecs_decode_as_the_library_does(tmp_path, shards, filters, compressors):
    path = make(tmp_path / "a.zarr", 3)
    shutil.rmtree(path / "air")
    filters, compressors = (
        [getattr(zarr.codecs.numcodecs, name)(**settings) for name, settings in codecs]
        if isinstance(codecs, list)
        else codecs
        for codecs in (filters, compressors)
    )
    zarr.create_array(
        path,
        name="air",
        shape=(12, 9, 16),
        chunks=(2, 9, 16),
        shards=shards,
        dtype="<f4",
        filters=filters,
        compressors=compressors,
        dimension_names=["time", "latitude", "longitude"],
    )[:] = VALUES
    expected = zarr.open_array(path / "air")[:]
    np.testing.assert_array_equal(read(path)["air"].values, expected)
    np.testing.assert_array_equal(open_group(path)["air"][3:9], expected[3:9])
    np.testing.assert_allclose(expected, VALUES, atol=0.01)


@pytest.mark.filterwarnings("ignore:The data type")
@pytest.mark.filterwarnings("ignore:The codec")
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", [object, "U6", "S6"])
def test_string_coordinates_are_read(tmp_path, zarr_format, dtype):
    texts = np.array(["era5", "", "era5t"]).astype(dtype)
    path = make(tmp_path / "a.zarr", zarr_format, extra={"expver": ("station", texts)})
    assert read(path)["expver"].values.astype("O").astype("U").tolist() == ["era5", "", "era5t"]
    assert call("ingest", path, "-o", tmp_path / "out.zarr")[0] == 0


@pytest.mark.parametrize(
    "packed", [b"", b"\2\0\0\0", b"\2\0\0\0\1\0\0\0a\xff\xff\xff\xff", b"\xff\xff\xff\xff" * 4]
)
def test_damaged_strings_are_rejected(packed):
    with pytest.raises(ChunkSizeError):
        decode_texts(np.frombuffer(packed, "u1"), 2)


CODECS = {
    "gzip": numcodecs.GZip(),
    "zlib": numcodecs.Zlib(),
    "bz2": numcodecs.BZ2(),
    "lzma": numcodecs.LZMA(preset=0),
    "zstd": numcodecs.Zstd(),
    "lz4": numcodecs.LZ4(),
    "blosc": numcodecs.Blosc("lz4", 5, 0),
}


@pytest.mark.parametrize("name", CODECS)
def test_data_beyond_the_declared_size_are_rejected(name):
    codec = CODECS[name]
    data = np.arange(2000, dtype="u1").tobytes()
    packed = codec.encode(np.frombuffer(data, "u1"))
    assert bytes(decode_bounded(codec, packed, len(data))) == data
    with pytest.raises((ChunkSizeError, ValueError)):
        decode_bounded(codec, codec.encode(bytes(2**20)), 2000)


def test_a_truncated_blosc_chunk_is_never_decoded():
    codec = numcodecs.Blosc()
    encoded = np.frombuffer(codec.encode(np.arange(1000.0)), "u1")
    assert len(decode_bounded(codec, encoded, 8000)) == 8000
    for length in range(len(encoded)):
        with pytest.raises(ChunkSizeError, match="cut off"):
            decode_bounded(codec, encoded[:length], 8000)


def test_several_frames_do_not_exceed_the_size_of_the_first():
    one = numcodecs.Zstd().encode(bytes(2000))
    with pytest.raises(ValueError):
        decode_bounded(numcodecs.Zstd(), bytes(one) + bytes(numcodecs.Zstd().encode(bytes(2**22))), 2000)
    assert (
        zstd_decoded_size(bytes(one)) == 2000
        and zstd_decoded_size(bytes(one) * 2) is None
        and zstd_decoded_size(bytes(one)[:-1]) is None
    )
    two = gzip.compress(bytes(1000)) * 2
    assert bytes(decode_bounded(numcodecs.GZip(), two, 2000)) == bytes(2000)
    with pytest.raises(ChunkSizeError):
        decode_bounded(numcodecs.GZip(), gzip.compress(bytes(1000)) * 20, 2000)


ARRAY = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [12, 9, 16],
    "data_type": "float32",
    "fill_value": 0,
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 9, 16]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "codecs": [{"name": "bytes"}],
}
V2 = {
    "zarr_format": 2,
    "shape": [12, 9],
    "chunks": [1, 9],
    "dtype": "<f4",
    "compressor": None,
    "filters": None,
    "fill_value": 0,
    "order": "C",
}


def grid(*sizes):
    return {"name": "regular", "configuration": {"chunk_shape": list(sizes)}}


def sharded(*chunk, codecs=None):
    inner = [{"name": "bytes"}] if codecs is None else list(codecs)
    settings = {"chunk_shape": list(chunk), "codecs": inner, "index_codecs": [{"name": "bytes"}]}
    return [{"name": "sharding_indexed", "configuration": settings}]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (
            ARRAY | {"chunk_grid": grid(1, 36000, 36000)},
            r"chunks 1 x 36000 x 36000 of 4.83 GiB, more than a limit of 2 GiB",
        ),
        (ARRAY | {"chunk_grid": grid(12, 9, 0)}, "list of integers >= 1"),
        (ARRAY | {"chunk_grid": grid(12, 9)}, "3 dimensions, but chunks with 2"),
        (ARRAY | {"chunk_grid": {"name": "rectilinear", "configuration": {}}}, "no regular chunk grid"),
        (ARRAY | {"shape": [-1, 9, 16]}, "list of integers >= 0"),
        (ARRAY | {"shape": [1e9, 9, 16]}, "list of integers >= 0"),
        (ARRAY | {"shape": [True, 9, 16]}, "list of integers >= 0"),
        (ARRAY | {"shape": 12}, "list of integers >= 0"),
        (ARRAY | {"shape": [10**18, 10**9, 16]}, "larger than any real store"),
        (ARRAY | {"shape": [10**9, 9, 16]}, "more than 10000000 chunks along an axis"),
        (ARRAY | {"shape": [1] * 40, "chunk_grid": grid(*[1] * 40)}, "40 dimensions"),
        (
            ARRAY | {"chunk_grid": grid(2**22, 9, 16), "codecs": sharded(1, 9, 16)},
            "4194304 chunks in a shard",
        ),
        (ARRAY | {"chunk_grid": grid(5, 9, 16), "codecs": sharded(2, 9, 16)}, "not multiples"),
        (ARRAY | {"codecs": sharded(0, 9, 16)}, "list of integers >= 1"),
        (ARRAY | {"codecs": []}, "no list of codecs"),
        (ARRAY | {"codecs": sharded(1, 9, 16, codecs=sharded(1, 9, 16))}, "nested shards"),
        (ARRAY | {"data_type": {"name": "structured", "configuration": {}}}, "neither numbers nor text"),
        (ARRAY | {"data_type": "variable_length_bytes"}, "neither numbers nor text"),
        (
            ARRAY | {"data_type": {"name": "fixed_length_utf32", "configuration": {"length_bytes": 2**40}}},
            "neither numbers nor text",
        ),
        (ARRAY | {"storage_transformers": [{"name": "x"}]}, "storage transformers"),
        (ARRAY | {"chunk_key_encoding": {"name": "own"}}, "unsupported chunk key encoding"),
        (ARRAY | {"zarr_format": 4}, "format 4"),
        (V2 | {"dtype": [["a", "<f4"]]}, "neither numbers nor text"),
        (V2 | {"dtype": "|V9"}, "neither numbers nor text"),
        (V2 | {"dtype": "<U99999999"}, "neither numbers nor text"),
        (V2 | {"filters": [{"id": "delta", "dtype": "|V100000000"}]}, "neither numbers nor text"),
        (V2 | {"filters": [{"id": "shuffle", "elementsize": -4}]}, "not the size of a value"),
        (V2 | {"compressor": {"id": "lzma", "format": 3, "filters": []}}, "raw lzma"),
        (V2 | {"compressor": "blosc", "filters": [3]}, "codec '3'"),
        (V2 | {"chunks": [1, 10**10]}, "more than a limit"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_arrays_are_rejected_by_their_metadata(array, reason):
    with pytest.raises(UntrustedDataError, match=f"^far: the array air.*{reason}"):
        metadata.check(
            "far",
            f"air/{'.zarray' if array['zarr_format'] == 2 else 'zarr.json'}",
            json.dumps(array).encode(),
            memory=MEMORY,
        )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"[" * 100_000, "nested more than"),
        (b'{"attributes": ' + b'{"a":' * 200 + b"1" + b"}" * 201, "nested more than"),
        (b" " * (2**24 + 1), "long, more than 16 MiB"),
        (b"\xff\xfe", "not JSON"),
        (b'{"shape": [1', "not JSON"),
        (b"[]", "expected an object"),
        (b"9" * 5000, "not JSON"),
        (
            json.dumps(
                {"consolidated_metadata": {"metadata": {str(i): ARRAY for i in range(5001)}}}
            ).encode(),
            "more than 5000 arrays",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_metadata_files_are_rejected(value, reason):
    with pytest.raises(ValueError, match=reason):
        metadata.check("far", "zarr.json", value, memory=MEMORY)


WRONG_TYPES = {
    "checksum": lambda m: m["codecs"][-1].update(
        name="zstd", configuration={"level": 0, "checksum": ["2001-01-03", None]}
    ),
    "level": lambda m: m["codecs"][-1].update(name="zstd", configuration={"level": {}, "checksum": False}),
    "endian": lambda m: m["codecs"][0].update(configuration={"endian": 5}),
    "keys": lambda m: m.update(chunk_key_encoding=5),
    "key separator": lambda m: m.update(
        chunk_key_encoding={"name": "default", "configuration": {"separator": []}}
    ),
    "grid": lambda m: m.update(chunk_grid=[]),
    "dimension names": lambda m: m.update(dimension_names=3),
    "names that are numbers": lambda m: m.update(dimension_names=[1] * len(m["shape"])),
    "fill value": lambda m: m.update(fill_value={}),
    "attributes": lambda m: m.update(attributes=[1]),
    "transformers": lambda m: m.update(storage_transformers=[{"name": "x"}]),
    "dimension names of an attribute": lambda m: m["attributes"].update(
        _ARRAY_DIMENSIONS=5, coordinates=5, units=[{}]
    ),
}


@pytest.mark.parametrize("kind", WRONG_TYPES)
@pytest.mark.parametrize("part", ["t2m", "statistics/t2m_mean", "time"])
def test_metadata_of_wrong_types_are_one_line_errors(tiny_store, tmp_path, kind, part):
    path = tmp_path / "s.zarr"
    shutil.copytree(tiny_store, path)
    for file in (
        path / "zarr.json",
        path / "statistics" / "zarr.json",
    ):  # consolidated metadata would be read instead
        document = json.loads(file.read_text())
        document.pop("consolidated_metadata", None)
        file.write_text(json.dumps(document))
    file = path / part / "zarr.json"
    document = json.loads(file.read_text())
    WRONG_TYPES[kind](document)
    file.write_text(json.dumps(document))
    for words in (["inspect", path, "--json"], ["ingest", path, "-o", tmp_path / "o.zarr"]):
        code, message = call(*words)
        assert code == 0 or (
            code == 2 and "unexpected" not in message and message.count("forecast: ") == 1
        ), message


@pytest.mark.parametrize("name", ["../../secret", "/etc", "a//b", "."])
def test_keys_that_lead_out_of_the_store_are_rejected(store, name):
    with pytest.raises(UntrustedDataError, match="may lie outside of it"):
        zarr.core.sync.sync(open_source(store).get(f"{name}/0.0.0"))


def test_coordinates_are_bounded_before_they_are_read(tmp_path):
    for name, changes in {
        "size": {"shape": [10**9], "chunks": [10**6]},
        "files": {"shape": [10**6], "chunks": [1]},
    }.items():
        store = make(tmp_path / f"{name}.zarr")
        edit(store / "time" / ".zarray", **changes)
        code, text = call("inspect", store)
        assert code == 2 and "its coordinates, such as time," in text


def test_no_more_than_the_declared_bytes_are_read(tmp_path):
    store = make(tmp_path / "a.zarr")
    with open(store / "air" / "0.0.0", "r+b") as file:
        file.truncate(2**40)
    with pytest.raises(UntrustedDataError, match=r"air/0.0.0 is 1 TiB long, but can need"):
        read(store)
    with open(store / ".zgroup", "r+b") as file:
        file.truncate(2**40)
    with pytest.raises(UntrustedDataError, match=r"\.zgroup is"):
        read(store)


def bomb(path, zarr_format, chunk, size):
    """Write a store with a small file whose chunk decompresses to more than it declares."""
    compressor = {"id": "zlib", "level": 1} if zarr_format == 2 else None
    make(path, zarr_format)
    file = path / "air" / (".zarray" if zarr_format == 2 else "zarr.json")
    if compressor:
        edit(file, compressor=compressor, chunks=chunk)
    else:
        gz = {"name": "gzip", "configuration": {"level": 1}}
        edit(
            file,
            codecs=[{"name": "bytes", "configuration": {"endian": "little"}}, gz],
            chunk_grid=grid(*chunk),
        )
    for old in [p for p in (path / "air").rglob("*") if p.is_file() and p.name not in metadata.FILES]:
        old.unlink()
    packer = zlib.compressobj(9, zlib.DEFLATED, 15 if compressor else 31)
    piece = bytes(2**24)
    data = b"".join(packer.compress(piece) for _ in range(size // 2**24)) + packer.flush()
    for i in range(12 // chunk[0]):
        name = f"{i}.0.0" if compressor else f"c/{i}/0/0"
        (path / "air" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "air" / name).write_bytes(data)


RSS = """
import resource, sys
from fourcaster.forecast.cli.main import main
sys.argv = ["forecast", *sys.argv[1:]]
try:
    main()
finally:
    print(int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]))
"""


def test_a_bomb_does_not_allocate_its_claimed_memory(tmp_path):
    bomb(tmp_path / "a.zarr", 3, [1, 9 * 100, 16 * 100], 2**29)
    command = [
        sys.executable,
        "-c",
        RSS,
        "ingest",
        str(tmp_path / "a.zarr"),
        "-o",
        str(tmp_path / "out.zarr"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2 and "decompresses to" in result.stderr and "air/" in result.stderr
    assert int(result.stdout.split()[-1]) < 900 * 1024 and not (tmp_path / "out.zarr").exists()
    bomb(tmp_path / "b.zarr", 2, [1, 9 * 100, 16 * 100], 2**25)
    with pytest.raises(UntrustedDataError, match=r"the chunk air/.*decompresses to"):
        read(tmp_path / "b.zarr")


@pytest.mark.parametrize("packer", ["blosc", "zstd", "raw"])
@pytest.mark.parametrize("shards", [None, (4, 9, 16)])
def test_the_direct_loader_rejects_bombs(tmp_path, packer, shards):
    path = tmp_path / "a.zarr"
    codec = {
        "blosc": zarr.codecs.BloscCodec(cname="lz4", shuffle="noshuffle"),
        "zstd": zarr.codecs.ZstdCodec(),
        "raw": None,
    }[packer]
    make(path, 3, encoding={"compressors": codec} | ({"shards": shards} if shards else {}))
    dataset = open_raw(str(path))
    fields = DirectFields(dataset, path)
    with dask.config.set(scheduler="threads"):
        np.testing.assert_array_equal(fields.read(slice(2, 7))[:, 0], VALUES[2:7])
    native = fields._stored[0][0]._async_array.codec_pipeline
    assert native.native is not None
    file = path / "air" / "c" / "0" / "0" / "0"
    large = {
        "blosc": numcodecs.Blosc("lz4", 5, 0).encode(bytes(2**22)),
        "zstd": numcodecs.Zstd().encode(bytes(2**22)),
        "raw": bytes(9000),
    }[packer]
    if shards:
        count = shards[0]
        index = np.array([[0, len(large)]] * count, "<u8").tobytes()
        large = bytes(large) + index + numcodecs.CRC32C().encode(index)[:4].tobytes()
    file.write_bytes(large)
    with pytest.raises(ValueError, match=r"air/c/0/0/0|its array|can need"):
        fields.read(slice(0, 4))


def linked(store, target, kind):
    """Replace a part of a store by a link to a target outside of it."""
    part = (
        store / {"chunk": "air/0.0.0", "folder": "air", "metadata": ".zgroup", "array": "air/.zarray"}[kind]
    )
    target.mkdir(exist_ok=True)
    shutil.move(part, target / part.name)
    part.symlink_to(target / part.name)
    return part


@pytest.mark.parametrize("kind", ["chunk", "folder", "metadata", "array"])
def test_links_out_of_a_store_are_rejected_or_followed(store, tmp_path, kind):
    part = linked(store, tmp_path / "elsewhere", kind)
    code, text = call("ingest", store, "-o", tmp_path / "out.zarr")
    assert code == 2 and f"{part} is a link that leads out of the store" in text and "--follow-links" in text
    assert not (tmp_path / "out.zarr").exists()
    assert call("ingest", store, "-o", tmp_path / "out.zarr", "--follow-links")[0] == 0
    np.testing.assert_array_equal(xr.open_zarr(tmp_path / "out.zarr")["air"].values, VALUES)
    if kind != "chunk":
        assert call("inspect", store)[0] == 2
    assert call("inspect", store, "--follow-links")[0] == 0


def test_links_within_a_store_and_to_it_are_followed(store, tmp_path):
    shutil.move(store / "air" / "0.0.0", store / "air" / "first")
    (store / "air" / "0.0.0").symlink_to("first")
    (tmp_path / "latest").symlink_to(store)
    np.testing.assert_array_equal(read(tmp_path / "latest")["air"].values, VALUES)
    (store / "air" / "0.0.0").unlink()
    (store / "air" / "0.0.0").symlink_to("../../outside")
    with pytest.raises(UntrustedDataError, match="leads out of the store"):
        read(store)


def test_the_direct_loader_follows_no_links(tmp_path):
    store = make(tmp_path / "a.zarr", 3)
    dataset = open_raw(str(store))
    fields = DirectFields(dataset, store)
    shutil.move(store / "air" / "c" / "0", tmp_path / "0")
    (store / "air" / "c" / "0").symlink_to(tmp_path / "0")
    with pytest.raises(UntrustedDataError, match="leads out of the store"):
        fields.read(slice(0, 2))
    np.testing.assert_array_equal(fields.read(slice(1, 3))[:, 0], VALUES[1:3])


@pytest.mark.parametrize("part", ["air/0.0.0", "air/.zarray", ".zgroup"])
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_pipes_and_sockets_are_rejected_immediately(store, tmp_path, part, kind, monkeypatch):
    (store / part).unlink()
    if kind == "pipe":
        os.mkfifo(store / part)
    else:
        monkeypatch.chdir((store / part).parent)
        with socket.socket(socket.AF_UNIX) as file:
            file.bind((store / part).name)
    with pytest.raises(UntrustedDataError, match=f"{part} is a {kind}, not a file"):
        read(store)


def test_a_store_keeps_its_limits_when_pickled(store):
    opened = open_source(store, follow_links=True, memory=2**30)
    zarr.core.sync.sync(opened.get("air/.zarray"))
    other = pickle.loads(pickle.dumps(opened))
    assert other.memory == 2**30 and other.follow_links and other.arrays == opened.arrays and other.arrays
    lazy = open_sources([store])
    again = pickle.loads(pickle.dumps(lazy))
    np.testing.assert_array_equal(again["air"].values, VALUES)


def test_the_memory_limit_bounds_chunks(store, tmp_path, monkeypatch):
    edit(store / "air" / ".zarray", chunks=[1, 9 * 300, 16 * 300])
    assert call("inspect", store)[0] == 0
    code, text = call("ingest", store, "-o", tmp_path / "out.zarr", "--memory", "100MiB")
    assert code == 2 and "49.4 MiB, more than a limit of 100 MiB" in text
    monkeypatch.setenv("FOURCASTER_MEMORY", "100MiB")
    assert "more than a limit of 100 MiB" in call("inspect", store)[1]
    monkeypatch.setenv("FOURCASTER_MEMORY", "much")
    assert "FOURCASTER_MEMORY much is not understood" in call("inspect", store)[1]
