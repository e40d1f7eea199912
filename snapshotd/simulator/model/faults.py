"""What a test has planned to go wrong: scripts killed at named actions, cmdlets that fail. Counts plans down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from snapshotd.simulator.hypervisor import Caller, HyperVError, ScriptKilled

CMDLETS: Final = (
    "Set-VM",
    "Checkpoint-VM",
    "Rename-VMSnapshot",
    "Restore-VMSnapshot",
    "Remove-VMSnapshot",
    "Start-VM",
    "Resume-VM",
    "Stop-VM",
    "Save-VM",
    "Suspend-VM",
)
"""Cmdlets that change something."""
PLACES: Final = ("before", "started", "after")
"""Places in a cmdlet where its script can be killed: nothing done, the job runs, the job is over."""


@dataclass(slots=True)
class _Failure:
    error_id: str
    message: str
    count: int


class Faults:
    """The plans. The host's lock is held by who calls."""

    def __init__(self) -> None:
        self._kills: dict[str, int] = {}
        self._failures: dict[tuple[str, bool], _Failure] = {}

    def plan_kill(self, at: str, count: int) -> int:
        """Plan that the next scripts that come to a place are killed, instead of what was planned for it.

        Returns how many of those had not come yet. Raises ValueError.
        """
        cmdlet, _, place = str(at).partition(":")
        if cmdlet not in CMDLETS or place not in PLACES:
            raise ValueError(f"no action {at!r}: use <cmdlet>:{'|'.join(PLACES)}, of {', '.join(CMDLETS)}")
        left = self._kills.get(at, 0)
        self._kills[at] = _count(count)
        return left

    def plan_failure(self, cmdlet: str, error_id: object, message: object, count: int, *, after_effect: bool) -> None:
        """Plan that the next calls of a cmdlet fail. Raises ValueError."""
        if cmdlet not in CMDLETS:
            raise ValueError(f"no cmdlet {cmdlet!r}: use one of {', '.join(CMDLETS)}")
        if not isinstance(error_id, str) or not error_id:
            raise ValueError(f"error_id {error_id!r} is none: name one, e.g. OperationFailed")
        if not isinstance(message, str):
            raise ValueError(f"message is no text: {message!r}")  # noqa: TRY004  (the control port's word for nonsense)
        self._failures[cmdlet, after_effect] = _Failure(error_id, message, _count(count))

    def kill_here(self, caller: Caller, cmdlet: str, place: str) -> None:
        """Kill the caller if that is planned for this place. Raises ScriptKilled if it is dead."""
        at = f"{cmdlet}:{place}"
        if self._kills.get(at, 0) > 0:
            self._kills[at] -= 1
            caller.kill()
        if caller.killed:
            raise ScriptKilled(at)

    def fail_here(self, cmdlet: str, *, after_effect: bool) -> None:
        """Fail if that is planned. Raises HyperVError."""
        failure = self._failures.get((cmdlet, after_effect))
        if failure is not None and failure.count > 0:
            failure.count -= 1
            raise HyperVError(failure.error_id, cmdlet, failure.message)


def _count(count: object) -> int:
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ValueError(f"count must be a whole number, 0 or more: {count!r}")
    return count
