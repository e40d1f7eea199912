"""How long things take on a simulated host, and how long some are shown or hidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DURATIONS: Final = (
    *("checkpoint", "restore", "remove", "merge", "start", "shutdown", "turn_off", "save", "pause"),
    *("export", "import", "convert", "terminate"),
    *("status_delay", "listing_delay", "job_kept"),
)
"""What takes its time, in milliseconds; 0 unless it is set. The last three: until a job shows in the VM's status, until
a new checkpoint is listed, and until a job that has ended is not shown any more."""
_JOB_KEPT_MS: Final = 300_000
"""How long WMI shows a job that has ended, if nothing is set (documented)."""


class Durations:
    """The durations of one host.

    Args:
        durations: milliseconds, by name.

    Raises ValueError for one that makes no sense.
    """

    def __init__(self, durations: Mapping[str, int]) -> None:
        self._durations = {**dict.fromkeys(DURATIONS, 0), "job_kept": _JOB_KEPT_MS}
        self.change(durations)

    def change(self, durations: Mapping[str, int]) -> None:
        """Change how long things take. Raises ValueError."""
        for name, milliseconds in durations.items():
            if name not in DURATIONS:
                raise ValueError(f"no duration {name!r}: use {', '.join(DURATIONS)}")
            if type(milliseconds) is not int or milliseconds < 0:
                raise ValueError(f"duration {name} must be a whole number of milliseconds: {milliseconds!r}")
            self._durations[name] = milliseconds

    def seconds(self, name: str) -> float:
        """Return how long something takes; 0 if it is not set."""
        return self._durations[name] / 1000 if name else 0.0
