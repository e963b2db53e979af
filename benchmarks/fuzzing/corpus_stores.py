"""Zarr stores, forecasts and simulations with altered metadata, damaged chunks, code or links."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .cases import (
    ANYTHING,
    CANARY,
    FIXTURES,
    REMOVED,
    SPECIAL_FILES,
    Case,
    as_json,
    change,
    damaging,
    draw,
    kind,
    leaves,
    replaced,
)

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1,
    10**9,
    10**15,
    2**64,
    1.5,
    float("nan"),
    "",
    "x",
    "../../../x",
    "\x1b[31mred",
    "float16",
    "|O",
    "object",
    "<f8",
    "int32",
    "string",
    "a" * 100_000,
    [],
    {},
    [0],
    [10**9] * 3,
    [10**6] * 6,
    [1] * 40,
    {"": None},
    {"name": "pickle"},
    {"id": "pickle"},
    {"name": "numcodecs.pickle"},
    "Infinity",
    "9" * 5000,
    REMOVED,
)
ZARR = ("source.zarr", "source2.zarr", "store.zarr", "forecast.zarr", "simulation.zarr", "solution.zarr")


def readers(fixture: str, path: str = "") -> list[tuple[str, ...]]:
    """Return the command lines that read a store of this kind."""
    name = path or f"in/{fixture}"
    shared = [("inspect", name), ("inspect", name, "--json")]
    ingest = ("ingest", name, "-o", "out/s.zarr")
    run = ("run", f"{FIXTURES}/run/checkpoint", "--init", name, "--lead", "6h", "-o", "out/f.zarr")
    verify = ("verify", f"{FIXTURES}/forecast.zarr", "--truth", name)
    train = (
        "train",
        "quickstart",
        f"data.store={name}",
        "output=out/run",
        "train.epochs=1",
        "model.members=1",
        "model.hidden_channels=4",
        "model.n_layers=1",
    )
    if fixture.startswith("source"):
        return [*shared, ingest, run, ("ingest", name, "-o", "out/s.zarr", "--dry-run")]
    if fixture.startswith("store"):
        return [
            *shared,
            run,
            verify,
            train,
            ingest,
            ("plot", f"{FIXTURES}/forecast.zarr", "--truth", name, "--variable", "t2m", "-o", "out/m.png"),
        ]
    if fixture.startswith("forecast"):
        verify = ("verify", name, "--truth", f"{FIXTURES}/store.zarr")
        report = (*verify, "-o", "out/s.nc", "--report", "out/r.html")
        return [
            *shared,
            verify,
            report,
            ("plot", name, "--variable", "t2m", "--lead", "6h", "-o", "out/m.png"),
            run,
            ingest,
        ]
    verify_simulation = (
        ("verify", f"{FIXTURES}/solution.zarr", "--truth", name)
        if fixture.startswith("simulation")
        else ("verify", name, "--truth", f"{FIXTURES}/simulation.zarr")
    )
    run_operator = ("run", f"{FIXTURES}/operator/checkpoint", "--init", name, "-o", "out/f.zarr")
    return [
        *shared,
        verify_simulation,
        run_operator,
        (
            "train",
            "pino/burgers",
            f"data.store={name}",
            "loss.data=1",
            "output=out/run",
            "train.epochs=1",
            "model.n_modes=[6]",
        ),
    ]


def metadata(path: Path) -> list[Path]:
    """Return the metadata files of a store, in a fixed order."""
    return sorted(
        p for p in path.rglob("*") if p.name in ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
    )


def chunks(path: Path) -> list[Path]:
    """Return the chunks of a store, in a fixed order."""
    excluded = set(metadata(path))
    return sorted(p for p in path.rglob("*") if p.is_file() and p not in excluded)


def remove_consolidated_metadata(path: Path) -> None:
    """Remove the consolidated metadata of a store, so that the metadata of each array are read."""
    (path / ".zmetadata").unlink(missing_ok=True)
    file = path / "zarr.json"
    if file.exists():
        values = json.loads(file.read_text())
        values.pop("consolidated_metadata", None)
        file.write_text(json.dumps(values))


@kind("zarr metadata")
def altered(rng: random.Random) -> Iterator[Case]:
    """Yield stores with one value in one metadata file replaced."""
    drawn = draw(ANYTHING, 200, rng)
    for fixture in ZARR:
        for i in range(90):
            value = rng.choice(VALUES) if i % 3 else rng.choice(drawn)
            where = rng.random()
            at = rng.random()
            unconsolidated = rng.random() < 0.5

            def edit(
                path: Path,
                value: Any = value,
                where: float = where,
                at: float = at,
                unconsolidated: bool = unconsolidated,
            ) -> None:
                if unconsolidated:
                    remove_consolidated_metadata(path)
                files = metadata(path)
                file = files[int(where * len(files))]
                values = json.loads(file.read_text())
                paths = list(leaves(values))
                position = paths[int(at * len(paths))]
                if value is REMOVED and not position:
                    file.unlink()
                    return
                file.write_text(json.dumps(replaced(values, position, as_json(value))))

            yield Case(
                rng.choice(readers(fixture)),
                change(fixture, edit),
                f"{fixture}: value {i} is {str(value)[:30]!r}",
            )


@kind("zarr chunks")
def damaged(rng: random.Random) -> Iterator[Case]:
    """Yield stores in which one file is damaged, or replaced by something else than a regular file."""
    kinds: dict[str, Callable[[Path], Any]] = SPECIAL_FILES | {
        "link outside": lambda p: p.symlink_to(p.parents[len(p.parts) - 1] / "etc" / "passwd"),
        "sparse": lambda p: os.truncate(_touched(p), 2**33),
    }
    for fixture in ZARR:
        for i in range(24):
            where = rng.random()
            part = metadata if rng.random() < 0.3 else chunks

            def select(path: Path, part: Any = part, where: float = where) -> Path:
                files = part(path)
                return files[int(where * len(files))]

            edit = damaging(rng, select)
            yield Case(rng.choice(readers(fixture)), change(fixture, edit), f"{fixture}: damage {i}")
        for label, make in kinds.items():
            for part in (metadata, chunks):
                where = rng.random()

                def swap(path: Path, make: Any = make, part: Any = part, where: float = where) -> None:
                    files = part(path)
                    file = files[int(where * len(files))]
                    file.unlink()
                    make(file)

                yield Case(
                    rng.choice(readers(fixture)[2:]),
                    change(fixture, swap),
                    f"{fixture}: {label} for {part.__name__}",
                )


def _touched(path: Path) -> Path:
    path.touch()
    return path


@kind("zarr code")
def code(rng: random.Random) -> Iterator[Case]:
    """Yield stores with codecs that run code or are unknown, and arrays that are links out of the store."""
    pickle = (
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c"
        + bytes([len(f"touch {CANARY}")])
        + f"touch {CANARY}".encode()
        + b"\x85R."
    )
    objects = (
        ({"id": "vlen-utf8"}, {"id": "pickle"}),
        ({"id": "pickle"},),
        ({"id": "json2"}, {"id": "pickle"}),
        ({"id": "msgpack2"},),
        ({"id": "vlen-bytes"},),
    )
    for filters in objects:
        for words in readers("source2.zarr")[:4]:

            def edit(path: Path, filters: tuple = filters) -> None:
                remove_consolidated_metadata(path)
                for name in ("t2m", "time", "lat"):
                    file = path / name / ".zarray"
                    values = json.loads(file.read_text()) | {
                        "dtype": "|O",
                        "filters": list(filters),
                        "compressor": None,
                        "fill_value": None,
                    }
                    file.write_text(json.dumps(values))
                    for chunk in chunks(path / name):
                        chunk.write_bytes(pickle)

            yield Case(words, change("source2.zarr", edit), f"filters {filters}", refused=True)
    for codec in (
        "numcodecs.pickle",
        "pickle",
        "vlen-utf8",
        "numcodecs.json2",
        "no such codec",
        "__import__('os')",
        "numcodecs.lz4",
        "sharding_indexed",
    ):
        for fixture in ("source.zarr", "store.zarr"):

            def set_codec(path: Path, codec: str = codec) -> None:
                remove_consolidated_metadata(path)
                for file in metadata(path):
                    values = json.loads(file.read_text())
                    if values.get("node_type") == "array":
                        values["codecs"] = [{"name": codec, "configuration": {}}]
                        file.write_text(json.dumps(values))
                for chunk in chunks(path):
                    chunk.write_bytes(pickle)

            yield Case(
                rng.choice(readers(fixture)), change(fixture, set_codec), f"codec {codec}", refused=True
            )
    for fixture in ("source.zarr", "store.zarr", "forecast.zarr"):

        def linked(path: Path) -> None:
            folder = path / "t2m"
            shutil.move(folder, path.parent.parent / "elsewhere")
            folder.symlink_to(path.parent.parent / "elsewhere")

        for words in readers(fixture):
            yield Case(
                words,
                change(fixture, linked),
                f"{fixture}: an array that is a link",
                refused=words[:1] != ("inspect",),
            )
