"""Turns errors into gRPC statuses: a code, one ErrorInfo, and fitting details. All errors of the API pass here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Final
from urllib.parse import quote

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure
from google.rpc.status_pb2 import Status

from snapshotd.access import errors as a
from snapshotd.domain import destroy_errors as y
from snapshotd.domain import errors as d
from snapshotd.domain import export_errors as x
from snapshotd.domain import host_errors as h
from snapshotd.domain import offering_errors as o
from snapshotd.domain import settle_errors as t
from snapshotd.domain import snapshot_errors as n
from snapshotd.domain import storage_errors as s
from snapshotd.domain import volume_errors as v
from snapshotd.domain import volume_snapshot_errors as w
from snapshotd.domain.operation import Failure
from snapshotd.server import access_errors as g
from snapshotd.server import request_errors as r

DOMAIN: Final = "snapshotd"
"""The domain of our errors in ErrorInfo."""

_ROOM: Final = 7_000
"""The most bytes of a status. With more than 8 KiB of metadata the caller would see only RESOURCE_EXHAUSTED."""
_LIMITS: Final = (_ROOM, 1_000, 300, 100, 30, 10)
"""The most characters of a value, a tenth of those of the message. The first limit with which a status fits counts."""
_UNQUOTED: Final = bytes(c for c in range(0x20, 0x7F) if c != ord("%"))
"""The characters that grpc-message does not encode."""

_CODES: Final[dict[type[d.SnapshotdError], grpc.StatusCode]] = {
    d.IllegalTransition: grpc.StatusCode.FAILED_PRECONDITION,
    d.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    r.FilterInvalid: grpc.StatusCode.INVALID_ARGUMENT,
    r.OrderByInvalid: grpc.StatusCode.INVALID_ARGUMENT,
    r.MalformedRequest: grpc.StatusCode.INVALID_ARGUMENT,
    r.PositionUnknown: grpc.StatusCode.INVALID_ARGUMENT,
    r.AnswerTooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    d.NotFound: grpc.StatusCode.NOT_FOUND,
    d.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    d.RequestIdReused: grpc.StatusCode.INVALID_ARGUMENT,
    d.OperationActive: grpc.StatusCode.ABORTED,
    d.PlanChanged: grpc.StatusCode.ABORTED,
    d.MergePending: grpc.StatusCode.FAILED_PRECONDITION,
    d.WrongPower: grpc.StatusCode.FAILED_PRECONDITION,
    d.VmAbsent: grpc.StatusCode.FAILED_PRECONDITION,
    d.MemoryNeedsRunningVm: grpc.StatusCode.FAILED_PRECONDITION,
    d.PowerChangeRefused: grpc.StatusCode.FAILED_PRECONDITION,
    w.VolumeSnapshotsNotSet: grpc.StatusCode.FAILED_PRECONDITION,
    w.DiskNotFound: grpc.StatusCode.NOT_FOUND,
    w.DiskNotCopyable: grpc.StatusCode.FAILED_PRECONDITION,
    w.VolumeSnapshotElsewhere: grpc.StatusCode.FAILED_PRECONDITION,
    w.VolumeSnapshotNotUsable: grpc.StatusCode.FAILED_PRECONDITION,
    n.SnapshotNotUsable: grpc.StatusCode.FAILED_PRECONDITION,
    n.CheckpointNotFound: grpc.StatusCode.NOT_FOUND,
    n.CheckpointNotUsable: grpc.StatusCode.FAILED_PRECONDITION,
    n.SnapshotHeld: grpc.StatusCode.FAILED_PRECONDITION,
    n.NoDescendants: grpc.StatusCode.FAILED_PRECONDITION,
    n.SnapshotLimitReached: grpc.StatusCode.RESOURCE_EXHAUSTED,
    n.CheckpointLimitReached: grpc.StatusCode.RESOURCE_EXHAUSTED,
    n.CheckpointsDisabled: grpc.StatusCode.FAILED_PRECONDITION,
    n.SnapshotBlocked: grpc.StatusCode.FAILED_PRECONDITION,
    v.VmHasSnapshots: grpc.StatusCode.FAILED_PRECONDITION,
    v.VmHasForeignCheckpoints: grpc.StatusCode.FAILED_PRECONDITION,
    v.VmHasTemporaryCheckpoint: grpc.StatusCode.FAILED_PRECONDITION,
    v.PlaceTaken: grpc.StatusCode.FAILED_PRECONDITION,
    v.NoFreePlace: grpc.StatusCode.RESOURCE_EXHAUSTED,
    v.VolumeInUse: grpc.StatusCode.FAILED_PRECONDITION,
    v.VolumeBeingDeleted: grpc.StatusCode.FAILED_PRECONDITION,
    v.VolumeInExport: grpc.StatusCode.FAILED_PRECONDITION,
    v.VolumeAttached: grpc.StatusCode.FAILED_PRECONDITION,
    v.VolumeNotFound: grpc.StatusCode.NOT_FOUND,
    v.VolumeNotResizable: grpc.StatusCode.FAILED_PRECONDITION,
    v.VolumeNotUsable: grpc.StatusCode.FAILED_PRECONDITION,
    d.LogRolledBack: grpc.StatusCode.FAILED_PRECONDITION,
    d.ClaimedByTwoHosts: grpc.StatusCode.FAILED_PRECONDITION,
    d.VmCritical: grpc.StatusCode.FAILED_PRECONDITION,
    d.CancelTooLate: grpc.StatusCode.FAILED_PRECONDITION,
    t.SettleTooEarly: grpc.StatusCode.FAILED_PRECONDITION,
    t.SettleRefused: grpc.StatusCode.FAILED_PRECONDITION,
    h.HostInUse: grpc.StatusCode.FAILED_PRECONDITION,
    h.NotTakenOver: grpc.StatusCode.FAILED_PRECONDITION,
    h.HostForeign: grpc.StatusCode.FAILED_PRECONDITION,
    h.HostJournalsFailed: grpc.StatusCode.FAILED_PRECONDITION,
    h.NoExecutor: grpc.StatusCode.UNAVAILABLE,
    h.HostUnreachable: grpc.StatusCode.UNAVAILABLE,
    h.HostRefused: grpc.StatusCode.UNAVAILABLE,
    h.HostAnswerLost: grpc.StatusCode.UNAVAILABLE,
    h.HostAuthenticationFailed: grpc.StatusCode.UNAVAILABLE,
    h.HostCredentialMissing: grpc.StatusCode.UNAVAILABLE,
    h.HostCommandFailed: grpc.StatusCode.UNAVAILABLE,
    x.ExportDirectoryMissing: grpc.StatusCode.FAILED_PRECONDITION,
    x.VmIsReleased: grpc.StatusCode.FAILED_PRECONDITION,
    x.VmNotReleased: grpc.StatusCode.FAILED_PRECONDITION,
    d.VmNameAmbiguous: grpc.StatusCode.FAILED_PRECONDITION,
    d.VmChanging: grpc.StatusCode.ABORTED,
    s.StreamChanged: grpc.StatusCode.ABORTED,
    s.LogUnavailable: grpc.StatusCode.UNAVAILABLE,
    s.AppendUncertain: grpc.StatusCode.UNKNOWN,
    s.LogIncomplete: grpc.StatusCode.DATA_LOSS,
    s.RecordNotReadable: grpc.StatusCode.DATA_LOSS,
    s.ViewStopped: grpc.StatusCode.UNAVAILABLE,
    s.ViewBehind: grpc.StatusCode.UNAVAILABLE,
    s.ViewsUnreadable: grpc.StatusCode.UNAVAILABLE,
    r.VmNotThere: grpc.StatusCode.NOT_FOUND,
    r.Stopping: grpc.StatusCode.UNAVAILABLE,
    r.ActorNotAllowed: grpc.StatusCode.PERMISSION_DENIED,
    g.SignInMissing: grpc.StatusCode.UNAUTHENTICATED,
    g.NotAllowed: grpc.StatusCode.PERMISSION_DENIED,
    g.TooManyCalls: grpc.StatusCode.RESOURCE_EXHAUSTED,
    o.OfferingNeedsStopped: grpc.StatusCode.FAILED_PRECONDITION,
    o.OfferingNotKnown: grpc.StatusCode.FAILED_PRECONDITION,
    o.ForeignMemory: grpc.StatusCode.FAILED_PRECONDITION,
    y.ForeignCheckpointsInTheWay: grpc.StatusCode.FAILED_PRECONDITION,
    y.CheckpointsLeft: grpc.StatusCode.FAILED_PRECONDITION,
    y.VmDestroyed: grpc.StatusCode.FAILED_PRECONDITION,
    y.VmThereAgain: grpc.StatusCode.FAILED_PRECONDITION,
    a.SignInRefused: grpc.StatusCode.UNAUTHENTICATED,
    a.SignInUnavailable: grpc.StatusCode.UNAVAILABLE,
    d.NotBuilt: grpc.StatusCode.UNIMPLEMENTED,
}
"""Codes of errors, by their type or by the root that they share with others of one code."""

_OF_STORE: Final = {
    "LOG_UNREADABLE": grpc.StatusCode.DATA_LOSS,
    "LOG_IN_USE": grpc.StatusCode.FAILED_PRECONDITION,
    "LOG_FOREIGN": grpc.StatusCode.FAILED_PRECONDITION,
    "LOG_BROKEN": grpc.StatusCode.UNAVAILABLE,
    "STORAGE_UNUSABLE": grpc.StatusCode.UNAVAILABLE,
}
"""Codes of the store's errors, by reason, because the server must not import the store."""

_OF_FAILURE: Final = {
    "CANCELLED": grpc.StatusCode.CANCELLED,
    "OUTCOME_UNDETERMINED": grpc.StatusCode.UNKNOWN,
    "DEADLINE_EXCEEDED": grpc.StatusCode.DEADLINE_EXCEEDED,
    "JOB_STALLED": grpc.StatusCode.DEADLINE_EXCEEDED,
    "MERGE_STALLED": grpc.StatusCode.DEADLINE_EXCEEDED,
    "CHECKPOINT_LIMIT_REACHED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "WRONG_POWER_STATE": grpc.StatusCode.FAILED_PRECONDITION,
    "VM_ABSENT": grpc.StatusCode.FAILED_PRECONDITION,
    "CHECKPOINTS_DISABLED": grpc.StatusCode.FAILED_PRECONDITION,
    "VM_HAS_SNAPSHOTS": grpc.StatusCode.FAILED_PRECONDITION,
    "FOREIGN_CHECKPOINTS": grpc.StatusCode.FAILED_PRECONDITION,
    "PLACE_TAKEN": grpc.StatusCode.FAILED_PRECONDITION,
    "FILE_EXISTS": grpc.StatusCode.FAILED_PRECONDITION,
    "SNAPSHOT_BLOCKED": grpc.StatusCode.FAILED_PRECONDITION,
    "MEMORY_NEEDS_RUNNING_VM": grpc.StatusCode.FAILED_PRECONDITION,
    "CHECKPOINT_MISSING": grpc.StatusCode.FAILED_PRECONDITION,
    "CHECKPOINT_DAMAGED": grpc.StatusCode.FAILED_PRECONDITION,
    "SNAPSHOT_HELD": grpc.StatusCode.FAILED_PRECONDITION,
    "VM_CRITICAL": grpc.StatusCode.FAILED_PRECONDITION,
    "GIVEN_UP": grpc.StatusCode.ABORTED,
    "NOT_BEGUN": grpc.StatusCode.FAILED_PRECONDITION,
    "SETTLED_ABSENT": grpc.StatusCode.ABORTED,
    "FALLBACK_REFUSED": grpc.StatusCode.FAILED_PRECONDITION,
    "SNAPSHOTS_NOT_DELETED": grpc.StatusCode.FAILED_PRECONDITION,
    "MEMORY_LOST": grpc.StatusCode.ABORTED,
    "OFFERING_NEEDS_STOPPED_VM": grpc.StatusCode.FAILED_PRECONDITION,
    "CHECKPOINTS_LEFT": grpc.StatusCode.FAILED_PRECONDITION,
    "VM_THERE_AGAIN": grpc.StatusCode.FAILED_PRECONDITION,
    "DISKS_NOT_PROVEN": grpc.StatusCode.FAILED_PRECONDITION,
    "FOREIGN_CHECKPOINT_WITH_MEMORY": grpc.StatusCode.FAILED_PRECONDITION,
}
"""Codes of failed operations, by reason. All others are INTERNAL: the host refused for a reason of its own."""


def to_status(error: d.SnapshotdError) -> Status:
    """Return the status of a refused call. Long values are cut so that it fits (see _ROOM)."""
    return _fitting(lambda limit: _error_status(error, limit))


def failure_status(failure: Failure) -> Status:
    """Return the status of an operation that did not succeed, cut like that of a refused call."""
    code = _OF_FAILURE.get(failure.reason, grpc.StatusCode.INTERNAL)
    values = {"error_id": failure.error_id} if failure.error_id else {}
    return _fitting(lambda limit: _status(code, failure.text, failure.reason, values, limit))


def internal_status(incident: str) -> Status:
    """Return the status for a defect of snapshotd. It holds only an id to find the cause in the daemon's log."""
    text = f"Cannot answer this call: snapshotd has a defect. Look for incident {incident} in the daemon's log."
    return _status(grpc.StatusCode.INTERNAL, text, "INTERNAL", {"incident": incident})


def _error_status(error: d.SnapshotdError, limit: int) -> Status:
    """Return the status of an error, with values of at most `limit` characters."""
    by_type = next((_CODES[root] for root in type(error).__mro__ if root in _CODES), None)
    code = by_type or _OF_STORE.get(error.reason, grpc.StatusCode.INTERNAL)
    # The values are cut before they go into the message, whose end tells what to do.
    short = _with_short_values(error, limit)
    message, values = _cut(str(short), 10 * limit), short.metadata()
    status = _status(code, message, error.reason, values, limit)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        field = error.field if isinstance(error, d.InvalidArgument) else next(iter(values))
        violation = BadRequest.FieldViolation(field=field, description=message, reason=error.reason)
        status.details.append(_packed(BadRequest(field_violations=[violation])))
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        subject = next(iter(values.values()), "")
        unmet = PreconditionFailure.Violation(type=error.reason, subject=subject, description=message)
        status.details.append(_packed(PreconditionFailure(violations=[unmet])))
    return status


def _with_short_values(error: d.SnapshotdError, limit: int) -> d.SnapshotdError:
    """Return the error with its texts cut."""
    kept = {f.name: getattr(error, f.name) for f in fields(error)}  # type: ignore[arg-type]  # leaves are dataclasses
    short = type(error)(**{name: _cut(v, limit) if isinstance(v, str) else v for name, v in kept.items()})
    short.ground = error.ground
    return short


def _cut(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters that can be sent. Half of a surrogate pair, as in JSON, cannot."""
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return text.encode(errors="backslashreplace").decode()


def _fitting(make: Callable[[int], Status]) -> Status:
    """Return the status with the longest texts that still fits."""
    return next((status for status in map(make, _LIMITS) if wire_size(status) <= _ROOM), make(_LIMITS[-1]))


def wire_size(status: Status) -> int:
    """Return the bytes of a status in the metadata: the message percent-encoded, the details in base64."""
    return len(quote(status.message, safe=_UNQUOTED)) + 4 * (status.ByteSize() // 3 + 1)


def _status(
    code: grpc.StatusCode, message: str, reason: str, values: dict[str, str], limit: int = _LIMITS[0]
) -> Status:
    info = ErrorInfo(reason=reason, domain=DOMAIN, metadata={name: _cut(v, limit) for name, v in values.items()})
    number: int = code.value[0]
    return Status(code=number, message=_cut(message, 10 * limit), details=[_packed(info)])


def _packed(message: ErrorInfo | BadRequest | PreconditionFailure) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
