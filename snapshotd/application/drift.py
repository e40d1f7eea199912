"""What others have done, as events: each kind of drift with what is on record, and what the host has instead.

Pure functions of the record and a description. In which order they are recorded is said in reconcile.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from snapshotd.domain import events as e
from snapshotd.domain.attached import Attached, attached
from snapshotd.domain.events import DriftKind
from snapshotd.domain.host_path import same
from snapshotd.domain.host_report import Checkpoint, VmDescription
from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.lifecycle import Power, SnapshotState
from snapshotd.domain.names import same_name
from snapshotd.domain.offering_words import changed_by_others
from snapshotd.domain.operation import Failure, Operation
from snapshotd.domain.snapshot import Snapshot, moved
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import move_current
from snapshotd.operations.snapshots import hand_on
from snapshotd.steps.catalogue import ACTIONS
from snapshotd.steps.checkpoint_name import checkpoint_name, is_marked, marker

_MISSING, _DAMAGED = "CHECKPOINT_MISSING", "CHECKPOINT_DAMAGED"
"""The reasons of a snapshot that was READY, and whose checkpoint is gone, or not intact: finding it disproves them."""


def of_power(recorded: Power, observed: Power) -> e.DriftDetected:
    """Return the drift of a power that none of our steps has brought about."""
    kind = DriftKind.POWER_STATE_CHANGED
    if Power.ABSENT in (recorded, observed):
        kind = DriftKind.VM_MISSING if observed is Power.ABSENT else DriftKind.VM_FOUND
    return _changed(kind, recorded.name, observed.name)


def as_left(operations: Iterable[Operation], recorded: VmDescription, observed: VmDescription) -> VmDescription:
    """Return the VM as it would be by what the steps of operations have done, if nobody else had changed it."""
    for step in (step for operation in operations for step in operation.steps):
        recorded = ACTIONS[step.plan.action].leaves(step, recorded, observed)
    return recorded


def of_the_vm(recorded: VmDescription, left: VmDescription, observed: VmDescription) -> Iterator[e.DriftDetected]:
    """Yield what differs in the VM's own settings.

    Args:
        recorded: as on record.
        left: as our own steps have left it; one that had no effect may not have changed anything.
        observed: as it is.
    """
    if recorded.name != observed.name:
        yield _changed(DriftKind.VM_RENAMED, recorded.name, observed.name)
    if recorded.checkpoint_type != observed.checkpoint_type:
        yield _changed(DriftKind.CHECKPOINT_TYPE_CHANGED, recorded.checkpoint_type, observed.checkpoint_type)
    if recorded.is_replica != observed.is_replica:
        words = {False: "not a replica", True: "a replica"}
        yield _changed(DriftKind.REPLICATION_CHANGED, words[recorded.is_replica], words[observed.is_replica])
    if others := changed_by_others(recorded.offering, left.offering, observed.offering):
        yield _changed(DriftKind.OFFERING_CHANGED, *others)


def _changed(kind: DriftKind, recorded: str, observed: str) -> e.DriftDetected:
    detail = f"{recorded} on record, {observed} on the host"
    return e.DriftDetected(kind=kind, detail=detail, recorded=recorded, observed=observed)


def of_volumes(recorded: VmDescription, left: VmDescription, observed: VmDescription) -> Iterator[e.DriftDetected]:
    """Yield which volumes others have attached, detached, replaced or resized, place by place.

    Args:
        recorded: as on record.
        left: as our own steps have left it; one that had no effect may not have changed anything.
        observed: as it is.
    """
    known, there = attached(recorded), attached(observed)
    ours = known if left is recorded else attached(left)
    for place in sorted(known.keys() | ours.keys() | there.keys()):
        before, mine, now = known.get(place), ours.get(place), there.get(place)
        if not _alike(before, now) and not _alike(mine, now):
            yield _moved(place, before, now)
        elif before and now and now.size_bytes not in (0, before.size_bytes, mine.size_bytes if mine else 0):
            yield from _resized(place, before, now)


def _alike(one: Attached | None, other: Attached | None) -> bool:
    """Return whether the same is at a place, as far as that can be told: a chain may be broken."""
    if one is None or other is None:
        return one is other
    return one.path == other.path or not one.path or not other.path or same(one.path, other.path)


def _moved(place: str, before: Attached | None, now: Attached | None) -> e.DriftDetected:
    recorded, observed = before.path if before else "", now.path if now else ""
    if before is None:
        kind, detail = DriftKind.VOLUME_ATTACHED, f"{observed} was attached at {place}"
    elif now is None:
        kind, detail = DriftKind.VOLUME_DETACHED, f"{recorded} was detached from {place}"
    else:
        kind, detail = DriftKind.VOLUME_REPLACED, f"at {place}: {recorded} on record, {observed} on the host"
    return e.DriftDetected(kind=kind, detail=detail, recorded=recorded, observed=observed)


def _resized(place: str, before: Attached, now: Attached) -> Iterator[e.DriftDetected]:
    if before.size_bytes:
        detail = f"{now.path} at {place}: {before.size_bytes:,} bytes on record, {now.size_bytes:,} on the host"
        recorded, observed = str(before.size_bytes), str(now.size_bytes)
        yield e.DriftDetected(kind=DriftKind.VOLUME_RESIZED, detail=detail, recorded=recorded, observed=observed)


def of_checkpoints(vm: VirtualMachine, recorded: VmDescription, left: VmDescription) -> Iterator[e.DriftDetected]:
    """Yield which checkpoints others have made, renamed, or removed, of those that are not ours.

    `recorded` and `left` are as of `of_the_vm`.
    """
    assert vm.description is not None
    known = {c.checkpoint_id: c for c in recorded.checkpoints}
    there = {c.checkpoint_id: c for c in vm.description.checkpoints}
    own = {s.checkpoint_id: s for s in vm.snapshots.values() if s.checkpoint_id is not None}
    steps = [s for o in vm.active_operations for s in o.steps]
    made = {made for s in steps for made in ACTIONS[s.plan.action].made(s)}
    made |= {c.checkpoint_id for c in (*recorded.checkpoints, *there.values()) if vm.temporary_for(c) is not None}
    for checkpoint_id, checkpoint in there.items():
        before, snapshot = known.get(checkpoint_id), own.get(checkpoint_id)
        if before is not None and checkpoint_id not in made:
            yield from _renamed(before, checkpoint, snapshot)
        elif before is None and snapshot is None and checkpoint_id not in made:
            kind, name = _kind_of(checkpoint), checkpoint.name
            yield e.DriftDetected(kind=kind, detail=name, checkpoint_id=checkpoint_id, observed=name)
    for checkpoint_id in known.keys() & set(left.checkpoint_ids()) - there.keys() - own.keys() - made:
        kind, name = DriftKind.FOREIGN_CHECKPOINT_GONE, known[checkpoint_id].name
        yield e.DriftDetected(kind=kind, detail=name, checkpoint_id=checkpoint_id, recorded=name)


def _kind_of(newcomer: Checkpoint) -> DriftKind:
    if is_marked(newcomer.name):
        return DriftKind.UNRECORDED_CHECKPOINT
    return DriftKind.AUTOMATIC_CHECKPOINT if newcomer.automatic else DriftKind.FOREIGN_CHECKPOINT


def _renamed(before: Checkpoint, now: Checkpoint, own: Snapshot | None) -> Iterator[e.DriftDetected]:
    if now.name == before.name or (own is not None and now.name == checkpoint_name(own)):
        return
    yield e.DriftDetected(
        kind=DriftKind.CHECKPOINT_RENAMED,
        detail=f"{before.name!r} is now {now.name!r}",
        checkpoint_id=now.checkpoint_id,
        snapshot_id=own.snapshot_id if own else None,
        recorded=before.name,
        observed=now.name,
    )


def gone_or_damaged(vm: VirtualMachine, snapshot: Snapshot) -> tuple[e.VmEvent, ...]:
    """Return the events of a READY snapshot whose checkpoint is gone, or not intact; none if all is well."""
    assert vm.description is not None
    if snapshot.state is not SnapshotState.READY:
        return ()
    checkpoint = vm.description.checkpoint(snapshot.checkpoint_id)
    damage = vm.description.damage(checkpoint) if checkpoint else ""
    if checkpoint and not damage:
        return ()
    text = f"Its checkpoint cannot be brought back: {damage}." if damage else "Somebody else removed its checkpoint."
    drift = e.DriftDetected(
        kind=DriftKind.CHECKPOINT_DAMAGED if damage else DriftKind.CHECKPOINT_MISSING,
        detail=f"{snapshot.name}: {damage}" if damage else snapshot.name,
        checkpoint_id=snapshot.checkpoint_id,
        snapshot_id=snapshot.snapshot_id,
        recorded="intact",
        observed=damage,
    )
    failure = Failure(reason=_DAMAGED if damage else _MISSING, message=text)
    missing = e.SnapshotCheckpointMissing(**moved(snapshot, "checkpoint_missing"), failure=failure)
    return drift, missing, *(() if damage else hand_on(vm, snapshot, "drift"))


def identified(vm: VirtualMachine, snapshot: Snapshot) -> tuple[e.VmEvent, ...]:
    """Return the event of a snapshot in ERROR that has no checkpoint, if one with its marker is there."""
    assert vm.description is not None
    if snapshot.state is not SnapshotState.ERROR or snapshot.checkpoint_id is not None:
        return ()
    marked = [c for c in vm.description.checkpoints if c.name.endswith(marker(snapshot.snapshot_id))]
    return tuple(
        e.SnapshotCheckpointIdentified(snapshot_id=snapshot.snapshot_id, checkpoint_id=c.checkpoint_id)
        for c in marked[:1]
    )


def found(vm: VirtualMachine, snapshot: Snapshot) -> tuple[e.VmEvent, ...]:
    """Return the events of a snapshot in ERROR whose checkpoint is there and intact, which makes it READY.

    One that was never READY gets what its checkpoint shows, unless it is unwanted or its name has been given away.
    """
    assert vm.description is not None
    checkpoint = vm.description.checkpoint(snapshot.checkpoint_id)
    if snapshot.state is not SnapshotState.ERROR or checkpoint is None or vm.description.damage(checkpoint):
        return ()
    if not snapshot.was_ready and (snapshot.unwanted or _name_is_taken(vm, snapshot)):
        return ()
    why = snapshot.failure.reason if snapshot.failure else ""
    disproved = not snapshot.was_ready or why in (_MISSING, _DAMAGED)
    drift = e.DriftDetected(
        kind=DriftKind.CHECKPOINT_FOUND,
        detail=snapshot.name,
        checkpoint_id=checkpoint.checkpoint_id,
        snapshot_id=snapshot.snapshot_id,
        recorded=why,
        observed="intact",
    )
    ready = e.SnapshotCheckpointFound(
        **moved(snapshot, "checkpoint_found"),
        failure=None if disproved else snapshot.failure,
        with_memory=None if snapshot.was_ready else checkpoint.has_memory,
        size_bytes=0 if snapshot.was_ready else vm.description.size_of(checkpoint),
    )
    return drift, ready


def _name_is_taken(vm: VirtualMachine, snapshot: Snapshot) -> bool:
    """Return whether another snapshot has a name that a create has given up by failing."""
    others = (s for s in vm.snapshots.values() if s.snapshot_id != snapshot.snapshot_id)
    failed = (SnapshotState.REMOVED, SnapshotState.ERROR)
    return any(same_name(s.name, snapshot.name) and (s.was_ready or s.state not in failed) for s in others)


def reparented(vm: VirtualMachine, snapshot: Snapshot) -> tuple[e.VmEvent, ...]:
    """Return the events of a snapshot whose checkpoint has another parent on the host."""
    assert vm.description is not None
    checkpoint = vm.description.checkpoint(snapshot.checkpoint_id)
    if checkpoint is None or not snapshot.was_ready or snapshot.state is SnapshotState.REMOVED:
        return ()
    before, parent = snapshot.parent_id, vm.nearest_own(checkpoint.parent_id)
    if parent == before:
        return ()
    detail = f"{snapshot.name}: below {_name(vm, before)} on record, below {_name(vm, parent)} on the host"
    drift = e.DriftDetected(
        kind=DriftKind.REPARENTED,
        detail=detail,
        checkpoint_id=snapshot.checkpoint_id,
        snapshot_id=snapshot.snapshot_id,
        recorded=before or "",
        observed=parent or "",
    )
    followed = e.SnapshotReparented(
        snapshot_id=snapshot.snapshot_id, from_parent_id=before, to_parent_id=parent, cause="drift"
    )
    return drift, followed


def current_moved(vm: VirtualMachine) -> tuple[e.VmEvent, ...]:
    """Return the events of a VM whose disks descend from another snapshot than the current one."""
    assert vm.description is not None
    before, current = vm.current_id, vm.nearest_own(vm.description.current_checkpoint_id)
    if current == before:
        return ()
    drift = e.DriftDetected(
        kind=DriftKind.CURRENT_MOVED,
        detail=f"{_name(vm, before)} on record, {_name(vm, current)} on the host",
        snapshot_id=current,
        recorded=before or "",
        observed=current or "",
    )
    return drift, *move_current(vm, current, "drift")


def temporaries(vm: VirtualMachine) -> tuple[e.VmEvent, ...]:
    """Return which temporary checkpoints have turned up that were not seen before, and which are gone."""
    assert vm.description is not None
    found: list[e.VmEvent] = []
    for which, temporary in vm.temporaries.items():
        there = next((c.checkpoint_id for c in vm.description.checkpoints if temporary.is_it(c)), None)
        if there is not None and temporary.checkpoint_id is None:
            found.append(e.TemporaryCheckpointTaken(volume_snapshot_id=which, checkpoint_id=there))
        elif there is None and temporary.checkpoint_id is not None:
            gone = temporary.checkpoint_id
            found.append(e.TemporaryCheckpointGone(volume_snapshot_id=which, checkpoint_id=gone, cause="drift"))
    return tuple(found)


def _name(vm: VirtualMachine, snapshot_id: SnapshotId | None) -> str:
    return vm.snapshots[snapshot_id].name if snapshot_id else "none"
