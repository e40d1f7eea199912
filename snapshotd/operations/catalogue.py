"""All kinds of operations, by name, and what becomes of a request while an operation is active.

To add a kind, list it here.
"""

from __future__ import annotations

from enum import Enum

from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.ids import KindName
from snapshotd.domain.operation import Operation
from snapshotd.operations.checkpoint_adopt import ADOPT_CHECKPOINT
from snapshotd.operations.kind import Kind
from snapshotd.operations.offering_change import CHANGE_SERVICE_OFFERING
from snapshotd.operations.snapshot_create import CREATE_SNAPSHOT
from snapshotd.operations.snapshot_delete import DELETE_SNAPSHOT
from snapshotd.operations.snapshot_delete_all import DELETE_ALL_SNAPSHOTS
from snapshotd.operations.snapshot_forget import FORGET_SNAPSHOT
from snapshotd.operations.snapshot_revert import REVERT_TO_SNAPSHOT
from snapshotd.operations.snapshot_update import UPDATE_SNAPSHOT
from snapshotd.operations.vm_destroy import DESTROY_VIRTUAL_MACHINE
from snapshotd.operations.vm_export import EXPORT_VIRTUAL_MACHINE
from snapshotd.operations.vm_restart import RESTART_VIRTUAL_MACHINE
from snapshotd.operations.vm_start import START_VIRTUAL_MACHINE
from snapshotd.operations.vm_stop import STOP_VIRTUAL_MACHINE
from snapshotd.operations.volume_attach import ATTACH_VOLUME
from snapshotd.operations.volume_detach import DETACH_VOLUME
from snapshotd.operations.volume_resize import RESIZE_VOLUME
from snapshotd.operations.volume_snapshot_delete import DELETE_VOLUME_SNAPSHOT
from snapshotd.operations.volume_snapshot_take import TAKE_VOLUME_SNAPSHOT

_ALL: tuple[Kind, ...] = (
    START_VIRTUAL_MACHINE,
    STOP_VIRTUAL_MACHINE,
    RESTART_VIRTUAL_MACHINE,
    CREATE_SNAPSHOT,
    REVERT_TO_SNAPSHOT,
    DELETE_SNAPSHOT,
    DELETE_ALL_SNAPSHOTS,
    UPDATE_SNAPSHOT,
    FORGET_SNAPSHOT,
    ADOPT_CHECKPOINT,
    ATTACH_VOLUME,
    DETACH_VOLUME,
    RESIZE_VOLUME,
    CHANGE_SERVICE_OFFERING,
    TAKE_VOLUME_SNAPSHOT,
    DELETE_VOLUME_SNAPSHOT,
    DESTROY_VIRTUAL_MACHINE,
    EXPORT_VIRTUAL_MACHINE,
)
KINDS: dict[KindName, Kind] = {kind.name: kind for kind in _ALL}
"""By name."""


class Concurrency(Enum):
    """What becomes of a new request while an operation is active on the VM."""

    JOIN = "JOIN"
    """It is answered with the active operation."""
    PASS = "PASS"  # noqa: S105  (no password)
    """It goes on beside the active operation."""
    PREEMPT = "PREEMPT"
    """The active operation is cancelled, if it is not already; the new one begins when that has ended."""
    REFUSE = "REFUSE"


def concurrency(active: Operation, request: RequestOperation) -> Concurrency:
    """Return what becomes of a request while an operation is active."""
    kind = KINDS[request.kind]
    if not active.cancel_requested and not active.undoing and kind.does(request, active):
        return Concurrency.JOIN
    if (active.only_waits and kind.passes) or kind.goes_beside(request, active):
        return Concurrency.PASS
    ending = active.cancel_requested or active.undoing or not active.too_late_to_cancel()
    waits = ending or kind.outwaits(request, active)
    return Concurrency.PREEMPT if waits and kind.goes_past(request, active) else Concurrency.REFUSE
