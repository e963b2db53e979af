"""Hostile or invalid YAML as configuration, jobs file, arguments of an import, and value of an override."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from .cases import ANYTHING, CANARY, SPECIAL_FILES, Case, create, draw, kind, leaves, replaced, write
from .fixtures import config


def bombs() -> dict[str, str | bytes]:
    """Return texts that are expensive to parse, run code, or are not valid YAML, by label."""
    aliases = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
    )
    merges = "b0: &b0 {k: 1}\n" + "".join(
        f"b{i}: &b{i}\n  <<: [{','.join([f'*b{i - 1}'] * 10)}]\n" for i in range(1, 9)
    )
    chain = (
        "c0: &c0 "
        + "[" * 35
        + "]" * 35
        + "\n"
        + "".join(f"c{i}: &c{i} {'[' * 35}*c{i - 1}{']' * 35}\n" for i in range(1, 60))
    )
    run = f"touch {CANARY}"
    return {
        "alias bomb": aliases,
        "merge bomb": merges,
        "nested aliases": chain,
        "recursive alias": "a: &a [*a]\n",
        "recursive merge": "a: &a\n  <<: *a\n",
        "deep flow lists": "a: " + "[" * 20_000 + "]" * 20_000,
        "deep flow maps": "a: " + "{a: " * 5_000 + "1" + "}" * 5_000,
        "deep blocks": "".join(" " * i + "a:\n" for i in range(600)),
        "deep block lists": "- " * 5_000 + "x",
        "python object": f"a: !!python/object/apply:os.system ['{run}']\n",
        "python subprocess": f"a: !!python/object/apply:subprocess.call [['touch', '{CANARY}']]\n",
        "python module": "a: !!python/module:antigravity\n",
        "python name": "a: !!python/name:os.system\n",
        "unknown tag": "a: !thing 1\n",
        "tag of a set": "!!set {a, b}\n",
        "binary": "a: !!binary aGVsbG8=\n",
        "duplicate key": "output: a\noutput: b\n",
        "list as key": "? [a, b]\n: 1\n",
        "map as key": "? {a: b}\n: 1\n",
        "two documents": "a: 1\n---\nb: 2\n",
        "many documents": "---\n" * 50_000,
        "only a text": "hello\n",
        "only a list": "[1, 2]\n",
        "only a number": "7\n",
        "empty": "",
        "only a comment": "# nothing\n",
        "null byte": b"data: a\x00b\n",
        "not text": bytes(range(256)) * 8,
        "utf-16": "data: {store: x}\n".encode("utf-16"),
        "latin-1": "data: {store: \xe9}\n".encode("latin-1"),
        "surrogate": b"data: {store: \xed\xa0\x80}\n",
        "long integer": "train: {epochs: " + "9" * 100_000 + "}\n",
        "long hexadecimal": "train: {epochs: 0x" + "f" * 100_000 + "}\n",
        "long base 60": "train: {epochs: " + ":".join(["59"] * 50_000) + "}\n",
        "long float": "train: {learning_rate: 1." + "9" * 100_000 + "}\n",
        "thirteenth month": "train: {seed: 2001-13-41}\n",
        "zone out of range": "train: {seed: 2001-01-01T00:00:00+99:99}\n",
        "large": "a: 1\n" * 400_000,
        "long line": "a: " + "x" * 3_000_000,
        "tabs": "a:\n\t- b\n",
        "unclosed": "a: [1, 2",
        "anchors": "".join(f"a{i}: &a{i} x\n" for i in range(30_000)),
        "escape codes": 'data: {store: "\\e[31mred\\e[0m"}\noutput: "\\e]0;title\\a"\n',
        "nan": "train: {learning_rate: .nan}\n",
        "infinite": "train: {learning_rate: .inf}\n",
        "yes for a number": "train: {epochs: yes}\n",
    }


def readers(name: str) -> list[tuple[str, ...]]:
    """Return the command lines that read a YAML file."""
    weights = "../fixtures/weights.pt"
    return [
        ("train", name),
        ("import", weights, "--format", "neuraloperator", "-o", "out/n", "--config", name),
        ("jobs", "status", name),
        ("jobs", "run-due", name),
    ]


@kind("yaml")
def files(rng: random.Random) -> Iterator[Case]:
    """Yield hostile YAML files for every verb that reads one."""
    for label, text in bombs().items():
        for words in readers("in/x.yaml"):
            yield Case(
                words,
                write("x.yaml", text),
                label,
                refused=words[0] != "import" or label not in ("empty", "only a comment"),
                codes=(0, 2),
            )
    for label, make in SPECIAL_FILES.items():
        for words in readers("in/x.yaml"):
            yield Case(words, create("x.yaml", make), label, refused=True)
    for name in (
        "/dev/zero",
        "/dev/null",
        "/dev/random",
        "/proc/kmsg",
        "in",
        "/",
        "",
        ".",
        "a\x00b",
        "x" * 300,
        "x/" * 3000,
        "\x1b[31mred",
        "\udc80",
    ):
        for words in readers(name):
            yield Case(words, None, f"named {name[:20]!r}", refused=True)


@kind("overrides")
def overrides(rng: random.Random) -> Iterator[Case]:
    """Yield hostile YAML as values of KEY=VALUE, and invalid keys."""
    base = ("train", "in/c.yaml")
    prepare = write("c.yaml", yaml.safe_dump(config()))
    for label, text in bombs().items():
        if isinstance(text, bytes) or len(text) > 100_000 or "\x00" in text:
            continue
        for key in ("train.epochs", "data", "model.n_modes"):
            plain = label.startswith(("only a", "empty", "tag of a set"))
            yield Case((*base, f"{key}={text}"), prepare, label, refused=not plain)
        yield Case(
            ("simulate", "burgers", "-o", "out/s.zarr", f"resolution={text}"), None, label, refused=True
        )
        yield Case(
            (
                "import",
                "../fixtures/weights.pt",
                "--format",
                "neuraloperator",
                "-o",
                "out/n",
                f"n_modes={text}",
            ),
            None,
            label,
        )
    for word in (
        "",
        "=",
        "a",
        "=1",
        "a=",
        "a.=1",
        ".a=1",
        "a..b=1",
        "train=1",
        "train.epochs.x=1",
        ".".join("a" * 3000) + "=1",
        "data=",
        "model=",
        "--=1",
    ):
        yield Case((*base, word), prepare, f"word {word[:20]!r}")
        yield Case(("simulate", "burgers", "-o", "out/s.zarr", word), None, f"word {word[:20]!r}")


@kind("config")
def configurations(rng: random.Random) -> Iterator[Case]:
    """Yield configurations with one value of another type or size, and invalid values of all keys."""
    values = config()
    paths = list(leaves(values))
    for i, value in enumerate(draw(ANYTHING, 250, rng)):
        path = rng.choice(paths)
        yield Case(
            ("train", "in/c.yaml"),
            _config(replaced(values, path, value)),
            f"{'.'.join(map(str, path))} replaced, {i}",
        )
    for key in keys():
        for value in (
            "1e12",
            "1000000000000",
            "1000000000000000000",
            "-1",
            "0",
            ".nan",
            ".inf",
            "true",
            "''",
            "null",
            "[]",
            "{}",
            "x",
        ):
            yield Case(("train", "in/c.yaml", f"{key}={value}"), _config(values), f"{key}={value}")
    for name in ("pinn/advection", "pino/burgers"):
        for key in physics_keys(name):
            for value in ("1000000000000", "-1", ".nan", ".inf", "true", "''", "[]", "1" + "0" * 400):
                small = (
                    ["train.iterations=1", "train.windows=1", "train.points=8"]
                    if name.startswith("pinn")
                    else ["train.epochs=1", "data.samples=4"]
                )
                yield Case(
                    ("train", name, "output=out/run", *small, f"{key}={value}"), None, f"{name} {key}={value}"
                )


def _config(values: Any) -> Callable[[Path], None]:
    """Return a function that writes a configuration; values that YAML cannot express skip the case."""

    def prepare(folder: Path) -> None:
        write("c.yaml", yaml.safe_dump(values))(folder)

    return prepare


def keys() -> list[str]:
    """Return the configuration keys of a forecast model that are checked before training starts."""
    from dataclasses import fields

    from fourcaster.fno.training.settings import TrainSettings
    from fourcaster.forecast.config.loss import LossConfig
    from fourcaster.forecast.config.weather import DataConfig, FNOConfig

    train = [f"train.{field.name}" for field in fields(TrainSettings)]
    return [
        *train,
        *(
            f"{n}.{k}"
            for n, m in (("data", DataConfig), ("model", FNOConfig), ("loss", LossConfig))
            for k in m.model_fields
        ),
        "output",
    ]


def physics_keys(name: str) -> list[str]:
    """Return the keys of a configuration for training on an equation."""
    from fourcaster.forecast.tasks.dispatch import load_config

    values = load_config(name, ["output=x"]).model_dump(mode="json")
    return [
        ".".join(map(str, path))
        for path in leaves(values)
        if len(path) == 2 and path[0] in ("equation", "train", "loss", "data", "model")
    ]
