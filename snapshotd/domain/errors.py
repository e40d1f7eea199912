"""Every error that a caller can be told, each with a reason and its values. Knows nothing of gRPC.

A message has three parts: what cannot be done, why, and what to do.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from string import Formatter
from typing import ClassVar, Final


class _Text(Formatter):
    """Writes values into a text. `{vm!q}` is one word of a command for a shell, whatever blanks the name has."""

    def convert_field(self, value: object, conversion: str | None) -> object:
        """Return a value in the form that a conversion asks for."""
        return shlex.quote(str(value)) if conversion == "q" else super().convert_field(value, conversion)


_TEXT: Final = _Text()
DEFECT: Final = "INTERNAL"
"""The reason of a defect of ours."""
_LONGEST: Final = 300
"""Characters of a defect that are shown."""


class SnapshotdError(Exception):
    """The root of all errors that a caller can be told."""

    text: ClassVar[str]
    """The message, with the names of the fields in braces for their values: `{vm}`; in commands `{vm!q}`."""
    rests_on_host: ClassVar[bool] = False
    """It rests on what the host was like when it was last looked at: another look may lift it."""
    ground: str = ""
    """How old what it rests on is, for people."""

    @property
    def reason(self) -> str:
        """The error's name, UPPER_SNAKE and stable: programs match on it."""
        return DEFECT

    def __str__(self) -> str:
        """Return the message for people, and how old its ground is."""
        return f"{self.message()} {self.ground}".rstrip()

    def message(self) -> str:
        """Return what cannot be done, why, and what to do."""
        return _TEXT.vformat(self.text, (), vars(self))

    def metadata(self) -> dict[str, str]:
        """Return the error's values by name, for programs."""
        return {f.name: str(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]  # leaves are dataclasses


def told(error: Exception) -> tuple[str, str]:
    """Return the reason and the message of an error; of a defect, one line that leads to its traceback."""
    if isinstance(error, SnapshotdError):
        return error.reason, error.message()
    first = next(iter(str(error).splitlines()), "")
    said = f"{type(error).__name__}: {first}"[:_LONGEST].removesuffix(": ")
    return DEFECT, f"snapshotd has a defect ({said}). Its traceback is in the daemon's log."


@dataclass(eq=False)
class IllegalTransition(SnapshotdError):
    """An arrow that is not in a lifecycle's table."""

    reason: ClassVar[str] = "ILLEGAL_STATE"
    lifecycle: str
    trigger: str
    state: str

    def message(self) -> str:  # noqa: D102  (said once on the root; so below)
        return f"Cannot apply {self.trigger.replace('_', ' ')!r}: this {self.lifecycle} is {self.state}."


HIDDEN: Final = "(hidden)"
"""Stands for a value that must not be shown, since it may be a secret in the wrong place."""


@dataclass(eq=False)
class InvalidArgument(SnapshotdError):
    """A field of the request that is wrong whatever the state of the world."""

    reason: ClassVar[str] = "INVALID_ARGUMENT"
    field: str
    value: str
    problem: str

    def message(self) -> str:  # noqa: D102
        shown = self.field if self.value == HIDDEN else f"{self.field} {self.value!r}"
        return f"Cannot accept {shown}: {self.problem}"


@dataclass(eq=False)
class NotFound(SnapshotdError):
    """A resource that is not on record."""

    kind: str
    name: str
    hint: str = ""

    @property
    def reason(self) -> str:
        """Return what was not found: VIRTUAL_MACHINE_NOT_FOUND, SNAPSHOT_NOT_FOUND, ..."""
        return f"{self.kind.upper().replace(' ', '_')}_NOT_FOUND"

    def message(self) -> str:  # noqa: D102
        return f"Cannot find {self.kind} {self.name!r}: it is not on record. {self.hint}".rstrip()


@dataclass(eq=False)
class AlreadyExists(SnapshotdError):
    """A name or id that is taken."""

    kind: str
    name: str
    hint: str = ""

    @property
    def reason(self) -> str:
        """Return what exists already: VIRTUAL_MACHINE_EXISTS, SNAPSHOT_EXISTS, HOST_EXISTS."""
        return f"{self.kind.upper().replace(' ', '_')}_EXISTS"

    def message(self) -> str:  # noqa: D102
        return f"Cannot add {self.kind} {self.name!r}: it exists already. {self.hint}".rstrip()


def registered_already(vm_id: str) -> AlreadyExists:
    """Return what refuses to register a VM again. It does not tell where the VM is: not everybody may see that."""
    hint = f"It is registered, on this host or another. `snapshotctl vm show {vm_id}` tells, if you may see it."
    return AlreadyExists("virtual machine", vm_id, hint)


@dataclass(eq=False)
class RequestIdReused(SnapshotdError):
    """A request id that came before with another request."""

    reason: ClassVar[str] = "REQUEST_ID_REUSED"
    text: ClassVar[str] = (
        "Cannot accept request id {request_id}: another request used it. Use a new UUID for each request."
    )
    request_id: str


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
            f"Cannot change VM {self.vm}: {self.operation} is active on it ({self.kind}, at step {self.step}, "
            f"requested {self.age_s} s ago by {self.owner or 'unknown'}). "
            f"Wait for it (`snapshotctl operation wait {self.operation}`), or cancel it (`snapshotctl operation cancel "
            f"{self.operation}`), then try again."
        )


@dataclass(eq=False)
class PlanChanged(SnapshotdError):
    """The request would lead to something else by now than its caller has seen."""

    reason: ClassVar[str] = "PLAN_CHANGED"
    vm: str
    expected: str
    etag: str

    def message(self) -> str:  # noqa: D102
        return (
            f"Cannot carry out the plan {self.expected} for VM {self.vm}: what would be done now is another one "
            f"({self.etag}). Nothing was done. Look at the new plan (the same command with --dry-run), then ask for it."
        )


@dataclass(eq=False)
class MergePending(SnapshotdError):
    """The host is still merging disks after an earlier delete."""

    reason: ClassVar[str] = "MERGE_PENDING"
    text: ClassVar[str] = (
        "Cannot change the snapshots of VM {vm}, or unregister it: its host still merges disks for "
        "{operation} (requested {age_s} s ago). Wait for that (`snapshotctl operation wait {operation}`); if the host "
        "will never answer, settle it"
        " (`snapshotctl operation settle {operation} given-up --reason TEXT`). Start and stop work meanwhile."
    )
    vm: str
    operation: str
    age_s: int


@dataclass(eq=False)
class WrongPower(SnapshotdError):
    """The VM's power does not allow what was asked. `action` is a verb phrase: "start", "turn off"."""

    reason: ClassVar[str] = "WRONG_POWER_STATE"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot {action} VM {vm}: its power state is {power}. It must be {needed}. "
        "Run `snapshotctl host sync {host}` to look again."
    )
    vm: str
    power: str
    needed: str
    action: str
    host: str


@dataclass(eq=False)
class VmAbsent(SnapshotdError):
    """The host, asked for the VM, does not show it. `action` is a verb phrase: "start", "turn off"."""

    reason: ClassVar[str] = "VM_ABSENT"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot {action} VM {vm}: host {host} does not show it to this account. It was deleted or moved, or the "
        "account lost its rights to it. If it is there again, run `snapshotctl host sync {host}`; if it was moved to "
        "another host, sync that one, which has to be registered for that; if it is gone for good, run "
        "`snapshotctl vm unregister {vm!q}`."
    )
    vm: str
    action: str
    host: str


@dataclass(eq=False)
class MemoryNeedsRunningVm(SnapshotdError):
    """Memory was asked for and the VM is not running."""

    reason: ClassVar[str] = "MEMORY_NEEDS_RUNNING_VM"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot capture the memory of VM {vm}: its power state is {power}. It must be RUNNING. "
        "Start it (`snapshotctl vm start {vm!q}`), or take a snapshot without memory."
    )
    vm: str
    power: str


@dataclass(eq=False)
class PowerChangeRefused(SnapshotdError):
    """A revert would change the VM's power, and the caller asked for refusal."""

    reason: ClassVar[str] = "POWER_STATE_CHANGE_REFUSED"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot revert VM {vm}: its power state would change from {power} to {power_after}, and "
        "the request refuses such a change. Bring it to that power state first (`snapshotctl vm start {vm!q}`, "
        "`snapshotctl vm stop {vm!q}`), or allow the change."
    )
    vm: str
    power: str
    power_after: str


@dataclass(eq=False)
class VmCritical(SnapshotdError):
    """The VM is in one of Hyper-V's critical states."""

    reason: ClassVar[str] = "VM_CRITICAL"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot take a snapshot of VM {vm}: Hyper-V reports it as critical. Its storage or configuration cannot be "
        "reached, or its volume is full. See to that on its host, then run `snapshotctl host sync {host}`; deleting "
        "snapshots frees space."
    )
    vm: str
    host: str


@dataclass(eq=False)
class CancelTooLate(SnapshotdError):
    """The operation can no longer be cancelled."""

    reason: ClassVar[str] = "CANCEL_TOO_LATE"
    text: ClassVar[str] = "Cannot cancel {operation}, which is {state}: {why}."
    operation: str
    state: str
    why: str


@dataclass(eq=False)
class VmNameAmbiguous(SnapshotdError):
    """Several VMs on a host have the name that was asked for."""

    reason: ClassVar[str] = "VM_NAME_AMBIGUOUS"
    text: ClassVar[str] = "Cannot choose a VM: host {host} has several named {name!r}. Give the id of one: {ids}."
    name: str
    host: str
    ids: str


@dataclass(eq=False)
class VmChanging(SnapshotdError):
    """A report that cannot be compared with the record, because an operation was at work on the VM."""

    reason: ClassVar[str] = "VM_CHANGING"
    text: ClassVar[str] = (
        "Cannot compare VM {vm} with the record: an operation was at work. Try again when it has ended."
    )
    vm: str


@dataclass(eq=False)
class LogRolledBack(SnapshotdError):
    """The journal on the host knows a token that this log has not issued: the log is older than the host."""

    reason: ClassVar[str] = "LOG_ROLLED_BACK"
    text: ClassVar[str] = (
        "Cannot change VM {vm}: snapshotd's log is older than the VM's journal on its host (token {token}), as after a "
        "restore from a backup, or when another installation has worked on the VM. What was done since is not on "
        "record, so the VM is only observed. Put the newer log back, or take the VM over (`snapshotctl vm take-over "
        "{vm!q}`). Reading, cancelling operations and unregistering the VM work meanwhile."
    )
    vm: str
    token: int


@dataclass(eq=False)
class ClaimedByTwoHosts(SnapshotdError):
    """Another host has the VM too, or its own cannot be asked whether it still has it."""

    reason: ClassVar[str] = "CLAIMED_BY_TWO_HOSTS"
    rests_on_host: ClassVar[bool] = True
    vm: str
    host: str
    claimants: str
    """The other hosts, each a word."""
    unasked: str = ""
    """Why `host` cannot be asked, as a reason; empty: it has the VM."""

    def message(self) -> str:  # noqa: D102
        first = self.claimants.split(", ")[0]
        if not self.unasked:
            return (
                f"Cannot change VM {self.vm}: {self.host} and {self.claimants} each have it, and nothing is done to it "
                "until only one does. Find out where it belongs, remove it from the other in Hyper-V (its disks may be "
                f"the same files), then run `snapshotctl host sync {first}`."
            )
        vm = shlex.quote(self.vm)
        return (
            f"Cannot change VM {self.vm}: {self.claimants} has it, and {self.host}, where it was, cannot be asked "
            f"whether it still has it ({self.unasked}). Make {self.host} reachable, then run "
            f"`snapshotctl host sync {first}`. If {self.host} is gone for good, end the VM's operations "
            f"(`snapshotctl operation list --vm {vm} --active`), run `snapshotctl vm unregister {vm}`, then "
            f"`snapshotctl vm register {first} {vm}`."
        )


@dataclass(eq=False)
class NotBuilt(SnapshotdError):
    """A part of the API that is declared and not built yet."""

    reason: ClassVar[str] = "UNIMPLEMENTED"
    text: ClassVar[str] = "Cannot serve {what}: it is not built yet."
    what: str
