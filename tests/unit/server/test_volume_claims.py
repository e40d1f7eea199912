"""A volume belongs to one VM: random lives of three VMs that want the same files, with crashes at any append.

Whatever happened: a claim never outlives its reason, no file is attached to two VMs by us, and of two that ask at the
same instant exactly one wins.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Coroutine, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from snapshotd.application.hosts import Hosts
from snapshotd.application.replay import replay
from snapshotd.application.virtual_machines import Decided, VirtualMachines
from snapshotd.application.volumes import Volumes
from snapshotd.dispatch.dispatcher import Dispatcher
from snapshotd.dispatch.outputs import Moment, Output
from snapshotd.domain.attached import file_forms
from snapshotd.domain.commands import (
    CancelOperation,
    LoseOutcome,
    Proceed,
    RegisterVm,
    SyncVm,
    TakeAnswer,
    TakePoll,
    UnregisterVm,
    VmCommand,
)
from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.events import ClaimCause, Envelope, NewEvent, ReleaseCause, VolumeClaimed, VolumeReleased
from snapshotd.domain.host_path import normalised
from snapshotd.domain.ids import HostId, StreamId, VmId
from snapshotd.domain.lifecycle import OperationState, StepState
from snapshotd.domain.operation import SettledAs, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.volume_errors import VolumeInUse
from snapshotd.operations.catalogue import KINDS
from snapshotd.ports.event_log import UNCHANGED, Standing
from snapshotd.server.runtime import Runtime
from snapshotd.server.sync import HostReports
from snapshotd.server.volume_claims import VolumeClaims
from snapshotd.steps.catalogue import ACTIONS
from tests.asking import ATTACH, attach, detach
from tests.fakes import FakeHost
from tests.memory_log import MemoryLog
from tests.unit.application.cases import LOST, settlement_of

VMS = tuple(VmId(f"{n}1111111-1111-4111-8111-111111111111") for n in (1, 2, 3))
PATHS = (r"D:\a.vhdx", r"d:/A.VHDX", r"D:\b.vhdx")
"""Two of them are one file."""
AT_HAND = r"E:\by hand.vhdx"
GIB = 1 << 30


class Dead(SnapshotdError):
    """The process is dead: nothing that it would still append is there afterwards."""

    reason = "DEAD"
    text = "dead"


class MortalLog(MemoryLog):
    """A log that lets others come first, and whose process dies at an append."""

    left = -1
    """Appends until that; -1: it does not."""
    releases: asyncio.Event | None = None
    """What a release waits for before it is appended; None: nothing."""

    def held(self) -> asyncio.Event:
        """Hold releases up from now on; return what is set when the first one waits."""
        self.releases, self.waits = asyncio.Event(), asyncio.Event()
        return self.waits

    def __init__(self, envelopes: Sequence[Envelope] = (), chance: random.Random | None = None) -> None:
        super().__init__(envelopes)
        self.chance = chance

    async def append(
        self, stream: StreamId, expected_version: int, events: Sequence[NewEvent], standing: Standing = UNCHANGED
    ) -> tuple[Envelope, ...]:
        """Append, later."""
        for _ in range(self.chance.randrange(4) if self.chance else 1):
            await asyncio.sleep(0)
        if self.releases is not None and any(isinstance(new.event, VolumeReleased) for new in events):
            self.waits.set()
            await self.releases.wait()
        if self.left == 0:
            raise Dead
        self.left -= 1
        return await super().append(stream, expected_version, events, standing)


class Idle(Dispatcher):
    """Sends nothing: the tests do that themselves."""

    def changed(self, vm: VirtualMachine, now: Moment) -> list[Output]:
        """Return nothing to do."""
        return []


class Clock:
    """A clock that is set."""

    time = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)

    def now(self) -> datetime:
        """Return the time."""
        return self.time


class Ids:
    """Ids that are counted."""

    count = 0

    def fresh(self) -> str:
        """Return the next id."""
        Ids.count += 1
        return f"{Ids.count:08x}-0000-4000-8000-000000000000"


class Town:
    """Three VMs on one host, and a core that may die and start again."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self.chance = chance or random.Random(0)
        self.log = MortalLog(chance=chance)
        self.hosts = {vm_id: FakeHost(vm_id=vm_id, name=f"vm{vm_id[0]}", leaf=f"base{vm_id[0]}.vhdx") for vm_id in VMS}
        self.clock = Clock()
        self.compose()

    def compose(self) -> None:
        """Make the parts of a core, which know nothing yet."""
        policy, ids = Policy(), Ids()
        self.vms = VirtualMachines(self.log, self.clock, ids, policy)
        self.volumes = Volumes(self.log, self.clock, ids, self.vms)
        dispatcher = Idle(policy, 8, 4, "x")
        self.runtime = Runtime(self.vms, dispatcher, policy, self.clock, ids, self.volumes)
        hosts = Hosts(self.log, self.clock, ids)
        self.claims = VolumeClaims(self.runtime, self.vms, self.volumes, HostReports(self.runtime, self.vms, hosts))

    async def restart(self) -> None:
        """Die, and start again from the log."""
        self.log.left = 0
        await self.quiet()
        self.log = MortalLog([*await self.log.read_all(0, 1 << 20)], self.log.chance)
        self.compose()
        await replay(self.log, self.vms, Hosts(self.log, self.clock, Ids()), self.volumes)
        await self.vms.load_all(VMS)  # so that `known` tells them
        await self.runtime.follow(None)

    async def quiet(self) -> None:
        """Let everything come to an end that goes on in the background."""
        while others := [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]:
            await asyncio.gather(*others, return_exceptions=True)

    async def ask(self, vm_id: VmId, command: VmCommand) -> Decided:
        """Have a command decided."""
        return await self.runtime.request(vm_id, command, actor="ann")

    async def register(self, vm_id: VmId) -> None:
        """Register a VM."""
        report = self.hosts[vm_id].report()
        await self.ask(vm_id, RegisterVm(host_id=HostId("hv01"), owner="ops", report=report))

    async def attach(self, vm_id: VmId, path: str, size_bytes: int = 0) -> Decided:
        """Ask for a file, as the servicer does."""
        wanted = attach(path, size_bytes=size_bytes)
        await self.vms.consider(vm_id, wanted, actor="ann", request_id="", digest="")
        await self.claims.refuse_used(path, vm_id, "attach")
        return await self.claims.with_claim(
            path, vm_id, lambda: self.ask(vm_id, wanted), cause=ClaimCause.REQUESTED, actor="ann", request_id=""
        )

    async def sync(self, vm_id: VmId) -> None:
        """Compare a VM with the record."""
        vm = self.vms.known(vm_id)
        await self.ask(vm_id, SyncVm(report=self.hosts[vm_id].report(), asked_version=vm.version))

    async def turn(self, vm_id: VmId, *, lose: bool = False) -> None:
        """Let an operation come one step forward."""
        self.clock.time += timedelta(seconds=61)
        vm, host = self.vms.known(vm_id), self.hosts[vm_id]
        at_work = (StepState.ISSUED, StepState.WAITING)
        steps = [(o, s) for o in vm.active_operations for s in o.steps if s.observing or s.state in at_work]
        if not steps:
            await self.ask(vm_id, Proceed())
            return
        operation, step = steps[0]
        number, at = operation.number, step.plan.number
        if step.state is StepState.WAITING:
            action = ACTIONS[step.plan.action]
            report = host.poll(action.watched_files(step), action.watched_jobs(step))
            await self.ask(vm_id, TakePoll(number=number, step=at, report=report, asked_version=vm.version))
            return
        if step.observing:
            answer = host.observe(step.token, ACTIONS[step.plan.action].watched_files(step))
        else:
            with self.refusing(host, step):
                answer = host.act_for(vm, operation, step)
            if lose:
                await self.ask(vm_id, LoseOutcome(number=number, step=at, token=step.token, failure=LOST))
                return
        await self.ask(vm_id, TakeAnswer(number=number, step=at, token=step.token, answer=answer))

    @contextlib.contextmanager
    def refusing(self, host: FakeHost, step: Step) -> Iterator[None]:
        """Have the host refuse what any of its VMs has, also one that is not registered."""
        others = (o for o in self.hosts.values() if o is not host)
        used = {normalised(path) for o in others for path in o.volumes.values()}
        planned, before = step.plan.input.values.get("path"), host.error_ids
        if step.plan.action == ATTACH and normalised(str(planned)) in used:
            host.error_ids = {step.plan.number: "FileInUse,snapshotd"}
        yield
        host.error_ids = before

    async def come_to_rest(self) -> None:
        """Let every operation end, and compare every VM with the record."""
        await self.quiet()
        for vm_id in VMS:
            self.hosts[vm_id].error_ids = {}
            for _ in range(60):
                if not self.vms.known(vm_id).active_operations:
                    break
                await self.turn(vm_id)
            if self.vms.known(vm_id).registered:
                await self.sync(vm_id)
        await self.quiet()

    def check(self, *, at_rest: bool = False) -> None:
        """Hold claims against what is on record: none without a reason, and none that two have."""
        for vm_id in VMS:
            vm = self.vms.known(vm_id)
            has = file_forms(vm.description) if vm.description else frozenset()
            brings = {normalised(p) for o in vm.active_operations for p in KINDS[o.kind].brings(o)}
            unknown = {
                normalised(p)
                for o in vm.operations.values()
                if not at_rest and any(s.state is StepState.UNDETERMINED for s in o.steps)
                for p in KINDS[o.kind].brings(o)
            }
            for path in self.volumes.claimed_by(vm_id):
                assert vm.registered, path
                assert normalised(path) in has | brings | unknown, (vm.name, path)
            assert all(self.volumes.owner(path) == vm_id for path in brings if path != normalised(AT_HAND))


@pytest.mark.parametrize("seed", range(60))
async def test_whatever_happens_a_claim_never_outlives_its_reason_and_no_file_has_two_owners(seed: int) -> None:
    chance = random.Random(seed)
    town = Town(chance)
    for vm_id in VMS:
        town.hosts[vm_id].on_disk |= dict.fromkeys((normalised(PATHS[0]), *PATHS, AT_HAND), GIB)
        await town.register(vm_id)
    for _ in range(60):
        await happen(town, chance)
        if town.log.left == 0 or chance.random() < 0.05:
            await town.restart()
        if not chance.randrange(3):
            await town.quiet()
            town.check()
    await town.restart()
    town.check()
    await town.come_to_rest()
    town.check(at_rest=True)
    attached = [normalised(p) for host in town.hosts.values() for p in host.volumes.values() if p != AT_HAND]
    ours = [path for path in attached if town.volumes.owner(path) is not None]
    assert len(ours) == len(set(ours)), "one file is attached to two VMs"


async def happen(town: Town, chance: random.Random) -> None:
    """Let something happen, perhaps two things at the same instant, perhaps with a death on the way."""
    if chance.random() < 0.15:
        town.log.left = chance.randrange(4)
    things = [thing(town, chance) for _ in range(chance.randrange(1, 4))]
    for result in await asyncio.gather(*things, return_exceptions=True):
        assert result is None or isinstance(result, SnapshotdError | Decided), result


def by_hand(host: FakeHost, chance: random.Random) -> None:
    """Have somebody attach a disk, or detach, move or resize all that there are."""
    what = chance.choice(("detach", "move", "resize")) if host.volumes else "attach"
    if what == "resize":
        host.on_disk |= {path: host.on_disk[path] + GIB for path in host.volumes.values()}
    else:
        moved = {f"SCSI:0:{chance.randrange(8, 60)}": path for path in host.volumes.values()}
        host.volumes = {"attach": {"SCSI:0:7": AT_HAND}, "detach": {}, "move": moved}[what]


def thing(town: Town, chance: random.Random) -> Coroutine[Any, Any, object]:
    """Return something that happens."""
    vm_id = chance.choice(VMS)
    vm, host = town.vms.known(vm_id), town.hosts[vm_id]
    match chance.randrange(11):
        case 0 | 1 | 2:
            return town.attach(vm_id, chance.choice(PATHS))
        case 3 if host.volumes:
            return town.ask(vm_id, detach(chance.choice(sorted(host.volumes))))
        case 4 if vm.active_operations:
            return town.ask(vm_id, CancelOperation(name=vm.active_operations[0].name))
        case 5:
            host.error_ids = {1: "OperationFailed,x"} if not host.error_ids else {}
            return asyncio.sleep(0)
        case 6:
            by_hand(host, chance)
            return town.sync(vm_id)
        case 7 if vm.registered and chance.random() < 0.3:
            return town.ask(vm_id, UnregisterVm())
        case 7 if not vm.registered:
            return town.register(vm_id)
        case 8 if vm.active_operations and chance.random() < 0.3:
            return town.ask(vm_id, settlement_of(vm, SettledAs.GIVEN_UP))
        case _:
            return town.turn(vm_id, lose=chance.random() < 0.2)


async def test_of_two_vms_that_ask_at_the_same_instant_exactly_one_wins_and_the_other_is_told_whose_it_is() -> None:
    for seed in range(20):
        town = Town(random.Random(seed))
        for vm_id in VMS[:2]:
            await town.register(vm_id)
        asked = await asyncio.gather(
            town.attach(VMS[0], PATHS[0]), town.attach(VMS[1], PATHS[1]), return_exceptions=True
        )
        (refused,) = [r for r in asked if isinstance(r, VolumeInUse)]
        (won,) = [r for r in asked if isinstance(r, Decided)]
        assert (refused.owner, refused.owner_id) == (won.vm.name, won.vm.vm_id)
        assert str(refused).startswith(f"Cannot attach {refused.path}: it belongs to VM {won.vm.name} on host hv01")
        assert [o.kind for vm_id in VMS for o in town.vms.known(vm_id).active_operations] == ["ATTACH_VOLUME"]
        await town.quiet()


async def claimed(town: Town, vm_id: VmId, path: str = PATHS[0]) -> None:
    """Register a VM, and have it ask for a file that is there."""
    await town.register(vm_id)
    town.hosts[vm_id].on_disk[path] = GIB
    await town.attach(vm_id, path)
    assert town.volumes.owner(path) == vm_id


async def causes(town: Town) -> list[str]:
    """Return what was recorded of volumes."""
    events = [x.event for x in await town.log.read_all(0, 1000)]
    return [e.cause.name for e in events if isinstance(e, VolumeClaimed | VolumeReleased)]


async def test_a_claim_whose_process_died_before_the_request_was_recorded_is_dropped_at_the_start() -> None:
    town = Town()
    await town.register(VMS[0])
    town.log.left = 1
    with pytest.raises(Dead):
        await town.attach(VMS[0], PATHS[0])
    assert town.volumes.owner(PATHS[0]) == VMS[0]
    await town.restart()
    assert town.volumes.owner(PATHS[0]) is None
    assert await causes(town) == ["REQUESTED", "NOT_ATTACHED"]


async def test_a_claim_of_an_operation_that_goes_on_survives_the_start() -> None:
    town = Town()
    await claimed(town, VMS[0])
    await town.restart()
    assert town.volumes.owner(PATHS[0]) == VMS[0]
    await town.come_to_rest()
    assert town.hosts[VMS[0]].volumes == {"SCSI:0:1": PATHS[0]}
    assert town.volumes.owner(PATHS[1]) == VMS[0]


@pytest.mark.parametrize("how", ["refused by the host", "cancelled"])
async def test_a_claim_of_an_operation_that_ends_without_the_disk_ends_with_it(how: str) -> None:
    town = Town()
    await claimed(town, VMS[0])
    if how == "cancelled":
        await town.ask(VMS[0], CancelOperation(name=town.vms.known(VMS[0]).operations[1].name))
    else:
        town.hosts[VMS[0]].error_ids = {1: "OperationFailed,x"}
        while town.vms.known(VMS[0]).active_operations:
            await town.turn(VMS[0])
    assert town.vms.known(VMS[0]).operations[1].state in (OperationState.FAILED, OperationState.CANCELLED)
    await town.quiet()
    assert town.volumes.owner(PATHS[0]) is None


async def test_a_vm_that_asks_again_while_its_claim_is_being_released_keeps_it() -> None:
    town = Town()
    await claimed(town, VMS[0])
    waits = town.log.held()
    cancel = CancelOperation(name=town.vms.known(VMS[0]).operations[1].name)
    releasing = asyncio.create_task(town.ask(VMS[0], cancel))
    await waits.wait()
    await town.attach(VMS[0], PATHS[1])
    assert town.log.releases is not None
    town.log.releases.set()
    await releasing
    await town.quiet()
    assert town.volumes.owner(PATHS[0]) == VMS[0]
    assert await causes(town) == ["REQUESTED", "REQUESTED"]


async def test_a_claim_ends_when_the_disk_is_detached() -> None:
    town = Town()
    await claimed(town, VMS[0])
    await town.come_to_rest()
    await town.ask(VMS[0], detach("SCSI:0:1"))
    assert town.volumes.owner(PATHS[0]) == VMS[0]
    await town.come_to_rest()
    assert town.volumes.owner(PATHS[0]) is None


async def test_a_claim_ends_when_somebody_detaches_the_disk_by_hand() -> None:
    town = Town()
    await claimed(town, VMS[0])
    await town.come_to_rest()
    town.hosts[VMS[0]].volumes.clear()
    await town.sync(VMS[0])
    assert town.volumes.owner(PATHS[0]) is None


async def test_what_somebody_attaches_by_hand_is_claimed_and_refused_to_others() -> None:
    town = Town()
    await town.register(VMS[0])
    await town.register(VMS[1])
    town.hosts[VMS[0]].volumes["SCSI:0:4"] = AT_HAND
    await town.sync(VMS[0])
    assert town.volumes.owner(AT_HAND) == VMS[0]
    assert await causes(town) == ["ATTACHED_BY_OTHERS"]
    with pytest.raises(VolumeInUse, match="it is a file of VM vm1"):
        await town.attach(VMS[1], AT_HAND.upper())
    town.hosts[VMS[0]].volumes["SCSI:0:4"] = PATHS[2]
    await town.sync(VMS[0])
    assert [town.volumes.owner(path) for path in (AT_HAND, PATHS[2])] == [None, VMS[0]]


async def test_a_claim_ends_when_the_vm_is_unregistered() -> None:
    town = Town()
    await claimed(town, VMS[0])
    await town.come_to_rest()
    await town.ask(VMS[0], UnregisterVm())
    assert town.volumes.owner(PATHS[0]) is None
    assert (await causes(town))[-1] == ReleaseCause.UNREGISTERED.name


async def test_a_claim_of_an_operation_with_an_unknown_outcome_stands_until_the_vm_was_looked_at() -> None:
    town = Town()
    await claimed(town, VMS[0])
    vm = town.vms.known(VMS[0])
    while not any(s.state is StepState.ISSUED for s in vm.operations[1].steps):
        await town.turn(VMS[0])
        vm = town.vms.known(VMS[0])
    await town.ask(VMS[0], settlement_of(vm, SettledAs.GIVEN_UP))
    assert town.vms.known(VMS[0]).operations[1].state is OperationState.FAILED
    assert town.volumes.owner(PATHS[0]) == VMS[0]
    await town.restart()
    assert town.volumes.owner(PATHS[0]) == VMS[0]
    await town.sync(VMS[0])
    assert town.volumes.owner(PATHS[0]) is None


async def test_a_request_that_is_refused_leaves_no_claim() -> None:
    town = Town()
    await town.register(VMS[0])
    town.hosts[VMS[0]].volumes["SCSI:0:1"] = PATHS[2]
    await town.sync(VMS[0])
    head = town.log.head_position()
    wanted = attach(PATHS[0], "SCSI:0:1")
    with pytest.raises(SnapshotdError, match=r"Cannot attach a volume at SCSI:0:1"):
        await town.claims.with_claim(
            PATHS[0],
            VMS[0],
            lambda: town.ask(VMS[0], wanted),
            cause=ClaimCause.REQUESTED,
            actor="ann",
            request_id="",
        )
    assert town.volumes.owner(PATHS[0]) is None
    assert town.log.head_position() == head + 2


async def test_a_caller_that_goes_away_ends_neither_the_claim_nor_the_request() -> None:
    town = Town(random.Random(3))
    await town.register(VMS[0])
    task = asyncio.create_task(town.attach(VMS[0], PATHS[0]))
    for _ in range(40):
        await asyncio.sleep(0)
        if town.volumes.owner(PATHS[0]) is not None:
            break
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await town.quiet()
    assert town.volumes.owner(PATHS[0]) == VMS[0]
    assert len(town.vms.known(VMS[0]).active_operations) == 1


async def test_a_volume_that_somebody_moves_to_another_place_or_resizes_stays_its_vms() -> None:
    town = Town()
    await claimed(town, VMS[0])
    await town.come_to_rest()
    host = town.hosts[VMS[0]]
    host.volumes = {"SCSI:0:5": host.volumes["SCSI:0:1"]}
    await town.sync(VMS[0])
    host.on_disk[PATHS[0]] = 2 * GIB
    await town.sync(VMS[0])
    assert town.volumes.owner(PATHS[0]) == VMS[0]
    assert "NOT_ATTACHED" not in await causes(town)
    await town.register(VMS[1])
    with pytest.raises(VolumeInUse, match="it is a file of VM vm1"):
        await town.attach(VMS[1], PATHS[1])


@pytest.mark.parametrize("first", VMS[:2])
async def test_a_volume_that_somebody_moves_to_another_vm_is_refused_to_a_third_one(first: VmId) -> None:
    town = Town()
    await claimed(town, VMS[0])
    await town.come_to_rest()
    for vm_id in VMS[1:]:
        await town.register(vm_id)
    town.hosts[VMS[1]].volumes["SCSI:0:3"] = town.hosts[VMS[0]].volumes.pop("SCSI:0:1")
    await town.sync(first)
    await town.sync(VMS[0] if first == VMS[1] else VMS[1])
    assert town.volumes.owner(PATHS[0]) in (None, VMS[1])
    with pytest.raises(VolumeInUse, match="it is a file of VM vm2"):
        await town.attach(VMS[2], PATHS[1])
