"""The work of one attempt: to run a forecast, or to verify it, in a separate folder.

It runs in a separate process and does not use the ledger.
"""

import json
import logging
import subprocess
import traceback
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import xarray as xr

from ... import __version__
from ...datasets.adapters.sources import open_sources
from ...datasets.errors import IncompleteDataError
from ...fno.references import trusting
from ..checkpoint.weather import Checkpoint
from ..inference.forecaster import Forecaster
from ..inference.initial_states import initial_states
from ..inference.initial_times import parse_lead, parse_times
from ..inference.open import open_forecast
from ..verification.plots import plot
from .attempts import Attempt, Work
from .commands import hook_environment, resolve
from .manifests import Manifest, checksum
from .publishing import output_store_at
from .results import ErrorResult, ForecastResult, VerificationResult, WaitingResult, WorkerResult
from .spec import Files, Job, Plot
from .times import format_cycle

log = logging.getLogger(__name__)

DATA_MISSING = 75
"""Exit code of a ``prepare`` command whose data are not there yet (``EX_TEMPFAIL`` of sysexits.h)."""


def run_attempt(attempt: Attempt) -> WorkerResult:
    """Return the result of an attempt, errors included."""
    try:
        attempt.scratch.mkdir(parents=True, exist_ok=True)
        if attempt.work is Work.VERIFICATION:
            return verify_forecast(attempt)
        return make_forecast(attempt)
    except (ValueError, OSError) as error:
        return ErrorResult(" ".join(str(error).split()) or type(error).__name__)
    except Exception as error:  # noqa: BLE001  the ledger records any error
        traceback.print_exc()
        return ErrorResult(f"{type(error).__name__}: {' '.join(str(error).split())}")


def make_forecast(attempt: Attempt) -> ForecastResult | WaitingResult:
    """Make, check and draw a forecast in the folder of the attempt.

    Returns:
        The forecast, or the reason why its initial state is not there yet.

    Raises:
        OSError, ValueError: the forecast cannot be made.
    """
    job = attempt.job
    cycle = format_cycle(attempt.cycle)
    if waiting := _prepare(attempt):
        return waiting
    with trusting(*(attempt.folder / folder for folder in job.trust)):
        forecaster = Forecaster.load(attempt.folder / job.checkpoint, job.device)
    checkpoint = forecaster.checkpoint
    try:
        source = _open_source(attempt)
        states = initial_states(checkpoint, source)
        times = parse_times(cycle, states, checkpoint.stepper.window)
    except FileNotFoundError as error:
        return WaitingResult(" ".join(str(error).split()))
    try:
        states.positions(times, checkpoint.stepper.window, checkpoint.step)
    except ValueError as error:
        return WaitingResult(str(error))
    name = f"forecast{Path(job.output).suffix}"
    output = attempt.scratch / name
    try:
        _run(forecaster, job, cycle, source=source, times=times, output=output)
    except IncompleteDataError as error:
        return WaitingResult(str(error))
    check_forecast(output, parse_lead(job.lead, checkpoint.step) + 1)
    plots = _draw_plots(output, _default_plots(job, checkpoint) if job.plots is None else job.plots)
    manifest = Manifest(
        {
            "job": job.name,
            "cycle": cycle,
            "lead": job.lead,
            "checkpoint": forecaster.checkpoint.identity,
            "source": job.source if isinstance(job.source, str) else job.source.files,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "checksum": checksum(output),
        }
    )
    return ForecastResult(manifest, name, plots)


def _prepare(attempt: Attempt) -> WaitingResult | None:
    """Run the command ``prepare``; return the reason to wait where its data are not there yet."""
    job = attempt.job
    if not job.prepare:
        return None
    command = resolve(job.prepare, job, attempt.cycle)
    environment = hook_environment(job, attempt.cycle)
    code = subprocess.run(
        command, cwd=attempt.folder, env=environment, stdin=subprocess.DEVNULL, check=False
    ).returncode
    if code == DATA_MISSING:
        return WaitingResult(f"the data are not there yet, according to the prepare command {command[0]}")
    if code:
        raise ValueError(f"the prepare command {command[0]} ended with {code}")
    return None


def _open_source(attempt: Attempt) -> str | xr.Dataset:
    """Return the path or URL of the store with the initial states, or the data set of the files with them."""
    source = attempt.job.source
    if not isinstance(source, Files):
        return source if "://" in source else str(attempt.folder / source)
    paths = [str(attempt.folder / attempt.job.fill(path, attempt.cycle)) for path in source.files]
    return open_sources(paths, units=source.units, layout=source.layout, follow_links=source.follow_links)


def _run(
    forecaster: Forecaster,
    job: Job,
    cycle: str,
    *,
    source: str | xr.Dataset,
    times: np.ndarray,
    output: Path,
) -> None:
    forecaster.run(
        source,
        times=times,
        lead=job.lead,
        grid=job.grid,
        area=job.area,
        output=output,
        variables=job.variables,
        overwrite=True,
        members=job.members,
        seed=job.seed,
        amplitude=job.amplitude,
        bounds=job.bounds,
        clip=job.clip,
        # Without the time of day, so that repeated attempts are the same bytes.
        history=f"{cycle}:00Z: job {job.name} (fourcaster {__version__})",
    ).close()


def check_forecast(path: Path, leads: int) -> None:
    """Check that a forecast is complete.

    Args:
        path: forecast.
        leads: expected number of lead times, the initial one included.

    Raises:
        ValueError: a lead time is missing, or a value that the initial state has.
    """
    forecast = open_forecast(path)
    available = forecast.sizes["prediction_timedelta"]
    if available != leads:
        raise ValueError(f"{path} has {available} of {leads} lead times")
    for name, variable in forecast.data_vars.items():
        initially_missing = ~np.isfinite(variable.isel(prediction_timedelta=0).values)
        for k in range(leads):
            missing = ~np.isfinite(variable.isel(prediction_timedelta=k).values)
            if (missing & ~initially_missing).any() or initially_missing.all():
                lead = forecast["prediction_timedelta"].values[k].astype("timedelta64[h]")
                raise ValueError(f"{path}: {name!r} is not finite at lead {lead}")


def _draw_plots(output: Path, plots: list[Plot]) -> list[str]:
    """Draw maps next to a forecast and return their names."""
    names = []
    for spec in plots:
        level = "" if spec.level is None else f"_{spec.level}"
        names.append(f"{spec.variable}{level}_{spec.lead}.png".replace("/", "_"))
        plot(
            output,
            variable=spec.variable,
            lead=spec.lead,
            output=output.parent / names[-1],
            level=spec.level,
            overwrite=True,
        )
    return names


def _default_plots(job: Job, checkpoint: Checkpoint) -> list[Plot]:
    """Return the map for a job that lists none: the first variable at the last lead time."""
    channel = next(c for c in checkpoint.channels if job.variables is None or c.variable in job.variables)
    return [Plot(variable=channel.variable, lead=job.lead, level=channel.level)]


def verify_forecast(attempt: Attempt) -> VerificationResult:
    """Score the published forecast of a cycle, and publish the scores and a report next to it.

    Raises:
        OSError, ValueError: the forecast cannot be scored.
    """
    from ..verification.report import write_report
    from ..verification.summary import summarize
    from ..verification.verify import verify

    job = attempt.job
    truth = attempt.folder / (job.truth or "")
    store = output_store_at(job, attempt.folder, local=attempt.scratch)
    name = job.output_name(attempt.cycle)
    forecast = store.fetch(name, attempt.scratch)
    stem = name.rpartition(".")[0]
    scores = verify(forecast, truth, attempt.scratch / "scores.nc", overwrite=True)
    store.attach(f"{stem}.scores.nc", attempt.scratch / "scores.nc")
    if job.report:
        write_report(forecast, truth, scores, output=attempt.scratch / "report.html", overwrite=True)
        store.attach(f"{stem}.report.html", attempt.scratch / "report.html")
    rows = [row.to_dict() for row in summarize(scores)]
    last = [row for row in rows if row["lead_hours"] == rows[-1]["lead_hours"]]
    levels = [f" {row['level']}" if row["level"] else "" for row in last]
    errors = [
        f"{row['variable']}{level} {row['rmse']['forecast']:.4g} {row['units']}"
        for row, level in zip(last, levels, strict=True)
    ]
    return VerificationResult(
        json.dumps(last), f"verified: rmse at {last[0]['lead_hours']:g} h {', '.join(errors)}"
    )
