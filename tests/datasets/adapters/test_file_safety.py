"""Untrusted files: no other file is read, sizes are checked before allocation, errors are one line."""

import json
import os
import socket
import subprocess
import sys
import time

import h5py
import netCDF4
import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from fourcaster.datasets.adapters.classic import check_classic
from fourcaster.datasets.adapters.hdf5 import check_hdf5
from fourcaster.datasets.adapters.opening import open_lazily
from fourcaster.datasets.adapters.regular import check_regular
from fourcaster.datasets.adapters.sources import open_sources
from fourcaster.datasets.memory import limited
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.ingestion import ingest

SHAPE = (12, 5, 6)
VALUES = np.random.default_rng(0).normal(280, 5, SHAPE).astype("f4")
AXES = {
    "time": (6.0 * np.arange(12), "hours since 2000-01-01"),
    "latitude": (np.linspace(60, 40, 5), "degrees_north"),
    "longitude": (np.linspace(0, 25, 6), "degrees_east"),
}


def hdf5(path, add=None, **kinds):
    """Write axes, then the result of ``add(file)``, or a data set with the given keywords, as ``t``."""
    with h5py.File(path, "w", **({"libver": "latest"} if kinds.pop("latest", False) else {})) as file:
        for name, (values, units) in AXES.items():
            axis = file.create_dataset(name, data=values)
            axis.make_scale(name)
            axis.attrs["units"] = units
        field = (
            add(file)
            if add is not None
            else file.create_dataset("t", **({"data": VALUES} if not kinds else {"shape": SHAPE, **kinds}))
        )
        if isinstance(field, h5py.Dataset):
            field.attrs["units"] = "K"
            for number, name in enumerate(AXES):
                if field.shape[number] == file[name].size:
                    field.dims[number].attach_scale(file[name])
    return path


def plain(file):
    return file.create_dataset("t", data=VALUES)


def virtual(*parts, fill=7.0, shape=SHAPE):
    """Return a function that adds a virtual data set of (file, name, first row, last row)."""

    def add(file):
        layout = h5py.VirtualLayout(shape, "f4")
        for source, name, first, last in parts:
            layout[first:last] = h5py.VirtualSource(str(source), name, shape)[first:last]
        return file.create_virtual_dataset("t", layout, fillvalue=fill)

    return add


def refusal(path, **options):
    with pytest.raises(ValueError) as caught:
        open_lazily(str(path), **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 500
    return text


def test_an_ordinary_file_is_read(tmp_path):
    path = hdf5(tmp_path / "a.nc")
    with open_lazily(str(path)) as dataset:
        assert np.array_equal(dataset["t"], VALUES)


@pytest.mark.parametrize("follow", [False, True])
def test_external_storage_never_exposes_another_file(tmp_path, follow):
    secret = tmp_path / "secret"
    secret.write_bytes(b"root:x:0:0" * 200)
    path = hdf5(
        tmp_path / "a.nc",
        lambda file: file.create_dataset("t", shape=SHAPE, dtype="f4", external=[(str(secret), 0, 1440)]),
    )
    text = refusal(path, follow_links=follow)
    assert "'t' has external storage" in text and "secret" in text
    result = CliRunner().invoke(app, ["ingest", str(path), "-o", str(tmp_path / "s.zarr")])
    assert result.exit_code == 2 and not (tmp_path / "s.zarr").exists()


def test_external_links_are_rejected_unless_followed(tmp_path):
    hdf5(tmp_path / "part.nc")
    path = tmp_path / "a.nc"
    with h5py.File(path, "w") as file:
        for name in (*AXES, "t"):
            file[name] = h5py.ExternalLink("part.nc", name)
    text = refusal(path)
    assert "is an external link to 'part.nc'" in text and "follow_links=True" in text
    with open_lazily(str(path), follow_links=True) as dataset:
        assert np.array_equal(dataset["t"], VALUES)


def test_indirect_external_links_are_rejected(tmp_path):
    hdf5(tmp_path / "part.nc")

    def group(file):
        file["g"] = h5py.ExternalLink("part.nc", "/")
        return plain(file)

    def soft(file):
        file["a"] = h5py.SoftLink("/zz/t")
        file["zz"] = h5py.ExternalLink("part.nc", "/")
        return plain(file)

    def deep(file):
        file.create_group("one/two")["x"] = h5py.ExternalLink("part.nc", "t")
        return plain(file)

    for number, add in enumerate((group, soft, deep)):
        assert "external link to 'part.nc'" in refusal(hdf5(tmp_path / f"{number}.nc", add))


@pytest.mark.parametrize("kind", ["link", "virtual"])
def test_targets_of_links_pass_the_same_checks(tmp_path, kind):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(2000))
    hdf5(
        tmp_path / "evil.nc",
        lambda file: file.create_dataset("t", shape=SHAPE, dtype="f4", external=[(str(secret), 0, 1440)]),
    )
    os.mkfifo(tmp_path / "pipe.nc")
    for target, message in (
        ("evil.nc", "external storage"),
        ("pipe.nc", "named pipe"),
        ("gone.nc", "does not exist"),
    ):
        if kind == "link":
            path = tmp_path / f"to_{target}"
            with h5py.File(path, "w") as file:
                file["t"] = h5py.ExternalLink(target, "t")
        else:
            path = hdf5(tmp_path / f"of_{target}", virtual((target, "t", 0, 12)))
        assert message in refusal(path, follow_links=True)


def test_virtual_data_sets_are_rejected_unless_followed(tmp_path):
    hdf5(tmp_path / "part.nc")
    path = hdf5(tmp_path / "a.nc", virtual(("part.nc", "t", 0, 7), ("part.nc", "t", 7, 12)))
    text = refusal(path)
    assert "'t' is a virtual data set" in text and "follow_links=True" in text
    with open_lazily(str(path), follow_links=True) as dataset:
        assert np.array_equal(dataset["t"], VALUES)


def test_missing_sources_of_a_virtual_data_set_are_rejected(tmp_path):
    hdf5(tmp_path / "part.nc")
    cases = {
        "gone": (virtual(("nowhere.nc", "t", 0, 12)), "does not exist"),
        "name": (virtual(("part.nc", "u", 0, 12)), "has no 'u'"),
        "half": (virtual(("part.nc", "t", 0, 6)), "values that no source provides"),
        "hole": (virtual(("part.nc", "t", 0, 5), ("part.nc", "t", 6, 12)), "values that no source provides"),
        "itself": (virtual(("itself.nc", "t", 0, 12)), "as another virtual data set"),
        "beyond": (virtual(("part.nc", "t", 0, 24), shape=(24, 5, 6)), "has only"),
    }
    for name, (add, message) in cases.items():
        assert message in refusal(hdf5(tmp_path / f"{name}.nc", add), follow_links=True)
    path = hdf5(tmp_path / "nan.nc", virtual(("part.nc", "t", 0, 5), ("part.nc", "t", 6, 12), fill=np.nan))
    with open_lazily(str(path), follow_links=True) as dataset:
        assert dataset["t"].isnull().sum() == 30 and dataset["t"][5].isnull().all()


def cycle(file):
    group = file.create_group("g/h")
    group["up"] = file["g"]
    return plain(file)


def cycle_by_root(file):
    file.create_group("g")["up"] = file["/"]
    return plain(file)


def cycle_by_name(file):
    file.create_group("g")["up"] = h5py.SoftLink("/g")
    return plain(file)


def tree_of_shared_groups(file):
    group = file.create_group("leaf")
    for depth in range(24):
        above = file.create_group(f"level{depth}")
        above["a"], above["b"] = group, group
        group = above
    return plain(file)


def deep_groups(file):
    file.create_group("/".join("g" * 150))
    return plain(file)


def dangling_link(file):
    file["s"] = h5py.SoftLink("/nothing")
    return plain(file)


def many_groups(file):
    for number in range(10_500):
        file.create_group(f"v{number}")
    return plain(file)


def large_attribute(file):
    file.create_dataset("big", data=0.0).attrs["a"] = np.zeros(9_000_000)
    return plain(file)


def many_texts(file):
    file.attrs.create("a", ["x"] * 2000, dtype=h5py.string_dtype())
    return plain(file)


def strange_filter(file):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(SHAPE)
    properties.set_filter(32099, h5py.h5z.FLAG_OPTIONAL, ())
    return h5py.Dataset(
        h5py.h5d.create(file.id, b"t", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple(SHAPE), properties)
    )


def large_values(file):
    file.create_dataset("text", shape=(), dtype="S200000000")
    return plain(file)


def long_axis(file):
    file.create_dataset("cell", shape=(10**9,), chunks=(10**6,), dtype="i1", compression="gzip").make_scale(
        "cell"
    )
    return plain(file)


HOSTILE = {
    "contains itself": (cycle, cycle_by_root, cycle_by_name),
    "more than 10000": (tree_of_shared_groups, many_groups),
    "groups are nested": (deep_groups,),
    "has no target": (dangling_link,),
    "more than the limit of 64 MiB": (large_attribute, large_values),
    "more than 1000 strings": (many_texts,),
    "the HDF5 filter 32099": (strange_filter,),
    "coordinate 'cell' of 1000000000 values": (long_axis,),
}


@pytest.mark.parametrize(
    ("message", "add"), [(message, add) for message, adds in HOSTILE.items() for add in adds]
)
def test_hostile_metadata_is_rejected_immediately(tmp_path, message, add):
    path = hdf5(tmp_path / "a.nc", add, latest=add is large_attribute)
    started = time.monotonic()
    assert message in refusal(path)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble])
def test_types_that_abort_the_process_are_rejected(tmp_path, dtype):
    assert "netCDF does not read" in refusal(hdf5(tmp_path / "a.nc", dtype=dtype))


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype([("a", "f4"), ("b", "i4")]),
        h5py.vlen_dtype("f4"),
        np.dtype("V7"),
        h5py.string_dtype(),
        np.complex64,
        "S3",
        h5py.ref_dtype,
        np.dtype("(3,)f4"),
    ],
    ids=["compound", "vlen", "opaque", "text", "complex", "bytes", "reference", "array"],
)
def test_variables_that_are_not_numeric_are_ignored(tmp_path, dtype):
    path = hdf5(tmp_path / "a.nc", dtype=dtype)
    for verb in (["inspect", str(path)], ["ingest", str(path), "-o", str(tmp_path / "s.zarr")]):
        result = CliRunner().invoke(app, verb)
        assert result.exit_code == 2 and "has no variable on (time, latitude, longitude)" in result.output

    def both(file):
        file.create_dataset("other", shape=SHAPE, dtype=dtype)
        return plain(file)

    with open_sources([hdf5(tmp_path / "b.nc", both)]) as dataset:
        assert list(dataset.data_vars) == ["t"]


def test_sizes_are_compared_with_memory_before_anything_is_read(tmp_path):
    def chunk(file):
        file.create_dataset(
            "big", shape=(8, 40000, 40000), chunks=(1, 20000, 40000), compression="gzip", dtype="f4"
        )
        return plain(file)

    text = refusal(hdf5(tmp_path / "chunk.nc", chunk))
    assert "a chunk of 'big'" in text and "5.96 GiB" in text and "by the argument memory" in text

    def never_written(file):
        return file.create_dataset(
            "t", shape=(12, 10**6, 10**6), chunks=(1, 100, 100), compression="gzip", dtype="f4"
        )

    text = refusal(hdf5(tmp_path / "huge.nc", never_written))
    assert "'t' would be 43.7 TiB" in text and "never written" in text


def test_the_memory_limit_of_ingest_applies_to_sources(tmp_path):
    path = hdf5(tmp_path / "a.nc", shape=(12, 5, 6), chunks=(12, 5, 6), dtype="f8")
    with (
        limited(3000),
        pytest.raises(ValueError, match=r"chunk of 't' \(12x5x6 values\) would take 5.62 KiB"),
    ):
        open_lazily(str(path))
    with pytest.raises(ValueError, match=r"chunk of 't'.*raise the limit, by the argument memory"):
        ingest([path], tmp_path / "s.zarr", memory=3000)


def test_long_chunks_along_time_are_read_in_parts(tmp_path):
    path = hdf5(
        tmp_path / "a.nc",
        lambda file: file.create_dataset("t", data=VALUES, chunks=(12, 1, 1), compression="gzip"),
    )
    with (
        limited(20_000),
        open_sources([path], chunk_bytes=600) as dataset,
    ):  # a time has 120 bytes, and all of them 1440
        assert dataset["t"].chunks[0] == (12,)
        assert np.array_equal(dataset["t"], VALUES)
    with limited(5000), open_sources([path], chunk_bytes=600) as dataset:
        assert max(dataset["t"].chunks[0]) == 5
        assert np.array_equal(dataset["t"], VALUES)


def test_names_that_leave_a_folder_or_a_line_are_rejected(tmp_path):
    cases = {
        b"..": "could leave",
        b".zattrs": "could leave",
        b"a\\b": "could leave",
        b"a\nb": "control",
        b"a\x1b[31m": "control",
        b" ": "is empty",
        "\u202ea".encode(): "control",
        b"y" * 210: "longer than 200",
        b"x" * 300: "has 300 bytes",
        b"\xff\xfe": "not UTF-8",
        b"zarr.json": "--rename",
        b"statistics": "--rename",
        b"Climatology": "--rename",
        b"level": "--rename",
    }
    for number, (name, message) in enumerate(cases.items()):
        path = tmp_path / f"{number}.nc"
        with h5py.File(hdf5(path), "r+") as file:
            file.id.links.move(b"t", file.id, name)
        result = CliRunner().invoke(app, ["ingest", str(path), "-o", str(tmp_path / "s.zarr")])
        assert result.exit_code == 2 and message in result.output, (name, result.output)
        assert len(result.output.splitlines()) <= 2 and "\x1b" not in result.output
    assert not (tmp_path / "s.zarr").exists()
    ingest([tmp_path / "11.nc"], tmp_path / "s.zarr", rename={"statistics": "t2m"})
    assert (tmp_path / "s.zarr" / "t2m").is_dir()


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.nc")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    (tmp_path / "link.nc").symlink_to("/dev/zero")
    for path, message in (
        (tmp_path / "pipe.nc", "a named pipe"),
        (tmp_path / "socket", "a socket"),
        (tmp_path / "link.nc", "a device"),
    ):
        assert message in refusal(path)
        with pytest.raises(ValueError, match=message):
            check_regular(path)
        for verb in (["inspect", str(path)], ["ingest", str(path), "-o", str(tmp_path / "s.zarr")]):
            result = CliRunner().invoke(app, verb)
            assert result.exit_code == 2 and message in result.output
    server.close()
    with pytest.raises(ValueError, match="a folder"):
        check_regular(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        check_regular(tmp_path / "gone")
    with pytest.raises(ValueError, match="not a path"):
        check_regular("a\0b")
    (tmp_path / "file").write_bytes(b"")
    check_regular(tmp_path / "file")


CLASSIC = {"NETCDF3_CLASSIC": 1, "NETCDF3_64BIT_OFFSET": 2, "NETCDF3_64BIT_DATA": 5}


def classic(path, form, *, unlimited=False, dtype="f4"):
    with netCDF4.Dataset(path, "w", format=form) as file:
        for name, (values, units) in AXES.items():
            file.createDimension(name, None if unlimited and name == "time" else len(values))
            axis = file.createVariable(name, "f8", (name,))
            axis.units = units
            axis[:] = values
        field = file.createVariable("t", dtype, tuple(AXES))
        field.units = "K"
        field[:] = VALUES.astype(dtype)
    return path


@pytest.mark.parametrize("form", CLASSIC)
@pytest.mark.parametrize("unlimited", [False, True])
@pytest.mark.parametrize("dtype", ["f4", "i2", "i1"])
def test_a_classic_file_must_contain_all_listed_values(tmp_path, form, unlimited, dtype):
    path = classic(tmp_path / "a.nc", form, unlimited=unlimited, dtype=dtype)
    content = path.read_bytes()
    assert content[3] == CLASSIC[form]
    check_classic(str(path))
    (tmp_path / "cut.nc").write_bytes(content[:-20])
    assert "cut.nc cannot be read" in refusal(tmp_path / "cut.nc")
    (tmp_path / "head.nc").write_bytes(content[:90])
    assert "cut off" in refusal(tmp_path / "head.nc")


def test_a_classic_header_with_huge_numbers_is_rejected(tmp_path):
    content = classic(tmp_path / "a.nc", "NETCDF3_CLASSIC").read_bytes()
    offset = content.index(b"latitude") + 8  # its length
    for name, size in (("rows", 2**31 - 1), ("negative", 2**32 - 1)):
        (tmp_path / f"{name}.nc").write_bytes(
            content[:offset] + size.to_bytes(4, "big") + content[offset + 4 :]
        )
        assert "coordinate 'latitude'" in refusal(tmp_path / f"{name}.nc")
    (tmp_path / "list.nc").write_bytes(content[:12] + (10**9).to_bytes(4, "big") + content[16:])
    assert "1000000000 dimensions" in refusal(tmp_path / "list.nc")
    with open(tmp_path / "sparse.nc", "wb") as file:  # a sparse file, as long as its axis requires
        file.write(content[:offset] + (10**9).to_bytes(4, "big") + content[offset + 4 :])
        file.truncate(2**40)
    assert "coordinate 'latitude' of 1000000000 values" in refusal(tmp_path / "sparse.nc")
    for where in range(0, len(content) - len(content) % 4, 4):  # any other header
        (tmp_path / "b.nc").write_bytes(content[:where] + b"\x7f\xff\xff\xff" + content[where + 4 :])
        try:
            check_classic(str(tmp_path / "b.nc"))
        except ValueError as error:
            assert len(str(error)) < 1500
        if where > 600:
            break


BOMBS = """
import json, resource, signal, sys, time
from typer.testing import CliRunner
import h5py, netCDF4, xarray, zarr, cf_xarray.units
from fourcaster.forecast.cli.main import app
from fourcaster.forecast import inspect
resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30,) * 2)
first = int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1])
for path in sys.argv[1:]:
    started = time.monotonic()
    result = CliRunner().invoke(app, ["inspect", path])
    grown = int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) - first
    print(json.dumps([path, result.exit_code, time.monotonic() - started, grown / 1e6, result.output]))
"""


def test_bombs_are_rejected_within_seconds_and_memory(tmp_path):
    paths = [
        hdf5(tmp_path / f"{add.__name__}.nc", add) for add in (cycle, cycle_by_name, tree_of_shared_groups)
    ]
    result = subprocess.run(
        [sys.executable, "-c", BOMBS, *map(str, paths)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(rows) == len(paths)
    for path, code, seconds, gigabytes, text in rows:
        assert code == 2 and seconds < 30 and gigabytes < 0.5 and len(text.splitlines()) == 1, (
            path,
            code,
            seconds,
            gigabytes,
            text,
        )


INVALID_ATTRIBUTES = {
    "scale of text": ({"scale_factor": "abc"}, "scale_factor 'abc', which is not a finite number"),
    "scales": ({"scale_factor": np.array([1.0, 2.0])}, "not a finite number"),
    "scale NaN": ({"scale_factor": np.nan}, "not a finite number"),
    "scale infinite": ({"scale_factor": np.inf}, "not a finite number"),
    "scale zero": ({"scale_factor": 0.0}, "all its values would be 0"),
    "offset of text": ({"add_offset": "x"}, "add_offset 'x'"),
    "units of numbers": ({"units": np.array([1.0, 2.0])}, "which are not units"),
    "units of a power": ({"units": "9**9**9**9"}, "no small number"),
    "units of 2 MB": ({"units": "m" * 2_000_000}, "2000000 characters"),
    "place": ({"scalar_coordinates": "level=9**9**9 hPa"}, "expected NAME=VALUE"),
}


@pytest.mark.parametrize(("attrs", "message"), INVALID_ATTRIBUTES.values(), ids=INVALID_ATTRIBUTES)
def test_attributes_of_invalid_types_and_values_are_rejected(tmp_path, attrs, message):
    path = tmp_path / "a.nc"
    classic(path, "NETCDF3_64BIT_DATA")
    with netCDF4.Dataset(path, "a") as file:
        for name, value in attrs.items():
            file["t"].setncattr(name, value)
    for verb in (["inspect", str(path)], ["ingest", str(path), "-o", str(tmp_path / "s.zarr")]):
        result = CliRunner().invoke(app, verb)
        assert result.exit_code == 2 and message in result.output and str(path) in result.output, (
            result.output
        )
        assert len(result.output) < 1000


@pytest.mark.parametrize(
    "attrs",
    [
        {"standard_name": np.array([1, 2])},
        {"coordinates": np.arange(3)},
        {"grid_mapping": 4},
        {"long_name": np.arange(3)},
        {"cell_methods": 7},
        {"scale_factor": np.array([2.0])},
        {"scale_factor": 0.0, "add_offset": 5.0},
        {"scalar_coordinates": 5},
        {"_Unsigned": 5},
    ],
    ids=str,
)
def test_irrelevant_attributes_of_invalid_types_are_ignored(tmp_path, attrs):
    path = classic(tmp_path / "a.nc", "NETCDF3_64BIT_DATA")
    with netCDF4.Dataset(path, "a") as file:
        for name, value in attrs.items():
            file["t"].setncattr(name, value)
    result = CliRunner().invoke(app, ["inspect", str(path)])
    assert result.exit_code == 0 and "t [K]" in result.output, result.output


INVALID_TIMES = {
    "missing": ({"values": [0, 6, np.nan, *range(18, 72, 6)]}, "1 time(s) are missing"),
    "infinite": ({"values": [0, 6, np.inf, *range(18, 72, 6)]}, "infinite"),
    "large": ({"values": 1e300 * np.arange(12)}, "do not convert its values to dates"),
    "power": (
        {"units": "seconds since 9**9"},
        "'seconds since 9**9', which do not convert its values to dates",
    ),
    "power before": ({"units": "9**9**9**9 since 2000-01-01"}, "do not convert its values to dates"),
    "long": ({"units": "seconds since " + "9" * 200_000}, "200014 characters"),
    "empty": ({"units": "seconds since "}, "do not convert its values to dates"),
    "year": ({"units": "hours since 9999999999-01-01"}, "do not convert its values to dates"),
    "antiquity": ({"units": "hours since -5000-01-01"}, "between 1678 and 2262"),
    "month": ({"units": "hours since 2000-13-41"}, "do not convert its values to dates"),
    "calendar": ({"calendar": "bogus"}, "of the calendar 'bogus'"),
    "calendar number": ({"calendar": 5}, "of the calendar '5'"),
    "number": ({"units": 5}, "no CF units"),
    "numbers": ({"units": np.array([1.0, 2.0])}, "no CF units"),
    "same": ({"values": np.zeros(12)}, "twice"),
}


@pytest.mark.parametrize(("change", "message"), INVALID_TIMES.values(), ids=INVALID_TIMES)
def test_invalid_times_are_one_line_errors(tmp_path, change, message):
    path = classic(tmp_path / "a.nc", "NETCDF3_64BIT_DATA")
    with netCDF4.Dataset(path, "a") as file:
        if "values" in change:
            file["time"][:] = change["values"]
        for name in {"units", "calendar"} & set(change):
            file["time"].setncattr(name, change[name])
    result = CliRunner().invoke(app, ["ingest", str(path), "-o", str(tmp_path / "s.zarr")])
    assert result.exit_code == 2 and message in result.output, result.output
    assert len(result.output) < 1000 and not (tmp_path / "s.zarr").exists()


def test_empty_and_repeated_dimensions_are_dropped(tmp_path):
    path = classic(tmp_path / "a.nc", "NETCDF4")
    with netCDF4.Dataset(path, "a") as file:
        file.createDimension("none", None)
        file.createVariable("empty", "f4", ("time", "none", "latitude", "longitude")).units = "1"
    with xr.open_dataset(path, drop_variables=["t"]) as empty:
        empty.drop_encoding().to_netcdf(tmp_path / "b.nc")
        empty.drop_encoding()[["empty"]].isel(time=slice(0, 0), none=slice(0, 0)).to_netcdf(
            tmp_path / "c.nc", unlimited_dims=["time", "none"]
        )
    with netCDF4.Dataset(path, "a") as file:
        file.createVariable("square", "f4", ("time", "latitude", "latitude")).units = "1"
    with open_sources([path]) as dataset:
        assert list(dataset.data_vars) == ["t"]
    for name in ("b.nc", "c.nc"):
        result = CliRunner().invoke(app, ["ingest", str(tmp_path / name), "-o", str(tmp_path / "s.zarr")])
        assert result.exit_code == 2 and "has no variable" in result.output


def test_source_attributes_do_not_change_the_kind_of_a_store(tmp_path):
    path = classic(tmp_path / "a.nc", "NETCDF3_64BIT_DATA")
    with netCDF4.Dataset(path, "a") as file:
        file.system = "[" * 10_000
        file.checkpoint = "x"
    result = CliRunner().invoke(app, ["inspect", str(path)])
    assert result.exit_code == 2 and "the attribute 'system' is damaged" in result.output
    ingest([path], tmp_path / "s.zarr")
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "s.zarr")])
    assert result.exit_code == 0 and "t [K]" in result.output


def test_checking_takes_milliseconds(tmp_path):
    path = str(hdf5(tmp_path / "a.nc"))
    check_hdf5(path)
    started = time.monotonic()
    for _ in range(20):
        check_hdf5(path)
    assert time.monotonic() - started < 2
