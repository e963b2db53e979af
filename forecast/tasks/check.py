"""Result of a check before training or a forecast: mismatches, memory, time and volume of data."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from ...datasets.memory import format_bytes


@dataclass(frozen=True)
class Memory:
    """Largest memory of a run [bytes].

    Attributes:
        weights: parameters and buffers, their averages, best values and the moments of the optimizer.
        step: all other tensors of a training or validation step.
        data: states in memory, and batches that are prepared in advance.
        process: program and libraries; 0 on a GPU.
        peak: largest total at a time.
        available: memory of the machine, or of the GPU.
    """

    weights: int
    step: int
    data: int
    process: int
    peak: int
    available: int

    @property
    def fits(self) -> bool:
        """Whether the run fits into the memory."""
        return self.peak <= self.available


@dataclass(frozen=True)
class Duration:
    """Time of a run on this machine [s].

    Attributes:
        step: one optimizer step on one-step forecasts.
        preparation: reading the data, and computing their statistics.
        total: the whole run.
    """

    step: float
    preparation: float
    total: float


@dataclass(frozen=True)
class Volume:
    """Volume of the training data.

    Attributes:
        samples: number of samples per epoch.
        steps: number of optimizer steps of the run.
        bytes_per_sample: size of a one-step sample, with background and forcings, as it reaches the model.
        training_bytes: size of the states of the training and validation periods.
        written_bytes: largest size of checkpoint and saved states on the disk.
    """

    samples: int
    steps: int
    bytes_per_sample: int
    training_bytes: int
    written_bytes: int


@dataclass(frozen=True)
class CheckReport:
    """Result of ``check``.

    Attributes:
        subject: what was checked.
        device: device that it is checked for.
        problems: what prevents the run, one line each; empty if it can start.
        notes: remarks on what works differently than requested.
        parameters: number of trainable parameters; None where the model cannot be built.
        memory: largest memory; None where it cannot be estimated.
        duration: time; None where it was not measured.
        volume: volume of data; None without a store.
    """

    subject: str
    device: str
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    parameters: int | None = None
    memory: Memory | None = None
    duration: Duration | None = None
    volume: Volume | None = None

    @property
    def ready(self) -> bool:
        """Whether nothing prevents the run."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Return the values by name, as JSON can represent them."""
        return {"ready": self.ready, **asdict(self)}

    def lines(self) -> dict[str, Any]:
        """Return the values as texts by heading, for display."""
        result: dict[str, Any] = {"check": f"{self.subject}, on {self.device}"}
        if self.parameters is not None:
            result["parameters"] = f"{self.parameters:,}"
        if (m := self.memory) is not None:
            result["peak memory"] = f"{format_bytes(m.peak)} of {format_bytes(m.available)}"
            result["memory of"] = {
                name: format_bytes(getattr(m, name))
                for name in ("weights", "step", "data", "process")
                if getattr(m, name)
            }
        if (v := self.volume) is not None:
            result["data"] = (
                f"{format_bytes(v.training_bytes)}, {v.samples} samples per epoch, {v.steps} steps"
            )
            result["bytes per sample"] = v.bytes_per_sample
            result["written"] = format_bytes(v.written_bytes)
        if (d := self.duration) is not None:
            result["time"] = f"{format_seconds(d.total)}, {d.step:.3g} s per step"
        return result


def format_seconds(seconds: float) -> str:
    """Return a duration in a suitable unit.

    >>> format_seconds(90), format_seconds(8000)
    ('1.5 min', '2.2 h')
    """
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}" if unit == "d" else f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


class Findings:
    """Problems and notes that are collected during a check."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.notes: list[str] = []

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Add an error within the context to the problems instead of raising it."""
        try:
            yield
        except (ValueError, OSError) as error:
            self.add(str(error))

    def add(self, problem: str) -> None:
        """Add a problem as one line, once."""
        line = " ".join(problem.split())
        if line not in self.problems:
            self.problems.append(line)


def memory_problem(memory: Memory, device: str, hint: str) -> str:
    """Return the message for a run that does not fit into memory.

    Args:
        memory: estimate.
        device: device of the run.
        hint: what to change.
    """
    owner = "this machine" if device == "cpu" else f"the device {device}"
    return (
        f"the run needs about {format_bytes(memory.peak)} of memory, and {owner} has "
        f"{format_bytes(memory.available)}; {hint}"
    )
