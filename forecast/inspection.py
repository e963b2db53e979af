"""Summaries of stores, training runs, checkpoints, forecasts, simulations and foreign files."""

from pathlib import Path

from ..datasets.adapters.forecasts import canonical_forecast, is_forecast
from ..datasets.adapters.opening import open_lazily
from .monitoring.run import RunSummary, is_run, summarise_run
from .summaries import DataSummary, forecast_summary, source_summary, store_summary
from .tasks.base import CheckpointSummary
from .tasks.dispatch import describe_checkpoint
from .tasks.registry import task_that_wrote


def inspect(
    path: str | Path, lead_units: str | None = None, *, follow_links: bool = False
) -> DataSummary | CheckpointSummary | RunSummary:
    """Describe a store, a training run, a simulation, a checkpoint, an output of a model, or a CF file.

    A training run may be going on, or be interrupted.

    Args:
        path: file, folder or URL.
        lead_units: units of a forecast's lead times if it has none, e.g. ``hours``.
        follow_links: follow links within a store or file that lead out of it.

    Returns:
        A summary, whose attribute ``kind`` names what the path contains, and whose method ``to_dict`` returns
        JSON values: a ``StoreSummary``, ``SourceSummary``, ``ForecastSummary``, ``SimulationSummary`` or
        ``OutputSummary``, of a checkpoint a ``CheckpointSummary`` of its task, of the folder of a training
        run a ``RunSummary`` with that of its checkpoint.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: none of these.
    """
    source = str(path)
    folder = Path(path)
    if (folder / "meta.json").exists():
        return describe_checkpoint(folder)
    checkpoint = folder / "checkpoint"
    trained = (checkpoint / "meta.json").exists()
    if is_run(folder):
        return summarise_run(folder, describe_checkpoint(checkpoint).to_dict() if trained else None)
    if trained:
        return describe_checkpoint(checkpoint)
    dataset = open_lazily(source, follow_links=follow_links)
    if is_forecast(dataset):
        return forecast_summary(canonical_forecast(dataset, source, lead_units))
    if lead_units is not None:
        raise ValueError(f"{source} is not a forecast, so lead_units does not apply to it")
    if "time_step_seconds" in dataset.attrs:
        return store_summary(Path(path), follow_links=follow_links)
    if task := task_that_wrote(dataset.attrs):
        return task.describe_output(dataset)
    return source_summary(dataset, source)
