"""Checkpoints and published weights that are damaged or inconsistent."""

import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from .cases import (
    ANYTHING,
    CANARY,
    FIXTURES,
    REMOVED,
    SPECIAL_FILES,
    Case,
    as_json,
    change,
    damage,
    damaging,
    draw,
    kind,
    leaves,
    replaced,
    write,
)
from .fixtures import CHECKPOINTS, network_weights

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    10**9,
    10**30,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../../x",
    "\x1b[31mred",
    "a" * 100_000,
    [],
    {},
    [None],
    [[]],
    [1] * 10_000,
    {"": None},
    "2001-01-01",
    "NaT",
    "9**9**9",
    REMOVED,
)


def readers(folder: str, name: str) -> list[tuple[str, ...]]:
    """Return the command lines that load a checkpoint."""
    path = f"{folder}/{Path(name).name}"
    first = name.partition("/")[0]
    loads = {
        "run": ("run", path, "--init", f"{FIXTURES}/store.zarr", "--lead", "6h", "-o", "out/f.zarr"),
        "pinn": ("run", path, "--grid", "5x8", "-o", "out/u.nc"),
        "operator": ("run", path, "--init", f"{FIXTURES}/simulation.zarr", "-o", "out/f.zarr"),
        "network": ("export", path, "--format", "torch-export", "-o", "out/m.pt2", "--size", "8,8"),
    }
    return [
        ("inspect", path),
        ("inspect", path, "--json"),
        loads[first],
        ("export", path, "--format", "torch-export", "-o", "out/m.pt2"),
    ]


def edited(change_values: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Return an edit that changes the values of meta.json."""

    def edit(path: Path) -> None:
        file = path / "meta.json"
        file.write_text(json.dumps(change_values(json.loads(file.read_text()))))

    return edit


@kind("descriptions")
def descriptions(rng: random.Random) -> Iterator[Case]:
    """Yield checkpoints of each kind with one value of meta.json replaced or removed."""
    drawn = draw(ANYTHING, 200, rng)
    for name in CHECKPOINTS:
        for i in range(160):
            value = rng.choice(VALUES) if i % 2 else rng.choice(drawn)
            at = rng.random()

            def edit(values: Any, value: Any = value, at: float = at) -> Any:
                paths = [p for p in leaves(values) if len(p) < 6]
                path = paths[int(at * len(paths))]
                return {} if value is REMOVED and not path else replaced(values, path, as_json(value))

            words = rng.choice(readers("in", name))
            yield Case(words, change(name, edited(edit)), f"{name}: value {i} is {str(value)[:30]!r}")


SIZES = {
    "n_layers": 10**9,
    "depth": 10**9,
    "members": 10**7,
    "width": 20_000,
    "hidden_channels": 10**6,
    "n_modes": [10**5, 10**5],
    "embed_dim": 10**7,
    "lifting_channel_ratio": 1e12,
    "lmax": 10**6,
    "nodes": 10**9,
    "windows": 10**9,
    "harmonics": 10**9,
    "fourier_features": 10**9,
    "window": 10**9,
}


@kind("sizes")
def sizes(rng: random.Random) -> Iterator[Case]:
    """Yield descriptions of networks that exceed the memory of any machine."""
    for name in CHECKPOINTS:
        for key, value in SIZES.items():

            def edit(values: dict, key: str = key, value: Any = value) -> dict:
                def walk(inner: Any) -> Any:
                    if isinstance(inner, dict):
                        return {k: value if k == key else walk(v) for k, v in inner.items()} | (
                            {key: value} if "n_layers" in inner else {}
                        )
                    return [walk(v) for v in inner] if isinstance(inner, list) else inner

                return walk(values)

            yield Case(readers("in", name)[2], change(name, edited(edit)), f"{name}: {key} of {value}")


@kind("json")
def texts(rng: random.Random) -> Iterator[Case]:
    """Yield checkpoints whose meta.json is not a JSON object or not a regular file."""
    deep = {"lists": "[" * 100_000 + "]" * 100_000, "objects": '{"a":' * 100_000 + "1" + "}" * 100_000}
    whole = {
        "empty": "",
        "null": "null",
        "list": "[]",
        "number": "1",
        "text": '"x"',
        "NaN": "NaN",
        "bytes": b"\xff\xfe\x00",
        "long": "1" * 100_000,
    }
    whole |= {
        "duplicate key": '{"format_version": 1, "format_version": 2}',
        "large": "[" + "1," * 10_000_000 + "1]",
        "null byte": '{"a": "\\u0000"}',
    }
    for name in CHECKPOINTS:
        for label, text in (deep | whole).items():

            def edit(path: Path, text: str | bytes = text) -> None:
                (path / "meta.json").write_bytes(text.encode() if isinstance(text, str) else text)

            for words in readers("in", name)[::2][:2]:
                yield Case(words, change(name, edit), f"{name}: {label}", refused=True)
        for label, make in SPECIAL_FILES.items():
            for file in ("meta.json", "weights.safetensors"):

                def edit_file(path: Path, make: Any = make, file: str = file) -> None:
                    targets = [
                        p
                        for p in path.iterdir()
                        if p.name == file or (file != "meta.json" and p.suffix == ".safetensors")
                    ]
                    for target in targets:
                        target.unlink()
                        make(target)

                yield Case(
                    readers("in", name)[2],
                    change(name, edit_file),
                    f"{name}: {file} is a {label}",
                    refused=True,
                )


def weights_of(path: Path) -> Path:
    """Return the file of weights of a checkpoint."""
    return next(path.glob("*.safetensors"))


@kind("weights")
def weights(rng: random.Random) -> Iterator[Case]:
    """Yield damaged safetensors files, and headers that contradict the data."""
    for name in CHECKPOINTS:
        for i in range(30):
            edit = damaging(rng, weights_of)
            yield Case(readers("in", name)[2], change(name, edit), f"{name}: damage {i}", refused=True)
        for label, header in headers().items():

            def overwrite(path: Path, header: bytes = header) -> None:
                weights_of(path).write_bytes(header)

            yield Case(readers("in", name)[2], change(name, overwrite), f"{name}: {label}", refused=True)


def headers() -> dict[str, bytes]:
    """Return safetensors files with an invalid header."""

    def file(header: Any, size: int | None = None, data: bytes = b"") -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text) if size is None else size) + text + data

    tensor = {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4]}
    return {
        "a header of 2**60 bytes": file({}, 2**60),
        "a header of 2**63 bytes": file({}, 2**63),
        "an empty header": file({}),
        "a list as header": file([]),
        "a deep header": file(b"[" * 50_000 + b"]" * 50_000),
        "a large tensor": file({"a": tensor}, data=b"0000"),
        "offsets outside": file({"a": tensor | {"shape": [1], "data_offsets": [0, 2**40]}}, data=b"0000"),
        "reversed offsets": file({"a": tensor | {"shape": [1], "data_offsets": [4, 0]}}, data=b"0000"),
        "an overflow": file({"a": tensor | {"shape": [2**33, 2**33, 2**33]}}, data=b"0000"),
        "an unknown type": file({"a": tensor | {"dtype": "X99", "shape": [1]}}, data=b"0000"),
        "many tensors": file(
            {f"t{i}": tensor | {"shape": [0], "data_offsets": [0, 0]} for i in range(100_000)}
        ),
    }


class Malicious:
    """Object that runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {CANARY}",)


def archives() -> dict[str, bytes]:
    """Return hostile files of weights."""
    state = network_weights()

    def saved(values: Any, **options: Any) -> bytes:
        buffer = io.BytesIO()
        torch.save(values, buffer, **options)
        return buffer.getvalue()

    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        file.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        file.writestr("archive/version", "3")
        with file.open("archive/data/0", "w", force_zip64=True) as entry:
            for _ in range(3000):
                entry.write(bytes(2**20))
    path_traversal = io.BytesIO()
    with tarfile.open(fileobj=path_traversal, mode="w") as tar:
        info = tarfile.TarInfo("../../canary")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    many = {f"fno_blocks.convs.{i}.weight.tensor": torch.zeros(1) for i in (1_000_000_000, 7, 10**12)}
    return {
        "pickle": pickle.dumps(Malicious()),
        "pickle of old torch": saved(state | {"x": Malicious()}, _use_new_zipfile_serialization=False),
        "pickle of new torch": saved({"model": state, "x": Malicious()}),
        "zip bomb": bomb.getvalue(),
        "tar with path traversal": path_traversal.getvalue(),
        "blocks.1000000000": saved(state | many),
        "a billion layers": saved({f"blocks.{10**9}.filter.w1": torch.zeros(1)}),
        "empty": b"",
        "empty dict": saved({}),
        "list": saved([1, 2]),
        "numbers": saved({"a": 1}),
        "keys": saved({1: torch.zeros(1)}),
        "nan": saved({name: value * float("nan") for name, value in state.items()}),
        "strided": saved({name: torch.zeros(1).expand(10**9) for name in state}),
        "sparse": saved({name: torch.zeros(3, 3).to_sparse() for name in state}),
        "integers": saved(
            {name: torch.zeros(value.shape, dtype=torch.int64) for name, value in state.items()}
        ),
        "meta": saved({name: value.to("meta") for name, value in state.items()}),
    }


@kind("published")
def published(rng: random.Random) -> Iterator[Case]:
    """Yield published weights that are hostile or damaged, in every format."""
    files = archives()
    whole = io.BytesIO()
    torch.save(network_weights(), whole)
    for i in range(60):
        files[f"damage {i}"] = damage(whole.getvalue(), rng)
    arguments = {
        "neuraloperator": ("n_modes=4,4", "hidden_channels=4"),
        "fourcastnet": ("inp_shape=8,16",),
        "physicsnemo": ("inp_shape=8,16",),
    }
    for label, content in files.items():
        for format, more in arguments.items():
            if format != "neuraloperator" and label.startswith("damage"):
                continue
            words = ("import", "in/w.pt", "--format", format, "-o", "out/n", *more)
            yield Case(
                words, write("w.pt", content), f"{format}: {label}", refused=not label.startswith("damage")
            )
    for i, (key, value) in enumerate(
        (k, v)
        for k in ("n_modes", "hidden_channels", "n_layers", "domain_padding", "norm", "inp_shape")
        for v in VALUES[:-1]
    ):
        text = json.dumps({key: value}, default=str)
        words = (
            "import",
            f"{FIXTURES}/weights.pt",
            "--format",
            "neuraloperator",
            "-o",
            "out/n",
            "--config",
            "in/c.yaml",
        )
        yield Case(words, write("c.yaml", text), f"argument {i} {key}")
