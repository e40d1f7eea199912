"""What came of an operation that has ended, for people: what was made, what the VM is like, what was lost."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, Final

from google.longrunning.operations_pb2 import Operation
from google.protobuf.message import Message

from snapshotd.api.v1.executor_pb2 import Power
from snapshotd.api.v1.operation_pb2 import OperationMetadata
from snapshotd.api.v1.snapshot_pb2 import (
    DeleteAllSnapshotsResponse,
    DeleteSnapshotResponse,
    GetSnapshotRequest,
    RevertToSnapshotResponse,
    Snapshot,
)
from snapshotd.api.v1.virtual_machine_pb2 import (
    ExportVirtualMachineResponse,
    VirtualMachine,
    VolumeSnapshot,
)
from snapshotd.client.calls import Server
from snapshotd.client.failure import Failed
from snapshotd.client.offerings import offering_text
from snapshotd.client.progress import metadata_of
from snapshotd.client.render import last, shown, size
from snapshotd.client.tree import kind_of

_CHECKPOINT: Final = "checkpoint"
"""The name of the step that takes a snapshot."""
_FALLBACK_HINT: Final = (
    "`snapshot create --allow-fallback` keeps a snapshot with memory if the guest cannot be frozen; "
    "`--memory` asks for one."
)
_COPY_HINT: Final = (
    "`volume-snapshot take --allow-fallback` copies the disk as a power cut would leave it, if the guest cannot be "
    "frozen."
)
Named = Callable[[str], str]
"""Turns the resource name of a snapshot into a name for people."""


def succeeded(operation: Operation, named: Named) -> str:
    """Return what an operation has led to."""
    said = [f"{operation.name} succeeded.", _response(operation, named), *_besides(operation, named)]
    return "\n".join(filter(None, said))


def not_succeeded(operation: Operation, named: Named) -> str:
    """Return why an operation did not succeed, and what came of it all the same."""
    text = operation.error.message
    said = [line for line in _besides(operation, named) if line not in text]
    return " ".join([f"{operation.name} did not succeed: {shown(text)}", *said])


def not_frozen_hint(operation: Operation) -> str:
    """Return what can be asked for instead of an operation that failed since its guest could not be frozen."""
    copies = metadata_of(operation).kind == OperationMetadata.TAKE_VOLUME_SNAPSHOT
    return _COPY_HINT if copies else _FALLBACK_HINT


def names_from(server: Server) -> Named:
    """Return a function that asks the server for the name of a snapshot, and adds its id."""

    def named(name: str) -> str:
        try:
            found = server.call(server.snapshots.GetSnapshot, GetSnapshotRequest(name=name))
        except Failed:
            return last(name)  # nothing can be read just now, and the id is good for any command
        return f"{shown(found.display_name)} ({last(name)})"

    return named


def _response(operation: Operation, named: Named) -> str:
    """Return what the response of an operation holds; empty if it is of a kind that needs no words."""
    metadata = metadata_of(operation)
    steps = {step.name for step in metadata.steps}
    for kind, tell in _TELL.items():
        message = kind()
        if operation.response.Unpack(message):
            if isinstance(message, Snapshot) and _CHECKPOINT not in steps:
                done = "is on record" if metadata.kind == OperationMetadata.ADOPT_CHECKPOINT else "was updated"
                return f"Snapshot {shown(message.display_name)} ({last(message.name)}) {done}."
            if isinstance(message, DeleteSnapshotResponse) and not steps:
                return _forgotten(message, named)
            if isinstance(message, VirtualMachine) and metadata.kind in _OF_VMS:
                return _OF_VMS[metadata.kind](message)
            return tell(message, named)
    return ""


def _besides(operation: Operation, named: Named) -> list[str]:
    """Return what the metadata say besides: what was lost or kept, and the safety snapshot."""
    metadata = metadata_of(operation)
    said = [shown(metadata.outcome_detail)] if metadata.outcome_detail else []
    beside = metadata.kind in _OF_VMS or metadata.state == OperationMetadata.CANCELLED
    if beside and metadata.state != OperationMetadata.FAILED and metadata.snapshots_removed:
        # How one that failed stands, its error says; and a delete's response, what it deleted.
        said.append(f"Deleted: {', '.join(map(named, metadata.snapshots_removed))}.")
    if metadata.safety_snapshot and _taken(metadata):
        vm = shlex.quote(last(metadata.virtual_machine))
        said.append(
            f"The state before is in snapshot {named(metadata.safety_snapshot)}. To go back to it: "
            f"snapshotctl snapshot undo-revert {vm}"
        )
    return said


def _taken(metadata: OperationMetadata) -> bool:
    """Return whether the safety snapshot was taken: its step is the first that is about it."""
    first = next((s for s in metadata.steps if s.snapshot == metadata.safety_snapshot), None)
    return first is not None and first.state == first.DONE


def _snapshot(snapshot: Snapshot, _: Named) -> str:
    kind, asked = kind_of(snapshot.kind), kind_of(snapshot.requested_kind)
    instead = f", not {asked}: its guest could not be frozen" if kind != asked else ""
    return f"Snapshot {shown(snapshot.display_name)} ({last(snapshot.name)}) was taken ({kind}{instead})."


def _forgotten(response: DeleteSnapshotResponse, named: Named) -> str:
    now = named(response.current_snapshot) if response.current_snapshot else "none"
    gone = ", ".join(map(named, response.removed))
    return f"Off the record: {gone}. Nothing on the host was touched. Current: {now}."


def _vm(vm: VirtualMachine, _: Named) -> str:
    return f"VM {shown(vm.display_name)} is {Power.Name(vm.power)}."


def _drives(vm: VirtualMachine) -> str:
    at = ", ".join(
        f"{d.location} {shown(d.path)}{f' ({size(d.size_bytes)})' if d.size_bytes else ''}" for d in vm.disks
    )
    return f"Disks of VM {shown(vm.display_name)}: {at or 'none'}."


def _offering(vm: VirtualMachine) -> str:
    return f"VM {shown(vm.display_name)} has {offering_text(vm.service_offering)}."


def _destroyed(vm: VirtualMachine) -> str:
    return f"VM {shown(vm.display_name)} is destroyed. Its history, and the copies of its disks, stay."


def _copied(copy: VolumeSnapshot, _: Named) -> str:
    how_large = f" ({size(copy.size_bytes)})" if copy.size_bytes else ""
    return f"Volume snapshot {shown(copy.display_name)} ({last(copy.name)}) is in {shown(copy.path)}{how_large}."


def _exported(response: ExportVirtualMachineResponse, _: Named) -> str:
    how_large = f" ({size(response.size_bytes)})" if response.size_bytes else ""
    return f"The export is in {shown(response.directory)}{how_large}."


def _reverted(response: RevertToSnapshotResponse, named: Named) -> str:
    vm = response.virtual_machine
    return f"VM {shown(vm.display_name)} is back at snapshot {named(response.snapshot)}, and {Power.Name(vm.power)}."


def _deleted(response: DeleteSnapshotResponse, named: Named) -> str:
    now = named(response.current_snapshot) if response.current_snapshot else "none"
    return f"Deleted: {', '.join(map(named, response.removed)) or 'none'}. Current: {now}."


def _all_deleted(response: DeleteAllSnapshotsResponse, named: Named) -> str:
    return f"Deleted: {', '.join(map(named, response.removed)) or 'none'}."


_TELL: Final[dict[type[Message], Callable[[Any, Named], str]]] = {
    Snapshot: _snapshot,
    VirtualMachine: _vm,
    RevertToSnapshotResponse: _reverted,
    DeleteSnapshotResponse: _deleted,
    DeleteAllSnapshotsResponse: _all_deleted,
    ExportVirtualMachineResponse: _exported,
    VolumeSnapshot: _copied,
}
_OF_VMS: Final[dict[int, Callable[[VirtualMachine], str]]] = {
    OperationMetadata.ATTACH_VOLUME: _drives,
    OperationMetadata.DETACH_VOLUME: _drives,
    OperationMetadata.RESIZE_VOLUME: _drives,
    OperationMetadata.CHANGE_SERVICE_OFFERING: _offering,
    OperationMetadata.DESTROY_VIRTUAL_MACHINE: _destroyed,
}
"""The kinds that answer with the VM, and what counts is not its power."""
