"""What is said of a revert, beforehand and afterwards."""

from __future__ import annotations

import shlex
from datetime import datetime, timedelta

from snapshotd.domain.errors import VmAbsent
from snapshotd.domain.lifecycle import OperationState, Power
from snapshotd.domain.operation import Failure, Operation
from snapshotd.domain.policy import Policy
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine


def not_taken(failure: Failure) -> Failure:
    """Return why a revert fails whose safety snapshot was not taken, with that."""
    text = f"Nothing was reverted, since taking the safety snapshot did not succeed. {failure.message}"
    return replace(failure, message=text)


def how_it_stands(vm: VirtualMachine, target: Snapshot, after: Power, failure: Failure) -> Failure:
    """Return why a revert fails that has moved the disks, with how the VM stands and what brings it on.

    Args:
        vm: as it is.
        target: the snapshot.
        after: the power that the VM was to end in.
        failure: what went wrong.
    """
    name = shlex.quote(vm.name)
    if vm.power is Power.ABSENT:
        gone = VmAbsent(vm.name, "start" if after is Power.RUNNING else "turn off", vm.host_id)
        said = failure.message if failure.reason == gone.reason else f"{failure.message} {gone}"
        return replace(failure, message=f"The disks are back at snapshot {target.name}. {said}")
    start, turn_off = f"`snapshotctl vm start {name}`", f"`snapshotctl vm stop {name} --turn-off`"
    if after is Power.STOPPED:
        wanted, leads_on = "off", f"Run {turn_off}."
    elif vm.power is Power.SAVED:
        wanted, leads_on = "running", f"Run {start} to resume its memory, or {turn_off} to give its memory up."
    else:
        wanted, leads_on = "running", f"Run {start}."
    now = f"but VM {vm.name} is not {wanted}: it is {vm.power.name}"
    text = f"The disks are back at snapshot {target.name}, {now}. {failure.message} {leads_on}"
    return replace(failure, message=text)


def memory_required(vm: VirtualMachine) -> Failure:
    """Return why a revert whose caller requires the snapshot's memory does not start a VM that is off."""
    text = (
        f"The memory that the snapshot holds was lost, and the request requires it: VM {vm.name} was turned off before "
        "it could go on from it. To get the memory, revert to the snapshot again."
    )
    return Failure(reason="MEMORY_LOST", message=text)


def memory_lost(operation: Operation) -> str:
    """Return what became of the snapshot's memory, for a revert that could not go on from it."""
    if operation.state is not OperationState.SUCCEEDED:
        return "The memory that the snapshot holds was lost."
    return "The memory that the snapshot holds was lost: the VM was off by then, and was started from its disks."


def losses(target: Snapshot, after: Power, *, safety: bool) -> tuple[str, ...]:
    """Return what a revert gives up, besides what the guest holds in memory."""
    written = "What was written to the disks since the current snapshot"
    disks = f"{written} is kept in the safety snapshot only." if safety else f"{written} will be lost."
    unused = "The memory that the snapshot holds is not used: the VM ends STOPPED."
    return (disks, unused) if target.with_memory and after is Power.STOPPED else (disks,)


def out_of_date(target: Snapshot, policy: Policy, now: datetime) -> tuple[str, ...]:
    """Return what an old snapshot brings back that may be out of date; nothing if it is not old."""
    age = now - target.requested_at
    if age < timedelta(seconds=policy.old_after_s):
        return ()
    text = "The guest's domain trust, licences and clock may be out of date afterwards."
    return (f"The snapshot is {_rounded(age)} old. {text}",)


def _rounded(age: timedelta) -> str:
    return f"{age.days} days" if age.days > 1 else f"{age.total_seconds() / 3600:.0f} hours"
