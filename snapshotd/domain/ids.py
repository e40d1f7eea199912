"""Identifiers, and the names of streams and operations made of them. Makes no ids: they come by a port."""

from __future__ import annotations

import hashlib
import re
from typing import NewType

VmId = NewType("VmId", str)
"""Hyper-V's VM id: a GUID in lower case, without braces."""

HostId = NewType("HostId", str)
"""Our id of a host: `[a-z]([a-z0-9-]{0,61}[a-z0-9])?` (AIP-122)."""

SnapshotId = NewType("SnapshotId", str)
"""Our id of a snapshot: a UUID in lower case."""

VolumeSnapshotId = NewType("VolumeSnapshotId", str)
"""Our id of a copy of one disk: a UUID in lower case."""

CheckpointId = NewType("CheckpointId", str)
"""Hyper-V's id of a checkpoint: a GUID in lower case, without braces."""

StreamId = NewType("StreamId", str)
"""`vm/<VM id>`, `host/<host id>` or `volume/<path, in its normal form>`."""

OperationName = NewType("OperationName", str)
"""`operations/<VM id>.<n>-<tag>`: n is counted per VM from 1, and the tag is random.

The host's journal knows a step by this name. A log that was restored from a backup counts n again; the tag keeps a new
operation from being taken for one that the old log has lost.
"""

KindName = NewType("KindName", str)
"""A kind of operation, by its name in the API: `CREATE_SNAPSHOT`. Its file in `operations/` defines it."""

ActionName = NewType("ActionName", str)
"""What a step asks of a host, by its file in `steps/`: `checkpoint_create`. The host protocol uses the same name."""

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TAG_LENGTH = 8
_NUMBER_AND_TAG = re.compile(rf"[1-9][0-9]{{0,17}}-[0-9a-f]{{{_TAG_LENGTH}}}")
_HOST_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


def is_guid(text: str) -> bool:
    """Return whether `text` is a GUID in lower case, without braces."""
    return _GUID.fullmatch(text) is not None


def guids_in(text: str) -> list[str]:
    """Return the GUIDs in a text, in lower case as it has them."""
    return [found[0] for found in _GUID.finditer(text)]


def is_host_id(text: str) -> bool:
    """Return whether `text` may name a host."""
    return _HOST_ID.fullmatch(text) is not None


def executor_name(executor_id: str) -> str:
    """Return the name that an executor is shown under. Its id cannot be found from it, and stays a secret."""
    return f"ex-{hashlib.sha256(executor_id.encode()).hexdigest()[:12]}"


def executor_label(name: str, signed_in_as: str) -> str:
    """Return what people read of an executor: "ex1 (ex-482bff6cbe59)", or its name alone if it did not sign in."""
    return f"{signed_in_as.removeprefix('executor:')} ({name})" if signed_in_as else name


def vm_stream(vm_id: VmId) -> StreamId:
    """Return the name of a VM's stream."""
    return StreamId(f"vm/{vm_id}")


def vm_in(stream: StreamId) -> VmId:
    """Return the VM whose stream it is."""
    return VmId(stream.removeprefix("vm/"))


def host_stream(host_id: HostId) -> StreamId:
    """Return the name of a host's stream."""
    return StreamId(f"host/{host_id}")


def operation_name(vm_id: VmId, number: int, fresh_id: str) -> OperationName:
    """Return the name of a VM's n-th operation. `fresh_id`: a random UUID, whose first part becomes the tag."""
    return OperationName(f"operations/{vm_id}.{number}-{fresh_id[:_TAG_LENGTH]}")


def vm_of(name: OperationName) -> VmId:
    """Return the VM that an operation is about."""
    return VmId(name.removeprefix("operations/").partition(".")[0])


def parse_operation_name(name: str) -> tuple[VmId, int] | None:
    """Return the VM id and the number in `operations/<VM id>.<n>-<tag>`; None for anything else."""
    head, _, tail = name.rpartition(".")
    vm_id = head.removeprefix("operations/")
    if head == vm_id or not is_guid(vm_id) or not _NUMBER_AND_TAG.fullmatch(tail):
        return None
    return VmId(vm_id), int(tail.partition("-")[0])
