"""The task ``weather``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr
from torch import nn

from ....datasets.schema import Channel, describe_axes
from ....fno.progress import Progress
from ...checkpoint.description import ForecastDescription
from ...checkpoint.folder import StoredCheckpoint
from ...checkpoint.weather import grid_of_meta, load_checkpoint
from ...config.weather import WeatherConfig
from ...inference.forecaster import Forecaster
from ...inference.limits import parse_clip
from ...inference.open import open_forecast
from ...inference.records import read_records
from ...summaries import forecast_summary
from ..base import CheckpointSummary, MissingOptionError, Summary, Task, TrainResult, VerifyOptions
from ..check import CheckReport
from .check import check_training
from .compatibility import check_forecast
from .training import train


@dataclass(frozen=True)
class ForecastModelSummary(CheckpointSummary):
    """Summary of a forecast model.

    Attributes:
        model: section ``model`` of its configuration.
        variables: channels with their units.
        levels_hpa: pressure levels [hPa].
        grid: size and extent of the grid.
        step_hours: time step [h].
        input_states: number of consecutive states in the input.
        trained_on: first and last time of the training period.
        chosen_on: first and last time of the validation period, by which the weights were chosen.
        validation_score: score on it, None without validation data.
        versions: versions of the packages that wrote the checkpoint.
        sha256: checksum of the weights.
        forcings: inputs that are known in advance.
        parents: checksums of the checkpoints that training started from, the nearest first.
    """

    kind: str = field(default="checkpoint", init=False)
    model: dict[str, Any]
    variables: list[str]
    levels_hpa: list[int]
    grid: str
    step_hours: float
    input_states: int
    trained_on: list[str]
    chosen_on: list[str] | None
    validation_score: float | None
    versions: dict[str, str]
    sha256: str
    forcings: list[str] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)


class WeatherTask(Task):
    """Forecast models trained on a store of gridded data."""

    name = "weather"
    title = "forecast model"
    config = WeatherConfig
    can_fork = True
    distributed = True
    description = ForecastDescription
    run_options = frozenset(
        {
            "init",
            "time",
            "lead",
            "grid",
            "area",
            "variables",
            "batch_size",
            "members",
            "seed",
            "amplitude",
            "bounds",
            "clip",
            "follow_links",
        }
    )
    verify_options = frozenset({"report", "metrics", "area", "regrid", "lead_units", "follow_links"})
    grid = "degrees between points, on the model's kind of grid, or HxW points (odd H: rows on the poles)"

    def inputs(self, config: WeatherConfig) -> list[Path | None]:
        """Return the store, and the checkpoint that training starts from."""
        return [config.data.store, config.parent]

    def train(self, config: WeatherConfig, *, device: str | None, progress: Progress | None) -> TrainResult:
        """Train a forecast model, or resume an interrupted run."""
        return train(config, device=device, progress=progress)

    def child(self, stored: StoredCheckpoint) -> dict[str, Any]:
        """Return the configuration of the checkpoint, with the checkpoint as parent."""
        values = stored.describe(ForecastDescription).config.model_dump(mode="json", exclude={"output"})
        return values | {"parent": str(stored.path)}

    def check(self, config: WeatherConfig, *, device: str | None, probe_seconds: float) -> CheckReport:
        """Compare a configuration with its store, and estimate memory and time."""
        return check_training(config, device=device, probe_seconds=probe_seconds)

    def check_checkpoint(
        self, stored: StoredCheckpoint, store: Path | None, *, device: str | None
    ) -> CheckReport:
        """Compare a forecast model with initial states."""
        return check_forecast(stored, store, device=device)

    def load(self, stored: StoredCheckpoint, device: str | None) -> Forecaster:
        """Return a forecaster."""
        return Forecaster.load(stored, device)

    def load_network(self, stored: StoredCheckpoint) -> nn.Module:
        """Return the network of one time step, whose inputs and outputs are normalised."""
        network: nn.Module = load_checkpoint(stored).stepper.network
        return network

    def run_arguments(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of ``Forecaster.run``."""
        arguments = super().run_arguments(options)
        if arguments["init"] is None:
            raise MissingOptionError("init", "name the CF file or store that contains the input states")
        arguments["times"] = arguments.pop("time")
        arguments["variables"] = _names(arguments["variables"])
        arguments["clip"] = parse_clip(arguments["clip"] or [])
        return arguments

    def summarise_run(self, dataset: xr.Dataset, output: Path) -> Summary:
        """Return the layout of the forecast, and how much was clipped or outside the training range."""
        records = read_records(dataset)
        summary = forecast_summary(open_forecast(output)).to_dict()
        return Summary(summary | records.to_dict(), summary | records.describe())

    def verify(self, forecast: str, truth: Path, options: VerifyOptions) -> Summary:
        """Score a forecast against truth, persistence, damped persistence and climatology."""
        from ...verification.summary import notes, summarize
        from ...verification.verify import verify

        scores = verify(
            forecast,
            truth,
            options.output,
            metrics=options.metrics,
            area=options.area,
            regrid=options.regrid,
            lead_units=options.lead_units,
            overwrite=options.overwrite,
            follow_links=options.follow_links,
            progress=options.progress,
        )
        if options.report is not None:
            from ...verification.report import write_report

            write_report(
                forecast,
                truth,
                scores,
                output=options.report,
                metrics=options.metrics,
                area=options.area,
                regrid=options.regrid,
                lead_units=options.lead_units,
                overwrite=options.overwrite,
                follow_links=options.follow_links,
            )
        rows = [row.to_dict() for row in summarize(scores, options.metrics)]
        return Summary(rows, notes=notes(scores))

    def describe(self, stored: StoredCheckpoint) -> ForecastModelSummary:
        """Return model, channels, grid, training periods and score."""
        description = stored.describe(ForecastDescription)
        config = description.config
        meta = stored.meta
        axes = {name: meta[name] for name in grid_of_meta(stored).axes}
        channels = [Channel(**channel) for channel in meta["channels"]]
        return ForecastModelSummary(
            model=config.model.model_dump(mode="json"),
            variables=[f"{channel} [{channel.units}]" for channel in channels],
            levels_hpa=list(dict.fromkeys(c.level for c in channels if c.level is not None)),
            grid=describe_axes(xr.Dataset(coords=axes)),
            step_hours=meta["step_seconds"] / 3600,
            input_states=meta["window"],
            trained_on=meta["provenance"]["train_period"],
            chosen_on=meta["provenance"]["validation_period"],
            validation_score=meta["provenance"]["validation_score"],
            versions=meta["versions"],
            sha256=meta["sha256"],
            forcings=[
                *meta["forcings"],
                *(str(Channel(**c)) for c in meta.get("stored_forcings", {}).get("channels", ())),
            ],
            parents=[parent.checksum for parent in description.provenance.parents],
        )


def _names(text: str | None) -> list[str] | None:
    """Return comma-separated names."""
    return None if text is None else [name.strip() for name in text.split(",")]
