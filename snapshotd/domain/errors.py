"""Every error that a caller can be told, each with a reason and its values. Knows nothing of gRPC.

A message says what was wrong, with which value, and what to do.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar


class SnapshotdError(Exception):
    """The root of all errors that a caller can be told."""

    @property
    def reason(self) -> str:
        """The error's name, UPPER_SNAKE and stable: programs match on it."""
        return "INTERNAL"

    def __str__(self) -> str:
        """Return the message for people."""
        return self.message()

    def message(self) -> str:
        """Say what was wrong, with which value, and what to do."""
        raise NotImplementedError

    def metadata(self) -> dict[str, str]:
        """Return the error's values by name, for programs."""
        return {f.name: str(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]  # leaves are dataclasses


@dataclass(eq=False)
class IllegalTransition(SnapshotdError):
    """An arrow that is not in a lifecycle's table."""

    reason: ClassVar[str] = "ILLEGAL_STATE"
    lifecycle: str
    trigger: str
    state: str

    def message(self) -> str:  # noqa: D102  (said once on the root; so below)
        return f"{self.lifecycle} is {self.state}: {self.trigger.replace('_', ' ')!r} is not possible in this state."


@dataclass(eq=False)
class InvalidArgument(SnapshotdError):
    """A field of the request that no state of the world would make right."""

    reason: ClassVar[str] = "INVALID_ARGUMENT"
    field: str
    value: str
    problem: str

    def message(self) -> str:  # noqa: D102
        return f"{self.field}: {self.value!r}: {self.problem}"


@dataclass(eq=False)
class NotFound(SnapshotdError):
    """A resource that is not on record."""

    kind: str
    name: str
    hint: str = ""

    @property
    def reason(self) -> str:
        """Name what was not found: VIRTUAL_MACHINE_NOT_FOUND, SNAPSHOT_NOT_FOUND, ..."""
        return f"{self.kind.upper().replace(' ', '_')}_NOT_FOUND"

    def message(self) -> str:  # noqa: D102
        return f"{self.kind} {self.name!r} is not on record." + (f" {self.hint}" if self.hint else "")


@dataclass(eq=False)
class AlreadyExists(SnapshotdError):
    """A name or id that is taken."""

    kind: str
    name: str
    hint: str = ""

    @property
    def reason(self) -> str:
        """Name what exists: VIRTUAL_MACHINE_EXISTS, SNAPSHOT_EXISTS, HOST_EXISTS."""
        return f"{self.kind.upper().replace(' ', '_')}_EXISTS"

    def message(self) -> str:  # noqa: D102
        return f"{self.kind} {self.name!r} exists already." + (f" {self.hint}" if self.hint else "")


@dataclass(eq=False)
class RequestIdReused(SnapshotdError):
    """A request id that was seen with another payload."""

    reason: ClassVar[str] = "REQUEST_ID_REUSED"
    request_id: str

    def message(self) -> str:  # noqa: D102
        return (
            f"request_id {self.request_id} was used before with another request. Use a new UUID for each new request."
        )


@dataclass(eq=False)
class OperationActive(SnapshotdError):
    """Another operation is active on the VM."""

    reason: ClassVar[str] = "OPERATION_ACTIVE"
    vm: str
    operation: str
    kind: str
    step: str
    age_s: int
    owner: str

    def message(self) -> str:  # noqa: D102
        return (
            f"VM {self.vm}: {self.operation} ({self.kind}, at step {self.step}, for {self.age_s} s, "
            f"asked for by {self.owner or 'unknown'}) is active. "
            "Wait for it (WaitOperation), or cancel it, and try again."
        )


@dataclass(eq=False)
class MergePending(SnapshotdError):
    """An earlier delete is still being merged by the host."""

    reason: ClassVar[str] = "MERGE_PENDING"
    vm: str
    operation: str
    age_s: int

    def message(self) -> str:  # noqa: D102
        return (
            f"VM {self.vm}: the host is still merging disks after {self.operation} (for {self.age_s} s). "
            "Start and stop are possible meanwhile; wait for that operation before other changes of snapshots."
        )


@dataclass(eq=False)
class WrongPower(SnapshotdError):
    """The VM's power does not allow what was asked."""

    reason: ClassVar[str] = "WRONG_POWER_STATE"
    vm: str
    power: str
    needed: str
    action: str

    def message(self) -> str:  # noqa: D102
        return f"VM {self.vm} is {self.power}; {self.action} needs it to be {self.needed}."


@dataclass(eq=False)
class MemoryNeedsRunningVm(SnapshotdError):
    """Memory was asked for and the VM is not running."""

    reason: ClassVar[str] = "MEMORY_NEEDS_RUNNING_VM"
    vm: str
    power: str

    def message(self) -> str:  # noqa: D102
        return (
            f"VM {self.vm} is {self.power}: memory can be captured only while it is RUNNING. "
            "Start it, or ask for a DISK snapshot."
        )


@dataclass(eq=False)
class PowerChangeRefused(SnapshotdError):
    """A revert would change the VM's power, and the caller asked for refusal."""

    reason: ClassVar[str] = "POWER_STATE_CHANGE_REFUSED"
    vm: str
    power: str
    power_after: str

    def message(self) -> str:  # noqa: D102
        return (
            f"VM {self.vm} is {self.power} and would end {self.power_after}; power_state_change is REFUSE. "
            "Bring it to that power first, or allow the change."
        )


@dataclass(eq=False)
class SnapshotNotUsable(SnapshotdError):
    """The snapshot's state does not allow what was asked."""

    reason: ClassVar[str] = "SNAPSHOT_NOT_READY"
    snapshot: str
    state: str
    action: str
    needed: str
    why: str = ""

    def message(self) -> str:  # noqa: D102
        cause = f" ({self.why})" if self.why else ""
        return f"snapshot {self.snapshot} is {self.state}{cause}; {self.action} needs it to be {self.needed}."


@dataclass(eq=False)
class SnapshotLimitReached(SnapshotdError):
    """The VM has as many snapshots as it may have."""

    reason: ClassVar[str] = "SNAPSHOT_LIMIT_REACHED"
    vm: str
    count: int
    limit: int

    def message(self) -> str:  # noqa: D102
        return (
            f"VM {self.vm} has {self.count} snapshots; snapshots.max_per_vm is {self.limit}. "
            "Delete one, or raise the limit."
        )


@dataclass(eq=False)
class CheckpointLimitReached(SnapshotdError):
    """One more checkpoint would pass Hyper-V's limit of 50 a VM (documented)."""

    reason: ClassVar[str] = "CHECKPOINT_LIMIT_REACHED"
    vm: str
    count: int
    limit: int

    def message(self) -> str:  # noqa: D102
        return (
            f"VM {self.vm} has {self.count} checkpoints of all kinds on its host; Hyper-V allows {self.limit}. "
            "Delete snapshots, or have checkpoints made by others removed."
        )


@dataclass(eq=False)
class CheckpointsDisabled(SnapshotdError):
    """Checkpoints are disabled for the VM on its host."""

    reason: ClassVar[str] = "CHECKPOINTS_DISABLED"
    vm: str

    def message(self) -> str:  # noqa: D102
        return (
            f"VM {self.vm}: checkpoints are disabled on its host. "
            "Set its CheckpointType there (Set-VM -CheckpointType Production)."
        )


@dataclass(eq=False)
class SnapshotBlocked(SnapshotdError):
    """The VM has something that cannot be checkpointed."""

    reason: ClassVar[str] = "SNAPSHOT_BLOCKED"
    vm: str
    blockers: str

    def message(self) -> str:  # noqa: D102
        return f"VM {self.vm} cannot be checkpointed: {self.blockers}. Remove what blocks it, then sync its host."


@dataclass(eq=False)
class CancelTooLate(SnapshotdError):
    """The operation cannot be cancelled any more."""

    reason: ClassVar[str] = "CANCEL_TOO_LATE"
    operation: str
    state: str
    why: str

    def message(self) -> str:  # noqa: D102
        return f"{self.operation} is {self.state} and cannot be cancelled: {self.why}."


@dataclass(eq=False)
class VmNameAmbiguous(SnapshotdError):
    """Several VMs of a host bear the name that was asked for."""

    reason: ClassVar[str] = "VM_NAME_AMBIGUOUS"
    name: str
    host: str
    ids: str

    def message(self) -> str:  # noqa: D102
        return f"host {self.host} has several VMs named {self.name!r}: {self.ids}. Name the one you mean by its id."


@dataclass(eq=False)
class VmChanging(SnapshotdError):
    """A report could not be compared with the record, since an operation was at work on the VM."""

    reason: ClassVar[str] = "VM_CHANGING"
    vm: str

    def message(self) -> str:  # noqa: D102
        return f"VM {self.vm}: an operation was at work while its host was asked. Try again when it has ended."


@dataclass(eq=False)
class StreamChanged(SnapshotdError):
    """Somebody else appended to the stream first. Read again and decide again."""

    reason: ClassVar[str] = "CONFLICT"
    stream: str
    expected: int

    def message(self) -> str:  # noqa: D102
        return f"stream {self.stream} is past version {self.expected}. Try again."


@dataclass(eq=False)
class LogUnavailable(SnapshotdError):
    """The event log cannot be written. Nothing was recorded."""

    reason: ClassVar[str] = "LOG_UNAVAILABLE"
    detail: str

    def message(self) -> str:  # noqa: D102
        return (
            f"the event log cannot be written, nothing was recorded: {self.detail}. "
            "Check the disk and the daemon's log."
        )


@dataclass(eq=False)
class AppendUncertain(SnapshotdError):
    """The event log could not be written, and does not say whether it was. It takes no more until a restart."""

    reason: ClassVar[str] = "APPEND_UNCERTAIN"
    detail: str

    def message(self) -> str:  # noqa: D102
        return (
            f"the event log failed while it was written, and this may have been recorded: {self.detail}. "
            "Check the disk and start snapshotd again; then ask again with the same request_id, or look what is there."
        )


@dataclass(eq=False)
class LogIncomplete(SnapshotdError):
    """The event log lacks an event in the middle of a stream: a row was lost, and nothing of ours deletes one."""

    reason: ClassVar[str] = "LOG_INCOMPLETE"
    stream: str
    version: int
    position: int

    def message(self) -> str:  # noqa: D102
        return (
            f"the event log lacks version {self.version} of {self.stream}, which must stand before position "
            f"{self.position}. Restore events.db from a backup: nothing that follows can be relied on."
        )


@dataclass(eq=False)
class RecordNotReadable(SnapshotdError):
    """What a kind of operation or an action of a step has put on record, and this release cannot read."""

    reason: ClassVar[str] = "RECORD_NOT_READABLE"
    record: str
    problem: str

    def message(self) -> str:  # noqa: D102
        return f"Cannot read {self.record}: {self.problem}. Run the release that wrote it."


@dataclass(eq=False)
class ViewStopped(SnapshotdError):
    """A projection has stopped at an event that it could not take."""

    reason: ClassVar[str] = "VIEW_STOPPED"
    view: str
    position: int
    detail: str

    def message(self) -> str:  # noqa: D102
        return (
            f"the {self.view} view has stopped after position {self.position} of the log: {self.detail}. "
            "Commands are carried out meanwhile. When the cause is gone, stop the service and run `snapshotd check`: "
            "it makes the views again."
        )


@dataclass(eq=False)
class ViewBehind(SnapshotdError):
    """A view does not hold yet what was acknowledged."""

    reason: ClassVar[str] = "VIEW_BEHIND"
    view: str
    position: int
    wanted: int

    def message(self) -> str:  # noqa: D102
        return f"the {self.view} view holds the log up to {self.position}, and {self.wanted} is wanted. Try again."


@dataclass(eq=False)
class NotBuilt(SnapshotdError):
    """Declared in the API and not built yet."""

    reason: ClassVar[str] = "UNIMPLEMENTED"
    what: str

    def message(self) -> str:  # noqa: D102
        return f"{self.what} is not built yet."
