"""Results of attempts, which another process writes: read within bounds and checked before use."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..text import one_line
from .files import read_small
from .manifests import Manifest, is_checksum
from .masking import mask
from .spec import Job

RESULT_FILE = "result.json"
_LARGEST_RESULT = 2**20  # bytes
_LARGEST_MANIFEST = 2**16  # characters
_MOST_PLOTS = 200
_LONGEST_NAME = 200  # bytes


@dataclass(frozen=True)
class ForecastResult:
    """A forecast that is complete and checked.

    Attributes:
        manifest: its manifest.
        output: name of the forecast in the folder of the attempt.
        plots: names of the maps in that folder.
        subfolder: folder of the attempt on a Dask worker, within the one of the cycle.
    """

    manifest: Manifest
    output: str
    plots: list[str]
    subfolder: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the result for JSON."""
        return {
            "manifest": self.manifest.values,
            "made": self.output,
            "beside": self.plots,
            "folder": self.subfolder,
        }


@dataclass(frozen=True)
class _TextResult:
    """Result that consists of a text, with the name ``key`` in JSON."""

    text: str
    key: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the result for JSON."""
        return {self.key: self.text}


@dataclass(frozen=True)
class WaitingResult(_TextResult):
    """The data of the initial state are not there yet; ``text`` is the reason."""

    key: ClassVar[str] = "waits"


@dataclass(frozen=True)
class ErrorResult(_TextResult):
    """The attempt failed; ``text`` is the reason."""

    key: ClassVar[str] = "error"


@dataclass(frozen=True)
class KilledResult(_TextResult):
    """The attempt was killed from outside; ``text`` describes how."""

    key: ClassVar[str] = "killed"


@dataclass(frozen=True)
class VerificationResult:
    """Scores of a published forecast.

    Attributes:
        scores: scores of the last lead time, as JSON.
        summary: a line for the log.
    """

    scores: str
    summary: str

    def to_dict(self) -> dict[str, Any]:
        """Return the result for JSON."""
        return {"scores": self.scores, "said": self.summary}


WorkerResult = ForecastResult | WaitingResult | ErrorResult | KilledResult | VerificationResult
_TEXT_RESULTS = (WaitingResult, ErrorResult, KilledResult)


def read_result(folder: Path, job: Job, cycle: str) -> WorkerResult:
    """Return the result that an attempt left in its folder.

    Args:
        folder: folder of the attempt.
        job: the attempted job.
        cycle: the attempted cycle.

    Raises:
        FileNotFoundError: it left none.
        OSError: not a regular file, or it cannot be read.
        ValueError: not a valid result.
    """
    try:
        return parse_result(json.loads(read_small(folder / RESULT_FILE, _LARGEST_RESULT)), job, cycle)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the attempt's result is not understood: {one_line(str(error), 200)}") from error


def parse_result(values: Any, job: Job, cycle: str) -> WorkerResult:
    """Return the result in JSON values.

    Args:
        values: JSON that an attempt returned.
        job: the attempted job.
        cycle: the attempted cycle.

    Raises:
        ValueError: not a valid result.
    """
    if not isinstance(values, dict):
        raise ValueError("it is no object of keys and values")
    for kind in _TEXT_RESULTS:
        if kind.key in values:
            return kind(one_line(mask(_text(values, kind.key))))
    if "scores" in values:
        return VerificationResult(_text(values, "scores"), one_line(mask(_text(values, "said"))))
    return _parse_forecast(values, job, cycle)


def _parse_forecast(values: dict[str, Any], job: Job, cycle: str) -> ForecastResult:
    manifest = values.get("manifest")
    if not isinstance(manifest, dict) or len(json.dumps(manifest)) > _LARGEST_MANIFEST:
        raise ValueError("it contains no manifest")
    if (manifest.get("job"), manifest.get("cycle")) != (job.name, cycle):
        raise ValueError(f"its manifest is of {manifest.get('job')} {manifest.get('cycle')}")
    if not is_checksum(manifest.get("checksum")):
        raise ValueError("its manifest lacks a checksum")
    output = values.get("made")
    if output != f"forecast{Path(job.output).suffix}":
        raise ValueError(f"it names {output!r}")
    plots = values.get("beside")
    if not isinstance(plots, list) or len(plots) > _MOST_PLOTS or not all(map(is_plot_name, plots)):
        raise ValueError("its names of plots are not valid")
    subfolder = values.get("folder", "")
    if not isinstance(subfolder, str) or not re.fullmatch(r"[0-9a-f]*", subfolder):
        raise ValueError(f"it names the folder {subfolder!r}")
    return ForecastResult(Manifest(manifest), output, plots, subfolder)


def is_plot_name(name: Any) -> bool:
    """Return whether a value is the file name of a plot, and not a path."""
    return (
        isinstance(name, str)
        and name.endswith(".png")
        and "/" not in name
        and "\0" not in name
        and len(name.encode(errors="replace")) < _LONGEST_NAME
    )


def _text(values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str):
        raise ValueError(f"its {key} is no text")
    return value
