"""Exports, and jobs by their ids: what WMI's ExportSystemDefinition and RequestStateChange do (docs/hyperv.md).

The job writes the export's files one after another over its time, each of them half first, so that one that is ended
early leaves a folder that is not complete, as a host does (inferred).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from snapshotd.simulator.hypervisor import Caller, HyperVError, JobView, method_failed
from snapshotd.simulator.model.exported import ALL, MACHINES, ONE, ONE_FOR_BACKUP, Export, Order, Piece, export_of
from snapshotd.simulator.model.host import Cause, HostState
from snapshotd.simulator.model.jobs import Job
from snapshotd.simulator.model.machine import Machine
from snapshotd.simulator.model.writing import check_volume, write_piece

EXPORT: Final = "ExportSystemDefinition"
TERMINATE: Final = "RequestStateChange"
EXPORT_JOB: Final = 62
"""JobType of an export."""


@dataclass(slots=True)
class _UnderWay:
    """An export that is being written."""

    machine: Machine
    cause: Cause
    export: Export
    folder: Path
    job_id: str = ""


class Exporting:
    """The exports of one host.

    Args:
        host: whose VMs are exported.
    """

    def __init__(self, host: HostState) -> None:
        self._host = host

    def export_vm(  # noqa: PLR0913  (as the port)
        self,
        caller: Caller,
        vm_id: str,
        directory: str,
        *,
        snapshots: int,
        snapshot_id: str = "",
        storage: bool = True,
        runtime: bool = True,
        subdirectory: bool = True,
        capture_live_state: int = 0,
        excluded: Sequence[str] = (),
        differential: bool = True,
    ) -> str:
        """Begin an export; return its job's id, or nothing if it is complete already."""
        with self._host.changed:
            machine = self._host.machine(vm_id, EXPORT, caller)
            self._host.pass_by(caller, EXPORT, "before")
            order = Order(
                snapshots=snapshots,
                snapshot_id=snapshot_id.lower() if snapshots in (ONE, ONE_FOR_BACKUP) else "",
                storage=storage,
                runtime=runtime,
                capture_live_state=capture_live_state,
                excluded=tuple(excluded),
                differential=differential,
            )
            _check(machine, directory, order)
            folder = Path(directory) / machine.name if subdirectory else Path(directory)
            if self._host.jobs.of(machine.vm_id) is not None:
                raise method_failed(EXPORT, "InvalidState", f"{machine.name} is busy")
            job = self._begin(machine, self._host.cause(caller, machine), order, folder)
            self._host.pass_by(caller, EXPORT, "started")
            self._host.pass_by(caller, EXPORT, "after")
            return "" if job.over and job.error is None else job.job_id

    def job(self, job_id: str) -> JobView | None:
        """Return a job by its id, for as long after its end as WMI shows it."""
        with self._host.changed:
            self._host.faults.fail_read("Get-CimInstance", "")
            found = self._host.jobs.find(job_id, self._host.duration_s("job_kept"))
            return job_view(found) if found is not None else None

    def terminate_job(self, caller: Caller, job_id: str) -> None:
        """End a job that has not ended."""
        with self._host.changed:
            self._host.pass_by(caller, TERMINATE, "before")
            job = self._host.jobs.find(job_id, self._host.duration_s("job_kept"))
            if job is None:
                raise method_failed(TERMINATE, "ObjectNotFound", f"there is no job {job_id}")
            if job.over or job.terminating or not job.cancellable:
                raise method_failed(TERMINATE, "InvalidState", f"job {job_id} cannot be terminated")
            self._host.jobs.terminate(job, lambda: self._host.duration_s("terminate"))
            self._host.pass_by(caller, TERMINATE, "started")
            self._host.pass_by(caller, TERMINATE, "after")

    def _begin(self, machine: Machine, cause: Cause, order: Order, folder: Path) -> Job:
        job = Job(
            status="ExportingVirtualMachine",
            transition="",
            lasts_s=lambda: self._host.duration_s("export"),
            finish=lambda: "",
            job_type=EXPORT_JOB,
            cancellable=True,
        )

        def gives_up(error: HyperVError) -> None:
            reason = "terminated" if job.terminating else str(error)
            self._host.record(machine, cause, "export_ended", order.snapshot_id, job=job.job_id, reason=reason)

        def exported(export: Export) -> Callable[[], str]:
            def finish() -> str:
                detail = {"job": job.job_id, "folder": str(folder), "contents": dict(export.contents)}
                self._host.record(machine, cause, "exported", order.snapshot_id, **detail)
                return job.job_id

            return finish

        def begin() -> None:
            detail = {"job": job.job_id, "folder": str(folder), "snapshots": order.snapshots}
            self._host.record(machine, cause, "export_begun", order.snapshot_id, **detail)
            self._host.check_files(machine, machine.disks, EXPORT)
            export = export_of(machine, self._host.disks, order)
            check_volume(self._host, folder)
            if (folder / MACHINES).exists():
                raise HyperVError("OperationFailed", EXPORT, f"The file '{folder}' exists. (0x80070050)")
            for piece in export.pieces:
                job.steps += [self._writing(folder, piece, whole=False), self._writing(folder, piece, whole=True)]
            job.finish = exported(export)

        job.gives_up = gives_up
        job.steps = [begin]
        self._host.begin(EXPORT, machine, job)
        return job

    def _writing(self, folder: Path, piece: Piece, *, whole: bool) -> Callable[[], None]:
        return lambda: write_piece(self._host, folder / piece.path, piece.text, whole=whole)


def job_view(job: Job) -> JobView:
    """Return what WMI shows of a job that can be asked for by its id."""
    error = "" if job.error is None else str(job.error)
    return JobView(job.job_type, job.percent(), job.state, job.job_id, error, job.storage)


def _check(machine: Machine, directory: str, order: Order) -> None:
    """Raise HyperVError for settings that make no sense; the codes of these are inferred."""
    if order.snapshots not in (ALL, 1, ONE, ONE_FOR_BACKUP) or order.capture_live_state not in (0, 1, 2):
        raise _invalid(f"CopySnapshotConfiguration {order.snapshots}, CaptureLiveState {order.capture_live_state}")
    if not Path(directory).is_absolute():
        raise _invalid(f"the directory {directory!r} is not fully qualified")
    if order.snapshots in (ONE, ONE_FOR_BACKUP) and order.snapshot_id not in machine.checkpoints:
        raise _invalid(f"{machine.name} has no checkpoint {order.snapshot_id!r}")
    places = set(machine.disks).union(*(c.disks for c in machine.checkpoints.values()))
    if unknown := sorted(set(order.excluded) - places):
        raise _invalid(f"no disk is at {', '.join(unknown)}")
    if order.excluded and order.snapshots == ALL:
        raise _invalid("no disk can be excluded where all checkpoints are exported")


def _invalid(what: str) -> HyperVError:
    return method_failed(EXPORT, "InvalidParameter", what)
