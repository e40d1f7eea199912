"""The operations, active and ended, with their steps."""

from __future__ import annotations

from typing import Final, get_args

from projections.projection import Projection, vm_of
from projections.rows import Rows, Table
from snapshotd.domain import events as e
from snapshotd.domain.events import Envelope
from snapshotd.domain.lifecycle import OperationState
from snapshotd.domain.operation import Operation
from snapshotd.domain.operation_fold import evolve_operation, new_operation
from snapshotd.ports.plain import encode_time
from snapshotd.ports.views import OPERATION_FIELDS

_FIXED: Final = ("name", "requested_at", "kind", "actor", "snapshot_id")
OPERATIONS: Final = Table(
    "operations",
    Operation,
    key={"vm_id": lambda o: o.vm_id, "number": lambda o: o.number},
    fixed={name: OPERATION_FIELDS[name] for name in _FIXED},
    columns={
        "state": OPERATION_FIELDS["state"],
        "done": OPERATION_FIELDS["done"],
        "failed_at": lambda o: encode_time(o.ended_at) if o.ended_at and o.state is OperationState.FAILED else None,
    },
    indexes=(
        "CREATE INDEX operations_newest ON operations (requested_at, name)",
        *(
            f"CREATE INDEX operations_of_{column} ON operations ({column}, requested_at, name)"
            for column in ("vm_id", "kind", "actor", "snapshot_id", "state", "done")
        ),
        "CREATE INDEX operations_failed ON operations (failed_at DESC, name DESC) WHERE failed_at IS NOT NULL",
    ),
)


def _handle(rows: Rows, envelope: Envelope) -> None:
    event, vm_id = envelope.event, vm_of(envelope)
    if isinstance(event, e.OperationRequested):
        rows.put(OPERATIONS, new_operation(vm_id, event, envelope), vm_id, event.number)
    else:
        assert isinstance(event, e.OperationProgress | e.StepEvent), event
        known = rows.get(OPERATIONS, vm_id, event.number)
        assert known is not None, envelope
        rows.put(OPERATIONS, evolve_operation(known, event, envelope), vm_id, event.number)


OPERATIONS_PROJECTION: Final = Projection(
    "operations",
    _handle,
    (OPERATIONS,),
    frozenset(get_args(e.OperationRequested | e.OperationProgress | e.StepEvent)),
)
