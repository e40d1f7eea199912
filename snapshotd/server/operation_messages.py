"""Operations, steps and plans as the API tells them. Reads rows, writes messages."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from google.longrunning.operations_pb2 import Operation as OperationMessage

from snapshotd.api.v1 import operation_pb2 as pb
from snapshotd.dispatch.courses import Wait
from snapshotd.domain.ids import HostId, SnapshotId, VmId
from snapshotd.domain.lifecycle import OperationState, StepState
from snapshotd.domain.operation import (
    Failure,
    Operation,
    OperationKind,
    PlannedStep,
    StepAction,
    StepNature,
    StopMode,
)
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.views import OperationRow, StepRow
from snapshotd.server.status import failure_status
from snapshotd.server.wire_values import timestamp

_KINDS: Final = {
    OperationKind.START_VM: pb.OperationMetadata.START_VIRTUAL_MACHINE,
    OperationKind.STOP_VM: pb.OperationMetadata.STOP_VIRTUAL_MACHINE,
    OperationKind.CREATE_SNAPSHOT: pb.OperationMetadata.CREATE_SNAPSHOT,
    OperationKind.REVERT_TO_SNAPSHOT: pb.OperationMetadata.REVERT_TO_SNAPSHOT,
    OperationKind.DELETE_SNAPSHOT: pb.OperationMetadata.DELETE_SNAPSHOT,
}
_NAMES: Final = {
    StepAction.START: "start",
    StepAction.STOP: "stop",
    StepAction.CREATE: "checkpoint",
    StepAction.RENAME: "rename",
    StepAction.RESTORE: "restore",
    StepAction.REMOVE: "remove",
    StepAction.MERGE: "merge",
}
_DESCRIPTIONS: Final = {
    StepAction.START: "Start the VM, or resume it.",
    StepAction.STOP: "Stop the VM.",
    StepAction.CREATE: "Take a checkpoint of the VM.",
    StepAction.RENAME: "Mark the checkpoint as ours, if it was found under the host's own name.",
    StepAction.RESTORE: "Apply the snapshot's checkpoint to the VM.",
    StepAction.REMOVE: "Remove the snapshot's checkpoint; its children stay.",
    StepAction.MERGE: "Wait until the host has merged the disks.",
}
_IF_NEEDED: Final = {
    StepAction.START: "Start the VM, if it is not running by then.",
    StepAction.STOP: "Turn the VM off, if it is on by then.",
}
"""Of the last step of a revert, which mostly finds the power right."""
_MODES: Final = {
    StopMode.SHUTDOWN: "Ask the guest to shut down.",
    StopMode.TURN_OFF: "Turn the VM off, as by pulling the plug.",
    StopMode.SAVE: "Save the VM's memory and stop it.",
    StopMode.PAUSE: "Pause the VM.",
}


def vm_name(vm_id: VmId) -> str:
    """Return a VM's resource name."""
    return f"virtualMachines/{vm_id}"


def snapshot_name(vm_id: VmId, snapshot_id: SnapshotId | None) -> str:
    """Return a snapshot's resource name; empty for none."""
    return f"virtualMachines/{vm_id}/snapshots/{snapshot_id}" if snapshot_id else ""


def host_name(host_id: HostId) -> str:
    """Return a host's resource name."""
    return f"hosts/{host_id}"


def kind_message(kind: OperationKind) -> pb.OperationMetadata.Kind.ValueType:
    """Return an operation's kind."""
    return _KINDS[kind]


def wait_message(wait: Wait | None) -> pb.Wait | None:
    """Return why something does not go on."""
    if wait is None:
        return None
    return pb.Wait(reason=wait.failure.reason, message=wait.failure.message, since=timestamp(wait.since))


def failure_message(failure: Failure | None, time: datetime | None) -> pb.Failure | None:
    """Return why something failed; the host's error id stays in it."""
    if failure is None:
        return None
    text = f"{failure.message} ({failure.error_id})" if failure.error_id else failure.message
    return pb.Failure(reason=failure.reason, message=text, time=timestamp(time))


def planned_step(plan: PlannedStep, vm_id: VmId, host_id: HostId, may_lose: str = "") -> pb.Step:
    """Return a step as planned."""
    return pb.Step(
        number=plan.number,
        name=_NAMES[plan.action],
        step_class=pb.Step.Class.Value(plan.nature.name),
        description=_description(plan),
        host=host_name(host_id),
        may_lose=may_lose,
        snapshot=snapshot_name(vm_id, plan.snapshot_id),
        undo=plan.undoes is not None,
    )


def _description(plan: PlannedStep) -> str:
    if plan.undoes is None and plan.nature is StepNature.FORWARD_ONLY and plan.action in _IF_NEEDED:
        return _IF_NEEDED[plan.action]
    return _MODES[plan.stop_mode] if plan.stop_mode else _DESCRIPTIONS[plan.action]


def operation_message(row: OperationRow, wait: Wait | None, job_percent: int = 0) -> OperationMessage:
    """Return an operation without its response.

    Args:
        row: what is on record.
        wait: why it does not go on just now.
        job_percent: what its host reports of the job under way.
    """
    message = OperationMessage(name=row.name, done=not row.active)
    message.metadata.Pack(metadata_message(row, wait, job_percent))
    if row.state is OperationState.FAILED:
        message.error.CopyFrom(failure_status(row.failure or Failure(reason="INTERNAL", message="It failed.")))
    elif row.state is OperationState.CANCELLED:
        cancelled = Failure(reason="CANCELLED", message="The operation was cancelled; what it had done is undone.")
        message.error.CopyFrom(failure_status(cancelled))
    return message


def metadata_message(row: OperationRow, wait: Wait | None, job_percent: int) -> pb.OperationMetadata:
    """Return what is told of an operation while it runs and afterwards."""
    current = next((s for s in row.steps if not s.state.at_rest), None) if row.active else None
    return pb.OperationMetadata(
        kind=_KINDS[row.kind],
        state=pb.OperationMetadata.State.Value(row.state.name),
        virtual_machine=vm_name(row.vm_id),
        snapshot=snapshot_name(row.vm_id, row.snapshot_id),
        host=host_name(row.host_id),
        actor=row.actor,
        request_id=row.request_id,
        current_step=_NAMES[current.plan.action] if current else "",
        current_step_number=current.plan.number if current else 0,
        step_count=len(row.steps),
        percent=_percent(row, job_percent),
        steps=[_step(s, row) for s in row.steps],
        create_time=timestamp(row.requested_at),
        start_time=timestamp(row.started_at),
        update_time=timestamp(row.updated_at),
        end_time=timestamp(row.ended_at),
        wait=wait_message(_wait(row, current, wait)),
        cancel_requested=row.cancel_requested,
        outcome_detail=_outcome(row),
    )


def _percent(row: OperationRow, job_percent: int) -> int:
    """Count the steps of the plan that have ended; undo steps, which come on top, do not turn the hand back.

    Of an operation that has ended otherwise than asked for: the steps that took effect, and were not undone.
    """
    if row.state is OperationState.SUCCEEDED:
        return 100
    planned = [s for s in row.steps if s.plan.undoes is None]
    if not row.active:
        done = 0 if _undone(row) else sum(s.state is StepState.DONE for s in planned)
        return min(99, 100 * done // max(1, len(planned)))
    ended = sum(100 for s in planned if s.state.at_rest)
    ended += sum(job_percent for s in planned if s.state is StepState.WAITING)
    return min(99, ended // max(1, len(planned)))


def _wait(row: OperationRow, current: StepRow | None, wait: Wait | None) -> Wait | None:
    """Return why an active operation does not go on: its host cannot be asked, or works, or is given time."""
    if not row.active or wait is not None or current is None:
        return wait if row.active else None
    since = current.started_at or row.updated_at
    if current.state is StepState.WAITING:
        return Wait(Failure(reason="MERGE_IN_PROGRESS", message="The host is merging disks."), since)
    if current.state is StepState.OUTCOME_UNKNOWN:
        text = "Whether the step took effect is being found out."
        return Wait(Failure(reason="OUTCOME_UNKNOWN", message=text), since)
    if current.state is StepState.DUE and current.failure is not None:
        return Wait(Failure(reason="BACKING_OFF", message=f"Tried again soon: {current.failure.message}"), since)
    return None


def _undoing(row: OperationRow) -> list[StepRow]:
    return [s for s in row.steps if s.plan.undoes is not None]


def _undone(row: OperationRow) -> bool:
    """Return whether what an operation had done was taken back."""
    undoing = _undoing(row)
    return bool(undoing) and all(s.state in (StepState.DONE, StepState.SKIPPED) for s in undoing)


def _outcome(row: OperationRow) -> str:
    if row.active or not _undoing(row):
        return ""
    if _undone(row):
        return "What it had done is undone."
    return "What it had done could not be undone in full; see the steps."


def _step(step: StepRow, row: OperationRow) -> pb.Step:
    message = planned_step(step.plan, row.vm_id, row.host_id)
    message.state = pb.Step.State.Value(step.state.name)
    message.attempts = step.attempts
    if step.started_at:
        message.start_time.FromDatetime(step.started_at)
    if step.ended_at:
        message.end_time.FromDatetime(step.ended_at)
    if (failure := failure_message(step.failure, step.ended_at or step.started_at)) is not None:
        message.failure.CopyFrom(failure)
    return message


def row_of(vm: VirtualMachine, operation: Operation) -> OperationRow:
    """Return an operation that has just been decided as the view will have it."""
    return OperationRow(
        name=operation.name,
        vm_id=vm.vm_id,
        host_id=vm.host_id,
        number=operation.number,
        kind=operation.kind,
        state=operation.state,
        snapshot_id=operation.snapshot_id,
        stop_mode=operation.stop_mode,
        steps=tuple(
            StepRow(
                plan=s.plan,
                state=s.state,
                attempts=s.attempts,
                started_at=s.first_issued_at,
                ended_at=s.changed_at if s.state.at_rest else None,
                failure=s.failure,
            )
            for s in operation.steps
        ),
        actor=operation.actor,
        request_id=operation.request_id,
        cancel_requested=operation.cancel_requested,
        undoing=operation.undoing,
        failure=operation.failure,
        requested_at=operation.requested_at,
        started_at=operation.started_at,
        updated_at=operation.ended_at or operation.started_at or operation.requested_at,
        ended_at=operation.ended_at,
    )
