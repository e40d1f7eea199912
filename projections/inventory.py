"""The inventory: hosts and VMs as they are on record."""

from __future__ import annotations

from typing import Final

from projections.projection import Projection, host_of, vm_of
from projections.rows import Rows, Table
from snapshotd.domain.events import AccessEvent, Envelope, HostEvent, VolumeEvent
from snapshotd.domain.host import HostRecord
from snapshotd.domain.host import evolve_record as evolve_host
from snapshotd.domain.vm_record import VmRecord
from snapshotd.domain.vm_record import evolve_record as evolve_vm
from snapshotd.ports.views import HOST_FIELDS, VM_FIELDS, VM_SEARCHED

HOSTS: Final = Table(
    "hosts",
    HostRecord,
    key={"host_id": lambda h: h.host_id},
    columns={"registered": lambda h: h.registered, **HOST_FIELDS},
)
VMS: Final = Table(
    "vms",
    VmRecord,
    key={"vm_id": lambda vm: vm.vm_id},
    columns={"registered": lambda vm: vm.registered, **VM_FIELDS, **VM_SEARCHED},
    indexes=(
        "CREATE INDEX vms_named ON vms (display_name, name)",
        "CREATE INDEX vms_by_name ON vms (name)",
        "CREATE INDEX vms_by_time ON vms (create_time, name)",
        *(f"CREATE INDEX vms_of_{column} ON vms ({column}, display_name, name)" for column in VM_SEARCHED),
        "CREATE INDEX vms_registered ON vms (host) WHERE registered",
    ),
)


def _handle(rows: Rows, envelope: Envelope) -> None:
    event = envelope.event
    if isinstance(event, HostEvent):
        host_id = host_of(envelope)
        known = rows.get(HOSTS, host_id) or HostRecord(host_id=host_id)
        rows.put(HOSTS, evolve_host(known, event, envelope), host_id)
    elif not isinstance(event, VolumeEvent | AccessEvent):
        vm_id = vm_of(envelope)
        vm = rows.get(VMS, vm_id) or VmRecord(vm_id=vm_id)
        rows.put(VMS, evolve_vm(vm, event, envelope), vm_id)


INVENTORY: Final = Projection("inventory", _handle, (HOSTS, VMS))
