"""States of a cycle, states of a claim, and reasons to stop an attempt.

The values of ``CycleState`` are those in the ledger, in ``status.json`` and in ``metrics.prom``.
"""

from enum import StrEnum


class CycleState(StrEnum):
    """State of a cycle in the ledger."""

    PENDING = "pending"
    WAITING = "waiting"  # for its data
    RETRYING = "retrying"
    RUNNING = "running"
    PUBLISHING = "publishing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REMOVING = "removing"
    REMOVED = "removed"  # by retention


OPEN_STATES = (CycleState.PENDING, CycleState.WAITING, CycleState.RETRYING)
CLAIMED_STATES = (CycleState.RUNNING, CycleState.PUBLISHING)
ENDED_STATES = (
    CycleState.DONE,
    CycleState.FAILED,
    CycleState.CANCELLED,
    CycleState.REMOVING,
    CycleState.REMOVED,
)


class ClaimState(StrEnum):
    """What the ledger answers when a claim to a cycle is renewed."""

    HELD = "held"
    LOST = "lost"
    CANCELLED = "cancelled"


class StopReason(StrEnum):
    """Why a running attempt is stopped."""

    DEADLINE = "deadline"
    SHUTDOWN = "shutdown"
    CANCELLED = "cancelled"
    LEASE_LOST = "lease lost"
    REQUESTED = "requested"  # by the scheduler of an attempt on a Dask worker
