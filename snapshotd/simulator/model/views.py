"""The host's objects as cmdlets show them (hypervisor.py): VMs, checkpoints, drives, disk files. Changes nothing."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from snapshotd.simulator.hypervisor import CheckpointView, DriveView, JobView, VhdView, VmView
from snapshotd.simulator.model.exporting import job_view
from snapshotd.simulator.model.host import HostState
from snapshotd.simulator.model.machine import OFFERING, Checkpoint, Machine
from snapshotd.simulator.model.merging import Merging
from snapshotd.simulator.model.opened_files import opened_by
from snapshotd.simulator.model.volumes import checkpoint_bytes

_JOB_TYPES: Final = {
    "CreatingSnapshot": 70,
    "ApplyingSnapshot": 71,
    "DeletingSnapshot": 72,
    "ExportingVirtualMachine": 62,
}
"""Status word → JobType. What jobs change the power has no source, so none is shown."""
_MERGE: Final = 50
"""JobType of a merge."""


class HostViews:
    """What can be seen of a host.

    Args:
        host: what is seen.
        merging: says whether a VM's disks are merging.
    """

    def __init__(self, host: HostState, merging: Merging) -> None:
        self._host = host
        self._merging = merging

    def manages(self) -> bool:
        """Return whether the account may see VMs: it has lost its rights if all are hidden from it."""
        with self._host.changed:
            machines = self._host.machines.values()
            return not machines or not all(machine.hidden for machine in machines)

    def vms(self) -> Sequence[VmView]:
        """Return all VMs that are not hidden, by name, then id."""
        with self._host.changed:
            self._host.notice_files()
            machines = sorted(self._host.machines.values(), key=lambda m: (m.name, m.vm_id))
            return [self._vm(m) for m in machines if not m.hidden]

    def vm(self, vm_id: str) -> VmView | None:
        """Return a VM, unless it is hidden."""
        with self._host.changed:
            machine = self._host.machines.get(vm_id.lower())
            self._host.notice_files()
            return self._vm(machine) if machine and not machine.hidden else None

    def jobs(self, vm_id: str) -> Sequence[JobView]:
        """Return the jobs that WMI shows."""
        with self._host.changed:
            machine = self._host.machine(vm_id, "Get-CimAssociatedInstance")
            self._host.faults.fail_read("Get-CimAssociatedInstance", machine.vm_id)
            return self._jobs(machine)

    def all_jobs(self) -> Sequence[JobView]:
        """Return all jobs that WMI shows, those that have ended for as long as it does."""
        with self._host.changed:
            self._host.faults.fail_read("Get-CimInstance", "")
            shown = [job for m in self._host.machines.values() if not m.hidden for job in self._jobs(m)]
            known = {job.job_id for job in shown}
            kept = map(job_view, self._host.jobs.kept(self._host.duration_s("job_kept")))
            return [*shown, *(job for job in kept if job.job_id not in known)]

    def _jobs(self, machine: Machine) -> list[JobView]:
        job = self._host.jobs.of(machine.vm_id)
        shown = []
        if job and job.status in _JOB_TYPES:
            shown.append(JobView(_JOB_TYPES[job.status], job.percent(), job.state, job.job_id))
        if self._merging.pending(machine):
            shown.append(JobView(_MERGE, self._merging.percent(machine.vm_id), job_id=_merge_id(machine)))
        return shown

    def vhd(self, path: str) -> VhdView | None:
        """Return a virtual hard disk file."""
        with self._host.changed:
            self._host.notice_files()
            found = self._host.disks.find(path)
            if found is None or not Path(found[0]).exists():
                return None
            real, file = found
            self._host.faults.fail_read("Get-VHD", Path(real).parent.name)
            return VhdView(
                path=real,
                parent_path=file.parent,
                file_bytes=self._host.disks.file_bytes(real),
                size_bytes=file.size_bytes,
                minimum_bytes=self._host.disks.minimum_bytes(real),
                identifier=self._host.disks.identifier(real),
                vhd_type=file.vhd_type,
                attached=any(real in opened_by(self._host, machine) for machine in self._host.machines.values()),
            )

    def whole(self) -> dict[str, Any]:
        """Return everything, as plain JSON values, with the contents' digests: what a test compares with."""
        with self._host.changed:
            self._host.notice_files()
            return {
                "name": self._host.name,
                "clock_offset_s": self._host.clock_offset_s,
                "removed": {m.vm_id: sorted(m.leftovers) for m in self._host.removed.values()},
                "vms": [self._whole(m) for m in self._host.machines.values()],
            }

    def _vm(self, machine: Machine) -> VmView:
        job = self._host.jobs.of(machine.vm_id)
        merging = self._merging.pending(machine)
        # The words lag behind the job, and checkpoints are listed late, if a test says so (inferred; observed).
        delay_s = self._host.duration_s("status_delay")
        status = [job.status] if job and job.status and job.age_s() >= delay_s else []
        if merging and self._merging.age_s(machine.vm_id) >= delay_s:
            status.append("MergingDisks")
        # Not by their times: the host's clock may have been set since.
        since_s = time.monotonic() - self._host.duration_s("listing_delay")
        hidden = [s for c, s in machine.checkpoints.items() if self._host.made_s.get(c, -math.inf) > since_s]
        return VmView(
            vm_id=machine.vm_id,
            name=machine.name,
            state=(job.transition if job and job.transition else machine.state) + ("Critical" * machine.critical),
            checkpoint_type=machine.checkpoint_type,
            parent_snapshot_id=hidden[0].parent_id if hidden else machine.current_id,
            checkpoints=tuple(self._checkpoint(machine, s) for s in machine.checkpoints.values() if s not in hidden),
            drives=self._drives(machine, machine.disks),
            secondary_status=tuple(status),
            replica="REPLICA" in machine.blockers,
            blockers=tuple(machine.blockers),
            automatic_checkpoints=machine.takes_automatic_checkpoints,
            uptime_s=_seconds_since(machine.running_since),
            created_at=datetime.fromisoformat(machine.created_at) if machine.created_at else None,
            folder=self._host.folder(machine),
            settings=dict(machine.settings),
            generation=machine.generation,
            vss=machine.vss,
            shutdown_service=machine.shutdown_service,
            switch=machine.switch,
            **{name: getattr(machine, name) for name in OFFERING},
        )

    def _checkpoint(self, machine: Machine, checkpoint: Checkpoint) -> CheckpointView:
        memory_bytes = checkpoint.memory_bytes or machine.memory_bytes
        return CheckpointView(
            checkpoint_id=checkpoint.checkpoint_id,
            vm_id=machine.vm_id,
            vm_name=machine.name,
            name=checkpoint.name,
            parent_id=checkpoint.parent_id,
            created_at=datetime.fromisoformat(checkpoint.created_at),
            snapshot_type=checkpoint.snapshot_type,
            has_memory=checkpoint.has_memory,
            automatic=checkpoint.automatic,
            system_files_bytes=checkpoint_bytes(has_memory=checkpoint.has_memory, memory_bytes=memory_bytes),
            drives=self._drives(machine, checkpoint.disks),
            **{name: getattr(checkpoint, name) for name in OFFERING},
        )

    def _drives(self, machine: Machine, disks: Mapping[str, str]) -> tuple[DriveView, ...]:
        shared = "SHARED_DISK" in machine.blockers
        drives = [DriveView(location=at, path=path, shared=shared) for at, path in disks.items()]
        if "PASS_THROUGH_DISK" in machine.blockers:
            drives.append(DriveView(location="SCSI:0:63", path="", pass_through=True))
        return tuple(drives)

    def _whole(self, machine: Machine) -> dict[str, Any]:
        disks = self._host.disks
        job = self._host.jobs.of(machine.vm_id)
        return {
            "id": machine.vm_id,
            "name": machine.name,
            "state": machine.state,
            "automatic_checkpoints": machine.takes_automatic_checkpoints,
            "hidden": machine.hidden,
            "critical": machine.critical,
            "checkpoint_type": machine.checkpoint_type,
            "offering": {name: getattr(machine, name) for name in OFFERING},
            "memory": machine.memory,
            "current": machine.current_id,
            "checkpoints": [
                {
                    "id": s.checkpoint_id,
                    "name": s.name,
                    "parent": s.parent_id,
                    "has_memory": s.has_memory,
                    "memory": s.memory,
                    "automatic": s.automatic,
                    "type": s.snapshot_type,
                    "offering": {name: getattr(s, name) for name in OFFERING},
                    "disks": {at: disks.sha256(path) for at, path in s.disks.items()},
                }
                for s in machine.checkpoints.values()
            ],
            "disks": {
                at: {
                    "chain": list(disks.chain(path)),
                    "sha256": disks.sha256(path),
                    "size_bytes": disks.size_bytes(path),
                }
                for at, path in machine.disks.items()
            },
            "strays": list(machine.strays),
            "files": sorted({f for path in machine.files() for f in disks.own(path)}),
            "job": job.status or job.transition if job else "",
            "merging": self._merging.pending(machine),
        }


def _seconds_since(time: str) -> float:
    """Return how long ago a time of this machine's was; 0 for none, and for one to come."""
    return max(0.0, (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()) if time else 0.0


def _merge_id(machine: Machine) -> str:
    """Return the InstanceID of the merges of a VM: one after another, they are one job here."""
    return str(uuid.uuid5(uuid.UUID(machine.vm_id), "merge")).upper()
