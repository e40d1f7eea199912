"""Builds the host script's report of a VM from the hypervisor's objects. Changes nothing.

The words are docs/host-protocol.md's; how Hyper-V's states and statuses map onto them stands in the tables here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from snapshotd.api.v1.executor_pb2 import (
    ABSENT,
    PAUSED,
    RUNNING,
    SAVED,
    STOPPED,
    UNKNOWN,
    CheckpointReport,
    DiskReport,
    FileReport,
    HostAnswer,
    HostCommand,
    HostError,
    HostFacts,
    JournalReport,
    Power,
    VmReport,
)
from snapshotd.simulator.hypervisor import CheckpointView, DriveView, HyperVError, Hypervisor, JobView, VhdView, VmView
from snapshotd.simulator.journal import JournalEntry, JournalUnreadable, Phase, read_journal, try_to_write
from snapshotd.simulator.ownership import Ownership, read_host

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

JOBS_UNDER_WAY: Final = frozenset({2, 3, 4})
"""Values of JobState: new, starting, running."""

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

LARGEST_PART: Final = 1_000_000
"""Characters of JSON that the reports of one answer may have together, if the command does not say."""
JOURNAL_FAILED: Final = "JournalFailed,snapshotd"

_CRITICAL: Final = "Critical"
OUTPUTS: Final = {"checkpoint_create": {"checkpoint_id": str, "has_memory": bool}}
"""The fields of an action's output with their types; an action that is not in here has none."""

_PHASE: Final[dict[Phase, JournalReport.Phase.ValueType]] = {
    "": JournalReport.PHASE_UNSPECIFIED,
    "BEGUN": JournalReport.BEGUN,
    "DONE": JournalReport.DONE,
}


def report_vm(host: Hypervisor, directory: Path, vm_id: str, watched: Sequence[str]) -> VmReport:
    """Return the report of one VM, present or not.

    Args:
        host: where it is.
        directory: of the journals.
        vm_id: the VM.
        watched: files whose presence the report tells.
    """
    return _report(host, directory, vm_id, host.vm(vm_id), watched)


def report_part(host: Hypervisor, directory: Path, command: HostCommand) -> HostAnswer:
    """Answer with as many VMs as fit, in the order of their ids. One that cannot be read does not stop the others."""
    views = sorted(host.vms(), key=lambda view: view.vm_id)
    if not views:
        _check_rights(host)
    answer, size = HostAnswer(verdict=HostAnswer.REPORTED), 0
    for view in views:
        if view.vm_id <= command.after_vm_id.lower():
            continue
        report = _report_or_error(host, directory, view, command.watched_files)
        size += len(json_format.MessageToJson(report, preserving_proto_field_name=True, indent=None))
        if answer.vms and size > (command.largest_part or LARGEST_PART):
            answer.more = True
            break
        answer.vms.append(report)
    return answer


def _check_rights(host: Hypervisor) -> None:
    """Check that the account can be relied on to see VMs. Raises HyperVError."""
    if not host.manages():
        text = (
            "The account may not see the host's VMs: WMI shows it no Msvm_VirtualSystemManagementService. "
            "Make it a member of Hyper-V Administrators."
        )
        raise HyperVError("RightsMissing,snapshotd", "Get-VM", text)


def host_facts(host: Hypervisor, directory: Path) -> HostFacts:
    """Return the facts that every answer holds. The PowerShell version shows that the host is simulated."""
    try:
        known = read_host(directory) or Ownership("")
    except (JournalUnreadable, OSError):
        known = Ownership("")
    return HostFacts(
        name=host.name,
        os_version="10.0.20348",
        powershell="Desktop 5.1.20348.0 (simulated host, builtin engine)",
        installation_id=known.owner,
        former_installation_ids=known.former,
    )


def power_of(state: str) -> Power.ValueType:
    """Return the power of a VMState. The suffix Critical says that storage or configuration cannot be reached."""
    return POWER.get(state.removesuffix(_CRITICAL), UNKNOWN)


class Living(Protocol):
    """A process that writes only while it lives."""

    def living(self) -> AbstractContextManager[None]:
        """Keep it alive inside. Raises ScriptKilled."""


def look(host: Hypervisor, directory: Path, command: HostCommand, process: Living) -> HostAnswer:
    """Return the answer to a command that only reads. A REPORT also tells why journals cannot be written."""
    if command.vm_id:
        report = report_vm(host, directory, command.vm_id, command.watched_files)
        answer = HostAnswer(verdict=HostAnswer.REPORTED, vms=[report])
    else:
        answer = report_part(host, directory, command)
    if command.kind == HostCommand.REPORT:
        try:
            with process.living():
                try_to_write(directory)
        except OSError as error:
            answer.journal_error.CopyFrom(HostError(id=JOURNAL_FAILED, message=str(error)))
    return answer


def own_checkpoint_type(view: VmView, entry: JournalEntry | None) -> str:
    """Return the VM's own CheckpointType: the owed original, if one is owed and nobody else has set one since."""
    return entry.owed_checkpoint_type if entry and has_temporary_type(view, entry) else view.checkpoint_type


def has_temporary_type(view: VmView, entry: JournalEntry) -> bool:
    """Return whether the VM still has the CheckpointType that a command set, and no other one set since.

    Which one a restore brings back is not known beforehand: any counts.
    """
    temporary = entry.temporary_checkpoint_type
    return entry.owed_checkpoint_type != "" and temporary in ("", view.checkpoint_type)


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


def _report_or_error(host: Hypervisor, directory: Path, view: VmView, watched: Sequence[str]) -> VmReport:
    try:
        return _report(host, directory, view.vm_id, view, watched)
    except HyperVError as error:
        told = HostError(id=error.fully_qualified, message=str(error))
    except OSError as error:
        told = HostError(id=JOURNAL_FAILED, message=str(error))
    return VmReport(vm_id=view.vm_id, present=True, name=view.name, error=told)


def _report(host: Hypervisor, directory: Path, vm_id: str, view: VmView | None, watched: Sequence[str]) -> VmReport:
    entry: JournalEntry | None = None
    journal = JournalReport(state=JournalReport.MISSING)
    try:
        entry = read_journal(directory, vm_id)
        if entry is not None:
            journal = journal_report(entry)
    except JournalUnreadable:
        journal = JournalReport(state=JournalReport.UNREADABLE)
    existing, unknown = _watched(host, watched)
    if view is None:
        _check_rights(host)
        return VmReport(
            vm_id=vm_id,
            present=False,
            power=ABSENT,
            journal=journal,
            existing_files=existing,
            unknown_files=unknown,
        )
    files = _Files(host)
    jobs = [job for job in host.jobs(view.vm_id) if job.state in JOBS_UNDER_WAY]
    return VmReport(
        vm_id=view.vm_id,
        present=True,
        name=view.name,
        power=power_of(view.state),
        host_state=view.state,
        checkpoint_type=own_checkpoint_type(view, entry),
        current_checkpoint_id=view.parent_snapshot_id,
        checkpoints=[_checkpoint(checkpoint, files) for checkpoint in view.checkpoints],
        disks=[files.disk(drive) for drive in view.drives],
        activities=activities(view, jobs),
        percent=min((job.percent for job in jobs), default=0),
        snapshot_blockers=_blockers(view),
        cpu_count=view.cpu_count,
        memory_bytes=view.memory_bytes,
        is_replica=view.replica,
        journal=journal,
        existing_files=existing,
        unknown_files=unknown,
        files=files.reports(),
    )


def _checkpoint(view: CheckpointView, files: _Files) -> CheckpointReport:
    return CheckpointReport(
        checkpoint_id=view.checkpoint_id,
        name=view.name,
        parent_id=view.parent_id,
        created_at=_timestamp(view.created_at),
        checkpoint_type=view.snapshot_type,
        has_memory=view.has_memory,
        automatic=view.automatic,
        system_files_bytes=view.system_files_bytes,
        disks=[files.disk(drive) for drive in view.drives],
    )


def journal_report(entry: JournalEntry) -> JournalReport:
    """Return a readable journal as a report has it."""
    report = JournalReport(
        state=JournalReport.PRESENT,
        journal_id=entry.id,
        highest_token=entry.token,
        operation=entry.operation,
        step=entry.step,
        phase=_PHASE[entry.phase],
        begun_at=_timestamp(entry.begun_at),
        begun_token=entry.begun_token,
    )
    types = {name: type(value) for name, value in entry.output.items()}
    for action, fields in OUTPUTS.items():
        if types == fields and entry.output.get("checkpoint_id") != "":
            json_format.ParseDict({action: entry.output}, report)
    return report


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


def _blockers(view: VmView) -> list[str]:
    found = set(view.blockers)
    if any(drive.pass_through for drive in view.drives):
        found.add("PASS_THROUGH_DISK")
    if any(drive.shared for drive in view.drives):
        found.add("SHARED_DISK")
    if view.replica:
        found.add("REPLICA")
    return sorted(found)


def _file(host: Hypervisor, path: str) -> VhdView | None:
    """Return a file; None if it is missing, which can be said only where its directory can be listed.

    Raises HyperVError where it cannot: its storage is away.
    """
    found = host.vhd(path)
    if found is None and not Path(path).parent.is_dir():
        text = (
            f"Whether {path} is there is not known: its directory cannot be listed, or lists it and does not give it."
        )
        raise HyperVError("StorageUnreachable,snapshotd", "Get-VHD", text)
    return found


def _watched(host: Hypervisor, watched: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the watched files that are on the disk, and those of which nobody can tell."""
    existing, unknown = [], []
    for path in watched:
        try:
            if _file(host, path) is not None:
                existing.append(path)
        except HyperVError:
            unknown.append(path)
    return existing, unknown


class _Files:
    """The files of a VM's disks, each asked for once a report."""

    def __init__(self, host: Hypervisor) -> None:
        self._host = host
        self._known: dict[str, VhdView | None] = {}

    def disk(self, drive: DriveView) -> DiskReport:
        """Return a disk, and follow its chain down to its base; a file that is missing ends it."""
        path = "" if drive.pass_through else drive.path
        disk = DiskReport(location=drive.location, path=path)
        while path and path not in self._known:
            vhd = self._known[path] = _file(self._host, path)
            path = vhd.parent_path if vhd else ""
        return disk

    def reports(self) -> list[FileReport]:
        """Return every file that was met."""
        return [
            FileReport(path=path, parent_path=vhd.parent_path, file_bytes=vhd.file_bytes)
            if vhd
            else FileReport(path=path, missing=True)
            for path, vhd in self._known.items()
        ]
