"""Decides what a person lays down about a VM or a snapshot: recorded at once, and nothing is asked of the host."""

from __future__ import annotations

from typing import Final, assert_never

from snapshotd.application.draft import Draft
from snapshotd.domain import commands as c
from snapshotd.domain import events as e
from snapshotd.domain.answered_requests import answered_before
from snapshotd.domain.destroy_errors import refuse_destroyed
from snapshotd.domain.details import VmDetails
from snapshotd.domain.errors import (
    NotFound,
)
from snapshotd.domain.foreign_checkpoints import foreign_checkpoint, no_such_snapshot
from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.lifecycle import SnapshotState
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.snapshot_errors import (
    SnapshotNotUsable,
)
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.vm_record import VmRecord
from snapshotd.operations.snapshots import held

_CAN_BE_HELD: Final = (SnapshotState.READY, SnapshotState.REVERTING, SnapshotState.ERROR)


def lay_down(draft: Draft, command: c.FactCommand) -> None:
    """Record a fact, unless it is so already. Raises a SnapshotdError if it is refused."""
    vm, context = draft.vm, draft.context
    if answered_before(vm.requests, context.actor, context.request_id, context.digest) is not None:
        return
    refuse_destroyed(vm)
    if not vm.registered:
        raise NotFound("virtual machine", vm.vm_id, "Register it first (`snapshotctl vm register`).")
    match command:
        case c.UpdateVm():
            owner = vm.owner if command.owner is None else command.owner
            labels = vm.labels if command.labels is None else command.labels
            policy = vm.export_policy if command.export_policy is None else command.export_policy
            said = VmDetails(owner=owner, labels=labels, export_policy=policy)
            draft.add(details_changed(vm, said, context.digest))
        case c.HoldSnapshot():
            _hold(draft, command)
        case c.ReleaseSnapshot():
            if _snapshot(vm, command.snapshot_id).hold is not None:
                draft.add([e.SnapshotReleased(snapshot_id=command.snapshot_id, request_digest=context.digest)])
        case c.IgnoreCheckpoint():
            _ignore(draft, command)
        case c.IgnoreCheckpointNoMore():
            found = foreign_checkpoint(vm, command.checkpoint_id, "ignore")
            if found.checkpoint_id in vm.ignored:
                undone = e.CheckpointNotIgnored(
                    checkpoint_id=found.checkpoint_id, name=found.name, request_digest=context.digest
                )
                draft.add([undone])
        case _:
            assert_never(command)


def details_changed(vm: VmRecord, after: VmDetails, digest: str) -> tuple[e.VmDetailsChanged, ...]:
    """Return the event of what somebody says of a VM; none if it is said already."""
    if after == vm.details:
        return ()
    return (e.VmDetailsChanged(before=vm.details, after=after, request_digest=digest),)


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


def _ignore(draft: Draft, command: c.IgnoreCheckpoint) -> None:
    """Record that a foreign checkpoint may stay as it is."""
    vm, context = draft.vm, draft.context
    found = foreign_checkpoint(vm, command.checkpoint_id, "ignore")
    known = vm.ignored.get(found.checkpoint_id)
    if known is None or (known.actor, known.why) != (context.actor, command.why):
        ignored = e.CheckpointIgnored(
            checkpoint_id=found.checkpoint_id, name=found.name, why=command.why, request_digest=context.digest
        )
        draft.add([ignored])


def _snapshot(vm: VirtualMachine, snapshot_id: SnapshotId) -> Snapshot:
    found = vm.snapshots.get(snapshot_id)
    if found is None:
        raise no_such_snapshot(vm, snapshot_id)
    return found
