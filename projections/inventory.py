"""The inventory: hosts and VMs as they are on record."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from projections.projection import Projection, host_of, vm_of
from projections.store import Rows, Table
from snapshotd.domain import events as e
from snapshotd.domain.events import Envelope
from snapshotd.domain.ids import OperationName
from snapshotd.domain.lifecycle import Power
from snapshotd.ports.views import HostRow, VmRow

HOSTS: Final = Table("hosts", HostRow, ["host_id"])
VMS: Final = Table("vms", VmRow, ["vm_id"], ["host_id", "name", "registered"])


def _handle(rows: Rows, envelope: Envelope) -> None:
    event = envelope.event
    if isinstance(event, e.HostEvent):
        _host(rows, envelope, event)
        return
    vm_id = vm_of(envelope)
    assert vm_id is not None, envelope
    row = rows.get(VMS, vm_id)
    if isinstance(event, e.VmRegistered):
        row = _registered(row, envelope, event)
    assert row is not None, envelope
    row = replace(row, version=envelope.version, updated_at=envelope.time)
    rows.put(VMS, _changed(row, event, envelope.operation))


def _host(rows: Rows, envelope: Envelope, event: e.HostEvent) -> None:
    host_id = host_of(envelope)
    assert host_id is not None, envelope
    match event:
        case e.HostRegistered():
            row = HostRow(
                host_id=host_id,
                address=event.address,
                port=event.port,
                transport=event.transport,
                credential=event.credential,
                ca_file=event.ca_file,
                journal_directory=event.journal_directory,
                registered_at=envelope.time,
                last_sync_at=None,
                vm_count=0,
                version=envelope.version,
            )
            rows.put(HOSTS, row)
        case e.HostRemoved():
            rows.drop(HOSTS, host_id)
        case e.HostSynced():
            known = rows.get(HOSTS, host_id)
            assert known is not None, envelope
            rows.put(HOSTS, replace(known, last_sync_at=envelope.time, version=envelope.version))


def _registered(row: VmRow | None, envelope: Envelope, event: e.VmRegistered) -> VmRow:
    """Return the row of a VM that has come under our care, for the first time or again."""
    vm_id = vm_of(envelope)
    assert vm_id is not None, envelope
    if row is None:
        row = VmRow(
            vm_id=vm_id,
            host_id=event.host_id,
            name=event.name,
            owner=event.owner,
            activity=event.to_state,
            registered=True,
            power=Power.UNKNOWN,
            description=None,
            current_id=None,
            active_operations=(),
            registered_at=envelope.time,
            updated_at=envelope.time,
            version=envelope.version,
        )
    return replace(
        row,
        host_id=event.host_id,
        name=event.name,
        owner=event.owner,
        activity=event.to_state,
        registered=True,
        registered_at=envelope.time,
    )


def _changed(row: VmRow, event: e.Event, operation: OperationName | None) -> VmRow:
    """Return a VM's row after an event."""
    match event:
        case e.VmUnregistered():
            return replace(row, activity=event.to_state, registered=False)
        case e.VmActivityChanged():
            return replace(row, activity=event.to_state)
        case e.VmPowerChanged():
            return replace(row, power=event.to_power)
        case e.VmDescribed():
            return replace(row, description=event.description, name=event.description.name)
        case e.CurrentMoved():
            return replace(row, current_id=event.to_snapshot_id)
        case e.OperationRequested():
            assert operation is not None, event
            # One that only waits comes last: the new one holds the VM.
            return replace(row, active_operations=(operation, *row.active_operations))
        case e.StepWaitStarted():
            assert operation is not None, event
            return replace(row, active_operations=(*_without(row, operation), operation))
        case _ if isinstance(event, e.OperationEnd):
            return replace(row, active_operations=_without(row, operation))
        case _:
            return row


def _without(row: VmRow, operation: OperationName | None) -> tuple[OperationName, ...]:
    return tuple(o for o in row.active_operations if o != operation)


INVENTORY: Final = Projection("inventory", _handle)
