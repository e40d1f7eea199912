"""All kinds of operations, by name, and who may go beside whom. A new kind is added by being listed here."""

from __future__ import annotations

from enum import Enum

from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.ids import KindName
from snapshotd.domain.operation import Operation
from snapshotd.operations.kind import Kind
from snapshotd.operations.snapshot_create import SNAPSHOT_CREATE
from snapshotd.operations.snapshot_delete import SNAPSHOT_DELETE
from snapshotd.operations.snapshot_revert import SNAPSHOT_REVERT
from snapshotd.operations.vm_start import VM_START
from snapshotd.operations.vm_stop import VM_STOP

_ALL: tuple[Kind, ...] = (VM_START, VM_STOP, SNAPSHOT_CREATE, SNAPSHOT_REVERT, SNAPSHOT_DELETE)
KINDS: dict[KindName, Kind] = {kind.name: kind for kind in _ALL}
"""By name."""


class Beside(Enum):
    """What becomes of a new request while an operation is active on the VM."""

    JOIN = "JOIN"
    """It is answered with the active operation."""
    PASS = "PASS"  # noqa: S105  (no password)
    """It goes on beside the active operation."""
    REFUSE = "REFUSE"


def beside(active: Operation, request: RequestOperation) -> Beside:
    """Return what becomes of a request while an operation is active."""
    kind = KINDS[request.kind]
    wanted = kind.joins and not active.cancel_requested and not active.undoing
    if wanted and request.kind == active.kind and kind.params.read(request.params) == kind.params.read(active.params):
        return Beside.JOIN
    return Beside.PASS if active.only_waits and kind.passes else Beside.REFUSE
