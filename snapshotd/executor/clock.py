"""The two clocks of an executor, so that tests can turn them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """Where the time comes from."""

    utc_now: Callable[[], datetime] = _utc_now
    """For deadlines, which the server gives as times of day."""
    monotonic: Callable[[], float] = time.monotonic
    """For leases: seconds; goes on while the process is stopped."""
