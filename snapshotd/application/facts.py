"""Decides what a person lays down about a VM or a snapshot: recorded at once, and nothing is asked of the host."""

from __future__ import annotations

from typing import Final, assert_never

from snapshotd.application.draft import Draft
from snapshotd.domain import commands as c
from snapshotd.domain import events as e
from snapshotd.domain.answered_requests import answered_before
from snapshotd.domain.errors import NotFound, SnapshotNotUsable
from snapshotd.domain.foreign_checkpoints import no_such_snapshot
from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.lifecycle import SnapshotState
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.snapshots import held

_CAN_BE_HELD: Final = (SnapshotState.READY, SnapshotState.REVERTING, SnapshotState.ERROR)


def lay_down(draft: Draft, command: c.FactCommand) -> None:
    """Record a fact, unless it is so already. Raises a SnapshotdError if it is refused."""
    vm, context = draft.vm, draft.context
    if answered_before(vm.requests, context.actor, context.request_id, context.digest) is not None:
        return
    if not vm.registered:
        raise NotFound("virtual machine", vm.vm_id, "Register it first (`snapshotctl vm register`).")
    match command:
        case c.HoldSnapshot():
            _hold(draft, command)
        case c.ReleaseSnapshot():
            if _snapshot(vm, command.snapshot_id).hold is not None:
                draft.add([e.SnapshotReleased(snapshot_id=command.snapshot_id, request_digest=context.digest)])
        case _:
            assert_never(command)


def _hold(draft: Draft, command: c.HoldSnapshot) -> None:
    """Record a hold. Nobody takes another's hold over: it would be released with the second one."""
    vm, context = draft.vm, draft.context
    snapshot = _snapshot(vm, command.snapshot_id)
    if snapshot.state not in _CAN_BE_HELD:
        needed = " or ".join(state.name for state in _CAN_BE_HELD)
        raise SnapshotNotUsable(snapshot.snapshot_id, snapshot.state.name, "hold", needed)
    if snapshot.hold is not None and snapshot.hold.actor == context.actor:
        if snapshot.hold.why == command.why:
            return
    elif refused := held(vm, snapshot, "hold"):
        raise refused
    draft.add([e.SnapshotHeld(snapshot_id=snapshot.snapshot_id, why=command.why, request_digest=context.digest)])


def _snapshot(vm: VirtualMachine, snapshot_id: SnapshotId) -> Snapshot:
    found = vm.snapshots.get(snapshot_id)
    if found is None:
        raise no_such_snapshot(vm, snapshot_id)
    return found
