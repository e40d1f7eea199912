"""Builds the host script's report of a VM from the hypervisor's objects. Changes nothing.

The words are docs/host-protocol.md's; how Hyper-V's states and statuses map onto them stands in words.py.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from snapshotd.api.v1.executor_pb2 import (
    ABSENT,
    CheckpointReport,
    DiskReport,
    FileReport,
    HostAnswer,
    HostCommand,
    HostError,
    HostFacts,
    JournalReport,
    Offering,
    VmReport,
)
from snapshotd.simulator.hypervisor import CheckpointView, DriveView, HyperVError, Hypervisor, VhdView, VmView
from snapshotd.simulator.journal import JournalEntry, JournalUnreadable, Phase, read_journal, try_to_write
from snapshotd.simulator.outputs import OUTPUTS, fits
from snapshotd.simulator.ownership import Ownership, read_host
from snapshotd.simulator.watched import NOTHING, Watched, check_rights, find_file, told_files, told_job
from snapshotd.simulator.words import JOBS_UNDER_WAY, activities, power_of

LARGEST_PART: Final = 1_000_000
"""Characters of JSON that the reports of one answer may have together, if the command does not say."""
JOURNAL_FAILED: Final = "JournalFailed,snapshotd"

_PHASE: Final[dict[Phase, JournalReport.Phase.ValueType]] = {
    "": JournalReport.PHASE_UNSPECIFIED,
    "BEGUN": JournalReport.BEGUN,
    "DONE": JournalReport.DONE,
}


def report_vm(host: Hypervisor, directory: Path, vm_id: str, watched: Watched = NOTHING) -> VmReport:
    """Return the report of one VM, present or not.

    Args:
        host: where it is.
        directory: of the journals.
        vm_id: the VM.
        watched: files and jobs that the report tells of.
    """
    return _report(host, directory, vm_id, host.vm(vm_id), watched)


def report_part(host: Hypervisor, directory: Path, command: HostCommand) -> HostAnswer:
    """Answer with as many VMs as fit, in the order of their ids. One that cannot be read does not stop the others."""
    views = sorted(host.vms(), key=lambda view: view.vm_id)
    if not views:
        check_rights(host)
    answer, size = HostAnswer(verdict=HostAnswer.REPORTED), 0
    for view in views:
        if view.vm_id <= command.after_vm_id.lower():
            continue
        report = _report_or_error(host, directory, view, Watched.by(command))
        size += len(json_format.MessageToJson(report, preserving_proto_field_name=True, indent=None))
        if answer.vms and size > (command.largest_part or LARGEST_PART):
            answer.more = True
            break
        answer.vms.append(report)
    return answer


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


class Living(Protocol):
    """A process that writes only while it lives."""

    def living(self) -> AbstractContextManager[None]:
        """Keep it alive inside. Raises ScriptKilled."""


def look(host: Hypervisor, directory: Path, command: HostCommand, process: Living) -> HostAnswer:
    """Return the answer to a command that only reads. A REPORT also tells why journals cannot be written."""
    if command.vm_id:
        report = report_vm(host, directory, command.vm_id, Watched.by(command))
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


def _report_or_error(host: Hypervisor, directory: Path, view: VmView, watched: Watched) -> VmReport:
    try:
        return _report(host, directory, view.vm_id, view, watched)
    except HyperVError as error:
        told = HostError(id=error.fully_qualified, message=str(error))
    except OSError as error:
        told = HostError(id=JOURNAL_FAILED, message=str(error))
    return VmReport(vm_id=view.vm_id, present=True, name=view.name, error=told)


def _report(host: Hypervisor, directory: Path, vm_id: str, view: VmView | None, watched: Watched) -> VmReport:
    entry: JournalEntry | None = None
    journal = JournalReport(state=JournalReport.MISSING)
    try:
        entry = read_journal(directory, vm_id)
        if entry is not None:
            journal = journal_report(entry)
    except JournalUnreadable:
        journal = JournalReport(state=JournalReport.UNREADABLE)
    existing, unknown = told_files(host, watched.files)
    watched_jobs = [told_job(host, job_id) for job_id in watched.jobs]
    if view is None:
        check_rights(host)
        return VmReport(
            vm_id=vm_id,
            present=False,
            power=ABSENT,
            journal=journal,
            existing_files=existing,
            unknown_files=unknown,
            jobs=watched_jobs,
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
        offering=_offering(view),
        generation=view.generation,
        jobs=watched_jobs,
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
        offering=_offering(view),
    )


def _offering(view: VmView | CheckpointView) -> Offering:
    return Offering(
        cpu_count=view.cpu_count,
        memory_bytes=view.memory_bytes,
        dynamic_memory=view.dynamic_memory,
        minimum_bytes=view.minimum_bytes,
        maximum_bytes=view.maximum_bytes,
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
    if any(fits(action, entry.output) for action in OUTPUTS):
        json_format.ParseDict(dict(entry.output), report.output)
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
            vhd = self._known[path] = find_file(self._host, path)
            path = vhd.parent_path if vhd else ""
        return disk

    def reports(self) -> list[FileReport]:
        """Return every file that was met."""
        return [
            _file_report(path, vhd) if vhd else FileReport(path=path, missing=True) for path, vhd in self._known.items()
        ]


def _file_report(path: str, vhd: VhdView) -> FileReport:
    return FileReport(
        path=path,
        parent_path=vhd.parent_path,
        file_bytes=vhd.file_bytes,
        size_bytes=vhd.size_bytes,
        identifier=vhd.identifier,
        minimum_bytes=vhd.minimum_bytes,
        vhd_type=vhd.vhd_type,
    )
