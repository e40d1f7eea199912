"""All kinds of operations, all actions of steps, and who may go beside whom.

A new operation is added by being listed here.
"""

from __future__ import annotations

from enum import Enum

from snapshotd.domain.commands import (
    CreateSnapshot,
    DeleteSnapshot,
    OperationRequest,
    RevertToSnapshot,
    StartVm,
    StopVm,
)
from snapshotd.domain.operation import Operation, OperationKind, StepAction
from snapshotd.operations.kind import Kind, StepBehaviour
from snapshotd.operations.power import ChangePower
from snapshotd.operations.snapshot_create import CreateSnapshotKind, MakeCheckpoint, MarkCheckpoint
from snapshotd.operations.snapshot_delete import AwaitMerge, DeleteSnapshotKind, RemoveCheckpoint
from snapshotd.operations.snapshot_revert import RestoreCheckpoint, RevertToSnapshotKind
from snapshotd.operations.vm_start import StartVmKind
from snapshotd.operations.vm_stop import StopVmKind

_ALL_KINDS: tuple[Kind, ...] = (
    StartVmKind(),
    StopVmKind(),
    CreateSnapshotKind(),
    RevertToSnapshotKind(),
    DeleteSnapshotKind(),
)
KINDS: dict[OperationKind, Kind] = {kind.kind: kind for kind in _ALL_KINDS}
"""By operation kind."""

_ALL_ACTIONS: tuple[StepBehaviour, ...] = (
    ChangePower(StepAction.START),
    ChangePower(StepAction.STOP),
    MakeCheckpoint(),
    MarkCheckpoint(),
    RestoreCheckpoint(),
    RemoveCheckpoint(),
    AwaitMerge(),
)
ACTIONS: dict[StepAction, StepBehaviour] = {action.action: action for action in _ALL_ACTIONS}
"""By step action."""

_REQUESTS: dict[type[OperationRequest], OperationKind] = {
    StartVm: OperationKind.START_VM,
    StopVm: OperationKind.STOP_VM,
    CreateSnapshot: OperationKind.CREATE_SNAPSHOT,
    RevertToSnapshot: OperationKind.REVERT_TO_SNAPSHOT,
    DeleteSnapshot: OperationKind.DELETE_SNAPSHOT,
}


def kind_of(request: OperationRequest) -> Kind:
    """Return the kind that serves a request."""
    return KINDS[_REQUESTS[type(request)]]


class Beside(Enum):
    """What becomes of a new request while an operation is active on the VM."""

    JOIN = "JOIN"
    """It is answered with the active operation."""
    PASS = "PASS"  # noqa: S105  (no password)
    """It goes on beside the active operation."""
    REFUSE = "REFUSE"


_K = OperationKind
_JOINS = frozenset({_K.START_VM, _K.STOP_VM, _K.REVERT_TO_SNAPSHOT, _K.DELETE_SNAPSHOT})
"""Kinds of which a second request for the same thing joins the first. Each create is a snapshot of its own."""
_PASSES_A_MERGE = frozenset({_K.START_VM, _K.STOP_VM})
"""Kinds that may go on while an operation merely waits for a merge."""


def beside(active: Operation, request: OperationRequest) -> Beside:
    """Return what becomes of a request while an operation is active."""
    kind = kind_of(request).kind
    snapshot_id = request.snapshot_id if isinstance(request, RevertToSnapshot | DeleteSnapshot) else None
    mode = request.mode if isinstance(request, StopVm) else None
    refuse = isinstance(request, RevertToSnapshot) and request.refuse_power_change
    asked = (kind, snapshot_id, mode, refuse)
    same = asked == (active.kind, active.snapshot_id, active.stop_mode, active.refuse_power_change)
    if same and kind in _JOINS and not active.cancel_requested and not active.undoing:
        return Beside.JOIN
    if active.only_waits and kind in _PASSES_A_MERGE:
        return Beside.PASS
    return Beside.REFUSE
