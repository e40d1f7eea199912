"""Hyper-V's states, statuses and jobs in the words of docs/host-protocol.md: tables, and what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from snapshotd.api.v1.executor_pb2 import PAUSED, RUNNING, SAVED, STOPPED, UNKNOWN, JobReport, Power
from snapshotd.simulator.hypervisor import JobView, VmView

POWER: Final[dict[str, Power.ValueType]] = {
    "Running": RUNNING,
    "Off": STOPPED,
    "Paused": PAUSED,
    "Saved": SAVED,
    "FastSaved": SAVED,
}
"""VMState → Power; any other state is UNKNOWN."""

TRANSITIONAL: Final = frozenset(
    {
        "Starting",
        "Stopping",
        "Saving",
        "Pausing",
        "Resuming",
        "Reset",
        "FastSaving",
        "ForceShutdown",
        "ForceReboot",
    }
)
"""States that pass by themselves: the activity STATE_CHANGE."""

ACTIVITY: Final = {
    "CreatingSnapshot": "CREATE",
    "ApplyingSnapshot": "APPLY",
    "DeletingSnapshot": "DELETE",
    "MergingDisks": "MERGE",
    "ExportingVirtualMachine": "EXPORT",
    "MigratingVirtualMachine": "MIGRATE",
    "MigratingPlannedVm": "MIGRATE",
    "StorageMigrationPhaseOne": "MIGRATE",
    "StorageMigrationPhaseTwo": "MIGRATE",
    "BackingUp": "BACKUP",
    "BackingUpVirtualMachine": "BACKUP",
}
"""SecondaryOperationalStatus → activity; one that is neither here nor a condition is OTHER, since waiting is safer."""

JOB_ACTIVITY: Final = {50: "MERGE", 62: "EXPORT", 70: "CREATE", 71: "APPLY", 72: "DELETE"}
"""Msvm_ConcreteJob.JobType → activity; another type is named by its number."""

JOBS_UNDER_WAY: Final = frozenset({2, 3, 4, 6})
"""Values of JobState: new, starting, running, shutting down."""

CONDITIONS: Final = frozenset(
    {
        "",
        "Ok",
        "Degraded",
        "PredictiveFailure",
        "Dormant",
        "SupportingEntityInError",
        "ApplicationCriticalState",
        "CommunicationTimedOut",
        "CommunicationFailed",
        "NoIommu",
        "NoIovSupportInNic",
        "SwitchNotInIovMode",
        "IovBlockedByPolicy",
        "IovNoAvailResources",
        "IovGuestDriversNeeded",
        "CriticalIoError",
    }
)
"""Statuses that describe the VM. They do not mean that the hypervisor works on it."""

JOB_STATES: Final = {
    7: JobReport.DONE,
    8: JobReport.FAILED,
    9: JobReport.FAILED,
    10: JobReport.FAILED,
    32768: JobReport.DONE,
}
"""JobState → state (32768: completed with warnings); any other one is RUNNING, since waiting is safer."""

_CRITICAL: Final = "Critical"


def power_of(state: str) -> Power.ValueType:
    """Return the power of a VMState. The suffix Critical says that storage or configuration cannot be reached."""
    return POWER.get(state.removesuffix(_CRITICAL), UNKNOWN)


def activities(view: VmView, jobs: Sequence[JobView]) -> list[str]:
    """Return what the hypervisor is doing to a VM, by its status words and the jobs under way, each once."""
    found = [ACTIVITY.get(word, "OTHER") for word in map(_by_name, view.secondary_status) if word not in CONDITIONS]
    found += [JOB_ACTIVITY.get(job.job_type, f"JOB_{job.job_type}") for job in jobs]
    if view.state.removesuffix(_CRITICAL) in TRANSITIONAL:
        found.append("STATE_CHANGE")
    return list(dict.fromkeys(found))


def _by_name(status: str) -> str:
    # The host's 32769 is not in PowerShell's enum, which has 23769 for it, so it prints as a number (source read).
    return "ApplyingSnapshot" if status in {"32769", "23769"} else status
