"""The plan of a request, whole, as a caller gets it beforehand."""

from __future__ import annotations

from snapshotd.api.v1 import executor_pb2 as wire
from snapshotd.api.v1 import operation_pb2 as pb
from snapshotd.application.decide import decide
from snapshotd.application.draft import Context
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.events import OperationRequested
from snapshotd.operations.plan_etag import plan_etag
from snapshotd.server.operation_messages import plan_message
from snapshotd.steps.vm_stop import StopMode
from tests.asking import delete, revert_to, start_vm, stop_vm
from tests.fakes import VM_ID, World
from tests.unit.application.cases import chain, create, sid
from tests.unit.application.exporting import released

VM = f"virtualMachines/{VM_ID}"
NEW, FIRST, SECOND, THIRD = (f"{VM}/snapshots/{name}" for name in ("-", sid(1), sid(2), sid(3)))
WRITTEN = "What was written to the disks since the current snapshot will be lost."
JOINS = "An operation that does just this is active. The call would return that one."
Kinds = pb.OperationMetadata


def chained(*requests: RequestOperation) -> World:
    """Return a world with a chain of three, the second with memory, in which something else has been done since."""
    world = World()
    chain(world)
    for request in requests:
        world.do(request)
        world.run()
    return world


def plan(world: World, request: RequestOperation) -> pb.Plan:
    """Return the plan of a request as a dry run makes it: decided, and not recorded. Its etag is checked here."""
    draft = decide(world.vm, request, Context(now=world.now, actor="ann", policy=world.policy, fresh_id="0a0b0c0d"))
    requested = (event for event, _ in draft.events if isinstance(event, OperationRequested))
    made = plan_message(world.vm, request, (asked := next(requested, None)))
    assert made.etag == (plan_etag(world.vm, request, asked.steps) if asked else "")
    made.ClearField("etag")
    return made


def step(
    number: int, name: str, of: pb.Step.Class.ValueType, description: str, snapshot: str, may_lose: str = ""
) -> pb.Step:
    """Return a planned step."""
    return pb.Step(
        number=number,
        name=name,
        step_class=of,
        description=description,
        host="hosts/hv01",
        may_lose=may_lose,
        snapshot=snapshot,
    )


def restore(number: int, snapshot: str) -> pb.Step:
    """Return the step that a revert turns on."""
    loses = "what was written to the disks since the current snapshot"
    return step(number, "restore", pb.Step.PIVOT, "Apply the snapshot's checkpoint to the VM.", snapshot, loses)


def test_a_create_names_its_snapshot_by_a_dash_and_warns_of_memory() -> None:
    rename = "Mark the checkpoint as ours, if it was found under the host's own name."
    assert plan(chained(), create(9, fallback=True)) == pb.Plan(
        kind=Kinds.CREATE_SNAPSHOT,
        virtual_machine=VM,
        snapshot=NEW,
        steps=[
            step(1, "checkpoint", pb.Step.UNDOABLE, "Take a checkpoint of the VM.", NEW),
            step(2, "rename", pb.Step.BEST_EFFORT, rename, NEW),
        ],
        new_current=NEW,
        old_current=THIRD,
        power_before=wire.RUNNING,
        power_after=wire.RUNNING,
        warnings=["If the guest cannot be frozen, a snapshot with memory is kept instead."],
    )


def test_a_revert_of_a_running_vm_to_disks_loses_its_memory_in_the_stop_before() -> None:
    stop, last = "Turn the VM off, as by pulling the plug.", "Turn the VM off, if it is on by then."
    assert plan(chained(), revert_to(sid(1))) == pb.Plan(
        kind=Kinds.REVERT_TO_SNAPSHOT,
        virtual_machine=VM,
        snapshot=FIRST,
        steps=[
            step(1, "stop", pb.Step.UNDOABLE, stop, FIRST, "guest memory"),
            restore(2, FIRST),
            step(3, "stop", pb.Step.FORWARD_ONLY, last, FIRST),
        ],
        new_current=FIRST,
        old_current=THIRD,
        power_before=wire.RUNNING,
        power_after=wire.STOPPED,
        guest_memory_lost=True,
        warnings=[WRITTEN],
    )


def test_a_revert_of_a_stopped_vm_to_memory_starts_it_and_loses_no_memory() -> None:
    start, last = "Start the VM, or resume it.", "Start the VM, if it is not running by then."
    assert plan(chained(stop_vm(StopMode.TURN_OFF)), revert_to(sid(2))) == pb.Plan(
        kind=Kinds.REVERT_TO_SNAPSHOT,
        virtual_machine=VM,
        snapshot=SECOND,
        steps=[
            step(1, "start", pb.Step.BEST_EFFORT, start, SECOND),
            restore(2, SECOND),
            step(3, "start", pb.Step.FORWARD_ONLY, last, SECOND),
        ],
        new_current=SECOND,
        old_current=THIRD,
        power_before=wire.STOPPED,
        power_after=wire.RUNNING,
        guest_memory_lost=False,
        warnings=[WRITTEN],
    )


def test_a_delete_names_who_moves_up_and_who_is_gone() -> None:
    remove, merge = "Remove the snapshot's checkpoint; its children stay.", "Wait until the host has merged the disks."
    assert plan(chained(), delete(sid(1))) == pb.Plan(
        kind=Kinds.DELETE_SNAPSHOT,
        virtual_machine=VM,
        snapshot=FIRST,
        steps=[
            step(1, "remove", pb.Step.PIVOT, remove, FIRST),
            step(2, "merge", pb.Step.WAIT, merge, FIRST),
        ],
        children_moved=[pb.Plan.Move(snapshot=SECOND, old_parent=FIRST, new_parent="")],
        new_current=THIRD,
        old_current=THIRD,
        power_before=wire.RUNNING,
        power_after=wire.RUNNING,
        snapshots_discarded=[FIRST],
    )


def test_a_request_that_would_join_has_no_steps_of_its_own_and_says_why() -> None:
    world = chained()
    world.do(revert_to(sid(1)))
    assert plan(world, revert_to(sid(1))) == pb.Plan(
        kind=Kinds.REVERT_TO_SNAPSHOT,
        virtual_machine=VM,
        snapshot=FIRST,
        new_current=FIRST,
        old_current=THIRD,
        power_before=wire.RUNNING,
        power_after=wire.STOPPED,
        guest_memory_lost=True,
        warnings=[WRITTEN, JOINS],
    )


def test_a_released_vm_is_started_on_the_host_that_was_named() -> None:
    steps = plan(released(), start_vm("hv02")).steps
    assert [(s.name, s.host) for s in steps] == [("import", "hosts/hv02"), ("start", "hosts/hv02")]
