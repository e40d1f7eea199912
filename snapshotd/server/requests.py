"""Readers of what requests hold: resource names, request ids, page sizes, times. Reads no state."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from snapshotd.domain.errors import InvalidArgument, NotBuilt
from snapshotd.domain.ids import (
    CheckpointId,
    HostId,
    OperationName,
    SnapshotId,
    VmId,
    VolumeSnapshotId,
    is_guid,
    is_host_id,
    parse_operation_name,
)

_NIL: Final = "00000000-0000-0000-0000-000000000000"
_PAGE: Final = 50
_LARGEST_PAGE: Final = 1000
_LONGEST_DURATION_S: Final = 315_576_000_000
"""The most seconds that a Duration can hold (see its proto)."""
_NANOS: Final = 1_000_000_000
_LONGEST_WORDS: Final = 255


def host_id_of(name: str, field: str = "name") -> HostId:
    """Return the id in `hosts/{host}`. Raises InvalidArgument."""
    head, _, host = name.partition("/")
    if head != "hosts" or not is_host_id(host):
        raise InvalidArgument(field, name[:200], "must be hosts/{host}, in lower case, e.g. hosts/hv01.")
    return HostId(host)


def vm_id_of(name: str, field: str = "name") -> VmId:
    """Return the id in `virtualMachines/{vm}`. Raises InvalidArgument."""
    head, _, vm = name.partition("/")
    if head != "virtualMachines" or not is_guid(vm.lower()):
        raise InvalidArgument(field, name[:200], "must be virtualMachines/{vm}, where {vm} is Hyper-V's id of the VM.")
    return VmId(vm.lower())


def snapshot_id_of(name: str, field: str = "name") -> tuple[VmId, SnapshotId]:
    """Return the ids in `virtualMachines/{vm}/snapshots/{snapshot}`. Raises InvalidArgument."""
    parts = name.lower().split("/")
    well_formed = len(parts) == 4 and (parts[0], parts[2]) == ("virtualmachines", "snapshots")
    if not well_formed or not is_guid(parts[1]) or not is_guid(parts[3]):
        raise InvalidArgument(field, name[:200], "must be virtualMachines/{vm}/snapshots/{snapshot}, both ids.")
    return VmId(parts[1]), SnapshotId(parts[3])


def volume_snapshot_id_of(name: str, field: str = "name") -> tuple[VmId, VolumeSnapshotId]:
    """Return the ids in `virtualMachines/{vm}/volumeSnapshots/{id}`. Raises InvalidArgument."""
    parts = name.lower().split("/")
    well_formed = len(parts) == 4 and (parts[0], parts[2]) == ("virtualmachines", "volumesnapshots")
    if not well_formed or not is_guid(parts[1]) or not is_guid(parts[3]):
        raise InvalidArgument(field, name[:200], "must be virtualMachines/{vm}/volumeSnapshots/{id}, both ids.")
    return VmId(parts[1]), VolumeSnapshotId(parts[3])


def checkpoint_id_of(text: str) -> CheckpointId:
    """Return Hyper-V's id of a checkpoint, in lower case. Raises InvalidArgument."""
    if not is_guid(text.lower()):
        raise InvalidArgument("checkpoint_id", text[:80], "must be Hyper-V's id of the checkpoint, a GUID.")
    return CheckpointId(text.lower())


def operation_of(name: str, field: str = "name") -> OperationName:
    """Return a name of the form `operations/{vm}.{n}-{tag}`, in lower case. Raises InvalidArgument."""
    if parse_operation_name(name.lower()) is None:
        raise InvalidArgument(
            field, name[:200], "must be operations/{operation}, as `snapshotctl operation list` has it."
        )
    return OperationName(name.lower())


def request_id_of(text: str) -> str:
    """Return a request id in lower case. It must be a UUID or empty. Raises InvalidArgument."""
    lowered = text.lower()
    if text and (not is_guid(lowered) or lowered == _NIL):
        raise InvalidArgument("request_id", text[:80], "must be a UUID, a new one for each new request.")
    return lowered


def digest_of(request: Message) -> str:
    """Return a digest of a request: the same for each repetition, different for every other request."""
    copy = type(request)()
    copy.CopyFrom(request)
    copy.ClearField("request_id")
    content = copy.SerializeToString(deterministic=True)
    return hashlib.sha256(request.DESCRIPTOR.full_name.encode() + b"\0" + content).hexdigest()


def page_size_of(asked: int) -> int:
    """Return the number of entries of a page. Raises InvalidArgument for a negative size."""
    if asked < 0:
        raise InvalidArgument("page_size", str(asked), "must not be negative; 0 means the default.")
    return min(asked or _PAGE, _LARGEST_PAGE)


def mask_of(mask: FieldMask, fields: Mapping[str, bool]) -> frozenset[str]:
    """Return the fields that an update changes, as AIP-134 has it. Raises InvalidArgument for any other field.

    Args:
        mask: of the request; `*` stands for all fields.
        fields: those that there are, each with whether the request has it. Without a mask, those that it has count.
    """
    if not mask.paths:
        return frozenset(name for name, there in fields.items() if there)
    for path in mask.paths:
        if path not in fields and path != "*":
            raise InvalidArgument("update_mask", path[:80], f"must be of {', '.join(fields)}; or * for all of them.")
    return frozenset(fields if "*" in mask.paths else mask.paths)


def time_of(time: Timestamp, field: str) -> datetime:
    """Return a time. Raises InvalidArgument if seconds or nanos are out of the range of a Timestamp."""
    try:
        return time.ToDatetime(tzinfo=UTC)
    except ValueError:
        value = f"{time.seconds} s, {time.nanos} ns"
        raise InvalidArgument(
            field, value, "must be a time in the years 1 to 9999, with 0 to 999999999 nanos."
        ) from None


def timeout_of(duration: Duration, field: str) -> float:
    """Return how long a call may take, in seconds. Raises InvalidArgument if negative or not a valid Duration."""
    if not 0 <= duration.seconds <= _LONGEST_DURATION_S or not 0 <= duration.nanos < _NANOS:
        value = f"{duration.seconds} s, {duration.nanos} ns"
        raise InvalidArgument(field, value, "must not be negative or longer than a Duration can be (10,000 years).")
    return duration.seconds + duration.nanos / _NANOS


def words_of(text: str, field: str) -> str:
    """Return a person's words, without blanks around them. Raises InvalidArgument if they are not one short line."""
    words = text.strip()
    if len(words) > _LONGEST_WORDS:
        raise InvalidArgument(
            field, words[:40] + "…", f"must have at most {_LONGEST_WORDS} characters; it has {len(words)}."
        )
    if not words.isprintable():
        raise InvalidArgument(field, words[:40], "must be one line, of characters that can be printed.")
    return words


def refuse_labels(labels: object, what: str) -> None:
    """Raise NotBuilt if there are labels, which nothing keeps yet."""
    if labels:
        raise NotBuilt(f"labels of {what}")
