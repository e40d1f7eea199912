"""The clock of an executor; tests replace it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """The source of the time."""

    monotonic: Callable[[], float] = time.monotonic
    """Returns seconds; goes on while the process is stopped. Never the time of day: machines differ in it."""
