"""Invalid values of every option of every verb, and outputs that cannot be written."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

from hypothesis import strategies as st

from .cases import FIXTURES, Case, change, draw, kind
from .fixtures import CHECKPOINTS, SIMULATION
from .option_values import (
    AREAS,
    CLIPS,
    DURATIONS,
    GRIDS,
    LEVELS,
    MEMORY,
    NAMES,
    NUMBERS,
    PAIRS,
    SIZES,
    TEXTS,
    TIMES,
)

STORE = f"{FIXTURES}/store.zarr"
FORECAST = f"{FIXTURES}/forecast.zarr"
RUN = f"{FIXTURES}/run/checkpoint"
BASES: dict[str, tuple[str, ...]] = {
    "ingest": ("ingest", f"{FIXTURES}/source.nc", "-o", "out/s.zarr"),
    "simulate": ("simulate", "burgers", "-o", "out/s.zarr", *(f"{k}={v}" for k, v in SIMULATION.items())),
    "inspect": ("inspect", STORE),
    "run": ("run", RUN, "--init", STORE, "--lead", "6h", "-o", "out/f.zarr"),
    "run pinn": ("run", f"{FIXTURES}/pinn/checkpoint", "-o", "out/f.zarr", "--grid", "5x8"),
    "run operator": (
        "run",
        f"{FIXTURES}/operator/checkpoint",
        "--init",
        f"{FIXTURES}/simulation.zarr",
        "-o",
        "out/f.zarr",
    ),
    "verify": ("verify", FORECAST, "--truth", STORE),
    "plot": ("plot", FORECAST, "--variable", "t2m", "--lead", "6h", "-o", "out/m.png"),
    "import": (
        "import",
        f"{FIXTURES}/weights.pt",
        "--format",
        "neuraloperator",
        "-o",
        "out/n",
        "n_modes=4,4",
        "hidden_channels=4",
    ),
    "export": (
        "export",
        f"{FIXTURES}/network",
        "--format",
        "torch-export",
        "-o",
        "out/m.pt2",
        "--size",
        "8,8",
    ),
    "quickstart": (
        "quickstart",
        "--data",
        f"{FIXTURES}/source.nc",
        "--out",
        "out/q",
        "train.epochs=1",
        "model.members=1",
    ),
}
OPTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "ingest": {
        "--variables": NAMES,
        "--levels": LEVELS,
        "--times": TIMES,
        "--step": DURATIONS,
        "--area": AREAS,
        "--select": PAIRS,
        "--member": NUMBERS,
        "--units": PAIRS,
        "--rename": PAIRS,
        "--static": NAMES,
        "--layout": TEXTS,
        "--grid": GRIDS,
        "--train-period": TIMES,
        "--memory": MEMORY,
        "--scheduler": ("local:0", "local:-1", "local:x", "local:1000000", "tcp://127.0.0.1:1", "x", ""),
        "--store": TEXTS,
    },
    "simulate": {
        f"{name}=": (*NUMBERS, ".nan", ".inf", "1000000000000", "[]", "true", "x")
        for name in (*SIMULATION, "samples", "seed", "nothing")
    },
    "inspect": {"--lead-units": TEXTS},
    "run": {
        "--time": TIMES,
        "--lead": DURATIONS,
        "--grid": GRIDS,
        "--refine": NUMBERS,
        "--area": AREAS,
        "--variables": NAMES,
        "--batch-size": NUMBERS,
        "--members": NUMBERS,
        "--seed": NUMBERS,
        "--amplitude": NUMBERS,
        "--clip": CLIPS,
        "--device": ("cuda", "cpu:99", "meta", "", "x", "cuda:99"),
    },
    "run pinn": {"--grid": GRIDS},
    "run operator": {"--refine": NUMBERS},
    "verify": {"--area": AREAS, "--lead-units": TEXTS},
    "plot": {
        "--variable": (*NAMES, *TEXTS),
        "--lead": DURATIONS,
        "--time": TIMES,
        "--level": NUMBERS,
        "--area": AREAS,
        "--lead-units": TEXTS,
    },
    "import": {
        "--format": TEXTS,
        "--inp-shape": SIZES,
        "--n-modes": SIZES,
        "--hidden-channels": NUMBERS,
        "--nothing": NUMBERS,
        "--patch-size": SIZES,
    },
    "export": {"--size": SIZES, "--format": TEXTS},
    "quickstart": {"--device": ("cuda:99", "", "x")},
}
OUTPUTS = (
    "",
    ".",
    "..",
    "/",
    "in",
    "out",
    "in/file/x",
    "in/file/x.zarr",
    "in/file",
    "in/link",
    "in/folder",
    "/dev/null",
    "/dev/full",
    "/dev/stdout",
    "/proc/x",
    "/sys/x.zarr",
    "a" * 300,
    "out/" + "a" * 300,
    "out/" + "x/" * 2500 + "y",
    "\x1b[31mred",
    "a\nb",
    "\udc80",
    "out/x.exe",
    "out/x.zarr/",
    "out/../out",
    "~",
    "-",
    "out/\u202eabc",
    "in/pipe",
    "in/dangling",
    "/nonexistent/x",
    "s3://bucket/x.zarr",
    "http://127.0.0.1:1/x.zarr",
    "file:///etc/passwd",
    "out//x",
    "con\u0000x",
)


@kind("valid")
def valid(rng: random.Random) -> Iterator[Case]:
    """Yield valid command lines, which show that the others fail because of their input."""
    for name, base in BASES.items():
        yield Case(base, None, name, accepted=True)
    small = ("train.epochs=1", "model.members=1")
    yield Case(("train", "in/config.yaml"), change("config.yaml"), "train", accepted=True)
    yield Case(
        ("train", "quickstart", f"data.store={STORE}", "output=out/run", *small),
        None,
        "train on a recipe",
        accepted=True,
    )
    weights = (
        "import",
        f"{FIXTURES}/weights.pt",
        "--format",
        "neuraloperator",
        "-o",
        "out/n",
        "--config",
        "in/import.yaml",
    )
    yield Case(weights, change("import.yaml"), "import", accepted=True)
    stores = (
        "source.zarr",
        "source2.zarr",
        "store.zarr",
        "forecast.zarr",
        "simulation.zarr",
        "solution.zarr",
    )
    for fixture in ("source.nc", "classic.nc", "forecast.nc", *stores):
        yield Case(("inspect", f"in/{fixture}"), change(fixture), f"inspect {fixture}", accepted=True)
        if fixture.startswith(("source", "classic")):
            yield Case(
                ("ingest", f"in/{fixture}", "-o", "out/s.zarr"),
                change(fixture),
                f"ingest {fixture}",
                accepted=fixture != "classic.nc",
            )
    for fixture in CHECKPOINTS:
        yield Case(
            ("inspect", f"in/{fixture.rpartition('/')[2]}"),
            change(fixture),
            f"inspect {fixture}",
            accepted=True,
        )


@kind("options")
def options(rng: random.Random) -> Iterator[Case]:
    """Yield each option with each of its invalid values, and with some texts."""
    for name, verb_options in OPTIONS.items():
        for option, values in verb_options.items():
            for value in (*values, *rng.sample(TEXTS, 4), *draw(st.text(max_size=30), 2, rng)):
                if "\x00" in value or (value.startswith("-") and not value[1:2].isdigit()):
                    continue
                words = (f"{option}{value}",) if option.endswith("=") else (option, value)
                yield Case((*BASES[name], *words), None, f"{name} {option} {value[:30]!r}", codes=(0, 2))
    for word in TEXTS:
        yield Case((word,), None, f"verb {word[:30]!r}")
        yield Case(("inspect", word), None, f"inspect {word[:30]!r}")
        for name in ("verify", "plot", "run", "export", "import", "ingest", "quickstart"):
            base = list(BASES[name])
            base[2 if name == "quickstart" else 1] = word
            yield Case(tuple(base), None, f"{name} {word[:30]!r}")


def _surroundings(folder: Path) -> None:
    """Write files, folders, links and a pipe that outputs must not replace."""
    (folder / "in" / "file").write_text("a file\n")
    (folder / "in" / "folder").mkdir()
    (folder / "in" / "folder" / "thesis.txt").write_text("precious\n")
    (folder / "in" / "link").symlink_to("folder")
    (folder / "in" / "dangling").symlink_to(folder.parent / "nowhere")
    os.mkfifo(folder / "in" / "pipe")
    (folder / "elsewhere").mkdir()
    (folder / "out" / "link").symlink_to(folder / "elsewhere")


@kind("outputs")
def outputs(rng: random.Random) -> Iterator[Case]:
    """Yield outputs that cannot be written or must not be replaced, with and without --overwrite."""
    for name, base in BASES.items():
        if name == "inspect":
            continue
        at = base.index("--out" if name == "quickstart" else "-o") + 1 if name != "verify" else len(base) + 1
        words = [*base, "-o", "out/scores.nc"] if name == "verify" else list(base)
        for target in OUTPUTS:
            if "\x00" in target or target.startswith("-"):
                continue
            words[at] = target
            more = ("--overwrite",) if rng.random() < 0.5 and name != "quickstart" else ()
            writable = (
                ("/proc", "/sys", "/nonexistent")
                if target.startswith(("/proc", "/sys", "/nonexistent"))
                else ()
            )
            yield Case((*words, *more), _surroundings, f"{name} to {target[:30]!r}", writable=writable)
        endings = {"run": ".nc", "plot": ".png", "verify": ".nc", "export": ".pt2"}
        for target in ("in/file/x", "/dev/full", "out/link/x", "out/" + "a" * 252, "out/new/x"):
            words[at] = target + endings.get(name, ".zarr" if name in ("ingest", "simulate") else "")
            yield Case(tuple(words), _surroundings, f"{name} to {words[at][:30]!r}")
    for target in (
        "in/file/x.html",
        "in/file",
        "/dev/full",
        "out/x.txt",
        "a" * 300 + ".html",
        "",
        "out/link/x.html",
    ):
        yield Case((*BASES["verify"], "--report", target), _surroundings, f"report to {target[:30]!r}")
    for target in ("", "/", ".", "in/file", "in/file/x", "/dev/null", "a" * 300, "in/pipe", "/proc/x"):
        yield Case(
            (
                "train",
                "quickstart",
                f"data.store={STORE}",
                f"output={target}",
                "train.epochs=1",
                "model.members=1",
            ),
            _surroundings,
            f"train to {target[:30]!r}",
            writable=("/proc",) if target.startswith("/proc") else (),
        )
