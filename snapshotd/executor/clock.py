"""The clock of an executor, so that tests can turn it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """Where the time comes from."""

    monotonic: Callable[[], float] = time.monotonic
    """Seconds; goes on while the process is stopped. Time of day is nobody's here: machines differ in it."""
