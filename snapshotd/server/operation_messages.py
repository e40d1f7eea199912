"""Builds the API's messages of operations, steps and plans from the domain's values."""

from __future__ import annotations

from datetime import datetime
from typing import Final, overload

from google.longrunning.operations_pb2 import Operation as OperationMessage

from snapshotd.api.v1 import operation_pb2 as pb
from snapshotd.dispatch.watch import Wait
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.events import OperationRequested
from snapshotd.domain.ids import HostId, KindName, SnapshotId, VmId, VolumeSnapshotId
from snapshotd.domain.lifecycle import OperationState, StepState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.catalogue import KINDS, Concurrency, concurrency
from snapshotd.operations.plan_etag import plan_etag
from snapshotd.server.status import failure_status
from snapshotd.server.wire_values import timestamp, wire_power
from snapshotd.steps.catalogue import ACTIONS

# By name. A descriptor is slow to ask, and a message has dozens of them.
_KINDS: Final = dict(pb.OperationMetadata.Kind.items())
_STATES: Final = dict(pb.OperationMetadata.State.items())
_STEP_STATES: Final = dict(pb.Step.State.items())
_STEP_CLASSES: Final = dict(pb.Step.Class.items())
_LONGEST: Final = 4000
"""The most characters of a failure's text in a message; the event log has all of it."""


def vm_name(vm_id: VmId) -> str:
    """Return a VM's resource name."""
    return f"virtualMachines/{vm_id}"


def snapshot_name(vm_id: VmId, snapshot_id: SnapshotId | None) -> str:
    """Return a snapshot's resource name; empty for none."""
    return f"virtualMachines/{vm_id}/snapshots/{snapshot_id}" if snapshot_id else ""


def volume_snapshot_name(vm_id: VmId, volume_snapshot_id: VolumeSnapshotId | None) -> str:
    """Return a volume snapshot's resource name; empty for none."""
    return f"virtualMachines/{vm_id}/volumeSnapshots/{volume_snapshot_id}" if volume_snapshot_id else ""


def host_name(host_id: HostId) -> str:
    """Return a host's resource name."""
    return f"hosts/{host_id}"


def kind_message(kind: KindName) -> pb.OperationMetadata.Kind.ValueType:
    """Return an operation's kind; unspecified if the API has no name for it."""
    return _KINDS.get(kind, pb.OperationMetadata.KIND_UNSPECIFIED)


@overload
def wait_message(wait: Wait) -> pb.Wait: ...
@overload
def wait_message(wait: Wait | None) -> pb.Wait | None: ...
def wait_message(wait: Wait | None) -> pb.Wait | None:
    """Return why an operation or a host waits."""
    if wait is None:
        return None
    return pb.Wait(reason=wait.failure.reason, message=_cut(wait.failure.text), since=timestamp(wait.since))


@overload
def failure_message(failure: Failure, time: datetime | None) -> pb.Failure: ...
@overload
def failure_message(failure: Failure | None, time: datetime | None) -> pb.Failure | None: ...
def failure_message(failure: Failure | None, time: datetime | None) -> pb.Failure | None:
    """Return why something failed, with the host's error id in the message."""
    if failure is None:
        return None
    return pb.Failure(reason=failure.reason, message=_cut(failure.text), time=timestamp(time))


def _cut(text: str) -> str:
    """Return a text of a host, cut to what people read."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def planned_step(plan: PlannedStep, vm_id: VmId, host_id: HostId, may_lose: str = "") -> pb.Step:
    """Return a step as planned."""
    action = ACTIONS[plan.action]
    return pb.Step(
        number=plan.number,
        name=action.label,
        step_class=pb.Step.WAIT if plan.polls else _STEP_CLASSES[plan.nature.name],
        description=action.description(plan),
        host=host_name(host_id),
        may_lose=may_lose,
        snapshot=snapshot_name(vm_id, plan.snapshot_id),
        undo=plan.undoes is not None,
    )


def plan_message(
    vm: VirtualMachine,
    request: RequestOperation,
    requested: OperationRequested | None,
    warned: tuple[str, ...] = (),
) -> pb.Plan:
    """Return what a request would lead to.

    Args:
        vm: as it is.
        request: an acceptable one.
        requested: the operation as it would be recorded; None: an active one does just this.
        warned: what its kind warns of.
    """
    kind = KINDS[request.kind]
    seen = kind.preview(vm, request)

    def named(snapshot_id: SnapshotId | None) -> str:
        # One that the operation would make has no id yet.
        made = snapshot_id is not None and snapshot_id not in vm.snapshots
        return snapshot_name(vm.vm_id, SnapshotId("-") if made else snapshot_id)

    plan = pb.Plan(
        kind=kind_message(kind.name),
        virtual_machine=vm_name(vm.vm_id),
        snapshot=named(kind.subject(request)),
        children_moved=[
            pb.Plan.Move(
                snapshot=named(child), old_parent=named(vm.snapshots[child].parent_id), new_parent=named(parent)
            )
            for child, parent in seen.moved
        ],
        new_current=named(seen.current),
        old_current=named(vm.current_id),
        power_before=wire_power(vm.power),
        power_after=wire_power(seen.power),
        snapshots_discarded=[named(s) for s in seen.discarded],
        guest_memory_lost=seen.memory_lost,
        warnings=(*seen.warnings, *warned),
        etag=plan_etag(vm, request, requested.steps) if requested else "",
    )
    for step in requested.steps if requested else ():
        message = planned_step(
            step, vm.vm_id, requested.host_id if requested else vm.host_id, ACTIONS[step.action].may_lose(vm, step)
        )
        message.snapshot = named(step.snapshot_id)
        plan.steps.append(message)
    for active in vm.active_operations:
        if concurrency(active, request) is Concurrency.PREEMPT:
            plan.warnings.append(f"{active.name} would be cancelled for it.")
    if requested is None:
        plan.warnings.append("An operation that does just this is active. The call would return that one.")
    return plan


def operation_message(
    operation: Operation, wait: Wait | None, job_percent: int = 0, overdue_since: datetime | None = None
) -> OperationMessage:
    """Return an operation without its response.

    Args:
        operation: what is on record.
        wait: why it waits just now.
        job_percent: what its host reports of the job under way.
        overdue_since: since when it takes longer than its kind should; None: it does not.
    """
    message = OperationMessage(name=operation.name, done=not operation.active)
    metadata = metadata_message(operation, wait, job_percent)
    if overdue_since is not None:
        metadata.overdue_since.FromDatetime(overdue_since)
    message.metadata.Pack(metadata)
    if operation.state is OperationState.FAILED:
        message.error.CopyFrom(failure_status(operation.failure or Failure(reason="INTERNAL", message="It failed.")))
    elif operation.state is OperationState.CANCELLED:
        text = f"The operation was cancelled. {_outcome(operation)}".rstrip()
        message.error.CopyFrom(failure_status(Failure(reason="CANCELLED", message=text)))
    return message


def metadata_message(operation: Operation, wait: Wait | None, job_percent: int) -> pb.OperationMetadata:
    """Return an operation's metadata, while it runs and afterwards."""
    current = _current(operation)
    return pb.OperationMetadata(
        kind=kind_message(operation.kind),
        state=_STATES[operation.state.name],
        virtual_machine=vm_name(operation.vm_id),
        snapshot=snapshot_name(operation.vm_id, operation.snapshot_id),
        host=host_name(operation.host_id),
        actor=operation.actor,
        request_id=operation.request_id,
        current_step=ACTIONS[current.plan.action].label if current else "",
        current_step_number=current.plan.number if current else 0,
        step_count=len(operation.steps),
        percent=_percent(operation, job_percent),
        steps=[_step(s, operation) for s in operation.steps],
        create_time=timestamp(operation.requested_at),
        start_time=timestamp(operation.started_at),
        update_time=timestamp(operation.updated_at),
        end_time=timestamp(operation.ended_at),
        wait=wait_message(wait_of(operation, wait)),
        cancel_requested=operation.cancel_requested,
        outcome_detail=_outcome(operation),
        snapshots_removed=[snapshot_name(operation.vm_id, s) for s in KINDS[operation.kind].removed(operation)],
        safety_snapshot=snapshot_name(operation.vm_id, KINDS[operation.kind].safety_snapshot(operation)),
        volume_snapshot=volume_snapshot_name(operation.vm_id, KINDS[operation.kind].volume_snapshot(operation)),
        follows=operation.follows or "",
    )


def _percent(operation: Operation, job_percent: int) -> int:
    """Return the percentage of the plan's steps that have ended. Undo steps come on top, and do not count.

    Once an operation has failed or was cancelled: of the steps that took effect and were not undone.
    """
    if operation.state is OperationState.SUCCEEDED:
        return 100
    planned = [s for s in operation.steps if s.plan.undoes is None]
    if not operation.active:
        done = 0 if _undone(operation) else sum(s.state is StepState.DONE for s in planned)
        return min(99, 100 * done // max(1, len(planned)))
    ended = sum(100 for s in planned if s.state.at_rest)
    ended += sum(job_percent for s in planned if s.state is StepState.WAITING)
    return min(99, ended // max(1, len(planned)))


def _current(operation: Operation) -> Step | None:
    return next((s for s in operation.steps if not s.state.at_rest), None) if operation.active else None


def wait_of(operation: Operation, wait: Wait | None) -> Wait | None:
    """Return why an active operation waits: its host cannot be asked (`wait`), is at work, or is given time."""
    current = _current(operation)
    if not operation.active or wait is not None or current is None:
        return wait if operation.active else None
    since = current.started_at or operation.updated_at
    if current.state is StepState.WAITING:
        return Wait(ACTIONS[current.plan.action].waits_for, since)
    if current.state is StepState.OUTCOME_UNKNOWN:
        text = "Checking whether the step took effect."
        return Wait(Failure(reason="OUTCOME_UNKNOWN", message=text), since)
    if current.state is StepState.DUE and current.observing:
        text = "Looking at the VM before the next step: its power, or its journal on the host, is not known yet."
        return Wait(Failure(reason="LOOKING", message=text), current.looked_since or since)
    if current.state is StepState.DUE and current.failure is not None:
        return Wait(Failure(reason="BACKING_OFF", message=f"Will be retried soon: {current.failure.message}"), since)
    return None


def _undoing(operation: Operation) -> list[Step]:
    return [s for s in operation.steps if s.plan.undoes is not None]


def _undone(operation: Operation) -> bool:
    """Return whether an operation's changes were rolled back."""
    undoing = _undoing(operation)
    return bool(undoing) and all(s.state in (StepState.DONE, StepState.SKIPPED) for s in undoing)


def _outcome(operation: Operation) -> str:
    """Return who settled it, what became of changes that were to be undone, and what its kind adds, for people."""
    said = [settlement.text for settlement in operation.settled]
    if not operation.active:
        said += [_rolled_back(operation), KINDS[operation.kind].remark(operation)]
    return " ".join(filter(None, said))


def _rolled_back(operation: Operation) -> str:
    done = [s.plan for s in operation.steps if s.plan.nature is StepNature.UNDOABLE and s.state is StepState.DONE]
    if operation.undoing and (kept := KINDS[operation.kind].kept(operation)):
        return kept
    deleted = len(KINDS[operation.kind].removed(operation)) if operation.undoing else 0
    gone = f"{deleted} snapshot{'s' * (deleted > 1)} had been deleted by then, and cannot be brought back."
    said = [gone] if deleted else []
    if operation.undoing and (done or _undoing(operation)):
        said += _back(operation, others=deleted > 0)
    return " ".join(said)


def _back(operation: Operation, *, others: bool) -> list[str]:
    """Return whether the changes that can be rolled back were. `others`: there are some that cannot."""
    if not _undone(operation):
        lost = ["What the guest held in memory is lost."] if operation.memory_lost else []
        return ["Not all changes were rolled back; see the steps.", *lost]
    if operation.memory_lost:
        restarted = "The VM was restarted; what its guest held in memory is lost."
        return [restarted, "All other changes were rolled back."]
    return [f"All {'other ' * others}changes were rolled back."]


def _step(step: Step, operation: Operation) -> pb.Step:
    message = planned_step(step.plan, operation.vm_id, operation.host_id)
    message.state = _STEP_STATES[step.state.name]
    message.attempts = step.attempts
    ended_at = step.changed_at if step.state.at_rest else None
    if (started := timestamp(step.started_at)) is not None:
        message.start_time.CopyFrom(started)
    if (ended := timestamp(ended_at)) is not None:
        message.end_time.CopyFrom(ended)
    if (failure := failure_message(step.failure, ended_at or step.started_at)) is not None:
        message.failure.CopyFrom(failure)
    return message
