"""The VMs of the log: load → decide → append. Every event of a VM is recorded here.

Some folds are kept in memory, as a cache only; others are read when they are asked for. The log refuses an append that
was decided on a stale fold. Then the rest of the stream is read, and the command decided again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from typing import Final

from snapshotd.application.decide import decide
from snapshotd.application.draft import Context, Draft
from snapshotd.application.folds import Folds
from snapshotd.application.mementos import Mementos
from snapshotd.application.readable import refuse_unknown
from snapshotd.application.standing import vm_standing, with_file
from snapshotd.domain.actors import behalf_of
from snapshotd.domain.commands import VmCommand
from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.events import Envelope, NewEvent, VmEvent
from snapshotd.domain.ids import HostId, VmId, host_stream, vm_in, vm_stream
from snapshotd.domain.policy import Policy
from snapshotd.domain.storage_errors import LogIncomplete, StreamChanged
from snapshotd.domain.virtual_machine import VirtualMachine, evolve
from snapshotd.ports.clock import Clock
from snapshotd.ports.event_log import EventLog, StreamRow
from snapshotd.ports.ids import Ids

_ATTEMPTS = 16
"""How often a command is decided while others append to its stream. One daemon owns a log, so more is a bug."""
_ROOM: Final = 2_000
"""Folds kept in memory, beside those of VMs with active operations. One with five snapshots takes some 40 KB."""
_TOGETHER: Final = 200
"""Streams that are read at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What came of a command: the VM after it, the events in their envelopes (none: nothing changed), and the draft."""

    vm: VirtualMachine
    envelopes: tuple[Envelope, ...]
    draft: Draft


class VirtualMachines:
    """Decides the commands of VMs, and appends the events.

    Args:
        log: the event log.
        clock: the time of events.
        ids: the ids of events.
        policy: the numbers that decisions depend on.
        memento_shape: what must be alike to read a memento; empty: none is kept.
        room: how many folds are kept in memory.
    """

    def __init__(
        self, log: EventLog, clock: Clock, ids: Ids, policy: Policy, memento_shape: str = "", room: int = _ROOM
    ) -> None:
        self._log = log
        self._clock = clock
        self._ids = ids
        self._policy = policy
        self._mementos = Mementos(log, VirtualMachine, memento_shape)
        self._folds = Folds(room, lambda vm_id: self._mementos.forget(vm_stream(vm_id)))

    # --- which there are ----------------------------------------------------------------------------------------

    async def on_host(self, host_id: HostId) -> Mapping[VmId, StreamRow]:
        """Return the rows of the VMs that are registered on a host."""
        rows = await self._log.rows_at(host_stream(host_id))
        return {vm_in(row.stream): row for row in rows}

    async def places(self, vm_ids: Collection[VmId]) -> Mapping[VmId, HostId]:
        """Return on which host each of these VMs is registered; one that is not is left out."""
        rows = await self._log.rows([vm_stream(vm_id) for vm_id in vm_ids])
        return {vm_in(row.stream): HostId(row.place.removeprefix("host/")) for row in rows if row.place}

    async def marked(self, mark: str) -> tuple[VmId, ...]:
        """Return the VMs that have a mark (application/standing.py)."""
        return tuple(vm_in(row.stream) for _, row in await self._log.marked([mark]))

    async def with_files(self, paths: Collection[str]) -> Mapping[str, tuple[VmId, ...]]:
        """Return, for each of these paths that a registered VM has, however it is spelt, the VMs that have it."""
        marks = {path: with_file(path) for path in paths}
        having: dict[str, tuple[VmId, ...]] = {}
        for mark, row in await self._log.marked(set(marks.values())):
            having[mark] = (*having.get(mark, ()), vm_in(row.stream))
        # Of two spellings of one path, each has its own entry.
        return {path: having[mark] for path, mark in marks.items() if mark in having}

    def note_compared(self, digests: Mapping[VmId, tuple[int, str]]) -> None:
        """Note that VMs were compared, each at a version with a report of a digest, and that nothing was recorded."""
        self._log.note_compared({vm_stream(vm_id): compared for vm_id, compared in digests.items()})

    def with_work(self) -> tuple[VirtualMachine, ...]:
        """Return the VMs with an operation that has not ended, registered or not: a copy's file outlives its VM.

        They are in memory, all of them once `load_all` has been asked for them.
        """
        return self._folds.at_work()

    # --- the folds ----------------------------------------------------------------------------------------------

    async def load(self, vm_id: VmId) -> VirtualMachine:
        """Return a VM as the log has it; a VM that is not on record has version 0.

        Raises LogUnavailable, LogIncomplete, RecordNotReadable, UnreadableEvent.
        """
        return self._folds.get(vm_id) or (await self._read([vm_id]))[0]

    async def load_all(self, vm_ids: Sequence[VmId]) -> tuple[VirtualMachine, ...]:
        """Return VMs as the log has them. Raises as `load` does."""
        found: list[VirtualMachine] = []
        for first in range(0, len(vm_ids), _TOGETHER):
            found += await self._read(vm_ids[first : first + _TOGETHER])
        return tuple(found)

    async def load_each(
        self, vm_ids: Sequence[VmId]
    ) -> tuple[tuple[VirtualMachine, ...], Mapping[VmId, SnapshotdError]]:
        """Return VMs as the log has them, and why others cannot be read: those hold up nobody."""
        with suppress(SnapshotdError):
            return await self.load_all(vm_ids), {}
        read: list[VirtualMachine] = []
        unread: dict[VmId, SnapshotdError] = {}
        for vm_id in vm_ids:
            try:
                read.append(await self.load(vm_id))
            except SnapshotdError as error:
                unread[vm_id] = error
        return tuple(read), unread

    def held(self, vm_id: VmId) -> AbstractContextManager[None]:
        """Keep a VM in memory meanwhile, so that `known` tells it as it is once it was loaded."""
        return self._folds.held(vm_id)

    def known(self, vm_id: VmId) -> VirtualMachine:
        """Return a VM as it is in memory; version 0: it is not there. One that is held and was loaded is there."""
        vm = self._folds.get(vm_id)
        return vm if vm is not None else VirtualMachine(vm_id=vm_id)

    async def _read(self, vm_ids: Sequence[VmId]) -> list[VirtualMachine]:
        """Return VMs, read from the log where they are not in memory."""
        with ExitStack() as held:
            for vm_id in vm_ids:
                held.enter_context(self._folds.held(vm_id))
            missing = [vm_id for vm_id in vm_ids if self._folds.get(vm_id) is None]
            folds = {vm_stream(vm_id): VirtualMachine(vm_id=vm_id) for vm_id in missing}
            folds |= await self._mementos.of(folds.keys())
            for envelope in await self._log.read_streams({stream: vm.version for stream, vm in folds.items()}):
                refuse_unknown(envelope)
                folds[envelope.stream] = apply(folds[envelope.stream], envelope)
            for vm in folds.values():
                self._keep(vm)
            return [self._folds.get(vm_id) or VirtualMachine(vm_id=vm_id) for vm_id in vm_ids]

    async def execute(
        self, vm_id: VmId, command: VmCommand, *, actor: str, request_id: str = "", digest: str = ""
    ) -> Decided:
        """Decide a command, and return once its events are durable.

        Raises the SnapshotdError that refused it, StreamChanged if other appends keep coming first, LogUnavailable,
        AppendUncertain.
        """
        with self._folds.held(vm_id):
            vm = await self.load(vm_id)
            for attempt in range(1, _ATTEMPTS + 1):
                context = self._context(actor, request_id, digest)
                draft = decide(vm, command, context)
                if not draft.events:
                    return Decided(vm=vm, envelopes=(), draft=draft)
                try:
                    envelopes = await self._append(vm, draft, request_id)
                except StreamChanged:
                    if attempt == _ATTEMPTS:
                        raise
                    vm = await self._refreshed(vm)
                except BaseException:
                    self._folds.drop(vm_id)  # it may have been recorded all the same
                    raise
                else:
                    return Decided(vm=self._keep(draft.vm), envelopes=envelopes, draft=draft)
        raise AssertionError(vm_id)

    async def _append(self, vm: VirtualMachine, draft: Draft, request_id: str) -> tuple[Envelope, ...]:
        events = [
            NewEvent(
                event_id=self._ids.fresh(),
                time=draft.context.now,
                actor=str(draft.actor_of(event)),
                on_behalf_of=behalf_of(draft.actor_of(event)),
                request_id=request_id,
                operation=operation,
                event=event,
            )
            for event, operation in draft.events
        ]
        return await self._log.append(vm_stream(vm.vm_id), vm.version, events, vm_standing(vm, draft.vm))

    async def _refreshed(self, vm: VirtualMachine) -> VirtualMachine:
        """Return a VM with what others have appended to its stream."""
        return self._keep(fold(vm, await self._log.read_stream(vm_stream(vm.vm_id), vm.version)))

    async def consider(self, vm_id: VmId, command: VmCommand, *, actor: str, request_id: str, digest: str) -> Draft:
        """Decide a command, and record nothing. Raises the SnapshotdError that would refuse it."""
        return decide(await self.load(vm_id), command, self._context(actor, request_id, digest))

    def _context(self, actor: str, request_id: str, digest: str) -> Context:
        return Context(
            now=self._clock.now(),
            actor=actor,
            policy=self._policy,
            fresh_id=self._ids.fresh(),
            request_id=request_id,
            digest=digest,
        )

    def _keep(self, vm: VirtualMachine) -> VirtualMachine:
        """Return the newer of two folds, and keep it. Tasks may finish in any order."""
        kept = self._folds.put(vm)
        if kept is vm and vm.version:
            self._mementos.keep(vm_stream(vm.vm_id), vm)
        return kept


def fold(vm: VirtualMachine, envelopes: Iterable[Envelope]) -> VirtualMachine:
    """Return a VM with envelopes applied. Calls no port. Raises LogIncomplete."""
    for envelope in envelopes:
        vm = apply(vm, envelope)
    return vm


def apply(vm: VirtualMachine, envelope: Envelope) -> VirtualMachine:
    """Return a VM with an envelope applied. Calls no port. Raises LogIncomplete."""
    assert isinstance(envelope.event, VmEvent), envelope
    if envelope.version != vm.version + 1:
        raise LogIncomplete(envelope.stream, vm.version + 1, envelope.position)
    return evolve(vm, envelope.event, envelope)
