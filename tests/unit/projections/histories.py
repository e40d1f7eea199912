"""Histories of the real core on a fake host, as envelopes of a log, long and by chance."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from snapshotd.application.draft import Draft
from snapshotd.domain.commands import (
    HoldSnapshot,
    IgnoreCheckpoint,
    IgnoreCheckpointNoMore,
    LoseOutcome,
    ReleaseSnapshot,
    RequestOperation,
    SyncVm,
    UnregisterVm,
    UpdateVm,
    VmCommand,
)
from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.events import Envelope, Event, HostEvent, HostRegistered, HostRemoved, HostSynced, HostUpdated
from snapshotd.domain.ids import CheckpointId, OperationName, StreamId, vm_stream
from snapshotd.domain.lifecycle import SnapshotState, StepState
from snapshotd.domain.operation import Failure, SettledAs
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.snapshot_revert import PowerAfter
from snapshotd.steps.vm_stop import StopMode
from tests.asking import adopt, delete, forget, restart_vm, revert_to, start_vm, stop_vm, update
from tests.fakes import START, VM_ID, FakeHost, World
from tests.unit.application.cases import create, settle, sid

_MOST_TURNS = 1000
"""An operation that has not ended after so many never will."""


class TidyHost(FakeHost):
    """A fake host on which long histories leave no files behind that nothing descends from."""

    def merge(self) -> None:
        """Drop such files, and merge until nothing is left to merge."""
        before: object = None
        while before != self.parents:
            before = self.parents
            leaves = (self.leaf, *(c.disks[0].path for c in self.checkpoints.values()))
            needed = {path for leaf in leaves for path in self.chain(leaf)}
            self.parents = {path: parent for path, parent in self.parents.items() if path in needed}
            super().merge()


class RecordedWorld(World):
    """A world that keeps its events in their envelopes, and the VM after each."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.folds: dict[int, VirtualMachine] = {}
        """By position: the VM after the decision that ends there."""
        super().__init__()
        self.host = TidyHost(power=self.host.power)

    def do(self, command: VmCommand, *, request_id: str = "", digest: str = "", actor: str = "ann") -> Draft:
        """Decide a command, and keep what follows."""
        version = self.vm.version
        draft = super().do(command, request_id=request_id, digest=digest, actor=actor)
        for n, (event, operation) in enumerate(draft.events, 1):
            self.keep(vm_stream(VM_ID), version + n, event, actor, operation, request_id)
        if draft.events:
            self.folds[self.envelopes[-1].position] = self.vm
        return draft

    def keep(
        self,
        stream: StreamId,
        version: int,
        event: Event,
        actor: str,
        operation: OperationName | None = None,
        request_id: str = "",
    ) -> None:
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
                request_id=request_id,
                operation=operation,
                event=event,
            )
        )


def history(seed: int, requests: int) -> RecordedWorld:
    """Return a world after so many requests by chance, with lost answers and commands, cancellations and drift."""
    chance, world = random.Random(seed), RecordedWorld()
    for _ in range(requests):
        _ask(world, chance)
        _run(world, chance)
        if chance.random() < 0.2:
            _drift(world, chance)
        if chance.random() < 0.3:
            _lay_down(world, chance)
            _run(world, chance)
        world.now += timedelta(seconds=chance.randrange(100))
    return world


def _ask(world: RecordedWorld, chance: random.Random) -> None:
    """Ask for something; that it is refused is as good."""
    n = len(world.envelopes)
    there = [s.snapshot_id for s in world.vm.snapshots.values() if s.state is SnapshotState.READY]
    some = chance.choice(there or [sid(n)])
    wanted: Sequence[RequestOperation] = (
        create(n, memory=chance.random() < 0.4),
        create(n),
        revert_to(some),
        revert_to(some, safety=sid(n), power_after=chance.choice(list(PowerAfter))),
        restart_vm(),
        delete(some),
        delete(some),
        start_vm(),
        stop_vm(StopMode.TURN_OFF),
    )
    with suppress(SnapshotdError):
        world.do(chance.choice(wanted), request_id=f"r{n}", actor=chance.choice(["ann", "bob"]))


def _lay_down(world: RecordedWorld, chance: random.Random) -> None:
    """Have somebody decide something about a snapshot; that it is refused is as good."""
    n, some = len(world.envelopes), chance.choice([*world.vm.snapshots, sid(0)])
    there = CheckpointId(chance.choice([*world.host.checkpoints, "none"]))
    wanted: Sequence[VmCommand] = (
        HoldSnapshot(snapshot_id=some, why=chance.choice(["", "for the audit"])),
        ReleaseSnapshot(snapshot_id=some),
        IgnoreCheckpoint(checkpoint_id=there, why=f"looked at {n}"),
        IgnoreCheckpointNoMore(checkpoint_id=there),
        UpdateVm(owner=chance.choice([None, "ops", "dev"]), labels={"n": str(n)}),
        update(some, name=f"r{n}", labels={"n": str(n)}),
        update(some, description="", expire_at=chance.choice([None, world.now + timedelta(days=1)])),
        forget(some),
        adopt(sid(n), there),
    )
    with suppress(SnapshotdError):
        world.do(chance.choice(wanted), request_id=f"f{n}", actor=chance.choice(["ann", "bob"]))


def _run(world: RecordedWorld, chance: random.Random) -> None:
    """Let things happen until no operation is active; sometimes another request comes meanwhile."""
    for _ in range(_MOST_TURNS):
        if not world.vm.active_operations:
            return
        dice = chance.random()
        if dice < 0.1:
            with suppress(SnapshotdError):
                world.cancel(world.vm.active_operations[-1].number)
        elif dice < 0.2:
            _lose_command(world)
        elif dice < 0.22:
            _settle(world, chance)
        elif dice < (0.7 if all(o.only_waits for o in world.vm.active_operations) else 0.25):
            _ask(world, chance)
        else:
            world.turn(lose=chance.random() < 0.2, twice=chance.random() < 0.1)
    raise AssertionError(world.vm.active_operations)


def _settle(world: RecordedWorld, chance: random.Random) -> None:
    """Let somebody say what became of a step; that it is refused is as good."""
    with suppress(SnapshotdError):
        settle(world, chance.choice(list(SettledAs)), request_id=f"r{len(world.envelopes)}")


def _lose_command(world: World) -> None:
    """Let a command get lost on its way to the host."""
    found = world.open_step()
    if found is None or found[1].state is not StepState.ISSUED or found[1].observing:
        return
    operation, step = found
    failure = Failure(reason="CONNECTION_LOST", message="The connection was lost.")
    world.do(LoseOutcome(number=operation.number, step=step.plan.number, token=step.token, failure=failure))


def _drift(world: World, chance: random.Random) -> None:
    """Let somebody act by hand, and have it seen."""
    host, dice = world.host, chance.random()
    parents = {c.parent_id for c in host.checkpoints.values()}
    ends = sorted(i for i in host.checkpoints if i not in parents and i != host.current)
    if dice < 0.4:
        host.take("by hand")
    elif dice < 0.7 and ends:  # for a while it cannot be seen
        hidden = host.checkpoints.pop(chance.choice(ends))
        world.do(SyncVm(report=host.report(), asked_version=world.vm.version))
        host.checkpoints[hidden.checkpoint_id] = hidden
    elif host.checkpoints:
        host.remove(CheckpointId(chance.choice(sorted(host.checkpoints))))
        host.merge()
    world.do(SyncVm(report=host.report(), asked_version=world.vm.version))


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
    updated = HostUpdated(
        from_address="10.0.0.1",
        to_address="hv.example.com",
        from_port=5985,
        to_port=5986,
        from_transport="NTLM_HTTP",
        to_transport="NTLM_HTTP",
        from_credential="hv",
        to_credential="other",
        from_ca_file="",
        to_ca_file="",
        request_digest="",
    )
    events: list[tuple[str, HostEvent]] = [
        ("hv01", registered),
        ("hv02", registered),
        ("hv01", updated),
        ("hv01", HostSynced(vms=1, drifts=0, skipped=())),
        ("hv02", HostRemoved(request_digest="")),
    ]
    versions: dict[str, int] = {}
    for host, event in events:
        versions[host] = versions.get(host, 0) + 1
        world.keep(StreamId(f"host/{host}"), versions[host], event, "ann")
    world.do(UnregisterVm())


__all__ = ["START", "VM_ID", "RecordedWorld", "history", "with_hosts"]
