"""The VMs of the log: load → decide → append. Every event of a VM is recorded here.

Folds are kept in memory, as a cache only. The log refuses an append that was decided on a stale fold. Then the rest of
the stream is read, and the command decided again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from snapshotd.application.decide import decide
from snapshotd.application.draft import Context, Draft
from snapshotd.domain.commands import VmCommand
from snapshotd.domain.events import Envelope, NewEvent, VmEvent
from snapshotd.domain.ids import VmId, vm_stream
from snapshotd.domain.policy import Policy
from snapshotd.domain.storage_errors import StreamChanged
from snapshotd.domain.virtual_machine import VirtualMachine, evolve
from snapshotd.ports.clock import Clock
from snapshotd.ports.event_log import EventLog
from snapshotd.ports.ids import Ids

_ATTEMPTS = 16
"""How often a command is decided while others append to its stream. One daemon owns a log, so more is a bug."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What came of a command: the VM after it, the events in their envelopes (none: nothing changed), and the draft."""

    vm: VirtualMachine
    envelopes: tuple[Envelope, ...]
    draft: Draft


class VirtualMachines:
    """Decides the commands of VMs, and appends the events."""

    def __init__(self, log: EventLog, clock: Clock, ids: Ids, policy: Policy) -> None:
        """Keep no VM yet: each is read when it is asked for."""
        self._log = log
        self._clock = clock
        self._ids = ids
        self._policy = policy
        self._vms: dict[VmId, VirtualMachine] = {}

    async def load(self, vm_id: VmId) -> VirtualMachine:
        """Return a VM as the log has it; a VM that is not on record has version 0."""
        vm = self.known(vm_id)
        return self._keep(fold(vm, await self._log.read_stream(vm_stream(vm_id), vm.version)))

    def take(self, envelope: Envelope) -> None:
        """Apply an envelope of a VM's stream during the replay."""
        vm = self.known(VmId(envelope.stream.partition("/")[2]))
        self._keep(fold(vm, [envelope] if envelope.version > vm.version else []))

    def registered(self) -> tuple[VirtualMachine, ...]:
        """Return the registered VMs, as they are in memory: all of them after a replay."""
        return tuple(vm for vm in self._vms.values() if vm.registered)

    def on_record(self) -> tuple[VirtualMachine, ...]:
        """Return all VMs that are in memory, registered or not: exports and copies outlive their VM."""
        return tuple(self._vms.values())

    def with_work(self) -> tuple[VirtualMachine, ...]:
        """Return the VMs with an operation that has not ended, registered or not: a copy's file outlives its VM."""
        return tuple(vm for vm in self._vms.values() if vm.active)

    async def execute(
        self, vm_id: VmId, command: VmCommand, *, actor: str, request_id: str = "", digest: str = ""
    ) -> Decided:
        """Decide a command, and return once its events are durable.

        Raises the SnapshotdError that refused it, StreamChanged if other appends keep coming first, LogUnavailable,
        AppendUncertain.
        """
        vm = self._vms.get(vm_id) or await self.load(vm_id)
        for attempt in range(1, _ATTEMPTS + 1):
            context = self._context(actor, request_id, digest)
            draft = decide(vm, command, context)
            if not draft.events:
                return Decided(vm=vm, envelopes=(), draft=draft)
            events = [
                NewEvent(
                    event_id=self._ids.fresh(),
                    time=context.now,
                    actor=draft.actor_of(event),
                    request_id=request_id,
                    operation=operation,
                    event=event,
                )
                for event, operation in draft.events
            ]
            try:
                envelopes = await self._log.append(vm_stream(vm_id), vm.version, events)
            except StreamChanged:
                if attempt == _ATTEMPTS:
                    raise
                vm = await self.load(vm_id)
            else:
                return Decided(vm=self._keep(draft.vm), envelopes=envelopes, draft=draft)
        raise AssertionError(vm_id)

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

    def known(self, vm_id: VmId) -> VirtualMachine:
        """Return what is in memory of a VM; version 0 if nothing is."""
        return self._vms.get(vm_id) or VirtualMachine(vm_id=vm_id)

    def _keep(self, vm: VirtualMachine) -> VirtualMachine:
        """Return the newer of two folds, and keep it if the VM is on record. Tasks may finish in any order."""
        kept = self._vms.get(vm.vm_id)
        if kept is not None and kept.version >= vm.version:
            return kept
        if vm.version:
            self._vms[vm.vm_id] = vm
        return vm


def fold(vm: VirtualMachine, envelopes: Iterable[Envelope]) -> VirtualMachine:
    """Return a VM with envelopes applied. Calls no port."""
    for envelope in envelopes:
        assert isinstance(envelope.event, VmEvent), envelope
        assert envelope.version == vm.version + 1, (envelope.version, vm.version)
        vm = evolve(vm, envelope.event, envelope)
    return vm
