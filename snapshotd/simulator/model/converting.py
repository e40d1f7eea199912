"""Conversions of disk files: what WMI's ConvertVirtualHardDisk does, to a dynamic VHDX that stands on nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from snapshotd.simulator.hypervisor import Caller, HyperVError, method_failed
from snapshotd.simulator.model.disks import digest
from snapshotd.simulator.model.exported import content_of, standalone
from snapshotd.simulator.model.host import Cause, HostState
from snapshotd.simulator.model.jobs import Job
from snapshotd.simulator.model.machine import Machine
from snapshotd.simulator.model.writing import check_volume, write_piece

CONVERT: Final = "ConvertVirtualHardDisk"
CONVERSION_JOB: Final = 6
"""JobType of an Msvm_StorageJob that converts (documented)."""


class Converting:
    """The conversions of one host.

    Args:
        host: who converts.
    """

    def __init__(self, host: HostState) -> None:
        self._host = host

    def convert_disk(self, caller: Caller, source: str, target: str) -> str:
        """Begin a conversion; return its job's id, or nothing if it is done already."""
        with self._host.changed:
            self._host.pass_by(caller, CONVERT, "before")
            if not target.lower().endswith(".vhdx") or not Path(target).is_absolute():
                raise method_failed(CONVERT, "InvalidParameter", f"{target!r} is no path of a VHDX")
            found = self._host.disks.find(source)
            if found is None or not Path(found[0]).exists():
                raise method_failed(CONVERT, "ObjectNotFound", f"there is no {source!r}")
            job = self._begin(caller, found[0], Path(target))
            self._host.pass_by(caller, CONVERT, "started")
            self._host.pass_by(caller, CONVERT, "after")
            return "" if job.over and job.error is None else job.job_id

    def _begin(self, caller: Caller, source: str, target: Path) -> Job:
        machine = self._user_of(source)
        cause = self._host.cause_of_none(caller) if machine is None else self._host.cause(caller, machine)
        job = Job(
            status="",
            transition="",
            lasts_s=lambda: self._host.duration_s("convert"),
            finish=lambda: "",
            job_type=CONVERSION_JOB,
            storage=True,
            cancellable=True,
        )

        def begin() -> None:
            text, content = standalone(self._host.disks, source), content_of(self._host.disks, source)[0]
            check_volume(self._host, target)
            if machine is not None and machine.state in ("Running", "Paused"):
                # Documented: offline only. That a file below the one that is written to is in use too is inferred.
                raise HyperVError("OperationFailed", CONVERT, f"'{source}' is in use by another process. (0x80070020)")
            if target.exists():
                raise HyperVError("OperationFailed", CONVERT, f"The file '{target}' exists. (0x80070050)")

            def done() -> str:
                detail = {"job": job.job_id, "source": source, "target": str(target), "sha256": digest(content)}
                self._tell(machine, cause, detail)
                return job.job_id

            job.steps += [
                lambda: write_piece(self._host, target, text, whole=False),
                lambda: write_piece(self._host, target, text, whole=True),
            ]
            job.finish = done

        job.steps = [begin]
        self._host.jobs.begin(job.job_id, job)
        return job

    def _user_of(self, path: str) -> Machine | None:
        """Return the VM that a file is in the chains of: a running one, if there is any."""
        disks = self._host.disks
        users = [
            machine
            for machine in self._host.machines.values()
            for used in (machine.disks, *(checkpoint.disks for checkpoint in machine.checkpoints.values()))
            if any(path in disks.chain(leaf) for leaf in used.values())
        ]
        return next((m for m in users if m.state in ("Running", "Paused")), users[0] if users else None)

    def _tell(self, machine: Machine | None, cause: Cause, detail: Mapping[str, object]) -> None:
        """Write down a conversion: on the VM whose disk it is, or on none."""
        if machine is not None and machine.vm_id in self._host.machines:
            self._host.record(machine, cause, "disk_converted", "", **detail)
        else:
            self._host.note(cause, "disk_converted", **detail)
