"""What a request would lead to, for people to judge beforehand: who moves, what becomes current, what is lost. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain.commands import CreateSnapshot, DeleteSnapshot, OperationRequest, RevertToSnapshot
from snapshotd.domain.ids import SnapshotId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import PlannedStep, StepAction, StepNature
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.snapshot_revert import power_after

_IN_MEMORY = frozenset({Power.RUNNING, Power.PAUSED, Power.SAVED})
"""A VM in one of these has memory to lose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A request's effects beside its steps."""

    moved: tuple[tuple[SnapshotId, SnapshotId | None], ...] = ()
    """Snapshots that get another parent, with the new one."""
    current: SnapshotId | None
    power: Power
    discarded: tuple[SnapshotId, ...] = ()
    """Snapshots that would be gone."""
    memory_lost: bool = False
    """What the guest holds in memory would be lost."""
    warnings: tuple[str, ...] = ()


def preview(vm: VirtualMachine, request: OperationRequest) -> Preview:
    """Return what an acceptable request would lead to."""
    match request:
        case CreateSnapshot():
            warnings = []
            if vm.power is Power.RUNNING and not request.with_memory and request.allow_fallback:
                warnings.append("If the guest cannot be frozen, a snapshot with memory is kept instead.")
            return Preview(current=request.snapshot_id, power=vm.power, warnings=tuple(warnings))
        case RevertToSnapshot():
            snapshot = vm.snapshots[request.snapshot_id]
            lost = "What was written to the disks since the current snapshot is lost."
            return Preview(
                current=request.snapshot_id,
                power=power_after(snapshot),
                memory_lost=vm.power in _IN_MEMORY,
                warnings=(lost,),
            )
        case DeleteSnapshot():
            snapshot = vm.snapshots[request.snapshot_id]
            children = vm.children(request.snapshot_id)
            current = snapshot.parent_id if vm.current_id == request.snapshot_id else vm.current_id
            return Preview(
                moved=tuple((c.snapshot_id, snapshot.parent_id) for c in children),
                current=current,
                power=vm.power,
                discarded=(request.snapshot_id,),
            )
        case _:
            return Preview(current=vm.current_id, power=vm.power)


def may_lose(vm: VirtualMachine, step: PlannedStep) -> str:
    """Return what a step may lose, for people; empty: nothing."""
    if step.action is StepAction.RESTORE:
        return "what was written to the disks since the current snapshot"
    if step.action is StepAction.STOP and step.nature is not StepNature.FORWARD_ONLY and vm.power in _IN_MEMORY:
        return "guest memory"
    return ""
