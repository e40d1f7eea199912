"""The volumes of the log: which VM has which file to itself. Every claim and every release is recorded here.

A claim is made before the request that needs it is recorded. So it may be left over: by a crash in between, by an
operation that has failed, by somebody who detached the disk, by a VM that is not registered any more. `follow` compares
the claims of a VM with what is on record of it, and ends those without a reason:

    the VM has the file        in a chain of its disks or checkpoints, as last reported
    an operation brings it     one that is active; or one that has ended with an outcome that nobody knows yet
    an operation deletes it    likewise, also of a VM that is not registered any more
    a request is being decided which is what `hold` is for

What others attach by hand is claimed when it is seen. What a VM had when it was registered needs no claim: its record
has it, and whoever asks for a volume looks at the records of all VMs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from functools import partial

from snapshotd.application.standing import OWNED, volume_standing
from snapshotd.application.virtual_machines import VirtualMachines
from snapshotd.domain import events as e
from snapshotd.domain.actors import behalf_of
from snapshotd.domain.attached import file_forms, whole
from snapshotd.domain.events import DriftDetected, DriftKind, Envelope, NewEvent, Occasion, VolumeEvent
from snapshotd.domain.host_path import normalised, same
from snapshotd.domain.ids import StreamId, VmId
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Operation
from snapshotd.domain.storage_errors import LogIncomplete, RecordNotReadable, StreamChanged
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.volume import Volume, evolve_volume, volume_stream
from snapshotd.operations.catalogue import KINDS
from snapshotd.ports.clock import Clock
from snapshotd.ports.event_log import EventLog, StreamRow
from snapshotd.ports.ids import Ids

_ATTEMPTS = 16
_TOGETHER = 500
"""Streams that are read at a time."""
_UNCLAIMED = 1_000
"""Released volumes that are kept in memory: a read that began before the release must not bring the claim back."""
_CAME = (DriftKind.VOLUME_ATTACHED, DriftKind.VOLUME_REPLACED)


class Volumes:
    """The volumes that VMs have claimed, as the log has them; all of them once `start` has read them.

    Args:
        log: what is recorded goes there.
        clock: the time of events.
        ids: the ids of events.
        vms: the VMs of the log, as they are now.
    """

    def __init__(self, log: EventLog, clock: Clock, ids: Ids, vms: VirtualMachines) -> None:
        self._log = log
        self._clock = clock
        self._ids = ids
        self._vms = vms
        self._volumes: dict[str, Volume] = {}
        self._of_vm: defaultdict[VmId, set[str]] = defaultdict(set)
        self._unclaimed: dict[str, None] = {}
        """Volumes in memory that belong to no VM. The one that was released longest ago comes first."""
        self._held: Counter[tuple[str, VmId]] = Counter()

    async def start(self) -> None:
        """Read the volumes that are claimed. Raises LogUnavailable, UnreadableEvent."""
        rows = [row for _, row in await self._log.marked([OWNED])]
        for first in range(0, len(rows), _TOGETHER):
            await self._read(rows[first : first + _TOGETHER])

    async def _read(self, rows: Sequence[StreamRow]) -> None:
        """Read volumes by their rows."""
        for volume in await last_of(self._log, rows):
            self._keep(volume)

    def owner(self, path: str) -> VmId | None:
        """Return the VM that has claimed a path, however it is spelt; None: none has."""
        return self._known(normalised(path)).owner

    async def is_deleted(self, path: str) -> bool:
        """Return whether the VM that has claimed a path deletes the file, or may have done so."""
        owner = self.owner(path)
        operations = _at_work(await self._vms.load(owner), looked=False) if owner is not None else ()
        return any(same(path, p) for o in operations for p in KINDS[o.kind].deletes(o))

    def claimed_by(self, vm_id: VmId) -> tuple[str, ...]:
        """Return the paths that a VM has claimed, sorted."""
        return tuple(sorted(self._volumes[key].path for key in self._of_vm.get(vm_id, ())))

    @contextmanager
    def hold(self, path: str, vm_id: VmId) -> Iterator[None]:
        """Let a VM's claim stand while its request is decided: that is not on record yet."""
        key = (normalised(path), vm_id)
        self._held[key] += 1
        try:
            yield
        finally:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]

    async def claim(
        self, path: str, vm_id: VmId, *, cause: e.ClaimCause, actor: str, request_id: str = ""
    ) -> tuple[VmId, tuple[Envelope, ...]]:
        """Give a volume to a VM, unless it belongs to one already. Return its owner now, and what was recorded.

        Raises LogUnavailable, AppendUncertain.
        """
        volume, envelopes = await self._execute(path, lambda now: now.claimed(path, vm_id, cause), actor, request_id)
        assert volume.owner is not None, volume
        return volume.owner, envelopes

    async def follow(
        self, vm_id: VmId, envelopes: Iterable[Envelope] = (), *, looked: bool = False, actor: str
    ) -> tuple[Envelope, ...]:
        """Make the claims of a VM what is on record of it, and return what was recorded for that.

        Args:
            vm_id: the VM.
            envelopes: its last events.
            looked: the VM was compared with what its host reports, just now, and nothing was at work on it.
            actor: who does this.

        Raises LogUnavailable, AppendUncertain.
        """
        recorded: list[Envelope] = []
        claims = self._of_vm.get(vm_id, set())
        drifts = [x.event for x in envelopes if isinstance(x.event, DriftDetected) and x.event.kind in _CAME]
        if not claims and not drifts:
            return ()
        with self._vms.held(vm_id):
            await self._vms.load(vm_id)
            for key in sorted(claims - self._with_reason(vm_id, claims, looked=looked)):
                recorded += (await self._execute(key, partial(self._release, vm_id, looked), actor))[1]
            for path in (drift.observed for drift in drifts if drift.observed):
                recorded += (await self._execute(path, partial(self._came, vm_id, path), actor))[1]
        return tuple(recorded)

    async def follow_all(self, *, actor: str) -> tuple[Envelope, ...]:
        """Make all claims what is on record, and return what was recorded for that. Raises as `follow` does.

        Only VMs that do not have a file that they have claimed are looked at: of the others, the claim has its reason.
        """
        recorded: list[Envelope] = []
        rows = [row for _, row in await self._log.marked([OWNED])]
        await self._read([row for row in rows if self._known(row.stream.removeprefix("volume/")).version < row.version])
        for vm_id in await self.unsettled(tuple(self._of_vm)):
            with suppress(RecordNotReadable, LogIncomplete):  # that VM's claims stay
                recorded += await self.follow(vm_id, actor=actor)
        return tuple(recorded)

    async def unsettled(self, vm_ids: Iterable[VmId]) -> tuple[VmId, ...]:
        """Return those of these VMs that do not have a file that they have claimed: the claim may be without reason.

        Raises LogUnavailable.
        """
        keys = [(key, vm_id) for vm_id in vm_ids for key in self._of_vm.get(vm_id, ())]
        claims = [(self._volumes[key].path, vm_id) for key, vm_id in keys]
        have = await self._vms.with_files([path for path, _ in claims]) if claims else {}
        return tuple(dict.fromkeys(owner for path, owner in claims if owner not in have.get(path, ())))

    def _release(self, vm_id: VmId, looked: bool, volume: Volume) -> tuple[VolumeEvent, ...]:  # noqa: FBT001  (partial)
        """Return the event that ends a claim, if it has no reason as things are at this moment."""
        if self._with_reason(vm_id, {volume.key}, looked=looked):
            return ()
        registered = self._vms.known(vm_id).registered
        cause = e.ReleaseCause.NOT_ATTACHED if registered else e.ReleaseCause.UNREGISTERED
        return volume.released(vm_id, cause)

    def _with_reason(self, vm_id: VmId, keys: AbstractSet[str], *, looked: bool) -> AbstractSet[str]:
        """Return which of these claims of a VM have a reason, as things are at this moment."""
        vm = self._vms.known(vm_id)
        if not keys:
            return set()
        # A file that is missing hides those below it.
        if vm.registered and vm.description is not None and not whole(vm.description):
            return keys
        has = file_forms(vm.description) if vm.registered and vm.description is not None else frozenset()
        held = {key for key in keys if (key, vm_id) in self._held}
        return keys & (has | held | _needed(vm, looked=looked))

    def _came(self, vm_id: VmId, path: str, volume: Volume) -> tuple[VolumeEvent, ...]:
        """Return the event that gives a VM a volume that others have attached to it, if it still has that."""
        vm = self._vms.known(vm_id)
        has = vm.registered and vm.description is not None and volume.key in file_forms(vm.description)
        return volume.claimed(path, vm_id, e.ClaimCause.ATTACHED_BY_OTHERS) if has else ()

    async def _execute(
        self, path: str, decide: Callable[[Volume], tuple[VolumeEvent, ...]], actor: str, request_id: str = ""
    ) -> tuple[Volume, tuple[Envelope, ...]]:
        """Decide and append; if another append came first, read it and decide again."""
        stream, key = volume_stream(path), normalised(path)
        for attempt in range(1, _ATTEMPTS + 1):
            volume = self._volumes.get(key) or await self._loaded(stream, key)
            decided = decide(volume)
            events = [self._new(event, actor, request_id) for event in decided]
            if not events:
                return volume, ()
            try:
                after = self._after(volume, decided, actor, request_id)
                envelopes = await self._log.append(stream, volume.version, events, volume_standing(after))
            except StreamChanged:
                if attempt == _ATTEMPTS:
                    raise
                self._keep(_fold(volume, await self._log.read_stream(stream, volume.version)))
            else:
                return self._keep(after), envelopes
        raise AssertionError(path)

    def _after(self, volume: Volume, events: Iterable[VolumeEvent], actor: str, request_id: str) -> Volume:
        for version, event in enumerate(events, volume.version + 1):
            at = Occasion(version=version, time=self._clock.now(), actor=actor, request_id=request_id)
            volume = evolve_volume(volume, event, at)
        return volume

    def _new(self, event: VolumeEvent, actor: str, request_id: str) -> NewEvent:
        return NewEvent(
            event_id=self._ids.fresh(),
            time=self._clock.now(),
            actor=str(actor),
            on_behalf_of=behalf_of(actor),
            request_id=request_id,
            operation=None,
            event=event,
        )

    async def _loaded(self, stream: StreamId, key: str) -> Volume:
        """Return a volume that is not in memory."""
        for row in await self._log.rows([stream]):
            await self._read([row])
        return self._known(key)

    def _known(self, key: str) -> Volume:
        return self._volumes.get(key) or Volume(key=key)

    def _keep(self, volume: Volume) -> Volume:
        """Keep the newer of two folds: tasks may finish in any order."""
        before = self._known(volume.key)
        if volume.version <= before.version:
            return before
        self._volumes[volume.key] = volume
        self._unclaimed.pop(volume.key, None)
        if before.owner is not None:
            self._of_vm[before.owner].discard(volume.key)
            if not self._of_vm[before.owner]:
                del self._of_vm[before.owner]
        if volume.owner is not None:
            self._of_vm[volume.owner].add(volume.key)
        else:
            self._unclaimed[volume.key] = None
            if len(self._unclaimed) > _UNCLAIMED:
                oldest = next(iter(self._unclaimed))
                del self._unclaimed[oldest], self._volumes[oldest]
        return volume


async def last_of(log: EventLog, rows: Sequence[StreamRow]) -> tuple[Volume, ...]:
    """Return volumes by their rows. The last event of each tells whose it is."""
    last = await log.read_streams({row.stream: row.version - 1 for row in rows})
    return tuple(_fold(Volume(key=x.stream.removeprefix("volume/")), [x]) for x in last)


def _needed(vm: VirtualMachine, *, looked: bool) -> frozenset[str]:
    """Return the normal forms of the paths that a VM's operations attach or delete, or may have."""
    kinds = ((KINDS[operation.kind], operation) for operation in _at_work(vm, looked=looked))
    return frozenset(normalised(p) for kind, o in kinds for p in (*kind.brings(o), *kind.deletes(o)))


def _at_work(vm: VirtualMachine, *, looked: bool) -> tuple[Operation, ...]:
    """Return the operations of a VM that are active, or have ended without their outcome being known.

    What came of the latter, the next look at the VM shows. At one that is not registered any more, nobody looks.
    """
    known = looked or not vm.registered
    unknown = () if known else (o for o in vm.operations.values() if not o.active and _undetermined(o))
    return (*vm.active_operations, *unknown)


def _undetermined(operation: Operation) -> bool:
    return any(step.state is StepState.UNDETERMINED for step in operation.steps)


def _fold(volume: Volume, envelopes: Iterable[Envelope]) -> Volume:
    """Return a volume with the envelopes that it has not seen. Calls no port."""
    for envelope in envelopes:
        assert isinstance(envelope.event, VolumeEvent), envelope
        if envelope.version > volume.version:
            volume = evolve_volume(volume, envelope.event, envelope)
    return volume
