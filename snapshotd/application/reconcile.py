"""Compares a host's report with the record. What a step did is taken over; what others did is recorded as drift.

Called only between steps: while a command may be at work, a difference proves nothing. Checkpoints made by others are
shown, never touched, and never become snapshots by themselves.
"""

from __future__ import annotations

import re

from snapshotd.application.draft import Draft
from snapshotd.domain import events as e
from snapshotd.domain.events import DriftKind
from snapshotd.domain.host_report import Checkpoint, JournalState, VmDescription, VmReport
from snapshotd.domain.lifecycle import Power, SnapshotState
from snapshotd.domain.operation import Failure
from snapshotd.domain.snapshot import Snapshot, moved
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import move_current
from snapshotd.operations.snapshots import hand_on
from snapshotd.steps.catalogue import ACTIONS
from snapshotd.steps.checkpoint_name import marker

_MISSING, _DAMAGED = "CHECKPOINT_MISSING", "CHECKPOINT_DAMAGED"
"""The reasons of a snapshot whose checkpoint is gone, or not intact: the only ones that finding it intact disproves."""
_MARKED = re.compile(r"#[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


def describe(
    draft: Draft, report: VmReport, number: int | None = None, *, claimed: frozenset[Power] = frozenset()
) -> VmDescription | None:
    """Record a report's journal, power and description where they differ.

    Args:
        draft: what is being decided.
        report: what the host says.
        number: the operation that looked, if one did.
        claimed: the powers that its step may have brought about. A change to any other is drift.

    Returns the description that was on record before.
    """
    vm = draft.vm
    before = vm.description
    journal = report.journal
    if journal.state is JournalState.PRESENT and journal.journal_id != vm.journal_id:
        draft.add([e.JournalIdentified(journal_id=journal.journal_id)], number)
    if report.power is not vm.power:
        cause = "step" if report.power in claimed else "drift"
        if cause == "drift":
            kind = DriftKind.VM_MISSING if report.power is Power.ABSENT else DriftKind.POWER_STATE_CHANGED
            detail = f"{vm.power.name} on record, {report.power.name} on the host"
            draft.add([e.DriftDetected(kind=kind, detail=detail)], number)
        draft.add([e.VmPowerChanged(from_power=vm.power, to_power=report.power, cause=cause)], number)
    if report.description is not None and report.description != before:
        draft.add([e.VmDescribed(description=report.description)], number)
    return before


def reconcile(draft: Draft, before: VmDescription | None) -> None:
    """Record what differs between the tree and the VM's description, which has just been taken over.

    `before` is the description that was on record; None: there was none, so no checkpoint counts as new.
    """
    vm = draft.vm
    assert not vm.step_is_open(), vm.vm_id
    if vm.description is None or vm.power is Power.ABSENT:
        return
    if before is not None:
        known = {c.checkpoint_id: c for c in before.checkpoints}
        for checkpoint in vm.description.checkpoints:
            draft.add(_news(vm, checkpoint, known.get(checkpoint.checkpoint_id)))
    # The report that led to its being given up is no evidence that it is well after all.
    given_up = {event.snapshot_id for event, _ in draft.events if isinstance(event, e.SnapshotGivenUp)}
    for snapshot in tuple(vm.snapshots.values()):
        draft.add(_missing_or_found(draft.vm, snapshot, healed=snapshot.snapshot_id not in given_up))
    for snapshot in tuple(draft.vm.snapshots.values()):
        draft.add(_reparented(draft.vm, snapshot))
    _follow_current(draft)


def _news(vm: VirtualMachine, checkpoint: Checkpoint, known: Checkpoint | None) -> tuple[e.VmEvent, ...]:
    """Return the drift of a checkpoint that somebody else made or renamed."""
    own = next((s for s in vm.snapshots.values() if s.checkpoint_id == checkpoint.checkpoint_id), None)
    if known is None:
        steps = [s for o in vm.active_operations for s in o.steps]
        if own is not None or any(checkpoint.checkpoint_id in ACTIONS[s.plan.action].made(s) for s in steps):
            return ()
        kind = DriftKind.AUTOMATIC_CHECKPOINT if checkpoint.automatic else DriftKind.FOREIGN_CHECKPOINT
        if _MARKED.search(checkpoint.name):
            kind = DriftKind.UNRECORDED_CHECKPOINT
        return (e.DriftDetected(kind=kind, detail=checkpoint.name, checkpoint_id=checkpoint.checkpoint_id),)
    if own is None or known.name == checkpoint.name or checkpoint.name.endswith(marker(own.snapshot_id)):
        return ()
    return (
        e.DriftDetected(
            kind=DriftKind.CHECKPOINT_RENAMED,
            detail=f"{known.name!r} is now {checkpoint.name!r}",
            checkpoint_id=checkpoint.checkpoint_id,
            snapshot_id=own.snapshot_id,
        ),
    )


def _missing_or_found(vm: VirtualMachine, snapshot: Snapshot, *, healed: bool) -> tuple[e.VmEvent, ...]:
    """Return the events for a snapshot whose checkpoint has gone, or is there again; `healed`: which makes it READY."""
    assert vm.description is not None
    if snapshot.state is SnapshotState.ERROR and snapshot.checkpoint_id is None:
        marked = [c for c in vm.description.checkpoints if c.name.endswith(marker(snapshot.snapshot_id))]
        return tuple(
            e.SnapshotCheckpointIdentified(snapshot_id=snapshot.snapshot_id, checkpoint_id=c.checkpoint_id)
            for c in marked[:1]
        )
    checkpoint = vm.description.checkpoint(snapshot.checkpoint_id)
    damage = vm.description.damage(checkpoint) if checkpoint else ""
    if snapshot.state is SnapshotState.ERROR and checkpoint and not damage and snapshot.was_ready:
        disproved = snapshot.failure is not None and snapshot.failure.reason in (_MISSING, _DAMAGED)
        failure = None if disproved else snapshot.failure
        return (e.SnapshotCheckpointFound(**moved(snapshot, "checkpoint_found"), failure=failure),) if healed else ()
    if snapshot.state is not SnapshotState.READY or (checkpoint and not damage):
        return ()
    text = f"Its checkpoint cannot be brought back: {damage}." if damage else "Somebody else removed its checkpoint."
    failure = Failure(reason=_DAMAGED if damage else _MISSING, message=text)
    drift = e.DriftDetected(
        kind=DriftKind.CHECKPOINT_DAMAGED if damage else DriftKind.CHECKPOINT_MISSING,
        detail=f"{snapshot.name}: {damage}" if damage else snapshot.name,
        checkpoint_id=snapshot.checkpoint_id,
        snapshot_id=snapshot.snapshot_id,
    )
    missing = e.SnapshotCheckpointMissing(**moved(snapshot, "checkpoint_missing"), failure=failure)
    return drift, missing, *(() if damage else hand_on(vm, snapshot, "drift"))


def _reparented(vm: VirtualMachine, snapshot: Snapshot) -> tuple[e.VmEvent, ...]:
    """Return the events for a snapshot whose checkpoint has another parent on the host."""
    assert vm.description is not None
    checkpoint = vm.description.checkpoint(snapshot.checkpoint_id)
    if checkpoint is None or snapshot.state is not SnapshotState.READY:
        return ()
    parent = vm.nearest_own(checkpoint.parent_id)
    if parent == snapshot.parent_id:
        return ()
    detail = f"{snapshot.name}: below {snapshot.parent_id or 'none'} on record, below {parent or 'none'} on the host"
    return (
        e.DriftDetected(kind=DriftKind.REPARENTED, detail=detail, snapshot_id=snapshot.snapshot_id),
        e.SnapshotReparented(
            snapshot_id=snapshot.snapshot_id,
            from_parent_id=snapshot.parent_id,
            to_parent_id=parent,
            cause="drift",
        ),
    )


def _follow_current(draft: Draft) -> None:
    """Record that somebody else moved the current snapshot."""
    vm = draft.vm
    assert vm.description is not None
    current = vm.nearest_own(vm.description.current_checkpoint_id)
    if current != vm.current_id:
        detail = f"{vm.current_id or 'none'} on record, {current or 'none'} on the host"
        draft.add([e.DriftDetected(kind=DriftKind.CURRENT_MOVED, detail=detail, snapshot_id=current)])
        draft.add(move_current(vm, current, "drift"))
