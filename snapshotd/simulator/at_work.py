"""Whether the hypervisor works on a VM in a way that a command has to wait for (docs/host-protocol.md, check 3)."""

from __future__ import annotations

from typing import Final

from snapshotd.api.v1.executor_pb2 import HostCommand, VmReport, VmStop
from snapshotd.simulator.effects import action_of

BESIDE: Final = {
    "vm_start": frozenset({"MERGE"}),
    "vm_stop": frozenset({"MERGE"}),
    "export_end": frozenset({"EXPORT", "JOB"}),
}
"""By action: activities that do not hold it up, neither its effect nor an observation of it. JOB: any JOB_<type>."""
BESIDE_LOOK: Final = {
    "vm_export": frozenset({"EXPORT", "JOB"}),
    "disk_export": frozenset({"EXPORT", "JOB"}),
    "disk_convert": frozenset({"EXPORT", "JOB"}),
}
"""Likewise for an observation alone: the fence must rise though the job that the action has begun is at work."""
_SHUTTING_DOWN: Final = frozenset({"Stopping", "ForceShutdown"})
"""States of a VM that is being shut down. A guest may hang in one for ever, and a turn-off gets the VM out (not
verified)."""


def is_at_work(command: HostCommand, report: VmReport) -> bool:
    """Return whether a command has to wait for what the hypervisor does to its VM."""
    action, observes = action_of(command), command.kind == HostCommand.OBSERVE
    harmless = set(BESIDE.get(action, ()))
    if observes:
        harmless |= BESIDE_LOOK.get(action, frozenset())
    turns_off = action == "vm_stop" and command.vm_stop.mode == VmStop.TURN_OFF
    # An observation raises the fence while the VM is between two powers, too: it may stay there for ever.
    if observes or (turns_off and report.host_state.removesuffix("Critical") in _SHUTTING_DOWN):
        harmless.add("STATE_CHANGE")
    return any(_word(activity) not in harmless for activity in report.activities)


def _word(activity: str) -> str:
    """Return an activity as the tables have it: JOB for a job of any type that has no word."""
    return "JOB" if activity.startswith("JOB_") else activity
