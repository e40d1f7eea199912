"""The snapshot that a revert takes of the state before it. It comes before any loss, and no undo ever removes it.

It holds the memory of a running VM, so that going back to it brings back the running guest. It counts towards the
limits, and what forbids a snapshot forbids it. Its creation is forward-only: if it fails, the operation does, and has
lost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain import events as e
from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import PlannedStep, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.snapshot_making import (
    NAME_LIMIT,
    check_room,
    check_text,
    counted_snapshots,
    free_name,
    making,
    requested,
)
from snapshotd.steps import checkpoint_create


@dataclass(frozen=True, slots=True)
class Safety:
    """The safety snapshot that was asked for."""

    snapshot_id: SnapshotId
    """Made by the server: the core makes no ids."""
    name: str
    """Empty: `before-revert-<target>`, with a number after it if that is taken."""


def _name(vm: VirtualMachine, safety: Safety, target: Snapshot) -> str:
    return safety.name or free_name(vm, f"before-revert-{target.name}")


def check(vm: VirtualMachine, safety: Safety, target: Snapshot, policy: Policy) -> None:
    """Raise a SnapshotdError if the safety snapshot cannot be taken."""
    check_text("safety_snapshot_name", safety.name)
    running = vm.power is Power.RUNNING
    if forbidden := checkpoint_create.forbids(vm, with_memory=running, action="take a safety snapshot of"):
        raise forbidden
    check_room(vm, _name(vm, safety, target), policy)


def allocated(vm: VirtualMachine, safety: Safety, target: Snapshot) -> e.SnapshotRequested:
    """Return the event that allocates the safety snapshot."""
    description = f"Taken before the revert to {target.name}."[:NAME_LIMIT]
    name, running = _name(vm, safety, target), vm.power is Power.RUNNING
    return requested(safety.snapshot_id, name, description=description, with_memory=running)


def steps(snapshot: Snapshot) -> tuple[PlannedStep, ...]:
    """Return its steps. What a guest holds that cannot be frozen is kept too."""
    return making(snapshot, allow_fallback=True, nature=StepNature.FORWARD_ONLY)


def warning(vm: VirtualMachine, policy: Policy) -> str:
    """Return what the safety snapshot costs, for people."""
    counted = counted_snapshots(vm) + 1
    memory = " It holds the VM's memory, which takes space and time." if vm.power is Power.RUNNING else ""
    return f"The safety snapshot stays, and counts towards the limit: {counted} of {policy.max_per_vm} then.{memory}"
