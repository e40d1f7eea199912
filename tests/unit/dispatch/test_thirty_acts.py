"""After any thirty acts of users, an administrator and faults, all heals: ten minutes later nothing is under way.

The real core and dispatcher in virtual time, over a fake host. When everything is healed, no operation is active after
ten minutes, and tree, current and power of record equal the host's.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest

from snapshotd.domain.commands import CancelOperation, RequestOperation, SyncVm, VmCommand
from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.host_report import HostAnswer, Journal, JournalState, Verdict
from snapshotd.domain.ids import CheckpointId
from snapshotd.domain.lifecycle import Power, SnapshotState, VmActivity
from snapshotd.operations.snapshot_delete import Scope
from snapshotd.operations.snapshot_revert import PowerAfter
from snapshotd.steps.vm_stop import StopMode
from tests.asking import delete, delete_all, restart_vm, revert_to, start_vm, stop_vm
from tests.fakes import World
from tests.unit.application.cases import check_invariants, create, sid
from tests.unit.dispatch.test_dispatcher import LOST, Room

FIRST = int(os.environ.get("SNAPSHOTD_TEST_SEED", "0"))
SEEDS = range(FIRST, FIRST + 300)
ACTS = 30
HEALED_S = 600
UNREACHABLE = HostAnswer(verdict=Verdict.NO_ANSWER, error_id="HOST_UNREACHABLE", error_message="No route to host.")
RESTING = {SnapshotState.READY, SnapshotState.ERROR, SnapshotState.REMOVED}


class Town:
    """A VM with all who act on it. Time passes between their acts."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.room = Room(World(power=self.chance.choice([Power.RUNNING, Power.STOPPED])))
        self.world, self.host = self.room.world, self.room.world.host
        self.world.watch = check_invariants
        self.room.attach()
        self.attached, self.reachable = True, True
        self.names = 0
        self.acts: Sequence[Callable[[], None]] = (self.user, self.user, self.administrator, self.fault)

    def act(self) -> None:
        """Let somebody do something, and then some time pass."""
        self.chance.choice(self.acts)()
        for _ in range(self.chance.randrange(6)):
            self.pass_on(lossy=True)

    def pass_on(self, *, lossy: bool) -> None:
        """Carry the oldest order to the host and its answer back, or let time pass if there is none."""
        room = self.room
        if not self.attached or not room.sent:
            room.tick(self.chance.choice([1, 5, 70]) if lossy else 1)
            return
        fate = self.chance.random() if lossy else 1.0
        if not self.reachable or fate < 0.1:
            self.back(room.sent.pop(0).dispatch_id, UNREACHABLE if not self.reachable else LOST)
        elif fate < 0.2:
            room.answer(room.sent[0].order)  # it reaches the host, and comes once more
        else:
            room.deliver(lose=fate < 0.35)

    def back(self, dispatch_id: str, answer: HostAnswer) -> None:
        """Bring an answer that the host has not given."""
        self.room.take(self.room.dispatcher.answered("ex", dispatch_id, answer, self.room.moment))

    # --- users ---------------------------------------------------------------------------------------------------

    def user(self) -> None:
        """Ask for something. It may be refused, and then nothing is recorded."""
        version = self.world.vm.version
        try:
            self.world.do(self.wanted())
        except SnapshotdError:
            assert self.world.vm.version == version
        self.room.take(self.room.dispatcher.changed(self.world.vm, self.room.moment))

    def wanted(self) -> VmCommand:
        """Return what a user asks for."""
        chance, vm = self.chance, self.world.vm
        ways: list[Callable[[], VmCommand]] = [
            self.snapshot,
            self.snapshot,
            start_vm,
            lambda: stop_vm(chance.choice(list(StopMode))),
            restart_vm,
            lambda: delete_all(only_with_memory=chance.random() < 0.5),
        ]
        if vm.snapshots:
            ways += [
                self.revert,
                lambda: delete(chance.choice(list(vm.snapshots)), chance.choice(list(Scope))),
            ]
        if vm.last_number:
            ways.append(lambda: CancelOperation(name=vm.operations[vm.last_number].name))
        return chance.choice(ways)()

    def snapshot(self) -> RequestOperation:
        """Return a request for a snapshot."""
        self.names += 1
        return create(self.names, memory=self.chance.random() < 0.4, fallback=self.chance.random() < 0.3)

    def revert(self) -> RequestOperation:
        """Return a request for a revert."""
        chance = self.chance
        self.names += 1
        return revert_to(
            chance.choice(list(self.world.vm.snapshots)),
            refuse_power_change=chance.random() < 0.2,
            power_after=chance.choice(list(PowerAfter)),
            safety=sid(self.names) if chance.random() < 0.4 else None,
            require_memory=chance.random() < 0.2,
        )

    # --- an administrator ----------------------------------------------------------------------------------------

    def administrator(self) -> None:
        """Do something by hand on the host."""
        host, chance = self.host, self.chance
        host.clock += timedelta(seconds=5)
        checkpoints = list(host.checkpoints)
        match chance.randrange(5):
            case 0:
                memory = host.power is Power.RUNNING and chance.random() < 0.5
                host.take(f"by hand {self.names}", has_memory=memory)
            case 1 if checkpoints and not host.merging:
                host.remove(CheckpointId(chance.choice(checkpoints)))
            case 2 if checkpoints and not host.merging:
                host.apply(CheckpointId(chance.choice(checkpoints)))
            case 3:
                host.vss = not host.vss
            case _:
                host.power = chance.choice([Power.RUNNING, Power.STOPPED, Power.SAVED, Power.PAUSED])

    # --- faults --------------------------------------------------------------------------------------------------

    def fault(self) -> None:
        """Let something break."""
        chance, host, room = self.chance, self.host, self.room
        match chance.randrange(7):
            case 0:
                room.start(f"again {self.world.vm.version}")
                self.attached = False
            case 1:
                room.sent.clear()
                room.take(room.dispatcher.detached("ex", room.moment))
                self.attached = False
            case 2:
                self.reachable = not self.reachable
            case 3:
                host.journal = Journal(state=chance.choice([JournalState.MISSING, JournalState.UNREADABLE]))
            case 4:
                refused = chance.choice(["", "ObjectInUse,x", "OperationFailed,x"])
                host.error_ids = dict.fromkeys(range(1, 12), refused) if refused else {}
            case 5:
                host.dies_unnamed = True
            case _:
                self.world.now += timedelta(seconds=chance.choice([-3600, 3600]))
        if not self.attached and chance.random() < 0.5:
            self.attach()

    def attach(self) -> None:
        """Let the executor come back."""
        self.room.attach()
        self.attached = True

    # --- and then ------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Mend everything, and let ten minutes pass."""
        self.host.error_ids, self.host.dies_unnamed, self.reachable = {}, False, True
        if not self.attached:
            self.attach()
        until = self.room.seconds + HEALED_S
        while self.room.seconds < until:
            self.host.merge()  # a host does that by itself
            self.host.end_jobs()
            self.pass_on(lossy=False)

    def look(self) -> int:
        """Compare the host with the record, as a sync does; return how many events that makes."""
        with contextlib.suppress(SnapshotdError):
            command = SyncVm(report=self.host.report(), asked_version=self.world.vm.version)
            return len(self.world.do(command).events)
        return 0


@pytest.mark.parametrize("seed", SEEDS)
def test_ten_minutes_after_all_is_healed_nothing_is_under_way_and_the_record_is_the_hosts(seed: int) -> None:
    town = Town(seed)
    for _ in range(ACTS):
        town.act()
    town.heal()
    vm, host = town.world.vm, town.host
    assert vm.active_operations == ()
    assert vm.activity is VmActivity.IDLE
    assert {s.state for s in vm.snapshots.values()} <= RESTING
    town.look()
    vm = town.world.vm
    assert (vm.power, vm.current_id) == (host.power, vm.nearest_own(host.current))
    own = {s.checkpoint_id: s for s in vm.snapshots.values() if s.state is SnapshotState.READY}
    assert own.keys() <= host.checkpoints.keys()
    for checkpoint_id, snapshot in own.items():
        assert checkpoint_id is not None
        assert snapshot.parent_id == vm.nearest_own(host.checkpoints[checkpoint_id].parent_id)
    assert town.look() == 0, "a second look finds nothing more"
