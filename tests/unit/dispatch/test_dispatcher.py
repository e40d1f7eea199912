"""The dispatcher with the real core and a fake host, in virtual time: outages heal, and every operation ends."""

import math
import random
from collections.abc import Iterable
from datetime import timedelta
from itertools import pairwise
from types import MappingProxyType

import pytest

from snapshotd.dispatch.dispatcher import Dispatcher
from snapshotd.dispatch.orders import Order, OrderKind
from snapshotd.dispatch.outputs import Abandon, End, Fault, Moment, Output, Record, Reply, Send
from snapshotd.domain.commands import LoseOutcome
from snapshotd.domain.events import Envelope
from snapshotd.domain.host_report import Disk, DiskFile, HostAnswer, Verdict
from snapshotd.domain.ids import HostId, StreamId
from snapshotd.domain.lifecycle import OperationState, Power, StepState
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.storage_errors import LogUnavailable
from snapshotd.operations.snapshot_create import CREATE_SNAPSHOT
from snapshotd.operations.snapshot_revert import REVERT_TO_SNAPSHOT
from snapshotd.steps import disks_merge
from snapshotd.steps.disks_merge import DISKS_MERGE
from snapshotd.steps.vm_stop import StopMode
from tests.asking import RESTORE, revert_to, stop_vm
from tests.fakes import START, VM_ID, World
from tests.unit.application.cases import AT_WORK, CASES, Case, chain, check_end, check_invariants, create, ready, sid

HOST = HostId("hv01")
MERGING = next(c for c in CASES if c.name == "delete in the middle")
LOST = HostAnswer(verdict=Verdict.NO_ANSWER, error_id="CONNECTION_LOST", error_message="The connection was lost.")


class Room:
    """A dispatcher, a world and the orders under way between them; time passes when nothing else happens."""

    def __init__(self, world: World, policy: Policy | None = None) -> None:
        self.world = world
        self.policy = policy or world.policy
        self.seconds = 0.0
        self.sent: list[Send] = []
        self.seen: list[Send] = []
        self.abandoned: list[str] = []
        self.ended: list[str] = []
        self.replies: list[Reply] = []
        self.start("first")

    def start(self, incarnation: str, *, attached: bool = False) -> None:
        """Start a dispatcher that knows only what the log holds; `attached`: an executor was faster than the replay."""
        # Without its safety net: nothing may need it.
        self.dispatcher = Dispatcher(
            self.policy, lease_ttl_s=8, orders_per_host=4, incarnation=incarnation, look_again_s=math.inf
        )
        self.sent.clear()
        if attached:
            self.dispatcher.feeding.attach("ex", frozenset({"*"}), self.seconds)
        self.take(self.dispatcher.changed(self.world.vm, self.moment))

    @property
    def moment(self) -> Moment:
        """The time, as it is."""
        return Moment(utc=self.world.now, monotonic_s=self.seconds)

    def attach(self) -> None:
        """Let an executor sign in that reaches every host."""
        self.take(self.dispatcher.attached("ex", frozenset({"*"}), self.moment))

    def take(self, outputs: Iterable[Output]) -> None:
        """Carry out what the dispatcher says: record at once, keep what is sent."""
        for output in outputs:
            match output:
                case Record():
                    self.record(output)
                case Send():
                    self.sent.append(output)
                    self.seen.append(output)
                case Abandon():
                    self.abandoned.append(output.dispatch_id)
                case Reply():
                    self.replies.append(output)
                case Fault():
                    raise output.error
                case End():
                    self.ended.append(output.executor)

    def record(self, record: Record) -> None:
        """Decide and append, and come back with the events in their envelopes."""
        version = self.world.vm.version
        draft = self.world.do(record.command, actor="snapshotd")
        envelopes = tuple(
            Envelope(
                event_id=f"{version + n}",
                stream=StreamId(f"vm/{VM_ID}"),
                version=version + n,
                position=version + n,
                time=self.world.now,
                actor="snapshotd",
                request_id="",
                operation=operation,
                event=event,
            )
            for n, (event, operation) in enumerate(draft.events, 1)
        )
        self.take(self.dispatcher.recorded(self.world.vm, envelopes, self.moment))

    def answer(self, order: Order) -> HostAnswer:
        """Let the host carry an order out."""
        if order.kind in (OrderKind.POLL, OrderKind.REPORT):
            seen = self.world.host.poll(order.watched_files, order.watched_jobs)
            return HostAnswer(verdict=Verdict.REPORTED, vms=(seen,))
        if order.kind is OrderKind.OBSERVE:
            return self.world.host.observe(order.token, order.watched_files)
        number = next(o.number for o in self.world.vm.operations.values() if o.name == order.operation)
        operation = self.world.vm.operations.get(number)
        if operation is None or not operation.active or operation.step(order.step).token != order.token:
            return HostAnswer(verdict=Verdict.STALE)
        return self.world.host.effect(order)

    def tick(self, seconds: float = 1.0) -> None:
        """Let time pass, with signs of life of the executor."""
        self.seconds += seconds
        self.world.now += timedelta(seconds=seconds)
        self.dispatcher.heard("ex", self.moment)
        self.take(self.dispatcher.tick(self.moment))

    def waits(self) -> str:
        """Return why the newest operation waits."""
        wait = self.dispatcher.wait(VM_ID, self.world.vm.last_number)
        return wait.failure.reason if wait else ""

    def deliver(self, *, lose: bool = False) -> None:
        """Carry the oldest order to the host, and its answer back, or lose the answer."""
        send = self.sent.pop(0)
        answer = self.answer(send.order)
        self.take(self.dispatcher.answered("ex", send.dispatch_id, LOST if lose else answer, self.moment))

    def run(self, limit: int = 400) -> None:
        """Go on until no operation is active."""
        for _ in range(limit):
            if not self.world.vm.active_operations:
                return
            if self.sent:
                self.deliver()
            else:
                self.tick()
        raise AssertionError(self.world.vm)


def asked(case: Case) -> Room:
    """Return a room in which a case's request has been accepted."""
    world = ready(case)
    world.do(case.request)
    return Room(world)


every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


@every_case
def test_an_operation_is_carried_out(case: Case) -> None:
    room = asked(case)
    room.attach()
    room.run()
    check_end(room.world, case)


def test_without_an_executor_an_operation_stays_pending_and_says_why() -> None:
    room = asked(CASES[0])
    version = room.world.vm.version
    for _ in range(100):
        room.tick(60)
    assert room.world.vm.version == version
    assert room.world.vm.active_operations[0].state is OperationState.PENDING
    assert room.waits() == "NO_EXECUTOR"
    room.attach()
    room.run()
    check_end(room.world, CASES[0])


@every_case
def test_a_restart_after_every_single_happening_still_ends_with_each_effect_once(case: Case) -> None:
    happenings = 0
    while True:
        room = asked(case)
        room.attach()
        for _ in range(happenings):
            if not room.world.vm.active_operations:
                break
            if room.sent:
                room.deliver()
            else:
                room.tick()
        ended = not room.world.vm.active_operations
        room.start("second")
        room.attach()
        room.run()
        check_end(room.world, case)
        if ended:
            assert happenings >= len(case.effects)
            return
        happenings += 1


@pytest.mark.parametrize("seed", range(150))
def test_whatever_is_lost_doubled_or_killed_every_operation_ends_and_each_effect_happens_once(seed: int) -> None:
    rng = random.Random(seed)
    case = rng.choice(CASES)
    room = asked(case)
    room.world.watch = check_invariants
    room.attach()
    # Fewer than the five attempts that a step has, so that the operation must succeed.
    for trouble in range(rng.randrange(4)):
        for _ in range(rng.randrange(6)):
            if not room.world.vm.active_operations:
                break
            if room.sent:
                room.deliver(lose=rng.random() < 0.3)
            else:
                room.tick(rng.choice((1, 5, 70)))
        match rng.randrange(4):
            case 0:
                room.start(f"again {trouble}")
                room.attach()
            case 1:
                room.sent.clear()
                room.take(room.dispatcher.detached("ex", room.moment))
                room.attach()
            case 2 if room.sent:
                room.answer(room.sent[0].order)  # it reaches the host, and comes once more
            case _:
                room.tick(1)
    room.run()
    check_end(room.world, case)


def test_an_observation_without_answer_is_sent_again_with_its_token_and_without_an_event() -> None:
    room = asked(CASES[3])
    room.attach()
    while not room.sent or room.sent[0].order.kind is not OrderKind.EFFECT:
        room.deliver() if room.sent else room.tick()
    room.deliver(lose=True)
    while not room.sent:
        room.tick()
    version, token = room.world.vm.version, room.sent[0].order.token
    looked = 0
    for _ in range(600):
        if room.sent:
            send = room.sent.pop()
            assert (send.order.kind, send.order.token) == (OrderKind.OBSERVE, token)
            looked += 1
            room.take(room.dispatcher.answered("ex", send.dispatch_id, LOST, room.moment))
        room.tick()
    assert room.world.vm.version == version
    assert 8 <= looked <= 20
    assert room.waits() == "CONNECTION_LOST"


def test_a_silent_executor_is_taken_for_dead_and_another_one_is_fed() -> None:
    room = asked(CASES[0])
    room.attach()
    assert room.dispatcher.feeding.fed(HOST) == "ex"
    room.take(room.dispatcher.attached("other", frozenset({HOST}), room.moment))
    room.seconds += 9
    room.dispatcher.heard("other", room.moment)
    room.take(room.dispatcher.tick(room.moment))
    assert room.dispatcher.feeding.fed(HOST) == "other"


def test_an_effect_is_never_sent_twice() -> None:
    room = asked(CASES[6])
    room.attach()
    while room.world.vm.active_operations:
        if room.sent:
            room.deliver(lose=room.sent[0].order.kind is OrderKind.EFFECT)
        else:
            room.tick()
    tokens = [s.order.token for s in room.seen if s.order.kind is OrderKind.EFFECT]
    assert len(tokens) == len(set(tokens)) == 2


def test_a_merge_that_does_not_come_forward_ends_the_operation() -> None:
    case = next(c for c in CASES if c.name == "delete in the middle")
    room = asked(case)
    room.attach()
    while room.world.vm.active_operations:
        if room.sent and room.sent[0].order.kind is OrderKind.POLL:
            send = room.sent.pop(0)
            room.world.host.merging = False
            stuck = HostAnswer(verdict=Verdict.REPORTED, vms=(room.world.host.report(),))
            room.take(room.dispatcher.answered("ex", send.dispatch_id, stuck, room.moment))
        elif room.sent:
            room.deliver()
        else:
            room.tick(30)
    operation = room.world.vm.operations[room.world.vm.last_number]
    assert operation.state is OperationState.FAILED
    assert operation.failure is not None
    assert operation.failure.reason == "MERGE_STALLED"
    assert room.world.now - START > timedelta(seconds=room.policy.merge_stall_s)


def merging(policy: Policy) -> Room:
    """Return a room in which the first poll of a merge is on its way."""
    world = ready(MERGING)
    world.policy = policy
    world.do(MERGING.request)
    room = Room(world, policy)
    room.attach()
    to_poll(room)
    return room


def to_poll(room: Room) -> None:
    """Go on until a poll is on its way, or the operation has ended."""
    while room.world.vm.active_operations and not (room.sent and room.sent[0].order.kind is OrderKind.POLL):
        room.deliver() if room.sent else room.tick(0.5)


def polled(room: Room, answers: Iterable[HostAnswer]) -> list[float]:
    """Have the polls answered so, until the operation has ended; return the seconds at which they were sent."""
    sent = []
    for answer in answers:
        if room.sent:
            sent.append(room.seconds)
            room.take(room.dispatcher.answered("ex", room.sent.pop(0).dispatch_id, answer, room.moment))
            to_poll(room)
    return sent


def chained(*files: str, activities: tuple[str, ...] = ()) -> HostAnswer:
    """Return a poll's answer that shows these files in the chain of the one disk."""
    seen = ready(MERGING).host.report()
    assert seen.description is not None
    chain = ("leaf", *files, "base")
    there = tuple(DiskFile(path=a, parent_path=b) for a, b in zip(chain, (*chain[1:], ""), strict=True))
    disk = Disk(location="SCSI:0:0", path="leaf")
    described = replace(seen.description, files=there, disks=(disk,), checkpoints=())
    report = replace(seen, description=described, activities=activities, existing_files=("leaf", *files))
    return HostAnswer(verdict=Verdict.REPORTED, vms=(report,))


@pytest.mark.parametrize("first_s", [0.5, 2.0, 45.0])
def test_a_merge_is_polled_at_least_every_ten_seconds(first_s: float) -> None:
    room = merging(Policy(merge_poll_s=first_s))
    sent = polled(room, [chained("d2", activities=("MERGE",))] * 40)
    assert len(sent) == 40
    assert max(later - earlier for earlier, later in pairwise(sent)) <= 10.5, "with the half second of a tick"


def with_files_to_merge(room: Room, *files: str) -> None:
    """Put on record that the merge which is waited for has these files to merge."""
    vm, number = room.world.vm, room.world.vm.last_number
    facts = DISKS_MERGE.facts.write(disks_merge.Before(files, ()))
    operation = vm.operations[number]
    steps = tuple(replace(s, before=facts) if s.plan.polls else s for s in operation.steps)
    operations = {**vm.operations, number: replace(operation, steps=steps)}
    room.world.vm = replace(vm, operations=MappingProxyType(operations))
    room.take(room.dispatcher.changed(room.world.vm, room.moment))


def test_a_merge_in_which_nothing_happens_stalls_after_merge_stall_and_not_before() -> None:
    room = merging(Policy(merge_stall_s=300))
    with_files_to_merge(room, "f0", "f1")
    sent = polled(room, [chained("f0", "f1")] * 400)
    assert 300 < sent[-1] - sent[0] <= 300 + 2 * 10.5


def test_a_merge_that_comes_forward_has_not_stalled_though_nobody_ever_sees_the_host_at_it() -> None:
    room = merging(Policy(merge_stall_s=300))
    files = [f"f{n}" for n in range(20)]
    with_files_to_merge(room, *files)
    answers = [answer for n in range(20) for answer in [chained(*files[n:])] * 20]
    assert len(polled(room, answers)) == len(answers), "it was waited for all the time"
    polled(room, [chained()])
    assert room.world.vm.operations[room.world.vm.last_number].state is OperationState.SUCCEEDED


def test_a_host_has_no_more_orders_under_way_than_its_share() -> None:
    room = asked(CASES[0])
    room.attach()
    report = Order(kind=OrderKind.REPORT, host_id=HOST, deadline=room.world.now + timedelta(minutes=1))
    for n in range(9):
        room.take(room.dispatcher.asked(f"k{n}", report, room.moment))
    room.tick()
    assert [s.order.kind for s in room.sent] == [OrderKind.EFFECT] + [OrderKind.REPORT] * 3
    while room.sent:
        room.deliver()
        assert len(room.sent) <= 4
    room.run()
    assert len([r for r in room.replies if r.answer is not None]) == 9


def test_who_asks_of_a_host_without_an_executor_is_told_so() -> None:
    room = asked(CASES[0])
    room.take(room.dispatcher.asked("k", Order(kind=OrderKind.REPORT, host_id=HOST, deadline=START), room.moment))
    assert room.replies == [Reply("k", None)]


def test_what_cannot_be_recorded_is_asked_for_again() -> None:
    room = asked(CASES[0])
    (record,) = room.dispatcher.attached("ex", frozenset({"*"}), room.moment)
    assert isinstance(record, Record)
    assert room.dispatcher.tick(room.moment) == []
    full = LogUnavailable("the disk is full")
    assert room.dispatcher.refused(record.vm_id, full, room.moment) == [Fault(record.vm_id, full, 1)]
    room.seconds += 1
    assert room.dispatcher.tick(room.moment) == [record]


@pytest.mark.parametrize("case", AT_WORK, ids=lambda c: c.name)
def test_after_a_restart_a_step_that_was_issued_is_observed_and_not_sent(case: Case) -> None:
    room = asked(case)
    room.attach()
    while not room.sent or room.sent[0].order.kind is not OrderKind.EFFECT:
        if room.sent:
            room.deliver()
        else:
            room.tick()
    token = room.sent[0].order.token
    room.seen.clear()
    room.start("second", attached=True)
    room.run()
    assert room.seen[0].order.kind is OrderKind.OBSERVE
    assert all(s.order.token > token for s in room.seen if s.order.kind is OrderKind.EFFECT)
    check_end(room.world, case)


def test_an_executor_that_is_gone_loses_an_effect_once() -> None:
    room = asked(CASES[0])
    room.attach()
    assert room.sent[0].order.kind is OrderKind.EFFECT
    outputs = room.dispatcher.detached("ex", room.moment)
    assert [type(o.command) for o in outputs if isinstance(o, Record)] == [LoseOutcome]
    assert room.dispatcher.tick(room.moment) == []


@pytest.mark.parametrize("open_as", [StepState.WAITING, StepState.OUTCOME_UNKNOWN])
def test_what_is_looked_at_again_and_again_says_when_no_executor_is_there_to_look(open_as: StepState) -> None:
    room = asked(next(c for c in CASES if c.name == "delete in the middle"))
    room.attach()
    while not any(s.state is open_as for o in room.world.vm.active_operations for s in o.steps):
        if room.sent:
            lost = open_as is StepState.OUTCOME_UNKNOWN and room.sent[0].order.kind is OrderKind.EFFECT
            room.deliver(lose=lost)
        else:
            room.tick()
    room.sent.clear()
    room.take(room.dispatcher.detached("ex", room.moment))
    for _ in range(5):
        room.tick(60)
    assert room.waits() == "NO_EXECUTOR"
    room.attach()
    room.run()
    assert room.waits() == ""


def test_an_operation_that_an_executor_has_been_found_for_waits_for_none() -> None:
    room = asked(CASES[0])
    room.tick(60)
    assert room.waits() == "NO_EXECUTOR"
    room.attach()
    while not any(s.order.kind is OrderKind.EFFECT for s in room.sent):
        room.deliver() if room.sent else room.tick()
    assert room.waits() == ""


@pytest.mark.parametrize(("word", "reason"), [("Saving", "HOST_WORKING"), ("", "")])
def test_a_power_that_is_not_known_is_looked_at_again_and_again_each_time_later(word: str, reason: str) -> None:
    room = asked(next(c for c in CASES if c.name == "revert of a running VM to a memory snapshot"))
    room.attach()
    while not any(s.order.action == RESTORE and s.order.kind is OrderKind.EFFECT for s in room.sent):
        room.deliver() if room.sent else room.tick()
    host = room.world.host
    host.transition, host.power = word, Power.RUNNING if word else Power.UNKNOWN
    operation, step = next(
        (o, s) for o in room.world.vm.active_operations for s in o.steps if s.state is StepState.ISSUED
    )
    done = HostAnswer(verdict=Verdict.DONE, vms=(host.report(),))
    room.take(room.dispatcher.answered("ex", room.sent.pop().dispatch_id, done, room.moment))
    room.seen.clear()
    for _ in range(300):
        room.deliver() if room.sent else room.tick()
    assert 5 <= len(room.seen) <= 15
    assert {s.order.kind for s in room.seen} == {OrderKind.OBSERVE}
    assert len({s.order.token for s in room.seen}) == 1
    assert room.waits() == reason
    assert room.world.vm.operations[operation.number].step(step.plan.number).state is StepState.DONE
    host.transition, host.power = "", Power.RUNNING
    room.run()
    assert room.world.vm.operations[operation.number].state is OperationState.SUCCEEDED


def test_each_operation_of_a_vm_has_a_wait_of_its_own() -> None:
    room = asked(next(c for c in CASES if c.name == "delete in the middle"))
    room.attach()
    while not any(s.state is StepState.WAITING for o in room.world.vm.active_operations for s in o.steps):
        room.deliver() if room.sent else room.tick()
    merging = room.world.vm.last_number
    draft = room.world.do(stop_vm(StopMode.TURN_OFF))
    room.take(room.dispatcher.changed(draft.vm, room.moment))
    while not any(s.order.kind is OrderKind.POLL for s in room.sent):
        room.deliver() if room.sent else room.tick()
    room.deliver(lose=True)
    waits = room.dispatcher.wait(VM_ID, merging)
    assert waits is not None
    assert (waits.failure.reason, room.waits()) == ("CONNECTION_LOST", "")
    room.run()


@pytest.mark.parametrize("unfed", [False, True])
def test_an_operation_that_preempts_another_awaits_its_turn_until_that_has_ended(
    monkeypatch: pytest.MonkeyPatch, *, unfed: bool
) -> None:
    monkeypatch.setattr(REVERT_TO_SNAPSHOT, "preempts", frozenset({CREATE_SNAPSHOT.name}))
    world = World()
    chain(world)
    world.do(create(9))
    room = Room(world)
    room.attach()
    while not any(s.order.kind is OrderKind.EFFECT for s in room.sent):
        room.deliver() if room.sent else room.tick()
    older = room.world.vm.last_number
    assert room.waits() == ""
    draft = room.world.do(revert_to(sid(1)))
    room.take(room.dispatcher.changed(draft.vm, room.moment))
    if unfed:
        room.take(room.dispatcher.detached("ex", room.moment))
        room.sent.clear()
    since = room.world.now
    seen = 0
    while room.world.vm.operations[older].active:
        wait = room.dispatcher.wait(VM_ID, older + 1)
        assert wait is not None
        assert (wait.failure.reason, wait.since) == ("AWAITING_TURN", since)
        assert wait.failure.message == f"{room.world.vm.operations[older].name} has to end first."
        seen += 1
        if unfed and seen == 3:
            room.attach()
        room.deliver() if room.sent else room.tick()
    assert seen >= 3
    assert room.world.vm.operations[older + 1].active
    while room.world.vm.active_operations:
        assert room.waits() == ""
        room.deliver() if room.sent else room.tick()


def test_a_shutdown_that_makes_way_is_abandoned_observed_and_its_script_ended() -> None:
    world = World()
    room = Room(world)
    draft = world.do(stop_vm(StopMode.SHUTDOWN))
    room.take(room.dispatcher.changed(draft.vm, room.moment))
    room.attach()
    while not any(s.order.kind is OrderKind.EFFECT for s in room.sent):
        room.deliver() if room.sent else room.tick()
    (shutdown,) = room.sent
    world.host.transition = "Stopping"
    draft = world.do(stop_vm(StopMode.TURN_OFF))
    room.take(room.dispatcher.changed(draft.vm, room.moment))
    assert room.abandoned == [shutdown.dispatch_id]
    room.sent.remove(shutdown)
    room.tick()
    (look,) = room.sent
    assert (look.order.kind, look.order.step, look.order.ends_script) == (OrderKind.OBSERVE, 1, True)
    room.run()
    assert [o.state for o in world.vm.operations.values()] == [OperationState.CANCELLED, OperationState.SUCCEEDED]
    assert room.waits() == ""
    assert not any(s.order.ends_script for s in room.seen if s.order.operation != shutdown.order.operation)


def test_an_order_that_nobody_waits_for_any_more_takes_no_room_and_its_executor_is_told() -> None:
    room = asked(CASES[0])
    room.dispatcher.feeding.attach("ex", frozenset({"*"}), room.seconds)
    report = Order(kind=OrderKind.REPORT, host_id=HOST, deadline=room.world.now + timedelta(minutes=1))
    for n in range(4):
        room.take(room.dispatcher.asked(f"k{n}", report, room.moment))
    assert [s.order.kind for s in room.sent] == [OrderKind.REPORT] * 3, "the reports' share is taken"
    first = room.sent[0]
    (abandoned, sent) = room.dispatcher.unasked("k0", room.moment)
    assert abandoned == Abandon("ex", first.dispatch_id)
    assert isinstance(sent, Send), "the one that waited is sent"
    assert room.dispatcher.unasked("k0", room.moment) == []
    assert room.dispatcher.answered("ex", first.dispatch_id, LOST, room.moment) == [], "the answer may still come"


def test_a_question_that_waits_for_a_slot_and_is_not_asked_any_more_is_never_sent() -> None:
    room = asked(CASES[0])
    room.dispatcher.feeding.attach("ex", frozenset({"*"}), room.seconds)
    report = Order(kind=OrderKind.REPORT, host_id=HOST, deadline=room.world.now + timedelta(minutes=1))
    for n in range(4):
        room.take(room.dispatcher.asked(f"k{n}", report, room.moment))
    assert room.dispatcher.unasked("k3", room.moment) == []
    while room.sent:
        room.deliver()
    assert [r.key for r in room.replies] == ["k0", "k1", "k2"]


def test_what_was_answered_is_not_abandoned() -> None:
    room = asked(CASES[0])
    room.dispatcher.feeding.attach("ex", frozenset({"*"}), room.seconds)
    report = Order(kind=OrderKind.REPORT, host_id=HOST, deadline=room.world.now + timedelta(minutes=1))
    room.take(room.dispatcher.asked("k", report, room.moment))
    room.deliver()
    assert room.replies[-1].key == "k"
    assert room.dispatcher.unasked("k", room.moment) == []
    assert room.dispatcher.unasked("never asked", room.moment) == []


@pytest.mark.parametrize("never_answered", [OrderKind.EFFECT, OrderKind.OBSERVE, OrderKind.POLL])
@every_case
def test_an_order_that_a_living_executor_never_answers_is_given_up_and_its_operation_ends(
    case: Case, never_answered: OrderKind
) -> None:
    room = asked(case)
    room.attach()
    lost: list[str] = []
    for _ in range(2000):
        if not room.world.vm.active_operations:
            break
        if not room.sent:
            room.tick(5)
        elif room.sent[0].order.kind is never_answered and not lost:
            lost.append(room.sent.pop(0).dispatch_id)
        else:
            effects = [s for s in room.seen if s.order.kind is OrderKind.EFFECT]
            room.deliver(lose=never_answered is OrderKind.OBSERVE and room.sent[:1] == effects[:1])
    assert room.abandoned == lost
    assert not room.world.vm.active_operations
    if never_answered is not OrderKind.EFFECT:  # else the time for the effect has passed, and it may have failed
        check_end(room.world, case)


def test_who_asks_of_a_host_is_told_when_no_answer_comes_in_time() -> None:
    room = asked(CASES[0])
    room.dispatcher.feeding.attach("ex", frozenset({"*"}), room.seconds)
    deadline = room.world.now + timedelta(minutes=1)
    room.take(room.dispatcher.asked("k", Order(kind=OrderKind.REPORT, host_id=HOST, deadline=deadline), room.moment))
    (send,) = room.sent
    for _ in range(60 + int(room.policy.answer_grace_s)):
        room.tick()
        assert not room.replies
    room.tick()
    assert room.abandoned == [send.dispatch_id]
    (reply,) = room.replies
    assert reply.answer is not None
    assert (reply.key, reply.answer.error_id) == ("k", "DEADLINE_EXCEEDED")


def test_an_answer_that_an_executor_held_while_it_was_away_settles_its_step() -> None:
    room = asked(next(c for c in CASES if c.name == "create disk"))
    room.attach()
    while not any(s.order.kind is OrderKind.EFFECT for s in room.sent):
        room.deliver() if room.sent else room.tick()
    (effect,) = room.sent
    done = room.answer(effect.order)
    room.sent.clear()
    room.take(room.dispatcher.detached("ex", room.moment))
    assert room.world.vm.active_operations[0].steps[0].state is StepState.OUTCOME_UNKNOWN
    room.attach()
    room.take(room.dispatcher.answered("ex", effect.dispatch_id, done, room.moment))
    assert not room.world.vm.active_operations
    for _ in range(2):
        assert room.dispatcher.answered("ex", effect.dispatch_id, done, room.moment) == []
    check_end(room.world, next(c for c in CASES if c.name == "create disk"))


def test_a_merge_that_nobody_could_look_at_for_long_has_not_stalled() -> None:
    room = asked(next(c for c in CASES if c.name == "delete in the middle"))
    room.attach()

    def polled(answer: HostAnswer) -> None:
        while not room.sent or room.sent[0].order.kind is not OrderKind.POLL:
            room.deliver() if room.sent else room.tick(30)
        room.take(room.dispatcher.answered("ex", room.sent.pop(0).dispatch_id, answer, room.moment))

    quiet = HostAnswer(verdict=Verdict.REPORTED, vms=(replace(room.world.host.report(), activities=()),))
    polled(quiet)
    away_since = room.seconds
    while room.seconds - away_since < 2 * room.policy.merge_stall_s:
        polled(LOST)
    polled(quiet)
    assert room.world.vm.active_operations
    room.run()
    assert room.world.vm.operations[room.world.vm.last_number].state is OperationState.SUCCEEDED
