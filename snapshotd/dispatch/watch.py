"""What is kept outside the log: why an operation or a host waits, and how often a step was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from snapshotd.domain.operation import Failure


@dataclass(frozen=True, slots=True)
class Wait:
    """Why an operation or a host waits, and since when."""

    failure: Failure
    since: datetime


@dataclass(slots=True)
class Watch:
    """An active operation: how often it was looked at, and why it waits."""

    looked_at: tuple[int, int] = (0, 0)
    """The step's number and token: a new step, or a new token, begins to count anew."""
    looks: int = 0
    next_s: float = 0.0
    idle_since_s: float | None = None
    wait: Wait | None = None
    percent: int = 0
    """How far the hypervisor's job has come, as last reported."""


def still(known: Wait | None, failure: Failure, now: datetime) -> Wait:
    """Return a wait. It keeps its beginning while the reason stays the same."""
    began = known is not None and known.failure.reason == failure.reason
    return Wait(failure, known.since if began and known else now)
