"""Zarr stores, forecasts and simulations with altered metadata, damaged chunks, code, and links."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .cases import CANARY, FIXTURES, Case, change, damage, draw, kind
from .corpus_yaml import ANYTHING, leaves, replaced

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
    leaves,
)
ZARR = ("source.zarr", "source2.zarr", "store.zarr", "forecast.zarr", "simulation.zarr", "solution.zarr")


def users(fixture: str, path: str = "") -> list[tuple[str, ...]]:
    """Return the command lines that read a store of this kind."""
    name = path or f"in/{fixture}"
    run = f"{FIXTURES}/run/checkpoint"
    shared = [("inspect", name), ("inspect", name, "--json")]
    ingests = ("ingest", name, "-o", "out/s.zarr")
    starts = ("run", run, "--init", name, "--lead", "6h", "-o", "out/f.zarr")
    verifies = ("verify", f"{FIXTURES}/forecast.zarr", "--truth", name)
    trains = (
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
        return [*shared, ingests, starts, ("ingest", name, "-o", "out/s.zarr", "--dry-run")]
    if fixture.startswith("store"):
        return [
            *shared,
            starts,
            verifies,
            trains,
            ingests,
            ("plot", f"{FIXTURES}/forecast.zarr", "--truth", name, "--variable", "t2m", "-o", "out/m.png"),
        ]
    if fixture.startswith("forecast"):
        scored = ("verify", name, "--truth", f"{FIXTURES}/store.zarr")
        page = (*scored, "-o", "out/s.nc", "--report", "out/r.html")
        return [
            *shared,
            scored,
            page,
            ("plot", name, "--variable", "t2m", "--lead", "6h", "-o", "out/m.png"),
            starts,
            ingests,
        ]
    solved = (
        ("verify", f"{FIXTURES}/solution.zarr", "--truth", name)
        if fixture.startswith("simulation")
        else ("verify", name, "--truth", f"{FIXTURES}/simulation.zarr")
    )
    operates = ("run", f"{FIXTURES}/operator/checkpoint", "--init", name, "-o", "out/f.zarr")
    return [
        *shared,
        solved,
        operates,
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
    known = set(metadata(path))
    return sorted(p for p in path.rglob("*") if p.is_file() and p not in known)


def only_files(path: Path) -> None:
    """Remove the metadata of a store that is consolidated, so that each array is read from its own file."""
    (path / ".zmetadata").unlink(missing_ok=True)
    file = path / "zarr.json"
    if file.exists():
        values = json.loads(file.read_text())
        values.pop("consolidated_metadata", None)
        file.write_text(json.dumps(values))


@kind("zarr metadata")
def altered(chance: random.Random) -> Iterator[Case]:
    """Yield stores with one value in one metadata file replaced."""
    drawn = draw(ANYTHING, 200, chance)
    for fixture in ZARR:
        for i in range(90):
            value = chance.choice(VALUES) if i % 3 else chance.choice(drawn)
            where, at, apart = chance.random(), chance.random(), chance.random() < 0.5

            def edit(
                path: Path, value: Any = value, where: float = where, at: float = at, apart: bool = apart
            ) -> None:
                if apart:
                    only_files(path)
                files = metadata(path)
                file = files[int(where * len(files))]
                values = json.loads(file.read_text())
                paths = list(leaves(values))
                place = paths[int(at * len(paths))]
                if value is leaves and not place:
                    file.unlink()
                    return
                new = value if value is leaves else json.loads(json.dumps(value, default=str, skipkeys=True))
                file.write_text(json.dumps(replaced(values, place, new)))

            yield Case(
                chance.choice(users(fixture)),
                change(fixture, edit),
                f"{fixture}: value {i} is {str(value)[:30]!r}",
            )


@kind("zarr chunks")
def damaged(chance: random.Random) -> Iterator[Case]:
    """Yield stores with a damaged file, a bomb, or something else than a file in its place."""
    kinds: dict[str, Callable[[Path], Any]] = {
        "pipe": os.mkfifo,
        "folder": lambda p: p.mkdir(),
        "device": lambda p: p.symlink_to("/dev/zero"),
        "link outside": lambda p: p.symlink_to(p.parents[len(p.parts) - 1] / "etc" / "passwd"),
        "loop": lambda p: p.symlink_to(p),
        "sparse": lambda p: os.truncate(_touched(p), 2**33),
    }
    for fixture in ZARR:
        for i in range(24):
            where, state, of_metadata = chance.random(), chance.getrandbits(32), chance.random() < 0.3

            def edit(
                path: Path, where: float = where, state: int = state, of_metadata: bool = of_metadata
            ) -> None:
                files = metadata(path) if of_metadata else chunks(path)
                file = files[int(where * len(files))]
                file.write_bytes(damage(file.read_bytes(), random.Random(state)))

            yield Case(chance.choice(users(fixture)), change(fixture, edit), f"{fixture}: damage {i}")
        for label, make in kinds.items():
            for part in (metadata, chunks):
                where = chance.random()

                def swap(path: Path, make: Any = make, part: Any = part, where: float = where) -> None:
                    files = part(path)
                    file = files[int(where * len(files))]
                    file.unlink()
                    make(file)

                yield Case(
                    chance.choice(users(fixture)[2:]),
                    change(fixture, swap),
                    f"{fixture}: {label} for {part.__name__}",
                )


def _touched(path: Path) -> Path:
    path.touch()
    return path


@kind("zarr code")
def code(chance: random.Random) -> Iterator[Case]:
    """Yield stores whose codecs run code, or are of no known kind, and folders that are links out of the
    store.
    """
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
        for words in users("source2.zarr")[:4]:

            def edit(path: Path, filters: tuple = filters) -> None:
                only_files(path)
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

            def edit3(path: Path, codec: str = codec) -> None:
                only_files(path)
                for file in metadata(path):
                    values = json.loads(file.read_text())
                    if values.get("node_type") == "array":
                        values["codecs"] = [{"name": codec, "configuration": {}}]
                        file.write_text(json.dumps(values))
                for chunk in chunks(path):
                    chunk.write_bytes(pickle)

            yield Case(chance.choice(users(fixture)), change(fixture, edit3), f"codec {codec}", refused=True)
    for fixture in ("source.zarr", "store.zarr", "forecast.zarr"):

        def linked(path: Path) -> None:
            folder = path / "t2m"
            shutil.move(folder, path.parent.parent / "elsewhere")
            folder.symlink_to(path.parent.parent / "elsewhere")

        for words in users(fixture):
            yield Case(
                words,
                change(fixture, linked),
                f"{fixture}: an array that is a link",
                refused=words[:1] != ("inspect",),
            )
