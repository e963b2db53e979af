"""netCDF, HDF5 and GRIB files that are damaged, refer to other files, or are huge; invalid units."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st

from .cases import FIXTURES, SPECIAL_FILES, Case, change, create, damaging, draw, kind, write
from .unit_values import CALENDARS, TIMES, UNITS

FILES = ("source.nc", "classic.nc", "plain.h5", "forecast.nc", "scores.nc")


def readers(name: str) -> list[tuple[str, ...]]:
    """Return the command lines that read a data file."""
    return [
        ("inspect", name),
        ("ingest", name, "-o", "out/s.zarr"),
        ("ingest", name, "-o", "out/s.zarr", "--dry-run", "--json"),
        ("run", f"{FIXTURES}/run/checkpoint", "--init", name, "--lead", "6h", "-o", "out/f.zarr"),
        ("verify", name, "--truth", f"{FIXTURES}/store.zarr"),
        ("plot", name, "--variable", "t2m", "--lead", "6h", "-o", "out/m.png"),
    ]


@kind("netCDF")
def damaged(rng: random.Random) -> Iterator[Case]:
    """Yield files with flipped, missing or repeated bytes."""
    for fixture in FILES:
        for i in range(50):
            edit = damaging(rng)
            yield Case(rng.choice(readers(f"in/{fixture}")), change(fixture, edit), f"{fixture}: damage {i}")
    for fixture in ("source.nc", "classic.nc"):
        for i in range(6):
            edit = damaging(rng)
            words = (
                "quickstart",
                "--data",
                f"in/{fixture}",
                "--out",
                "out/q",
                "train.epochs=1",
                "model.members=1",
                "model.n_layers=1",
            )
            yield Case(words, change(fixture, edit), f"quickstart on {fixture}: damage {i}")
    for name in ("x.nc", "x.h5", "x.grib", "x.zarr", "x", "x.nc4", "x.grib2"):
        for label, content in (
            ("empty", b""),
            ("garbage", bytes(range(256)) * 40),
            ("text", b"hello\n"),
            ("magic", b"\x89HDF\r\n\x1a\n"),
            ("magic 3", b"CDF\x05" + b"\xff" * 200),
            ("grib", b"GRIB" + b"\xff" * 200 + b"7777"),
            ("zip", b"PK\x03\x04" + bytes(60)),
        ):
            for words in readers(f"in/{name}")[:2]:
                yield Case(words, write(name, content), f"{name}: {label}", refused=True)


@kind("not files")
def not_files(rng: random.Random) -> Iterator[Case]:
    """Yield pipes, devices, folders and invalid names as input."""
    makers: dict[str, Callable[[Path], Any]] = SPECIAL_FILES | {
        "random": lambda p: p.symlink_to("/dev/random"),
        "terminal": lambda p: p.symlink_to("/dev/tty"),
        "dangling": lambda p: p.symlink_to("nothing"),
    }
    for label, make in makers.items():
        for name in ("x.nc", "x.grib", "x.zarr", "x"):
            for words in readers(f"in/{name}"):
                yield Case(
                    words,
                    create(name, make),
                    f"{name} is a {label}",
                    refused=True,
                )
            words = ("quickstart", "--data", f"in/{name}", "--out", "out/q", "train.epochs=1")
            yield Case(
                words,
                create(name, make),
                f"{name} is a {label}",
                refused=True,
            )
    names = (
        "/dev/zero",
        "/dev/stdin",
        "/dev/null",
        "/proc/self/mem",
        "/proc/kcore",
        "/",
        "",
        ".",
        "a" * 5000,
        "*",
        "**/*",
        "[",
        "http://127.0.0.1:1/x.zarr",
        "s3://x/y.zarr",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "://",
        "http://[::1",
        "http://u:p@127.0.0.1:1/x.zarr",
        "\udc80",
        "\x1b[31mx",
        "in/*",
        "gs://",
        "memory://x",
    )
    for name in names:
        for words in readers(name)[:5]:
            yield Case(words, None, f"named {name[:30]!r}", refused=True)
        words = ("verify", f"{FIXTURES}/forecast.zarr", "--truth", name)
        yield Case(words, None, f"truth named {name[:30]!r}", refused=True)


def hdf5() -> dict[str, Callable[[h5py.File, Path], Any]]:
    """Return edits after which an HDF5 file refers to other files, contains itself or is huge, by label."""

    def external(file: h5py.File, folder: Path) -> None:
        del file["t2m"]
        file.create_dataset("t2m", (60, 5, 8), "f4", external=[("/etc/passwd", 0, 60 * 5 * 8 * 4)])

    def link(file: h5py.File, folder: Path) -> None:
        del file["t2m"]
        with h5py.File(folder / "other.h5", "w") as other:
            other["t2m"] = np.zeros((60, 5, 8), "f4")
        file["t2m"] = h5py.ExternalLink("other.h5", "/t2m")

    def virtual(file: h5py.File, folder: Path) -> None:
        layout = h5py.VirtualLayout((60, 5, 8), "f4")
        layout[:] = h5py.VirtualSource("nothing.h5", "t2m", (60, 5, 8))
        del file["t2m"]
        file.create_virtual_dataset("t2m", layout, fillvalue=280)

    def cycle(file: h5py.File, folder: Path) -> None:
        file.create_group("a")
        file["a/b"] = file["/"]
        file["b"] = file["/a"]

    def many_groups(file: h5py.File, folder: Path) -> None:
        for i in range(3000):
            file.create_group(f"g{i}")

    def bomb(file: h5py.File, folder: Path) -> None:
        del file["t2m"]
        file.create_dataset("t2m", (60, 40_000, 40_000), "f4", chunks=(1, 40_000, 40_000), compression="gzip")

    def huge(file: h5py.File, folder: Path) -> None:
        del file["lat"]
        file.create_dataset("lat", (2**40,), "f8", chunks=(1024,))

    def soft(file: h5py.File, folder: Path) -> None:
        del file["t2m"]
        file["t2m"] = h5py.SoftLink("/t2m")

    def references(file: h5py.File, folder: Path) -> None:
        del file["t2m"]
        file.create_dataset("t2m", (60, 5, 8), h5py.ref_dtype)

    def texts(file: h5py.File, folder: Path) -> None:
        del file["t2m"]
        file.create_dataset("t2m", (60, 5, 8), h5py.string_dtype())

    def compound(file: h5py.File, folder: Path) -> None:
        del file["t2m"]
        file.create_dataset("t2m", (60, 5, 8), np.dtype([("a", "f4"), ("b", "i4")]))

    return {
        "external storage": external,
        "external link": link,
        "virtual without sources": virtual,
        "cycle": cycle,
        "many groups": many_groups,
        "bomb": bomb,
        "long axis": huge,
        "soft loop": soft,
        "references": references,
        "texts": texts,
        "compound": compound,
    }


@kind("HDF5")
def outside(rng: random.Random) -> Iterator[Case]:
    """Yield HDF5 files that refer to other files, contain themselves, or are decompression bombs."""
    refused = ("external storage", "external link", "virtual without sources", "bomb", "long axis")
    for label, alter in hdf5().items():
        for words in readers("in/source.nc")[:4]:

            def edit(path: Path, alter: Any = alter) -> None:
                with h5py.File(path, "r+") as file:
                    alter(file, path.parent)

            yield Case(
                words, change("source.nc", edit), label, refused=label in refused and words[0] != "inspect"
            )


@kind("units")
def units(rng: random.Random) -> Iterator[Case]:
    """Yield files and options with hostile or meaningless units, calendars, scales or fill values."""
    drawn = draw(st.text("Kms0123456789*^/()+-. ", max_size=60), 40, rng)
    for text in (*UNITS, *drawn):

        def edit(path: Path, text: str = text) -> None:
            with h5py.File(path, "r+") as file:
                file["t2m"].attrs["units"] = text.replace("\x00", "")

        yield Case(rng.choice(readers("in/source.nc")[:4]), change("source.nc", edit), f"units {text[:30]!r}")
        if "\x00" not in text and len(text) < 100_000:
            yield Case(
                ("ingest", f"{FIXTURES}/source.nc", "-o", "out/s.zarr", "--units", f"t2m={text}"),
                None,
                f"--units {text[:30]!r}",
            )
            yield Case(
                ("inspect", f"{FIXTURES}/forecast.zarr", "--lead-units", text),
                None,
                f"--lead-units {text[:30]!r}",
            )
    attributes: list[tuple[str, str, Any]] = [("time", "units", text) for text in TIMES]
    attributes += [("time", "calendar", text) for text in CALENDARS]
    for name in ("scale_factor", "add_offset", "_FillValue", "missing_value", "valid_range", "valid_min"):
        attributes += [
            ("t2m", name, value)
            for value in (float("nan"), float("inf"), 1e300, 0.0, "x", [1.0, 2.0, 3.0], b"\xff", 2**40)
        ]
    for name in (
        "coordinates",
        "grid_mapping",
        "cell_methods",
        "bounds",
        "standard_name",
        "long_name",
        "ancillary_variables",
    ):
        attributes += [
            ("t2m", name, value)
            for value in (
                "",
                "t2m",
                "lat lat",
                "nothing",
                "\x1b[31m",
                "a" * 60_000,
                5,
                "time: mean (interval: 99 banana)",
            )
        ]
        attributes += [("lat", name, value) for value in ("t2m", "lat", "nothing", 5)]
    for variable, name, value in attributes:

        def edit_attribute(
            path: Path, variable: str = variable, name: str = name, value: Any = value
        ) -> None:
            with h5py.File(path, "r+") as file:
                file[variable].attrs[name] = value

        label = f"{variable}: {name} {str(value)[:30]!r}"
        yield Case(rng.choice(readers("in/source.nc")[:4]), change("source.nc", edit_attribute), label)


@kind("sizes of grids")
def grids(rng: random.Random) -> Iterator[Case]:
    """Yield files whose axes are empty, of one point, or too long."""
    shapes = (
        (0, 5, 8),
        (1, 5, 8),
        (60, 0, 8),
        (60, 1, 8),
        (60, 5, 1),
        (60, 1, 1),
        (2, 40_000, 2),
        (2, 2, 40_000),
        (2_000_000, 1, 1),
    )
    for shape in shapes:

        def make(folder: Path, shape: tuple[int, int, int] = shape) -> None:
            path = folder / "in" / "x.nc"
            with h5py.File(path, "w") as file:
                for name, size, unit in zip(
                    ("time", "lat", "lon"),
                    shape,
                    ("hours since 2001-01-01", "degrees_north", "degrees_east"),
                    strict=True,
                ):
                    values = np.arange(size) * 6.0 if name == "time" else np.linspace(60, 20, size)
                    file[name] = values
                    file[name].attrs["units"] = unit
                    file[name].make_scale(name)
                data = file.create_dataset("t2m", shape, "f4", fillvalue=280.0)
                data.attrs["units"] = "K"
                for i, name in enumerate(("time", "lat", "lon")):
                    data.dims[i].attach_scale(file[name])

        for words in readers("in/x.nc")[:4]:
            yield Case(words, make, f"{shape}")
