"""What is on record of a VM itself, without its snapshots and operations, as a fold of events.

The aggregate (`virtual_machine.py`) is more than that; the inventory keeps no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, assert_never

from msgspec import field

from snapshotd.domain import events as e
from snapshotd.domain.details import Labels, VmDetails
from snapshotd.domain.export import Export, ExportPolicy, Release
from snapshotd.domain.export_fold import Kept, evolve_kept, not_released
from snapshotd.domain.host_report import Checkpoint, VmDescription
from snapshotd.domain.ids import CheckpointId, HostId, SnapshotId, VmId, VolumeSnapshotId
from snapshotd.domain.lifecycle import Power, VmActivity
from snapshotd.domain.recorded import Time
from snapshotd.domain.state import State, replace
from snapshotd.domain.vm_notes import Active, Claim, Ignored
from snapshotd.domain.volume_snapshot import (
    Temporaries,
    evolve_temporaries,
)

_NOWHERE = HostId("")


class VmRecord(State, frozen=True, kw_only=True):
    """What is on record of a VM itself, without its snapshots and operations."""

    vm_id: VmId
    version: int = 0
    activity: VmActivity = VmActivity.NEW
    host_id: HostId = _NOWHERE
    host_since: int = 0
    """The version at which the VM came to its host from another one; 0: it was never on another."""
    claims: tuple[Claim, ...] = ()
    """Other hosts that have it too. While there is one, nothing is done to the VM."""
    name: str = ""
    owner: str = ""
    power: Power = Power.UNKNOWN
    description: VmDescription | None = None
    """As last reported; None: never."""
    journal_id: str = ""
    """The VM's journal on its host, as last reported; empty: not known yet."""
    rolled_back: int = 0
    """The highest token of the journal on the host, if this log has not issued it: the log is older than the host, and
    the VM is only observed. 0: it is not."""
    foreign_journal: bool = False
    """It is rolled back since its host's journals belonged to another installation: only a take-over ends that."""
    fence_due: bool = False
    """A step was settled whose command may still reach the host, or the VM was taken over. It is observed, so that what
    was sent before cannot act any more, before anything else is sent."""
    current_id: SnapshotId | None = None
    active: tuple[Active, ...] = ()
    """The newest first. It holds the VM, or will as soon as every older one has ended or merely waits."""
    registered_at: Time | None = None
    updated_at: Time | None = None
    labels: Labels = field(default_factory=dict)
    ignored: Mapping[CheckpointId, Ignored] = field(default_factory=dict)
    """Of the checkpoints that are there."""
    temporaries: Temporaries = field(default_factory=dict)
    """Checkpoints that volume snapshots need for a while, or have left. They are no snapshots, and not foreign."""
    export_policy: ExportPolicy = ExportPolicy.AS_SERVER
    exports: tuple[Export, ...] = ()
    """The complete ones that are there by our record, the oldest first."""
    released: Release | None = None
    """It was removed from its host after an export: it is expected to be absent, and its power stays STOPPED."""

    @property
    def details(self) -> VmDetails:
        """What people say of it."""
        return VmDetails(owner=self.owner, labels=self.labels, export_policy=self.export_policy)

    @property
    def registered(self) -> bool:
        """Whether the VM is registered."""
        return self.activity not in (VmActivity.NEW, VmActivity.UNREGISTERED, VmActivity.DESTROYED)

    @property
    def readable(self) -> bool:
        """Whether callers are shown it: it is registered, or was destroyed, so that only its record is left."""
        return self.registered or self.activity is VmActivity.DESTROYED

    def temporary_for(self, checkpoint: Checkpoint) -> VolumeSnapshotId | None:
        """Return the volume snapshot that a checkpoint on the host was made for; None: it is no temporary one."""
        return next((i for i, temporary in self.temporaries.items() if temporary.is_it(checkpoint)), None)

    def temporary_checkpoints(self) -> Mapping[CheckpointId, VolumeSnapshotId]:
        """Return the temporary checkpoints that the host was last seen to have, with what each was made for."""
        there = self.description.checkpoints if self.description and self.temporaries else ()
        made_for = ((c.checkpoint_id, self.temporary_for(c)) for c in there)
        return {checkpoint_id: which for checkpoint_id, which in made_for if which is not None}


VmT = TypeVar("VmT", bound=VmRecord)
_Work = e.OperationRequested | e.OperationProgress | e.ObservationAnswered
"""What an event may say of the work on a VM."""


def evolve_record(vm: VmT, event: e.VmEvent, at: e.Occasion) -> VmT:
    """Return the record of the VM itself with one event applied. Never refuses, calls no port."""
    vm = replace(vm, version=at.version, updated_at=at.time)
    match event:
        case e.VmRegistered() | e.VmMoved() | e.VmClaimed() | e.VmClaimEnded():
            return _evolve_place(vm, event, at)
        case e.VmUnregistered() | e.VmActivityChanged():
            return replace(vm, activity=event.to_state)
        case e.VmPowerChanged():
            return replace(vm, power=event.to_power)
        case e.VmDescribed():
            vm = replace(vm, description=event.description, name=event.description.name)
            return replace(vm, ignored=_still_there(vm.ignored, event.description))
        case e.JournalIdentified() | e.LogFoundRolledBack() | e.LogRollbackDisproved() | e.VmTakenOver():
            return _evolve_journal(vm, event)
        case e.VmDetailsChanged() | e.CheckpointIgnored() | e.CheckpointNotIgnored() | e.SnapshotAdopted():
            return _evolve_said(vm, event, at)
        case e.CurrentMoved():
            return replace(vm, current_id=event.to_snapshot_id)
        case e.VmExported() | e.ExportRemoved() | e.VmReleased() | e.VmReleaseEnded():
            kept = evolve_kept(Kept(vm.exports, vm.released), event, vm.host_id, at)
            return replace(vm, exports=kept.exports, released=kept.released)
        case _ if isinstance(event, _Work):
            return _evolve_work(vm, event)
        case _ if isinstance(event, e.VolumeSnapshotEvent):
            return replace(vm, temporaries=evolve_temporaries(vm.temporaries, event))
        case _:
            return vm


def _evolve_journal(
    vm: VmT, event: e.JournalIdentified | e.LogFoundRolledBack | e.LogRollbackDisproved | e.VmTakenOver
) -> VmT:
    """Return the record with what an event says of the VM's journal."""
    match event:
        case e.JournalIdentified():
            return replace(vm, journal_id=event.journal_id)
        case e.LogFoundRolledBack():
            return replace(vm, rolled_back=event.journal_token, foreign_journal=event.foreign)
        case e.LogRollbackDisproved():
            return replace(vm, rolled_back=0)
        case e.VmTakenOver():
            vm = replace(vm, rolled_back=0, foreign_journal=False)
            return replace(vm, journal_id=event.journal_id, fence_due=True)
        case _:
            assert_never(event)


def _evolve_work(vm: VmT, event: _Work) -> VmT:
    """Return the record with what an event says of the work on the VM."""
    match event:
        case e.OperationRequested():
            touches = dict.fromkeys(s.snapshot_id for s in event.steps if s.snapshot_id is not None)
            active = Active(event.number, event.name, event.snapshot_id, tuple(touches))
            return replace(vm, active=(active, *vm.active))
        case e.OperationSucceeded() | e.OperationFailed() | e.OperationCancelled():
            return replace(vm, active=tuple(active for active in vm.active if active.number != event.number))
        case e.OperationSettled() | e.ObservationAnswered(seen=True):
            return replace(vm, fence_due=isinstance(event, e.OperationSettled))
        case _:
            return vm


def _evolve_place(vm: VmT, event: e.VmRegistered | e.VmMoved | e.VmClaimed | e.VmClaimEnded, at: e.Occasion) -> VmT:
    """Return the record with what an event says of where the VM is."""
    match event:
        case e.VmRegistered():
            known = replace(vm, activity=event.to_state, name=event.name, owner=event.owner, registered_at=at.time)
            # One that was released and then forgotten may have been imported from its export since.
            kept = not_released(Kept(vm.exports, vm.released))
            known = replace(known, exports=kept.exports, released=kept.released)
            known = replace(known, claims=(), labels={}, export_policy=ExportPolicy.AS_SERVER)
            return known if known.host_id == event.host_id else _came(known, event.host_id, at)
        case e.VmMoved():
            return _came(vm, event.to_host_id, at)
        case e.VmClaimed():
            return replace(vm, claims=(*_claims_but(vm, event.host_id), Claim(event.host_id, event.unasked)))
        case e.VmClaimEnded():
            return replace(vm, claims=_claims_but(vm, event.host_id))
        case _:
            assert_never(event)


def _came(vm: VmT, host_id: HostId, at: e.Occasion) -> VmT:
    """Return the record of a VM that came to a host. The journal of another one stayed behind: each has its own."""
    since = at.version if vm.host_id else 0
    return replace(vm, host_id=host_id, host_since=since, journal_id="", claims=_claims_but(vm, host_id))


def _claims_but(vm: VmRecord, host_id: HostId) -> tuple[Claim, ...]:
    return tuple(claim for claim in vm.claims if claim.host_id != host_id)


def _still_there(ignored: Mapping[CheckpointId, Ignored], description: VmDescription) -> Mapping[CheckpointId, Ignored]:
    return {i: x for i, x in ignored.items() if description.checkpoint(i) is not None}


def _evolve_said(
    vm: VmT,
    event: e.VmDetailsChanged | e.CheckpointIgnored | e.CheckpointNotIgnored | e.SnapshotAdopted,
    at: e.Occasion,
) -> VmT:
    """Return the record with what a person says of the VM, or of its foreign checkpoints."""
    match event:
        case e.VmDetailsChanged():
            after = event.after
            return replace(vm, owner=after.owner, labels=after.labels, export_policy=after.export_policy)
        case e.CheckpointIgnored():
            ignored = Ignored(actor=at.actor, why=event.why, at=at.time)
            return replace(vm, ignored={**vm.ignored, event.checkpoint_id: ignored})
        case e.CheckpointNotIgnored() | e.SnapshotAdopted():
            return replace(vm, ignored={i: x for i, x in vm.ignored.items() if i != event.checkpoint_id})
        case _:
            assert_never(event)
