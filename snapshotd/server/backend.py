"""What every servicer works with: the running core, the views, and who we are. Holds no rule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from snapshotd.api.v1.virtual_machine_pb2 import VirtualMachine as VmMessage
from snapshotd.application.hosts import Hosts
from snapshotd.application.overdue import overdue_since, way_out
from snapshotd.application.virtual_machines import VirtualMachines
from snapshotd.dispatch.watch import Wait
from snapshotd.domain.errors import NotFound
from snapshotd.domain.foreign_checkpoints import no_such_snapshot
from snapshotd.domain.host import HostRecord
from snapshotd.domain.ids import HostId, OperationName, SnapshotId, VmId, vm_of
from snapshotd.domain.operation import Failure, Operation
from snapshotd.domain.policy import Policy
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.vm_record import VmRecord
from snapshotd.monitoring.meters import Meters
from snapshotd.ports.clock import Clock
from snapshotd.ports.event_log import EventLog
from snapshotd.ports.ids import Ids
from snapshotd.ports.trouble import Trouble
from snapshotd.ports.views import ViewName, Views
from snapshotd.server.operation_messages import wait_of
from snapshotd.server.ownership import journals_wait
from snapshotd.server.resource_messages import vm_message
from snapshotd.server.runtime import Runtime
from snapshotd.server.sync import HostReports
from snapshotd.server.troubles import Troubles
from snapshotd.server.volume_claims import VolumeClaims
from snapshotd.server.watching import Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """The parts of one server."""

    runtime: Runtime
    vms: VirtualMachines
    hosts: Hosts
    reports: HostReports
    claims: VolumeClaims
    views: Views
    log: EventLog
    policy: Policy
    clock: Clock
    ids: Ids
    version: str
    installation_id: str
    started_at: datetime
    parts: Troubles = field(default_factory=Troubles)
    """What is wrong with parts of the daemon."""
    meters: Meters = field(default_factory=Meters)
    """What is counted for those who watch the service."""
    ending: Ending = field(default_factory=Ending)
    """Ends the calls that have no end."""

    async def seen(self, *views: ViewName) -> Views:
        """Return the views, once the named ones hold everything that a caller was told of.

        Raises ViewStopped, ViewBehind.
        """
        await self.views.reached(self.runtime.acknowledged, views)
        return self.views

    def wait(self, operation: Operation) -> Wait | None:
        """Return why an active operation waits: nothing can be recorded, or what the dispatcher knows of its host."""
        trouble = self.log.trouble()
        if trouble is not None:
            return Wait(Failure(reason=trouble.reason, message=trouble.message), trouble.since)
        return self.runtime.dispatcher.wait(operation.vm_id, operation.number)

    def overdue_since(self, operation: Operation) -> datetime | None:
        """Return since when an operation takes longer than its kind should; None: it does not."""
        watch = self.runtime.dispatcher.watch(operation.vm_id, operation.number)
        return overdue_since(operation, self.clock.now(), self.policy, watch.worked_at if watch else None)

    def why_overdue(self, operation: Operation) -> str:
        """Return why an active operation does not come forward, and what can be done about it, for people."""
        wait = wait_of(operation, self.wait(operation))
        why = f"{wait.failure.reason}: {wait.failure.text}" if wait else "Nothing is known to hold it up."
        return f"{why} {way_out(operation)}"

    def troubles(self) -> tuple[tuple[str, Trouble], ...]:
        """Return what is wrong with the service itself just now, with what is affected."""
        known = (("event log", self.log.trouble()), ("views", self.views.trouble()))
        told = [(subject, trouble) for subject, trouble in known if trouble is not None]
        # What the log refuses shows on each VM, and is told once.
        faults = [f for f in self.runtime.dispatcher.faults if f.defect or self.log.trouble() is None]
        vms = ((f"VM {f.vm_id}", Trouble(reason=f.reason, message=f.text, since=f.since)) for f in faults)
        return (*told, *self.parts.all(), *vms)

    def at_work(self) -> bool:
        """Return whether the service does all that it is there for."""
        return self.log.trouble() is None and self.views.trouble() is None and not self.parts.concern_all()

    async def needing(self, mark: str, most: int) -> tuple[Sequence[VirtualMachine], int]:
        """Return some VMs that need attention, by their mark (application/standing.py), and how many there are in all.

        They are in the order of their names. Others than those may come before them: not all are read for that.
        """
        marked = await self.vms.marked(mark)
        read, _ = await self.vms.load_each(marked[:most])
        return sorted(read, key=lambda vm: (vm.name, vm.vm_id)), len(marked)

    def why(self, host_id: HostId) -> Wait | None:
        """Return why nothing can be done on a host just now: no answer, no report, or journals of no use to us."""
        contact = self.runtime.dispatcher.reach.contact.get(host_id) or self.reports.refusals.get(host_id)
        last = self.reports.answers.get(host_id)
        return contact or journals_wait(host_id, last, self.installation_id, self.clock.now())

    async def host(self, host_id: HostId) -> HostRecord:
        """Return a registered host. Raises NotFound."""
        row = await (await self.seen("inventory")).host(host_id)
        if row is None:
            raise NotFound("host", host_id, "See `snapshotctl host list`.")
        return row

    async def vm(self, vm_id: VmId) -> VmRecord:
        """Return a VM that is registered, or was destroyed. Raises NotFound."""
        row = await (await self.seen("inventory")).vm(vm_id)
        if row is None or not row.readable:
            raise NotFound("virtual machine", vm_id, "See `snapshotctl vm list`, or register it.")
        return row

    def vm_told(self, vm: VmRecord, snapshots: Iterable[Snapshot]) -> VmMessage:
        """Return a VM as callers get it, with what is known of its limit and its last report."""
        return vm_message(vm, snapshots, self.policy.max_per_vm, self.observed(vm))

    def observed(self, vm: VmRecord) -> datetime | None:
        """Return as of when a VM's host last reported it; None: not since the start."""
        return self.runtime.dispatcher.observed.get(vm.host_id, vm.vm_id)

    async def snapshot(self, vm: VmRecord, snapshot_id: SnapshotId) -> Snapshot:
        """Return a snapshot of a VM, in whatever state. Raises NotFound."""
        row = await (await self.seen("tree")).snapshot(vm.vm_id, snapshot_id)
        if row is None:
            raise no_such_snapshot(vm, snapshot_id)
        return row

    async def operation(self, name: OperationName) -> Operation:
        """Return an operation, as it was last decided on, or else from the views. Raises NotFound."""
        kept = self.vms.known(vm_of(name)).operation(name)
        if kept is not None:
            return kept
        row = await (await self.seen("operations")).operation(name)
        if row is None:
            raise NotFound("operation", name, "See `snapshotctl operation list`.")
        return row
