"""An exception on one VM: it touches no other VM, is told once, and the VM goes on when it has passed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from snapshotd.dispatch.orders import OrderKind
from snapshotd.dispatch.outputs import Fault
from snapshotd.domain.commands import SyncVm
from snapshotd.domain.ids import ActionName
from snapshotd.domain.lifecycle import OperationState
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.storage_errors import LogUnavailable
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.steps.vm_stop import StopMode
from tests.asking import stop_vm
from tests.unit.dispatch.crowd import Crowd, vm_id

BROKEN = vm_id(1)


def stopping(crowd: Crowd) -> Crowd:
    """Ask every VM to stop, their journals being known."""
    for world in crowd.worlds.values():
        world.host.observe(0)
        world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    for at in crowd.worlds:
        crowd.ask(at, stop_vm(StopMode.TURN_OFF))
    return crowd


def broken(vm: VirtualMachine) -> VirtualMachine:
    """Return a VM whose step names an action that nobody knows: whatever looks at it raises."""
    operation = vm.active_operations[0]
    step = operation.steps[0]
    plan = replace(step.plan, action=ActionName("no_such_action"))
    operation = replace(operation, steps=(replace(step, plan=plan), *operation.steps[1:]))
    return replace(vm, operations={**vm.operations, operation.number: operation})


def faults(crowd: Crowd) -> list[Fault]:
    """Return the faults that were told."""
    return [output for output in crowd.others if isinstance(output, Fault)]


def finish_others(crowd: Crowd) -> None:
    """Go on until only the broken VM is left."""
    for _ in range(100):
        if crowd.active() == [BROKEN]:
            return
        crowd.record_all()
        for send in tuple(crowd.sent):
            crowd.answer(send)
        crowd.tick()
    raise AssertionError(crowd.active())


def test_a_vm_that_cannot_be_looked_at_holds_up_no_other() -> None:
    crowd = stopping(Crowd(6))
    crowd.take(crowd.dispatcher.changed(broken(crowd.worlds[BROKEN].vm), crowd.moment))
    crowd.attach()
    finish_others(crowd)
    (fault,) = faults(crowd)
    assert (fault.vm_id, type(fault.error)) == (BROKEN, KeyError)


def test_a_fault_is_told_once_counted_and_tried_again_each_time_later() -> None:
    crowd = stopping(Crowd(2))
    began = crowd.now
    crowd.take(crowd.dispatcher.changed(broken(crowd.worlds[BROKEN].vm), crowd.moment))
    crowd.attach()
    for _ in range(590):
        crowd.tick()
    assert len(faults(crowd)) == 1
    (shown,) = crowd.dispatcher.faults
    assert (shown.vm_id, shown.since) == (BROKEN, began)
    assert "no_such_action" in shown.text
    assert 10 <= shown.times <= 20
    for _ in range(100):
        crowd.tick()
    assert len(faults(crowd)) == 2, "once more after ten minutes"


def test_another_fault_of_the_same_vm_is_told_at_once() -> None:
    crowd = stopping(Crowd(1, slots=1))
    crowd.attach()
    for n, error in enumerate([RuntimeError("one"), RuntimeError("one"), RuntimeError("two")]):
        (record,) = crowd.records
        crowd.records.clear()
        crowd.take(crowd.dispatcher.refused(record.vm_id, error, crowd.moment))
        crowd.tick(2.0**n)
    assert [str(f.error) for f in faults(crowd)] == ["one", "two"]


def test_a_vm_that_is_well_again_goes_on_and_is_shown_no_longer() -> None:
    crowd = stopping(Crowd(2))
    crowd.take(crowd.dispatcher.changed(broken(crowd.worlds[BROKEN].vm), crowd.moment))
    crowd.attach()
    finish_others(crowd)
    crowd.take(crowd.dispatcher.changed(crowd.worlds[BROKEN].vm, crowd.moment))
    crowd.record_all()
    assert not list(crowd.dispatcher.faults)
    crowd.answer(crowd.sent[0])
    assert not crowd.active()


@pytest.mark.parametrize("error", [LogUnavailable("the disk is full"), RuntimeError("a defect\nin many lines")])
def test_a_record_that_fails_again_and_again_is_tried_each_time_later_and_takes_no_slot(error: Exception) -> None:
    crowd = stopping(Crowd(8))
    crowd.attach()
    crowd.refuses[BROKEN] = error
    for _ in range(300):
        crowd.record_all()
        for send in tuple(crowd.sent):
            crowd.answer(send)
        crowd.tick()
    assert crowd.active() == [BROKEN]
    assert 6 <= crowd.refused <= 12
    (shown,) = crowd.dispatcher.faults
    assert "\n" not in shown.text
    assert len(faults(crowd)) == 1


def test_an_order_that_cannot_be_put_on_the_stream_ends_its_operation_after_its_attempts() -> None:
    crowd = stopping(Crowd(2))
    crowd.attach()
    for _ in range(2000):
        crowd.record_all()
        for send in tuple(crowd.sent):
            if send.order.vm_id == BROKEN and send.order.kind is OrderKind.EFFECT:
                crowd.sent.remove(send)
                crowd.take(crowd.dispatcher.unsendable(send.dispatch_id, ValueError("no such field"), crowd.moment))
            else:
                crowd.answer(send)
        crowd.tick()
    assert not crowd.active()
    vm = crowd.worlds[BROKEN].vm
    ended = vm.operations[vm.last_number]
    assert ended.state is OperationState.FAILED
    assert ended.step(1).attempts == Policy().max_attempts
    assert crowd.dispatcher.reach.answers(ended.host_id), "it is no fault of the host"


def test_a_question_that_cannot_be_put_on_the_stream_is_answered() -> None:
    crowd = Crowd(1)
    crowd.attach()
    crowd.question("k")
    crowd.take(crowd.dispatcher.unsendable(crowd.sent.pop().dispatch_id, ValueError("no such field"), crowd.moment))
    (reply,) = crowd.replies
    assert reply.answer is not None
    assert reply.answer.error_id == "CONNECTION_LOST"
    assert crowd.dispatcher.unsendable("x-1", ValueError(), crowd.moment) == []


def test_an_answer_that_cannot_be_settled_ends_no_other_order() -> None:
    crowd = stopping(Crowd(3))
    crowd.attach()
    crowd.record_all()
    crowd.dispatcher._watches._known[BROKEN] = None  # type: ignore[assignment]  # as after a defect of ours
    sends = tuple(crowd.sent)
    for send in sends:
        crowd.answer(send)
    assert [f.vm_id for f in faults(crowd)] == [BROKEN]
    assert BROKEN in crowd.active()
    crowd.dispatcher._watches._known.pop(BROKEN, None)
    crowd.now += timedelta(seconds=60)
    for _ in range(200):
        crowd.record_all()
        for send in tuple(crowd.sent):
            crowd.answer(send)
        crowd.tick()
    assert not crowd.active()


def test_a_record_that_was_interrupted_is_due_again_and_its_slot_is_free() -> None:
    crowd = stopping(Crowd(1, slots=1))
    crowd.attach()
    (record,) = crowd.records
    crowd.records.clear()
    crowd.dispatcher.interrupted(record.vm_id)
    crowd.tick()
    assert crowd.records == [record]
    assert not list(crowd.dispatcher.faults)
