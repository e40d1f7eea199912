"""Views compared: with the fold of a VM, and with other views by all that their database holds."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Operation
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.views import OperationRow, Views
from tests.fakes import VM_ID


def dump(path: Path) -> list[str]:
    """Return all that a database holds; in which order rows were last written does not matter."""
    connection = sqlite3.connect(path)
    try:
        return sorted(connection.iterdump())
    finally:
        connection.close()


async def compare(views: Views, vm: VirtualMachine) -> None:
    """Check the views of a VM against its fold."""
    row = await views.vm(VM_ID)
    assert row is not None
    assert (row.version, row.activity, row.power, row.name) == (vm.version, vm.activity, vm.power, vm.name)
    assert (row.host_id, row.owner, row.registered) == (vm.host_id, vm.owner, vm.registered)
    assert (row.description, row.current_id) == (vm.description, vm.current_id)
    assert set(row.active_operations) == {o.name for o in vm.active_operations}
    if vm.holder is not None:
        assert row.active_operations[0] == vm.holder.name
    snapshots = await views.snapshots(VM_ID)
    assert {s.snapshot_id for s in snapshots} == set(vm.snapshots)
    for seen in snapshots:
        snapshot = vm.snapshots[seen.snapshot_id]
        for field in ("name", "description", "with_memory", "state", "parent_id", "checkpoint_id", "size_bytes"):
            assert getattr(seen, field) == getattr(snapshot, field), field
        assert (seen.cpu_count, seen.memory_bytes, seen.failure) == (
            snapshot.cpu_count,
            snapshot.memory_bytes,
            snapshot.failure,
        )
        own = [o.name for o in vm.active_operations if o.snapshot_id == seen.snapshot_id]
        assert seen.active_operation == (own[0] if own else None)
    for operation in vm.operations.values():
        known = await views.operation(VM_ID, operation.number)
        assert known is not None
        compare_operation(known, operation)
    assert [o.name for o in await views.active_operations()] == [o.name for o in vm.active_operations]


def compare_operation(row: OperationRow, operation: Operation) -> None:
    """Check an operation's row against its fold."""
    for field in (
        *("name", "number", "kind", "state", "snapshot_id", "stop_mode", "actor", "request_id", "cancel_requested"),
        *("undoing", "failure", "requested_at", "started_at", "ended_at", "active"),
    ):
        assert getattr(row, field) == getattr(operation, field), field
    assert len(row.steps) == len(operation.steps)
    for seen, step in zip(row.steps, operation.steps, strict=True):
        assert (seen.plan, seen.state, seen.attempts, seen.failure) == (
            step.plan,
            step.state,
            step.attempts,
            step.failure,
        )
        if step.state is not StepState.WAITING and step.first_issued_at:
            assert seen.started_at == step.first_issued_at
