"""What a log says of snapshots, operations, VMs and hosts, found in the most naive way: the last event that tells.

Shares no code with the folds of the product, and reads the whole log for each answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from snapshotd.domain import events as e
from snapshotd.domain.details import SnapshotDetails
from snapshotd.domain.events import Envelope
from snapshotd.domain.export import Export, ExportPolicy, Release
from snapshotd.domain.ids import HostId, OperationName, SnapshotId, VmId, VolumeSnapshotId
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState
from snapshotd.domain.operation import PlannedStep, Settlement
from snapshotd.domain.snapshot import Hold
from snapshotd.domain.vm_notes import Claim, Ignored
from snapshotd.domain.volume_snapshot import Temporary
from snapshotd.ports.views import Views
from tests.unit.projections import whole

Facts: TypeAlias = dict[str, object]
"""By the name of the attribute that has to be so."""
_MISSING = object()


def last(envelopes: Iterable[Envelope], *names: str, default: object = None) -> object:
    """Return the value of the last event that has one of these attributes."""
    found = default
    for envelope in envelopes:
        for name in names:
            found = value if (value := getattr(envelope.event, name, _MISSING)) is not _MISSING else found
    return found


def of_type(envelopes: Iterable[Envelope], *types: type) -> list[Envelope]:
    """Return those whose event is of one of these types."""
    return [envelope for envelope in envelopes if isinstance(envelope.event, types)]


def last_of(envelopes: Iterable[Envelope], *types: type) -> object:
    """Return the last event of one of these types; None: there is none."""
    found = of_type(envelopes, *types)
    return found[-1].event if found else None


def snapshot(own: Sequence[Envelope]) -> Facts:
    """Return what the events of one snapshot say."""
    if isinstance(own[0].event, e.SnapshotAdopted):
        return adopted(own)
    requested, created = own[0], of_type(own, e.SnapshotCreated)
    assert isinstance(requested.event, e.SnapshotRequested), requested
    told_failure = [x for x in own if hasattr(x.event, "failure")]
    # One that was READY before learns nothing new from its checkpoint.
    shown = [x for x in own if getattr(x.event, "with_memory", None) is not None]
    return {
        **details(own, SnapshotDetails(name=requested.event.name, description=requested.event.description)),
        "requested_with_memory": requested.event.with_memory,
        "with_memory": last(shown, "with_memory"),
        "state": last(own, "to_state"),
        "parent_id": last(of_type(own, e.SnapshotCreationStarted, e.SnapshotCreated, e.SnapshotReparented), *_PARENTS),
        "checkpoint_id": last(of_type(own, *_IDENTIFYING), "checkpoint_id"),
        "was_ready": bool(of_type(shown, e.SnapshotCreated, e.SnapshotCheckpointFound)),
        "unwanted": bool(of_type(own, e.SnapshotUnwanted)),
        "unmerged": last(own, "unmerged", default=()),
        "size_bytes": last(shown, "size_bytes", default=0),
        "offering": last(created, "offering", default=None),
        "failure": getattr(told_failure[-1].event, "failure", None) if told_failure else None,
        "actor": requested.actor,
        "requested_at": requested.time,
        "updated_at": own[-1].time,
        "hold": hold(own),
        "adopted": False,
    }


def adopted(own: Sequence[Envelope]) -> Facts:
    """Return what the events of a snapshot say that was a foreign checkpoint."""
    first = own[0].event
    assert isinstance(first, e.SnapshotAdopted)
    told_failure = [x for x in own if hasattr(x.event, "failure")]
    return {
        **details(own, first.details),
        "requested_with_memory": first.with_memory,
        "with_memory": first.with_memory,
        "state": last(own, "to_state"),
        "parent_id": last(of_type(own, e.SnapshotAdopted, e.SnapshotReparented), *_PARENTS),
        "checkpoint_id": first.checkpoint_id,
        "was_ready": True,
        "unmerged": last(own, "unmerged", default=()),
        "size_bytes": first.size_bytes,
        "offering": None,
        "failure": getattr(told_failure[-1].event, "failure", None) if told_failure else None,
        "actor": first.adopter,
        "requested_at": first.made_at,
        "updated_at": own[-1].time,
        "hold": hold(own),
        "adopted": True,
        "unwanted": bool(of_type(own, e.SnapshotUnwanted)),
    }


def details(own: Sequence[Envelope], first: SnapshotDetails) -> Facts:
    """Return what people say of a snapshot by its events. `first`: what was said when it came to be."""
    now = last(of_type(own, e.SnapshotDetailsChanged), "after", default=first)
    return {name: getattr(now, name) for name in ("name", "description", "labels", "expire_at")}


def hold(own: Sequence[Envelope]) -> Hold | None:
    """Return who holds a snapshot by its events."""
    told = of_type(own, e.SnapshotHeld, e.SnapshotReleased)
    if not told or not isinstance(held := told[-1].event, e.SnapshotHeld):
        return None
    return Hold(actor=told[-1].actor, why=held.why, since=told[-1].time)


_PARENTS = ("parent_id", "to_parent_id")
_IDENTIFYING = (e.SnapshotCreated, e.SnapshotUnwanted, e.SnapshotCheckpointIdentified)


def operation(own: Sequence[Envelope], host_id: object) -> Facts:
    """Return what the events of one operation and of its steps say; `host_id`: where the VM was then."""
    requested = own[0]
    assert isinstance(requested.event, e.OperationRequested), requested
    of_itself = of_type(own, e.OperationTransition)
    undo = of_type(own, e.UndoPlanned)
    state = last(of_itself, "to_state")
    ended = state in (OperationState.SUCCEEDED, OperationState.FAILED, OperationState.CANCELLED)
    planned = [x.event.steps for x in own if isinstance(x.event, e.OperationRequested | e.UndoPlanned | e.PlanRepeated)]
    plans = [plan for steps in planned for plan in steps]
    rounds = [x.event.steps[0].number for x in own if isinstance(x.event, e.PlanRepeated)]
    started = of_type(own, e.OperationStarted)
    of_steps = [x for x in own if not isinstance(x.event, e.OperationSettled)]
    return {
        "name": requested.operation,
        "number": requested.event.number,
        "host_id": host_id,
        "kind": requested.event.kind,
        "params": requested.event.params,
        "snapshot_id": requested.event.snapshot_id,
        "state": state,
        "actor": requested.actor,
        "request_id": requested.request_id,
        "cancel_requested": bool(of_type(own, e.CancelRequested)),
        "undoing": bool(undo),
        "rounds": 1 + len(rounds),
        "round_from": rounds[-1] if rounds else 1,
        "follows": requested.event.follows,
        "memory_lost": bool(of_type(own, e.MemoryLost)),
        "failure": last(of_type(own, e.UndoPlanned, e.OperationFailed), "failure"),
        "requested_at": requested.time,
        "updated_at": own[-1].time,
        "started_at": started[0].time if started else None,
        "ended_at": of_itself[-1].time if ended else None,
        "active": not ended,
        "settled": tuple(
            Settlement(step=x.event.step, outcome=x.event.outcome, reason=x.event.reason, actor=x.actor)
            for x in own
            if isinstance(x.event, e.OperationSettled)
        ),
        "steps": [step(plan, [x for x in of_steps if getattr(x.event, "step", 0) == plan.number]) for plan in plans],
    }


def step(plan: PlannedStep, own: Sequence[Envelope]) -> Facts:
    """Return what the events of one step say."""
    moved, issued = of_type(own, e.StepTransition), of_type(own, e.StepIssued)
    begun = of_type(own, e.StepIssued, e.StepWaitStarted)
    told_failure = [x for x in moved if getattr(x.event, "failure", None) or isinstance(x.event, e.StepDone)]
    fenced = [(x.version + x.event.token_base) for x in own if isinstance(x.event, e.StepIssued | e.ObservationIssued)]
    effects = [(x.version + x.event.token_base) for x in own if isinstance(x.event, e.StepIssued)]
    since = moved[-1].version if moved else 0
    looks = [x for x in of_type(own, e.ObservationIssued) if x.version > since]
    seen = [x for x in of_type(own, e.ObservationAnswered) if x.version > since and getattr(x.event, "seen", True)]
    return {
        "plan": plan,
        "state": last(moved, "to_state", default=StepState.DUE),
        "attempts": len(issued),
        "token": fenced[-1] if fenced else 0,
        "issued_token": effects[-1] if effects else 0,
        "output": last(moved, "output"),
        "deadline": last(issued, "deadline"),
        "started_at": begun[0].time if begun else None,
        "changed_at": moved[-1].time if moved else None,
        "observing": bool(own) and isinstance(own[-1].event, e.ObservationIssued),
        "look_due": bool(moved) and getattr(moved[-1].event, "look_due", False) and not seen,
        "looked_since": looks[0].time if looks else None,
        "failure": getattr(told_failure[-1].event, "failure", None) if told_failure else None,
    }


def vm(own: Sequence[Envelope]) -> Facts:
    """Return what the events of one VM's stream say of the VM itself."""
    registered = of_type(own, e.VmRegistered)
    described = of_type(own, e.VmDescribed)
    named = of_type(own, e.VmRegistered, e.VmDescribed)[-1].event
    comings = of_type(own, e.VmRegistered, e.VmUnregistered)
    fencing = [x for x in own if getattr(x.event, "seen", True)]
    ended = {getattr(x.event, "number", 0) for x in own if isinstance(x.event, e.OperationEnd)}
    said = [x for x in of_type(own, e.VmDetailsChanged) if x.version > registered[-1].version]
    details = said[-1].event if said else None
    requested = [x.event for x in own if isinstance(x.event, e.OperationRequested)]
    stays = [x for x, host_id in _on_hosts(own)]
    doubts = of_type(own, e.LogFoundRolledBack, e.LogRollbackDisproved, e.VmTakenOver)
    return {
        "version": len(own),
        "host_id": _on_hosts(own)[-1][1],
        "host_since": stays[-1].version if stays[1:] else 0,
        "claims": _claims(own),
        "owner": details.after.owner if isinstance(details, e.VmDetailsChanged) else last(registered, "owner"),
        "labels": details.after.labels if isinstance(details, e.VmDetailsChanged) else {},
        "export_policy": details.after.export_policy
        if isinstance(details, e.VmDetailsChanged)
        else ExportPolicy.AS_SERVER,
        "exports": _exports(own),
        "released": _released(own),
        "ignored": ignored(own),
        "temporaries": temporaries(own),
        "name": named.description.name if isinstance(named, e.VmDescribed) else last(registered, "name"),
        "registered": isinstance(comings[-1].event, e.VmRegistered),
        "registered_at": registered[-1].time,
        "updated_at": own[-1].time,
        "activity": last(of_type(own, e.VmTransition), "to_state"),
        "power": last(own, "to_power", default=Power.UNKNOWN),
        "description": last(described, "description"),
        "current_id": last(own, "to_snapshot_id"),
        "journal_id": last(own[stays[-1].version :], "journal_id", default=""),
        "fence_due": isinstance(
            last_of(fencing, e.OperationSettled, e.VmTakenOver, e.ObservationAnswered),
            e.OperationSettled | e.VmTakenOver,
        ),
        "foreign_journal": last(doubts[-1:], "foreign", default=False),
        "rolled_back": last(of_type(doubts[-1:], e.LogFoundRolledBack), "journal_token", default=0),
        "active": [(o.number, o.snapshot_id) for o in reversed(requested) if o.number not in ended],
    }


def _exports(own: Sequence[Envelope]) -> tuple[Export, ...]:
    """Return the exports that are there: those from which the VM was brought back are in use."""
    gone = {x.event.directory for x in own if isinstance(x.event, e.ExportRemoved)}
    brought_back = of_type(own, e.VmReleaseEnded, e.VmRegistered)
    used = {
        x.event.directory
        for x in own
        if isinstance(x.event, e.VmReleased) and any(after.version > x.version for after in brought_back)
    }
    return tuple(
        Export(
            directory=x.event.directory,
            configuration_path=x.event.configuration_path,
            size_bytes=x.event.size_bytes,
            host_id=HostId(str(_on_hosts(own[: x.version])[-1][1])),
            made_at=x.time,
            of_version=x.event.of_version,
            in_use=x.event.directory in used,
        )
        for x in own
        if isinstance(x.event, e.VmExported) and x.event.directory not in gone
    )


def _released(own: Sequence[Envelope]) -> Release | None:
    """Return where the VM is kept, if that was the last that was said of it."""
    told = of_type(own, e.VmReleased, e.VmReleaseEnded, e.VmRegistered)[-1]
    if not isinstance(told.event, e.VmReleased):
        return None
    return Release(
        host_id=HostId(str(_on_hosts(own[: told.version])[-1][1])),
        directory=told.event.directory,
        configuration_path=told.event.configuration_path,
        at=told.time,
    )


def _on_hosts(own: Sequence[Envelope]) -> list[tuple[Envelope, object]]:
    """Return the events that brought the VM to a host where it was not, with the host."""
    comings = [(x, last([x], "host_id", "to_host_id")) for x in of_type(own, e.VmRegistered, e.VmMoved)]
    return [(x, host) for n, (x, host) in enumerate(comings) if not n or comings[n - 1][1] != host]


def _claims(own: Sequence[Envelope]) -> tuple[Claim, ...]:
    """Return which other hosts have the VM too, by what was last said of each since it was last registered."""
    since = of_type(own, e.VmRegistered)[-1].version
    said: dict[object, str | None] = {}
    for envelope in own[since:]:
        event = envelope.event
        if isinstance(event, e.VmClaimed):
            said.pop(event.host_id, None)
            said[event.host_id] = event.unasked
        elif isinstance(event, e.VmClaimEnded | e.VmMoved):
            said[event.host_id if isinstance(event, e.VmClaimEnded) else event.to_host_id] = None
    return tuple(Claim(HostId(str(host)), unasked) for host, unasked in said.items() if unasked is not None)


def ignored(own: Sequence[Envelope]) -> dict[object, Ignored]:
    """Return the checkpoints that somebody has looked at, and that are there."""
    found: dict[object, Ignored] = {}
    for envelope in own:
        match envelope.event:
            case e.CheckpointIgnored(checkpoint_id=which, why=why):
                found[which] = Ignored(actor=envelope.actor, why=why, at=envelope.time)
            case e.CheckpointNotIgnored(checkpoint_id=which) | e.SnapshotAdopted(checkpoint_id=which):
                found.pop(which, None)
            case e.VmDescribed(description=described):
                for gone in set(found) - set(described.checkpoint_ids()):
                    del found[gone]
            case _:
                pass
    return found


def temporaries(own: Sequence[Envelope]) -> dict[object, Temporary]:
    """Return the temporary checkpoints of volume snapshots that are there, or may be."""
    found: dict[object, Temporary] = {}
    for envelope in own:
        match envelope.event:
            case e.TemporaryCheckpointExpected(volume_snapshot_id=which, marker=marker):
                found[which] = Temporary(marker=marker)
            case e.TemporaryCheckpointTaken(volume_snapshot_id=which, checkpoint_id=made):
                found[which] = Temporary(marker=found[which].marker, checkpoint_id=made)
            case e.TemporaryCheckpointGone(volume_snapshot_id=which):
                found.pop(which, None)
            case (
                e.VolumeSnapshotRemoved(volume_snapshot_id=which) | e.VolumeSnapshotCancelled(volume_snapshot_id=which)
            ):
                if which in found and found[which].checkpoint_id is None:
                    del found[which]
            case _:
                pass
    return found


def volume_snapshot(own: Sequence[Envelope]) -> Facts:
    """Return what the events of one volume snapshot say."""
    requested, taken = own[0], of_type(own, e.VolumeSnapshotTaken)
    told_failure = [x for x in own if hasattr(x.event, "failure")]
    left = [
        f for x in own if isinstance(x.event, e.VolumeSnapshotFailed | e.VolumeSnapshotGivenUp) for f in x.event.left
    ]
    return {
        "name": last(own[:1], "name"),
        "location": last(own[:1], "location"),
        "target": last(own[:1], "target"),
        "state": last(own, "to_state"),
        "actor": requested.actor,
        "requested_at": requested.time,
        "updated_at": own[-1].time,
        "path": last(taken, "path", default=""),
        "size_bytes": last(taken, "size_bytes", default=0),
        "identifier": last(taken, "identifier", default=""),
        "power": last(taken, "power", default=""),
        "has_memory": last(taken, "has_memory", default=False),
        "host_id": last(taken, "host_id", default=None),
        "left": () if of_type(own, e.VolumeSnapshotRemoved) else tuple(dict.fromkeys(left)),
        "failure": getattr(told_failure[-1].event, "failure", None) if told_failure else None,
    }


def host(own: Sequence[Envelope]) -> Facts:
    """Return what the events of one host's stream say."""
    registered, synced = of_type(own, e.HostRegistered)[-1], of_type(own, e.HostSynced)
    names = ("address", "port", "transport", "credential", "ca_file", "journal_directory")
    updated = [u.event for u in of_type(own, e.HostUpdated) if u.version > registered.version]
    now = {name: getattr(event, f"to_{name}") for event in updated for name in names if hasattr(event, f"to_{name}")}
    comings = of_type(own, e.HostRegistered, e.HostRemoved)
    return (
        {name: getattr(registered.event, name) for name in names}
        | now
        | {
            "registered": isinstance(comings[-1].event, e.HostRegistered),
            "registered_at": registered.time,
            "synced_at": synced[-1].time if synced and synced[-1].version > registered.version else None,
            "version": len(own),
        }
    )


async def compare(views: Views, envelopes: Sequence[Envelope]) -> None:
    """Check the views of a log against what it says."""
    streams: dict[str, list[Envelope]] = {}
    for envelope in envelopes:
        streams.setdefault(envelope.stream, []).append(envelope)
    hosts = {name: own for name, own in streams.items() if name.startswith("host/")}
    there = {name: own for name, own in hosts.items() if not isinstance(own[-1].event, e.HostRemoved)}
    assert [f"host/{h.host_id}" for h in await whole.hosts(views)] == sorted(there)
    for seen_host in await whole.hosts(views):
        _agree(seen_host, host(there[f"host/{seen_host.host_id}"]))
    for name, own in streams.items():
        if name.startswith("vm/"):
            await _compare_vm(views, VmId(name.removeprefix("vm/")), own)


async def _compare_vm(views: Views, vm_id: VmId, own: Sequence[Envelope]) -> None:
    seen = await views.vm(vm_id)
    assert seen is not None, vm_id
    facts = vm(own)
    active = [(a.number, a.snapshot_id) for a in seen.active]
    assert active == facts.pop("active")
    _agree(seen, facts)
    assert (seen in await whole.vms(views)) == facts["registered"]
    await _compare_snapshots(views, vm_id, own)
    await _compare_volume_snapshots(views, vm_id, own)
    await _compare_operations(views, vm_id, own)


async def _compare_snapshots(views: Views, vm_id: VmId, own: Sequence[Envelope]) -> None:
    by_id: dict[SnapshotId, list[Envelope]] = {}
    for envelope in own:
        if isinstance(envelope.event, e.SnapshotTransition | e.SnapshotFact):
            by_id.setdefault(envelope.event.snapshot_id, []).append(envelope)
    seen = {s.snapshot_id: s for s in await whole.snapshots(views, vm_id)}
    assert set(seen) == set(by_id)
    for snapshot_id, events in by_id.items():
        _agree(seen[snapshot_id], snapshot(events))
    current = last(own, "to_snapshot_id")
    assert current is None or current in seen
    for there in seen.values():
        if there.state not in (SnapshotState.REMOVED, SnapshotState.EXPUNGING) and there.parent_id is not None:
            assert seen[there.parent_id].state is not SnapshotState.REMOVED, "what is there hangs on what is there"


async def _compare_volume_snapshots(views: Views, vm_id: VmId, own: Sequence[Envelope]) -> None:
    by_id: dict[VolumeSnapshotId, list[Envelope]] = {}
    for envelope in own:
        if isinstance(envelope.event, e.VolumeSnapshotTransition):
            by_id.setdefault(envelope.event.volume_snapshot_id, []).append(envelope)
    seen = {s.volume_snapshot_id: s for s in await whole.volume_snapshots(views, vm_id)}
    assert set(seen) == set(by_id)
    for volume_snapshot_id, events in by_id.items():
        _agree(seen[volume_snapshot_id], volume_snapshot(events))


async def _compare_operations(views: Views, vm_id: VmId, own: Sequence[Envelope]) -> None:
    by_number: dict[int, list[Envelope]] = {}
    hosts: dict[int, object] = {}
    host_id: object = None
    for envelope in own:
        event = envelope.event
        if isinstance(event, e.VmRegistered | e.VmMoved):
            host_id = event.host_id if isinstance(event, e.VmRegistered) else event.to_host_id
        if isinstance(event, e.RequestJoined) or not hasattr(event, "number"):
            continue
        hosts.setdefault(event.number, host_id)
        by_number.setdefault(event.number, []).append(envelope)
    active = []
    for number, events in by_number.items():
        facts = operation(events, hosts[number])
        seen = await views.operation(OperationName(str(events[0].operation)))
        assert seen is not None, number
        steps = facts.pop("steps")
        assert isinstance(steps, list)
        _agree(seen, facts)
        assert len(seen.steps) == len(steps)
        for seen_step, step_facts in zip(seen.steps, steps, strict=True):
            _agree(seen_step, step_facts)
            assert seen.active or seen_step.before is None
        if facts["active"]:
            active.append(facts["name"])
    assert [o.name for o in await whole.active(views)] == active


def _agree(seen: object, facts: Facts) -> None:
    """Check the attributes of what is seen, and that none but those named here is left out."""
    found = {name: getattr(seen, name) for name in facts}
    assert found == facts
    left_out = {name for cls in type(seen).__mro__ for name in getattr(cls, "__slots__", ())} - set(facts)
    assert left_out <= {"vm_id", "snapshot_id", "volume_snapshot_id", "host_id", "before", "active", "steps"}, left_out
