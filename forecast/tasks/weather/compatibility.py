"""Check of a checkpoint against a data set of initial states."""

import copy
from pathlib import Path

import numpy as np
import torch

from ....datasets.durations import format_duration, format_time
from ....datasets.store.fields import Fields
from ....fno.batch import Batch
from ....fno.memory import resident_memory, usable_memory
from ....fno.training.footprint import MemoryTracker, without_values
from ...checkpoint.folder import StoredCheckpoint
from ...checkpoint.weather import Checkpoint, load_checkpoint
from ...device import pick_device
from ...inference.initial_states import compare_states
from ..check import CheckReport, Findings, Memory, Volume, memory_problem

SUBJECT = "forecasts from a checkpoint"


def check_forecast(stored: StoredCheckpoint, store: str | Path | None, *, device: str | None) -> CheckReport:
    """Check whether a checkpoint can start from a data set, and what a step costs.

    Args:
        stored: the checkpoint.
        store: CF file or store with initial states; None checks the checkpoint alone.
        device: device of the model; a GPU where there is one by default.
    """
    findings = Findings()
    name = "cpu"
    with findings.collecting():
        name = pick_device(device)
    checkpoint: Checkpoint | None = None
    with findings.collecting():
        checkpoint = load_checkpoint(stored, "cpu")
    if checkpoint is None:
        return CheckReport(SUBJECT, name, findings.problems, findings.notes)
    volume = None
    if store is not None:
        volume = _check_states(checkpoint, store, findings)
    stepper = checkpoint.stepper
    weights = sum(t.nbytes for t in (*stepper.parameters(), *stepper.buffers()))
    memory = None
    try:
        step = _step_memory(checkpoint, name.split(":")[0])
        process = resident_memory() if name == "cpu" else 0
        total = usable_memory() if name == "cpu" else torch.cuda.mem_get_info(name)[1]
        memory = Memory(weights, step, 0, process, (0 if name == "cpu" else weights) + step + process, total)
        if not memory.fits:
            findings.add(memory_problem(memory, name, "use a smaller batch size, or another device"))
    except (NotImplementedError, RuntimeError):
        findings.notes.append("memory is unknown, since the model computes with values")
    return CheckReport(
        SUBJECT,
        name,
        findings.problems,
        findings.notes,
        parameters=sum(p.numel() for p in stepper.parameters()),
        memory=memory,
        volume=volume,
    )


def _check_states(checkpoint: Checkpoint, store: str | Path, findings: Findings) -> Volume | None:
    """Compare variables, units, levels, grid and times, and return the volume of the initial states."""
    fields: Fields | None = None
    with findings.collecting():
        problems, fields = compare_states(checkpoint, store)
        for problem in problems:
            findings.add(problem)
    if fields is None:
        return None
    window = checkpoint.stepper.window
    step = checkpoint.step.astype("timedelta64[ns]")
    times = fields.times
    offsets = np.arange(1 - window, 1) * step
    complete = np.isin(times[:, None] + offsets, times).all(axis=1)
    if not complete.any():
        findings.add(
            f"{store} has no {window} states {format_duration(checkpoint.step)} apart, from which the model "
            f"starts; it has {len(times)} times from {format_time(times[0])} to {format_time(times[-1])}"
        )
        return None
    per_sample = window * int(np.prod(fields.shape[1:])) * 4
    return Volume(
        samples=int(complete.sum()),
        steps=0,
        bytes_per_sample=per_sample,
        training_bytes=len(times) * per_sample // window,
        written_bytes=0,
    )


def _step_memory(checkpoint: Checkpoint, device: str) -> int:
    """Return the largest memory of the tensors of a forecast step of one initial time [bytes]."""
    channels, rows, columns = checkpoint.stepper.mask.shape
    forcings = len(checkpoint.forcings)
    window = checkpoint.stepper.window
    stepper = copy.deepcopy(checkpoint.stepper).to("meta")
    with without_values(device):
        batch = Batch(
            torch.zeros(1, window, channels, rows, columns),
            torch.zeros(1, 2, channels, rows, columns),
            torch.zeros(1, 2, forcings, rows, columns),
        )
        with MemoryTracker() as tracker, torch.no_grad():
            stepper(batch.state, batch.background, batch.forcing)
    return int(tracker.peak)
