"""A kind of operation and an action that only this file knows go all the way: request, core, log, views, messages.

Three small classes are all that it takes; no other file is touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from projections.projections import Projections
from snapshotd.api.v1 import operation_pb2 as pb
from snapshotd.application.decide import decide
from snapshotd.application.draft import Context
from snapshotd.dispatch.orders import Order, effect_order
from snapshotd.domain import events as e
from snapshotd.domain.commands import Proceed, RequestOperation, SyncVm
from snapshotd.domain.errors import InvalidArgument, OperationActive, VmChanging
from snapshotd.domain.host_report import HostAnswer, Verdict, VmReport
from snapshotd.domain.ids import ActionName, CheckpointId, KindName
from snapshotd.domain.lifecycle import OperationState, Power, StepState, VmActivity
from snapshotd.domain.offering import Offering
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.recorded import Recorded
from snapshotd.domain.state import replace
from snapshotd.domain.storage_errors import RecordNotReadable
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.catalogue import KINDS
from snapshotd.operations.kind import Kind, TheVm, move_vm
from snapshotd.operations.snapshot_create import CREATE_SNAPSHOT
from snapshotd.operations.snapshot_delete import DELETE_SNAPSHOT
from snapshotd.operations.snapshot_revert import REVERT_TO_SNAPSHOT
from snapshotd.operations.vm_start import START_VIRTUAL_MACHINE
from snapshotd.ports import plain
from snapshotd.ports.versioned import Versioned
from snapshotd.server.operation_messages import metadata_message, operation_message, plan_message
from snapshotd.steps.action import Absent, Action, Failed, InProgress, Judgement
from snapshotd.steps.catalogue import ACTIONS
from snapshotd.store.codec import decode, encode
from tests.asking import delete, revert_to, start_vm
from tests.fakes import START, FakeHost, World
from tests.memory_log import MemoryLog
from tests.unit.application.cases import chain, create, sid
from tests.unit.projections.histories import RecordedWorld
from tests.unit.projections.oracle import compare


@dataclass(frozen=True, slots=True)
class Note:
    """What is to be written into the VM's notes: the Params of the kind; Input, Before and Output of the action."""

    text: str


class VmNote(Action):
    """Write something into a VM's notes."""

    name = ActionName("vm_note")
    label = "note"
    input: Versioned[Note] = Versioned(Note, 2, {1: lambda values: {"text": values["words"]}})
    facts: Versioned[Note] = Versioned(Note)
    output: Versioned[Note] = Versioned(Note)

    def before(self, vm: VirtualMachine, operation: Operation, step: Step) -> Note:
        """Depend on what is there."""
        return Note(vm.name)

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Look at what a host of this test says for itself."""
        wanted = self.input.read(step.plan.input)
        return self.done(wanted) if report.host_state == wanted.text else Absent()

    def undo(self, vm: VirtualMachine, step: Step) -> tuple[PlannedStep, ...]:
        """Write what was there."""
        assert step.before is not None, step
        return (self.planned(self.facts.read(step.before), nature=StepNature.FORWARD_ONLY),)

    def time_limit_s(self, policy: Policy) -> float:
        """Allow a minute."""
        return 60.0

    def description(self, plan: PlannedStep) -> str:
        """Return what is written."""
        return f"Write '{self.input.read(plan.input).text}' into the notes."


class TakeNote(Kind):
    """Write something into a VM's notes."""

    name = KindName("TAKE_NOTE")
    params: Versioned[Note] = Versioned(Note)
    joins = True

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Need something to write."""
        if not self.params.read(request.params).text:
            raise InvalidArgument("text", "", "write something.")

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Plan one step."""
        return (VmNote().planned(self.params.read(request.params), nature=StepNature.UNDOABLE),)

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Take the VM to RECONFIGURING."""
        return (move_vm(vm, "reconfiguration_begins"),)


class TakeUrgentNote(TakeNote):
    """A note that does not wait for another one: that one is cancelled."""

    name = KindName("TAKE_URGENT_NOTE")
    preempts = frozenset({TakeNote.name})


class NotingHost(FakeHost):
    """A host that keeps notes, and tells what it has written."""

    notes = ""

    def act(self, order: Order) -> CheckpointId | None:
        """Write."""
        if order.action != VmNote.name:
            return super().act(order)
        self.notes = str(order.input["text"])
        return None

    def differs(self, before: object) -> bool:
        """Find nothing that has changed."""
        return False

    def effect(self, order: Order) -> HostAnswer:
        """Tell what was written, too."""
        answer = super().effect(order)
        return replace(answer, output={"text": self.notes}) if answer.verdict is Verdict.DONE else answer

    def report(self, watched: Iterable[str] = ()) -> VmReport:
        """Report the notes where a real host has its own word for its state."""
        return replace(super().report(watched), host_state=self.notes)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, TakeNote.name, TakeNote())
    monkeypatch.setitem(KINDS, TakeUrgentNote.name, TakeUrgentNote())
    monkeypatch.setitem(ACTIONS, VmNote.name, VmNote())


def noting(world: World) -> NotingHost:
    """Give a world a host that keeps notes."""
    world.host = host = NotingHost(power=world.host.power)
    return host


@pytest.mark.parametrize("how", ["undisturbed", "every message twice", "every answer lost"])
def test_it_goes_from_request_to_end(how: str) -> None:
    world = World()
    host = noting(world)
    world.do(TakeNote().request(Note("hello")), request_id="r", digest="d")
    operation = world.run(twice=how == "every message twice", lose=how == "every answer lost")
    assert (operation.state, host.notes) == (OperationState.SUCCEEDED, "hello")
    assert [action for action, _, _ in host.effects] == [VmNote.name]
    assert operation.output_of(VmNote.name) == Recorded(1, {"text": "hello"})
    assert world.vm.activity is VmActivity.IDLE


def test_it_is_checked_joined_and_undone_by_what_its_own_classes_say() -> None:
    world = World()
    host = noting(world)
    with pytest.raises(InvalidArgument):
        world.do(TakeNote().request(Note("")))
    world.do(TakeNote().request(Note("hello")))
    assert world.do(TakeNote().request(Note("hello"))).events == []
    with pytest.raises(OperationActive, match="TAKE_NOTE"):
        world.do(TakeNote().request(Note("another")))
    with pytest.raises(OperationActive, match="TAKE_NOTE"):
        world.do(start_vm())
    while not (found := world.open_step()) or found[1].state is not StepState.ISSUED:
        world.turn()
    world.cancel(1)
    operation = world.run()
    assert (operation.state, host.notes) == (OperationState.CANCELLED, "web01")
    assert [s.plan.undoes for s in operation.steps] == [None, 1]


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("lose", [False, True])
def test_one_that_preempts_begins_when_the_other_is_undone(*, begun: bool, lose: bool) -> None:
    world = World()
    host = noting(world)
    world.do(TakeNote().request(Note("hello")))
    while begun and (not (found := world.open_step()) or found[1].state is not StepState.ISSUED):
        world.turn()
    world.do(TakeUrgentNote().request(Note("fire")))
    assert world.vm.operations[1].active is begun
    with pytest.raises(OperationActive, match=r"TAKE_(URGENT_)?NOTE"):
        world.do(TakeNote().request(Note("another")))
    with pytest.raises(OperationActive, match="TAKE_URGENT_NOTE"):
        world.do(TakeUrgentNote().request(Note("another")))
    assert world.do(TakeUrgentNote().request(Note("fire"))).events == []
    last = world.run(lose=lose)
    first = world.vm.operations[1]
    assert (first.state, last.state, host.notes) == (OperationState.CANCELLED, OperationState.SUCCEEDED, "fire")
    assert last.started_at is not None
    assert first.ended_at is not None
    assert first.ended_at <= last.started_at
    written = [(name, step) for _, name, step in host.effects]
    assert written == [*([(first.name, 1), (first.name, 2)] if begun else []), (last.name, 1)]


def test_one_that_preempts_does_not_begin_while_the_undo_of_the_other_backs_off() -> None:
    world = World()
    host = noting(world)
    world.do(TakeNote().request(Note("hello")))
    while not (found := world.open_step()) or found[1].state is not StepState.ISSUED:
        world.turn()
    world.do(TakeUrgentNote().request(Note("fire")))
    host.error_ids = {2: "ObjectInUse,X"}
    while not (len(world.vm.operations[1].steps) == 2 and world.vm.operations[1].step(2).failure):
        world.turn()
    host.error_ids = {}
    assert world.open_step() is None, "the undo is due again, later"
    assert world.do(Proceed()).events == []
    assert [o.state for o in world.vm.active_operations] == [OperationState.RUNNING, OperationState.PENDING]
    assert (world.run().state, host.notes) == (OperationState.SUCCEEDED, "fire")
    assert [(name, step) for _, name, step in host.effects][-1] == (world.vm.operations[2].name, 1)


def test_one_that_is_being_cancelled_already_is_preempted_too() -> None:
    world = World()
    host = noting(world)
    world.do(TakeNote().request(Note("hello")))
    while not (found := world.open_step()) or found[1].state is not StepState.ISSUED:
        world.turn()
    world.cancel(1)
    events = [event for event, _ in world.do(TakeUrgentNote().request(Note("fire"))).events]
    assert not any(isinstance(event, e.CancelRequested) for event in events)
    assert (world.run().state, host.notes) == (OperationState.SUCCEEDED, "fire")


def test_what_is_past_the_point_of_no_return_is_not_preempted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TakeUrgentNote, "preempts", frozenset({DELETE_SNAPSHOT.name, START_VIRTUAL_MACHINE.name}))
    world = World()
    noting(world)
    chain(world)
    world.do(delete(sid(3)))
    while not (found := world.open_step()) or found[1].state is not StepState.ISSUED:
        world.turn()
    with pytest.raises(OperationActive, match="DELETE_SNAPSHOT"):
        world.do(TakeUrgentNote().request(Note("fire")))
    assert world.run().state is OperationState.SUCCEEDED


def test_one_whose_steps_are_all_satisfied_succeeds_without_an_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VmNote, "satisfied", lambda *_: True)
    world = World()
    host = noting(world)
    world.do(TakeNote().request(Note("hello")))
    operation = world.run()
    assert (operation.state, host.effects) == (OperationState.SUCCEEDED, [])
    assert [s.state for s in operation.steps] == [StepState.SKIPPED]
    assert world.vm.activity is VmActivity.IDLE


@pytest.mark.parametrize(
    ("nature", "undo", "notes"),
    [(StepNature.UNDOABLE, [StepState.DONE], "web01"), (StepNature.FORWARD_ONLY, [], "hello")],
    ids=lambda value: getattr(value, "name", None),
)
def test_what_a_kind_refuses_is_undone_unless_it_is_past_that_and_no_undo_is_refused(
    monkeypatch: pytest.MonkeyPatch, nature: StepNature, undo: list[StepState], notes: str
) -> None:
    refused, asked = Failure(reason="NO_MORE", message="No more notes."), []

    def refusal(self: Kind, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        asked.append(step.plan.number)
        return refused if step.plan.number > 1 else None

    def plan(self: TakeNote, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        note = VmNote().planned(self.params.read(request.params), nature=StepNature.UNDOABLE)
        return note, replace(note, nature=nature)

    monkeypatch.setattr(TakeNote, "refusal", refusal)
    monkeypatch.setattr(TakeNote, "plan", plan)
    world = World()
    host = noting(world)
    world.do(TakeNote().request(Note("hello")))
    operation = world.run()
    assert (operation.state, operation.failure, host.notes) == (OperationState.FAILED, refused, notes)
    assert (operation.undoing, [s.state for s in operation.steps[2:]]) == (bool(undo), undo)
    assert 3 not in asked


@dataclass(frozen=True, slots=True)
class Everything:
    """All facts of a VM that no step of this release depends on yet."""

    drives: tuple[str, ...]
    offering: Offering
    absent_files: tuple[str, ...]
    vm_absent: bool


def test_a_step_depends_on_the_facts_that_its_before_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def before(self: VmNote, vm: VirtualMachine, operation: Operation, step: Step) -> Everything:
        facts = Action.before(self, vm, operation, step)
        assert isinstance(facts, Everything)
        return replace(facts, absent_files=("new.vhdx",))

    monkeypatch.setattr(VmNote, "facts", Versioned(Everything))
    monkeypatch.setattr(VmNote, "before", before)
    world = World()
    world.do(TakeNote().request(Note("hello")))
    while not (found := world.open_step()) or found[1].state is not StepState.ISSUED:
        world.turn()
    sent = effect_order(world.vm, *found).before
    assert sent == {
        "drives": ["SCSI:0:0=base.vhdx"],
        "offering": plain.encode(world.host.offering),
        "absent_files": ["new.vhdx"],
        "vm_absent": True,
    }
    assert world.host.differs(sent)
    here = {name: value for name, value in sent.items() if name != "vm_absent"}
    assert not world.host.differs(here)
    world.host.others = {"new.vhdx"}
    assert world.host.differs(here)
    world.host.others, world.host.gone = set(), True
    assert not world.host.differs({"absent_files": ["new.vhdx"], "vm_absent": True})


@pytest.mark.parametrize("needs_vm", [True, False])
def test_what_does_not_need_the_vm_waits_for_none(monkeypatch: pytest.MonkeyPatch, *, needs_vm: bool) -> None:
    monkeypatch.setattr(VmNote, "needs_vm", needs_vm)
    world = World()
    host = noting(world)
    host.gone = True
    world.do(SyncVm(report=host.report(), asked_version=world.vm.version))
    assert world.vm.power is Power.ABSENT
    world.do(TakeNote().request(Note("hello")))
    for _ in range(6):
        world.turn(seconds=1)
    assert (host.notes, world.vm.operations[1].active) == (("", True) if needs_vm else ("hello", False))
    assert world.now < START + timedelta(seconds=world.policy.move_wait_s)


TORN = Failure(reason="TORN", message="The copy was torn.")


class Copying(VmNote):
    """An action that the host does by itself, and that holds the VM."""

    name = ActionName("vm_copy")
    polls = True
    waits_for = Failure(reason="COPYING", message="The host is copying.")

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Look whether it has been done."""
        wanted = self.input.read(step.plan.input)
        if report.host_state == "torn":
            return Failed(TORN)
        return self.done(wanted) if report.host_state == wanted.text else InProgress()


class TakeCopy(TakeNote):
    """Write something, and wait until the host has copied it."""

    name = KindName("TAKE_COPY")

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Plan the note, and a wait that holds the VM."""
        note = self.params.read(request.params)
        wait = Copying().planned(Note("copied"), nature=StepNature.UNDOABLE)
        return VmNote().planned(note, nature=StepNature.UNDOABLE), wait


@pytest.mark.parametrize("goes", ["on", "cancelled", "wrong"])
def test_a_wait_that_holds_the_vm_keeps_others_off_and_can_be_cancelled(
    monkeypatch: pytest.MonkeyPatch, goes: str
) -> None:
    monkeypatch.setitem(KINDS, TakeCopy.name, TakeCopy())
    monkeypatch.setitem(ACTIONS, Copying.name, Copying())
    world = World()
    host = noting(world)
    world.do(TakeCopy().request(Note("hello")))
    while not (found := world.open_step()) or found[1].state is not StepState.WAITING:
        world.turn()
    world.turn()
    assert world.vm.operations[1].step(2).state is StepState.WAITING
    assert not world.vm.operations[1].only_waits
    assert metadata_message(world.vm.operations[1], None, 0).wait.reason == "COPYING"
    with pytest.raises(OperationActive, match="2 note WAITING"):
        world.do(start_vm())
    with pytest.raises(VmChanging):
        world.do(SyncVm(report=host.report(), asked_version=world.vm.version))
    if goes == "wrong":
        host.notes = "torn"
        operation = world.run()
        assert (operation.state, operation.failure, host.notes) == (OperationState.FAILED, TORN, "web01")
        assert [s.state for s in operation.steps] == [StepState.DONE, StepState.FAILED, StepState.DONE]
    elif goes == "cancelled":
        world.cancel(1)
        operation = world.run()
        assert (operation.state, host.notes) == (OperationState.CANCELLED, "web01")
        assert [s.state for s in operation.steps] == [StepState.DONE, StepState.FAILED, StepState.DONE]
    else:
        host.notes = "copied"
        assert world.run().state is OperationState.SUCCEEDED


def test_one_that_preempts_and_may_not_pass_a_merge_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REVERT_TO_SNAPSHOT, "preempts", frozenset({CREATE_SNAPSHOT.name}))
    world = World()
    chain(world)
    world.do(create(9))
    while not (found := world.open_step()) or found[1].state is not StepState.ISSUED:
        world.turn()
    world.do(revert_to(sid(1)))
    older, newer = world.vm.last_number - 1, world.vm.last_number

    def merged_first(vm: VirtualMachine) -> None:
        assert vm.operations[newer].state is OperationState.PENDING or not vm.operations[older].active

    world.watch = merged_first
    assert world.run().state is OperationState.SUCCEEDED
    assert world.vm.operations[older].state is OperationState.CANCELLED


async def test_log_views_and_messages_take_it_as_it_is(tmp_path: Path) -> None:
    world = RecordedWorld()
    noting(world)
    world.do(TakeNote().request(Note("hello")))
    world.run()
    read_back = [replace(x, event=decode(*encode(x.event))) for x in world.envelopes]
    assert read_back == world.envelopes
    projections = Projections(MemoryLog(read_back), tmp_path / "views.db")
    await projections.catch_up()
    await compare(projections.views, world.envelopes)
    operation = await projections.views.operation(world.vm.operations[1].name)
    projections.close()
    assert operation == world.vm.operations[1]
    message = operation_message(operation, None)
    metadata = pb.OperationMetadata()
    message.metadata.Unpack(metadata)
    assert (message.done, metadata.state, metadata.percent) == (True, pb.OperationMetadata.SUCCEEDED, 100)
    (step,) = metadata.steps
    assert (step.name, step.description) == ("note", "Write 'hello' into the notes.")
    assert isinstance(KINDS[operation.kind].result(operation), TheVm)


def test_a_plan_tells_what_it_would_do() -> None:
    world = World()
    request = TakeNote().request(Note("hello"))
    draft = decide(world.vm, request, Context(now=world.now, actor="ann", policy=world.policy, fresh_id="0a0b0c0d"))
    requested = next(event for event, _ in draft.events if isinstance(event, e.OperationRequested))
    plan = plan_message(world.vm, request, requested)
    assert [step.description for step in plan.steps] == ["Write 'hello' into the notes."]
    assert world.vm.power is Power.RUNNING
    assert plan.power_before == plan.power_after


def test_what_an_older_release_has_planned_is_carried_out_and_what_a_newer_one_has_is_refused() -> None:
    assert VmNote.input.read(Recorded(1, {"words": "hello"})) == Note("hello")
    with pytest.raises(RecordNotReadable, match="version 3"):
        VmNote.input.read(Recorded(3, {"text": "hello"}))
    with pytest.raises(RecordNotReadable, match="missing required field `text`"):
        VmNote.input.read(Recorded(2, {}))
    with pytest.raises(RecordNotReadable, match="version 1, KeyError: 'words'"):
        VmNote.input.read(Recorded(1, {"text": "hello"}))
    with pytest.raises(RecordNotReadable, match="version 0, KeyError"):
        VmNote.input.read(Recorded(0, {"words": "hello"}))
