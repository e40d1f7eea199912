"""The sizes that logs are measured at, and the shapes that stand for them."""

from __future__ import annotations

import os
from typing import Final

from benchmarks.large_logs import Kept, Shape, kept, with_events

FULL: Final = os.environ.get("BENCH") == "full"
EVENTS: Final = (10_000, 100_000, 1_000_000, *((10_000_000,) if FULL else ()))
VMS: Final = (1_000, 10_000, 100_000)
_ACTIVE: Final = 100
"""How many operations have not ended, whatever the log's size."""


def log_of(events: int) -> Kept:
    """Return a log of that many events, of a tenth as many VMs, and always the same number of active operations."""
    return kept(with_events(events, events // 10, _ACTIVE))


def registered(vms: int) -> Kept:
    """Return a log of that many VMs, each of which has five snapshots, and nothing under way."""
    return kept(Shape((("with snapshots", vms),)))
