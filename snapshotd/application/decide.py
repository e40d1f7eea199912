"""`decide(vm, command, context) -> events`: pure, and may refuse.

The checks of a request come in this order: request id seen before, existence, concurrency, state, limits. (Authority
is the server's, before this.)
"""

from __future__ import annotations

from typing import assert_never

from snapshotd.application.claims import compare_hosts
from snapshotd.application.draft import Context, Draft
from snapshotd.application.facts import details_changed, lay_down
from snapshotd.application.outcomes import make_way, take
from snapshotd.application.progress import advance, advance_one
from snapshotd.application.reconcile import describe, reconcile
from snapshotd.application.rolled_back import disprove, notice
from snapshotd.application.settle import settle
from snapshotd.application.take_over import inherit, take_over
from snapshotd.domain import commands as c
from snapshotd.domain import events as e
from snapshotd.domain.answered_requests import answered_before
from snapshotd.domain.conditions import claimed
from snapshotd.domain.destroy_errors import refuse_destroyed
from snapshotd.domain.errors import (
    CancelTooLate,
    LogRolledBack,
    MergePending,
    NotFound,
    OperationActive,
    PlanChanged,
    SnapshotdError,
    VmChanging,
    registered_already,
)
from snapshotd.domain.export_errors import VmIsReleased
from snapshotd.domain.ids import OperationName
from snapshotd.domain.lifecycle import OPERATION, VM, OperationState
from snapshotd.domain.operation import Failure, Operation
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.catalogue import KINDS, Concurrency, concurrency
from snapshotd.operations.plan_etag import plan_etag
from snapshotd.steps.action import numbered
from snapshotd.steps.catalogue import ACTIONS


def decide(vm: VirtualMachine, command: c.VmCommand, context: Context) -> Draft:
    """Return what a command leads to: its events, and the VM with them applied. No events: nothing changes.

    Raises a SnapshotdError if the command is refused; then nothing is recorded.
    """
    draft = Draft(vm, context)
    match command:
        case c.RegisterVm():
            _register(draft, command)
        case c.UnregisterVm():
            _unregister(draft)
        case c.UpdateVm() | c.HoldSnapshot() | c.ReleaseSnapshot() | c.IgnoreCheckpoint() | c.IgnoreCheckpointNoMore():
            lay_down(draft, command)
        case c.AwaitTakeOver() | c.TakeOverVm():
            take_over(draft, command)
        case c.RequestOperation():
            _request(draft, command)
        case c.CancelOperation():
            _cancel(draft, command)
        case c.SettleOperation():
            settle(draft, command)
        case c.Proceed():
            advance(draft, issue=True)
        case c.TakeAnswer() | c.LoseOutcome() | c.NotSent() | c.TakePoll() | c.StallWait() | c.GiveUpLook():
            take(draft, command)
        case c.SyncVm():
            _sync(draft, command)
        case c.CompareHosts():
            compare_hosts(draft, command)
        case _:
            assert_never(command)
    _follow_up(draft)
    return draft


def operation_for(draft: Draft, request: c.RequestOperation) -> Operation | None:
    """Return the operation that answers a decided request: the new one, the joined one or the first answer's."""
    for event, _ in draft.events:
        if isinstance(event, e.OperationRequested | e.RequestJoined):
            return draft.vm.operations[event.number]
    seen = draft.vm.requests.find(draft.context.actor, draft.context.request_id)
    if seen is not None and seen.operation is not None:
        return draft.vm.operation(seen.operation)
    return next((o for o in draft.vm.active_operations if concurrency(o, request) is Concurrency.JOIN), None)


def _busy(vm: VirtualMachine, active: Operation, context: Context) -> OperationActive | MergePending:
    age = int((context.now - active.requested_at).total_seconds())
    if active.only_waits and not vm.rolled_back:
        return MergePending(vm.name, active.name, age)
    at = active.open_step or active.next_due
    step = f"{at.plan.number} {ACTIONS[at.plan.action].label} {at.state.name}" if at else "none"
    return OperationActive(vm.name, active.name, active.kind, step, age, active.actor)


def _request(draft: Draft, request: c.RequestOperation) -> None:
    vm, context = draft.vm, draft.context
    if answered_before(vm.requests, context.actor, context.request_id, context.digest) is not None:
        return
    _accept(draft, request)


def _follow_up(draft: Draft) -> None:
    """Request what follows the operations that have succeeded with this decision, or record why it was refused."""
    for number in [x.number for x, _ in draft.events if isinstance(x, e.OperationSucceeded)]:
        ended = draft.vm.operations[number]
        request = KINDS[ended.kind].follows(draft.vm, ended, draft.context.policy)
        if request is None:
            continue
        try:
            _accept(draft, request, follows=ended.name)
        except SnapshotdError as refused:
            refusal = e.FollowUpRefused(number=number, kind=request.kind, failure=Failure.of(refused))
            draft.add([refusal], number)


def _accept(draft: Draft, request: c.RequestOperation, follows: OperationName | None = None) -> None:
    """Record a request, or that an active operation answers it. Raises what refuses it; the draft is void then."""
    vm, context = draft.vm, draft.context
    kind = KINDS[request.kind]
    if not vm.registered and not kind.accepts_gone_vms:
        refuse_destroyed(vm)
        raise NotFound("virtual machine", vm.vm_id, "Register it first (`snapshotctl vm register`).")
    kind.check_existence(vm, request)
    if vm.rolled_back:
        raise LogRolledBack(vm.name, vm.rolled_back)
    if vm.claims:
        raise claimed(vm)
    if vm.released and not kind.accepts_released_vms:
        raise VmIsReleased(vm.name, vm.released.host_id, vm.released.directory)
    becomes = [(concurrency(active, request), active) for active in vm.active_operations]
    for joined in (active for what, active in becomes if what is Concurrency.JOIN):
        if context.request_id and follows is None:
            draft.add([e.RequestJoined(number=joined.number, request_digest=context.digest)], joined.number)
        return
    for active in (active for what, active in becomes if what is Concurrency.REFUSE):
        raise _busy(vm, active, context)
    kind.check(vm, request, context.policy, context.now)
    preempted = [active for what, active in becomes if what is Concurrency.PREEMPT]
    for active in preempted:
        make_way(draft, active)
    wanted, request = request, kind.resolved(vm, request, context.now)
    number = vm.last_number + 1
    draft.add(kind.accepted(vm, request, context.now), number)
    requested = e.OperationRequested(
        number=number,
        name=draft.operation(number),
        from_state=OperationState.NEW,
        to_state=OPERATION.dest("requested", OperationState.NEW),
        kind=request.kind,
        params=request.params,
        host_id=draft.vm.host_id,
        snapshot_id=kind.subject(request),
        steps=numbered(kind.plan(draft.vm, request)),
        request_digest=context.digest if follows is None else "",
        follows=follows,
    )
    if wanted.expected_plan and (etag := plan_etag(vm, wanted, requested.steps)) != wanted.expected_plan:
        raise PlanChanged(vm.name, wanted.expected_plan, etag)
    draft.add([requested], number)
    if not requested.steps:
        advance_one(draft, number)
    if preempted:
        advance(draft)  # one that has not begun ends at once


def _register(draft: Draft, command: c.RegisterVm) -> None:
    vm, context = draft.vm, draft.context
    if answered_before(vm.requests, context.actor, context.request_id, context.digest) is not None:
        return
    refuse_destroyed(vm)
    if not VM.allows("registered", vm.activity):
        raise registered_already(vm.vm_id)
    description = command.report.description
    if description is None:
        raise NotFound(
            "virtual machine",
            vm.vm_id,
            f"Host {command.host_id} does not have it. See `snapshotctl host discover {command.host_id}`.",
        )
    registered = e.VmRegistered(
        from_state=vm.activity,
        to_state=VM.dest("registered", vm.activity),
        host_id=command.host_id,
        name=description.name,
        owner=command.owner,
        request_digest=context.digest,
    )
    draft.add([registered])
    if command.inherits:
        inherit(draft, command.report)
    if command.labels:
        draft.add(details_changed(draft.vm, replace(draft.vm.details, labels=command.labels), context.digest))
    notice(draft, command.report)
    if command.report.power is not vm.power:
        power = e.VmPowerChanged(from_power=vm.power, to_power=command.report.power, cause="registration")
        draft.add([power])
    before = describe(draft, command.report)
    reconcile(draft, before)


def _unregister(draft: Draft) -> None:
    vm, context = draft.vm, draft.context
    if answered_before(vm.requests, context.actor, context.request_id, context.digest) is not None:
        return
    refuse_destroyed(vm)
    if not vm.registered:
        raise NotFound("virtual machine", vm.vm_id)
    for active in vm.active_operations:
        raise _busy(vm, active, context)
    to_state = VM.dest("unregistered", vm.activity)
    draft.add([e.VmUnregistered(from_state=vm.activity, to_state=to_state, request_digest=context.digest)])


def _cancel(draft: Draft, command: c.CancelOperation) -> None:
    operation = draft.vm.operation(command.name)
    if operation is None:
        raise NotFound("operation", command.name, "See `snapshotctl operation list`.")
    if operation.active and operation.cancel_requested:
        return
    too_late = operation.too_late_to_cancel()
    if too_late and not (draft.vm.rolled_back and operation.active):
        raise CancelTooLate(operation.name, operation.state.name, too_late)
    draft.add([e.CancelRequested(number=operation.number)], operation.number)
    advance(draft)


def _sync(draft: Draft, command: c.SyncVm) -> None:
    """Compare a report with the record, if no step was open when it was asked for, and none has been since."""
    vm = draft.vm
    if not vm.registered or command.host_id not in (None, vm.host_id):
        return
    if vm.claims:
        raise claimed(vm)
    notice(draft, command.report)
    if draft.events:
        advance(draft)
        return
    disprove(draft, command.report, command.asked_version)
    if vm.at_work() or vm.last_step_version > command.asked_version:
        raise VmChanging(vm.name)
    before = describe(draft, command.report)
    reconcile(draft, before)
    advance(draft)
