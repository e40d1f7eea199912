"""What a report tells of beside its VM: whether files are there, and what has become of jobs. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from snapshotd.api.v1.executor_pb2 import HostCommand, JobReport
from snapshotd.simulator.hypervisor import HyperVError, Hypervisor, VhdView
from snapshotd.simulator.words import JOB_STATES


@dataclass(frozen=True, slots=True)
class Watched:
    """What a report tells of beside the VM."""

    files: Sequence[str] = ()
    """Whether they are there."""
    jobs: Sequence[str] = ()
    """Their ids."""

    @classmethod
    def by(cls, command: HostCommand) -> Watched:
        """Return what a command names."""
        return cls(command.watched_files, command.watched_jobs)


NOTHING: Final = Watched()


def check_rights(host: Hypervisor) -> None:
    """Check that the account can be relied on to see VMs. Raises HyperVError."""
    if not host.manages():
        text = (
            "The account that snapshotd signs in with may not see the host's VMs: WMI shows it no "
            "Msvm_VirtualSystemManagementService. Make it a member of Hyper-V Administrators. On the host, as an "
            "administrator: Add-LocalGroupMember -SID S-1-5-32-578 -Member '<account>'"
        )
        raise HyperVError("RightsMissing,snapshotd", "Get-VM", text)


def told_job(host: Hypervisor, job_id: str) -> JobReport:
    """Return a job by its id. One that is not shown is gone only if the account may see jobs at all."""
    job = host.job(job_id)
    if job is None:
        check_rights(host)
        return JobReport(id=job_id, state=JobReport.GONE)
    state = JOB_STATES.get(job.state, JobReport.RUNNING)
    error = (job.error or f"JobState {job.state}") if state == JobReport.FAILED else ""
    return JobReport(id=job_id, type=job.job_type, state=state, percent=job.percent, error=error)


def find_file(host: Hypervisor, path: str) -> VhdView | None:
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


def is_there(host: Hypervisor, path: str) -> bool:
    """Return whether a file or a folder of that name is on the disk. Raises HyperVError if that cannot be told."""
    return Path(path).exists() or find_file(host, path) is not None


def told_files(host: Hypervisor, watched: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the watched files that are on the disk, and those of which nobody can tell."""
    existing, unknown = [], []
    for path in watched:
        try:
            if find_file(host, path) is not None or Path(path).is_file():
                existing.append(path)
        except HyperVError:
            unknown.append(path)
    return existing, unknown
