"""The whole workflow in one call: sample, ingest, train, run, verify, plot; finished stages are skipped."""

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ..datasets.adapters.sources import open_sources
from ..datasets.errors import DataError
from ..datasets.ingest.write import write_store
from ..datasets.sample import find_sample
from ..datasets.store import atomic
from ..datasets.store.locks import exclusive
from ..datasets.store.open import open_store
from ..datasets.store.outputs import check_replaceable, check_separate
from ..fno.progress import Progress
from .checkpoint.folder import fingerprint
from .inference.forecaster import Forecaster
from .planning import choose_recipe, initial_times, plan, split_of
from .tasks.dispatch import train
from .verification.plots import plot, plot_scores
from .verification.summary import ScoreRow, summarize
from .verification.verify import verify

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class QuickstartResult:
    """Result of a quickstart.

    Attributes:
        source: file of the data.
        simulated: whether the data are simulated, so that the scores do not measure skill.
        train_period: first and last time of the training period.
        initial_times: number of forecasts.
        first_initial_time: initial time of the first forecast.
        last_initial_time: initial time of the last forecast.
        parameters: number of parameters of the model.
        seconds: duration of each stage when it last ran [s].
        scores: scores by variable, level and lead time.
    """

    source: str
    simulated: bool
    train_period: list[str]
    initial_times: int
    first_initial_time: str
    last_initial_time: str
    parameters: int
    seconds: dict[str, float]
    scores: list[ScoreRow]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``scores.json``."""
        return asdict(self) | {"scores": [row.to_dict() for row in self.scores]}


@dataclass
class _Stages:
    """Record of finished stages, each identified by a hash of everything that it depends on.

    Attributes:
        folder: folder of the run.
        keys: hash of each finished stage.
        seconds: duration of each finished stage [s].
        last: hash of the previous stage.
    """

    folder: Path
    keys: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    last: str = ""

    def __post_init__(self) -> None:
        self.file = self.folder / "quickstart.json"
        if self.file.exists():
            stored = json.loads(self.file.read_text())
            self.keys = stored["keys"]
            self.seconds = stored["seconds"]

    def key(self, depends: Any) -> str:
        """Return the hash of a stage that depends on these values and on the previous stage."""
        return fingerprint([self.last, depends])

    def run(self, name: str, work: Callable[[], None], *, depends: Any, outputs: Sequence[str]) -> None:
        """Run a stage unless its outputs exist and were computed from the same inputs.

        Args:
            name: name of the stage.
            work: function that writes the outputs.
            depends: JSON values that the outputs depend on, besides the previous stage.
            outputs: names of the outputs in the folder.
        """
        self.last = self.key(depends)
        if self.keys.get(name) == self.last and all((self.folder / output).exists() for output in outputs):
            log.info("%s: already done", name)
            return
        start = time.monotonic()
        work()
        self.keys[name] = self.last
        self.seconds[name] = round(time.monotonic() - start, 1)
        atomic.write_file(
            self.file, json.dumps({"keys": self.keys, "seconds": self.seconds}, indent=1).encode()
        )


def quickstart(
    data: str | Path | None = None,
    out: str | Path = "quickstart",
    overrides: Sequence[str] = (),
    *,
    device: str | None = None,
    fresh: bool = False,
    progress: Callable[[str], Progress] | None = None,
) -> QuickstartResult:
    """Train a model, run and score its forecasts, and plot them.

    Args:
        data: CF file or zarr store; the sample of ``find_sample`` by default.
        out: folder for ``store.zarr``, ``checkpoint``, ``forecast.zarr``, ``scores.nc``, ``scores.json``,
            ``scores.png`` and ``map.png``.
        overrides: ``key=value`` for the recipe.
        device: ``cpu`` or ``cuda``; a GPU if there is one by default.
        fresh: remove the outputs of an earlier quickstart in the folder first.
        progress: returns the progress callback of a stage, given its name.

    Returns:
        What ``scores.json`` contains.

    Raises:
        FileNotFoundError: ``data`` does not exist.
        ValueError: unsuitable data, a wrong override, or the folder contains another run.
    """
    folder = Path(out)
    with exclusive(folder):
        return _quickstart(
            data,
            folder,
            overrides,
            device=device,
            fresh=fresh,
            show=progress or (lambda _: lambda *_: None),
        )


_OUTPUTS = {
    "store.zarr": "store",
    "checkpoint": "checkpoint",
    "forecast.zarr": "forecast",
    "scores.nc": "file of scores",
    "scores.json": "table of scores",
    "scores.png": "picture",
    "map.png": "picture",
}


def _start_over(folder: Path) -> None:
    """Remove the outputs of an earlier quickstart, after checking that they are nothing else."""
    for name, kind in _OUTPUTS.items():
        check_replaceable(folder / name, kind, overwrite=True)
    if (folder / "quickstart.json").is_file():
        for name in (*_OUTPUTS, "state", "quickstart.json"):
            atomic.remove(folder / name)


def _quickstart(
    data: str | Path | None,
    folder: Path,
    overrides: Sequence[str],
    *,
    device: str | None,
    fresh: bool,
    show: Callable[[str], Progress],
) -> QuickstartResult:
    """Run the stages in a folder; ``show`` returns the progress callback of a stage."""
    choose_recipe(overrides, globe=True)  # reports a wrong key before the ingest
    check_separate(folder / "store.zarr", [data])
    if fresh:
        _start_over(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stages = _Stages(folder)
    sample = find_sample(data, folder, show("sample"))
    store_path = folder / "store.zarr"
    forecast_path = folder / "forecast.zarr"
    scores_path = folder / "scores.nc"
    json_path = folder / "scores.json"
    chart_path = folder / "scores.png"
    map_path = folder / "map.png"

    source = [str(sample.path.absolute()), sample.path.stat().st_mtime_ns, sample.path.stat().st_size]
    if (folder / "checkpoint").exists() and stages.keys.get("ingest") not in (None, stages.key(source)):
        raise DataError(
            f"{folder} contains a run on other data; choose another folder, or start over", option="fresh"
        )
    report = show("ingest")

    def ingest() -> None:
        report(0, 1, f"from {sample.path}")
        write_store(open_sources([sample.path]), store_path, overwrite=True)
        report(1, 1, "done")

    stages.run("ingest", ingest, depends=source, outputs=["store.zarr"])
    store = open_store(store_path)
    config = plan(store, folder, overrides)

    def fit() -> None:
        train(config, device, show("train"))

    stages.run("train", fit, depends=config.model_dump(mode="json", exclude={"task"}), outputs=["checkpoint"])
    forecaster = Forecaster.load(folder / "checkpoint", device)
    window = forecaster.checkpoint.stepper.window
    times, steps = initial_times(store, split_of(store, config).test, window=window)
    lead = f"{steps * int(store.step / np.timedelta64(1, 's'))}s"

    def run() -> None:
        forecaster.run(
            store_path, times, lead, output=forecast_path, overwrite=True, progress=show("run")
        ).close()

    identity = forecaster.checkpoint.identity
    stages.run("run", run, depends=[identity, times.astype(str).tolist(), lead], outputs=["forecast.zarr"])

    def score() -> None:
        verify(forecast_path, store_path, scores_path, overwrite=True, progress=show("verify")).close()

    stages.run("verify", score, depends=None, outputs=["scores.nc"])
    with xr.open_dataset(scores_path, decode_timedelta=True) as opened:
        scores = opened.load()
    variable = next(iter(scores.data_vars))
    level = int(scores["level"][-1]) if "level" in scores[variable].dims else None
    day = np.timedelta64(1, "D")
    plotted_step = day if store.step <= day and steps * store.step >= day else store.step
    plotted_lead = f"{int(plotted_step / np.timedelta64(1, 's'))}s"

    def draw() -> None:
        report = show("plot")
        middle = str(times[len(times) // 2])
        plot(
            forecast_path,
            str(variable),
            plotted_lead,
            output=map_path,
            truth=store_path,
            time=middle,
            level=level,
            overwrite=True,
        )
        report(1, 2, "map")
        plot_scores(scores, chart_path, overwrite=True)
        report(2, 2, "scores")

    stages.run("plot", draw, depends=None, outputs=["map.png", "scores.png"])
    result = QuickstartResult(
        source=str(sample.path),
        simulated=sample.simulated,
        train_period=list(store.train_period),
        initial_times=len(times),
        first_initial_time=str(times[0]),
        last_initial_time=str(times[-1]),
        parameters=sum(p.numel() for p in forecaster.checkpoint.stepper.parameters()),
        seconds=stages.seconds,
        scores=summarize(scores),
    )
    with atomic.replacing(json_path, overwrite=True, kind="table of scores") as temporary:
        temporary.write_text(json.dumps(result.to_dict(), indent=1))
    return result
