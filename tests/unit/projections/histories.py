"""Histories of the real core on a fake host, as a log in memory, long and by chance."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta

from snapshotd.application.draft import Draft
from snapshotd.domain.commands import (
    CancelOperation,
    DeleteSnapshot,
    OperationRequest,
    RevertToSnapshot,
    StartVm,
    StopVm,
    SyncVm,
    UnregisterVm,
    VmCommand,
)
from snapshotd.domain.errors import SnapshotError
from snapshotd.domain.events import Envelope, Event, HostEvent, HostRegistered, HostRemoved, HostSynced, NewEvent
from snapshotd.domain.ids import CheckpointId, StreamId, operation_name, vm_stream
from snapshotd.domain.lifecycle import SnapshotState
from snapshotd.domain.operation import StopMode
from snapshotd.domain.virtual_machine import VirtualMachine
from tests.fakes import START, VM_ID, World
from tests.unit.application.test_operations import create, sid


class MemoryLog:
    """An event log in a list (ports/event_log.py), to read."""

    def __init__(self, envelopes: Sequence[Envelope] = ()) -> None:
        self.envelopes = list(envelopes)

    async def append(self, stream: StreamId, expected_version: int, events: Sequence[NewEvent]) -> tuple[Envelope, ...]:
        """Never asked for."""
        raise AssertionError((stream, expected_version, events))

    async def read_stream(self, stream: StreamId, after_version: int = 0) -> tuple[Envelope, ...]:
        """Return a stream."""
        return tuple(e for e in self.envelopes if e.stream == stream and e.version > after_version)

    async def read_all(self, after_position: int, limit: int) -> tuple[Envelope, ...]:
        """Return the log."""
        return tuple(e for e in self.envelopes if e.position > after_position)[:limit]

    def head_position(self) -> int:
        """Return the newest position."""
        return self.envelopes[-1].position if self.envelopes else 0

    async def wait_past(self, position: int, timeout_s: float) -> None:
        """Return at once."""
        del position, timeout_s


class RecordedWorld(World):
    """A world that keeps its events in their envelopes, and the VM after each."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.folds: dict[int, VirtualMachine] = {}
        """By position: the VM after the decision that ends there."""
        super().__init__()

    def do(self, command: VmCommand, *, request_id: str = "", digest: str = "", actor: str = "ann") -> Draft:
        """Decide a command, and keep what follows."""
        version = self.vm.version
        draft = super().do(command, request_id=request_id, digest=digest, actor=actor)
        for n, (event, operation) in enumerate(draft.events, 1):
            self.keep(vm_stream(VM_ID), version + n, event, actor, operation)
        if draft.events:
            self.folds[self.envelopes[-1].position] = self.vm
        return draft

    def keep(self, stream: StreamId, version: int, event: Event, actor: str, operation: object = None) -> None:
        """Append an envelope."""
        number = len(self.envelopes) + 1
        self.envelopes.append(
            Envelope(
                event_id=f"{number}",
                stream=stream,
                version=version,
                position=number * 2,
                time=self.now,
                actor=actor,
                request_id="",
                operation=operation if operation is None else operation_name(VM_ID, _number(operation)),
                event=event,
            )
        )


def _number(operation: object) -> int:
    return int(str(operation).rpartition(".")[2])


def history(seed: int, requests: int) -> RecordedWorld:
    """Return a world after so many requests by chance, with lost answers, cancellations and drift."""
    chance, world = random.Random(seed), RecordedWorld()
    for n in range(1, requests + 1):
        there = [s.snapshot_id for s in world.vm.snapshots.values() if s.state is SnapshotState.READY]
        some = chance.choice(there or [sid(n)])
        wanted: Sequence[OperationRequest] = (
            create(n, memory=chance.random() < 0.4),
            create(n),
            RevertToSnapshot(snapshot_id=some, refuse_power_change=False),
            DeleteSnapshot(snapshot_id=some),
            DeleteSnapshot(snapshot_id=some),
            StartVm(),
            StopVm(mode=StopMode.TURN_OFF),
        )
        try:
            world.do(chance.choice(wanted), actor=chance.choice(["ann", "bob"]))
        except SnapshotError:
            continue
        while world.vm.active_operations:
            if chance.random() < 0.1:
                _try_to_cancel(world)
            else:
                world.turn(lose=chance.random() < 0.2, twice=chance.random() < 0.1)
        if chance.random() < 0.2:
            _drift(world, chance)
        world.now += timedelta(seconds=chance.randrange(100))
    return world


def _try_to_cancel(world: World) -> None:
    try:
        world.do(CancelOperation(number=world.vm.active_operations[-1].number))
    except SnapshotError:
        world.turn()


def _drift(world: World, chance: random.Random) -> None:
    """Let somebody act by hand, and have it seen."""
    if chance.random() < 0.5:
        world.host.take("by hand")
    elif world.host.checkpoints:
        world.host.remove(CheckpointId(chance.choice(sorted(world.host.checkpoints))))
        world.host.merge()
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))


def with_hosts(world: RecordedWorld) -> None:
    """Let hosts come, be synced and go, and the VM be forgotten."""
    registered = HostRegistered(
        address="10.0.0.1",
        port=5985,
        transport="NTLM_HTTP",
        credential="hv",
        ca_file="",
        journal_directory="",
        request_digest="",
    )
    events: list[tuple[str, HostEvent]] = [
        ("hv01", registered),
        ("hv02", registered),
        ("hv01", HostSynced(vms=1, drifts=0, skipped=())),
        ("hv02", HostRemoved(request_digest="")),
    ]
    versions: dict[str, int] = {}
    for host, event in events:
        versions[host] = versions.get(host, 0) + 1
        world.keep(StreamId(f"host/{host}"), versions[host], event, "ann")
    world.do(UnregisterVm())


__all__ = ["START", "VM_ID", "MemoryLog", "RecordedWorld", "history", "with_hosts"]
