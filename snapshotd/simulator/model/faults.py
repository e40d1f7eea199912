"""The faults that a test has planned: scripts killed at named actions, cmdlets that fail. Counts plans down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from snapshotd.simulator.hypervisor import Caller, HyperVError, ScriptKilled, method_failed

METHODS: Final = ("ExportSystemDefinition", "ConvertVirtualHardDisk", "RequestStateChange")
"""Methods of WMI's."""
CMDLETS: Final = (
    "Set-VM",
    "Checkpoint-VM",
    "Rename-VMSnapshot",
    "Restore-VMSnapshot",
    "Remove-VMSnapshot",
    "Start-VM",
    "Resume-VM",
    "Restart-VM",
    "Stop-VM",
    "Save-VM",
    "Suspend-VM",
    "Import-VM",
    "Add-VMHardDiskDrive",
    "Remove-VMHardDiskDrive",
    "New-VHD",
    "Resize-VHD",
    "Set-VMProcessor",
    "Set-VMMemory",
    "New-VM",
    "Remove-VM",
    *METHODS,
)
"""Cmdlets, and methods of WMI's, that change something."""
READS: Final = ("Get-VHD", "Get-CimAssociatedInstance", "Get-CimInstance", "Compare-VM")
"""Cmdlets that change nothing; they can fail for one VM."""
PLACES: Final = ("before", "started", "after")
"""Places in a cmdlet where its script can be killed: nothing done, the job runs, the job is over."""


@dataclass(slots=True)
class _Failure:
    error_id: str
    message: str
    count: int


class Faults:
    """The plans. The caller holds the host's lock."""

    def __init__(self) -> None:
        self._kills: dict[str, int] = {}
        self._failures: dict[tuple[bool | str, ...], _Failure] = {}
        """By cmdlet, and whether it has had its effect; for one that reads: and the VM, or "" for any."""

    def plan_kill(self, at: str, count: int) -> int:
        """Plan that the next scripts that reach a place are killed, instead of what was planned for it.

        Returns how many of those had not come yet. Raises ValueError.
        """
        cmdlet, _, place = str(at).partition(":")
        if cmdlet not in CMDLETS or place not in PLACES:
            raise ValueError(f"no action {at!r}: use <cmdlet>:{'|'.join(PLACES)}, of {', '.join(CMDLETS)}")
        left = self._kills.get(at, 0)
        self._kills[at] = _count(count)
        return left

    def plan_failure(
        self, cmdlet: str, error_id: object, message: object, count: int, *, after_effect: bool, vm_id: str = ""
    ) -> None:
        """Plan that the next calls of a cmdlet fail; for one VM only if the cmdlet reads. Raises ValueError."""
        if cmdlet not in (*CMDLETS, *READS):
            raise ValueError(f"no cmdlet {cmdlet!r}: use one of {', '.join((*CMDLETS, *READS))}")
        if vm_id and cmdlet not in READS:
            raise ValueError(f"{cmdlet} fails for any VM: only {', '.join(READS)} for one")
        if not isinstance(error_id, str) or not error_id:
            raise ValueError(f"error_id {error_id!r} is none: name one, e.g. OperationFailed")
        if not isinstance(message, str):
            raise ValueError(f"message is no text: {message!r}")  # noqa: TRY004  (the control port's word for nonsense)
        which = vm_id if cmdlet in READS else after_effect
        self._failures[cmdlet, which] = _Failure(error_id, message, _count(count))

    def kill_here(self, caller: Caller, cmdlet: str, place: str) -> None:
        """Kill the caller if that is planned for this place. Raises ScriptKilled if it is dead."""
        at = f"{cmdlet}:{place}"
        if self._kills.get(at, 0) > 0:
            self._kills[at] -= 1
            caller.kill()
        if caller.killed:
            raise ScriptKilled(at)

    def fail_here(self, cmdlet: str, *, after_effect: bool) -> None:
        """Raise HyperVError if that is planned."""
        self._fail(cmdlet, after_effect)

    def fail_read(self, cmdlet: str, vm_id: str) -> None:
        """Raise HyperVError if that is planned for this VM or for any."""
        self._fail(cmdlet, vm_id)
        self._fail(cmdlet, "")

    def _fail(self, *at: bool | str) -> None:
        failure = self._failures.get(at)
        if failure is not None and failure.count > 0:
            failure.count -= 1
            if at[0] in METHODS:
                raise method_failed(str(at[0]), failure.error_id, failure.message)
            raise HyperVError(failure.error_id, str(at[0]), failure.message)


def _count(count: object) -> int:
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ValueError(f"count must be a whole number, 0 or more: {count!r}")
    return count
