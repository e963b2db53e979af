"""Joining the processes that ``torchrun`` started."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from .processes import Processes, ProcessLostError

TIMEOUT = timedelta(minutes=10)
"""Time after which a process that does not answer counts as lost."""
_SECONDS = 3  # that a lost connection waits for its cause to be reported


def launched() -> bool:
    """Return whether this process is one of several that ``torchrun`` or a compatible launcher started."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def joined(device: str) -> Iterator[tuple[Processes, str]]:
    """Join the other processes within a context; alone without ``torchrun``.

    Communication on GPUs uses nccl, on CPUs gloo. An error has the attribute
    ``already_reported`` if another process shows the same, or the one that it is a consequence of.

    Args:
        device: ``cpu``, ``cuda``, or a numbered GPU; with ``cuda`` each process uses the GPU of its local
            rank.

    Returns:
        The processes, and the device of this one.

    Raises:
        ProcessLostError: another process ended, or did not answer in time.
    """
    if not launched() or dist.is_initialized():
        yield Processes.current(), device
        return
    gpu = torch.device(device).type == "cuda"
    if gpu:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    store, rank, count = next(rendezvous("env://", timeout=TIMEOUT))
    processes = Processes(rank, count)
    with processes.connected():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if gpu else "gloo",
            store=PrefixStore("training", store),
            rank=rank,
            world_size=count,
            timeout=TIMEOUT,
        )
    try:
        with processes.connected():
            yield processes, device
    except BaseException as error:
        _announce(error, PrefixStore("errors", store))
        raise
    dist.destroy_process_group()


def _announce(error: BaseException, store: PrefixStore) -> None:
    """Mark an error unless this process is the one to show it."""
    lost = isinstance(error, ProcessLostError)
    text = f"{type(error).__name__}: {error}"
    mine = f"{os.getpid()} {text}"
    until = time.monotonic() + _SECONDS
    try:
        while lost and not store.check(["first"]):
            lost = time.monotonic() < until  # afterwards this error is the first one
            time.sleep(0.1)
        first = store.compare_set("first", "", mine).decode()
    except RuntimeError:  # the store ended with the process that had it
        return
    if first != mine and (lost or first.split(" ", 1)[-1] == text or isinstance(error, KeyboardInterrupt)):
        error.already_reported = True  # type: ignore[attr-defined]
