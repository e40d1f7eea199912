"""Apply a checkpoint to its VM. Run again only if the disks show that it was not applied: it would destroy data.

Never satisfied beforehand: reverting to the current snapshot throws away what was written since.
"""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.host_report import VmDescription, VmReport, file_keys
from snapshotd.domain.ids import ActionName, CheckpointId
from snapshotd.domain.lifecycle import Power, StepState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Versioned
from snapshotd.steps.action import (
    Absent,
    Action,
    InProgress,
    Judgement,
    Trace,
    Undetermined,
    blocked,
    trace,
    wrong_power,
)
from snapshotd.steps.power import IN_MEMORY
from snapshotd.steps.vm_start import VM_START


@dataclass(frozen=True, slots=True)
class Input:
    """What to apply."""

    checkpoint_id: CheckpointId


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What the host must find."""

    power: Power
    checkpoint_ids: tuple[CheckpointId, ...]
    current_checkpoint_id: CheckpointId | None
    leaf_paths: tuple[str, ...]


class CheckpointRestore(Action):
    """Apply a checkpoint."""

    name = ActionName("checkpoint_restore")
    label = "restore"
    input: Versioned[Input] = Versioned(Input)
    facts: Versioned[Before] = Versioned(Before)

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return what the journal proves; if it proves nothing, compare the leaves.

        If the old leaves are in use, it was not applied. If new ones stand right above the target's disks, it was.
        """
        if report.activities:
            return InProgress()
        found = trace(vm, operation, step, report.journal)
        if found in (Trace.UNTOUCHED, Trace.DONE):
            return Absent() if found is Trace.UNTOUCHED else self.done()
        if report.description is None:
            return Undetermined("the host does not have the VM any more")
        assert step.before is not None
        old, new = file_keys(self.facts.read(step.before).leaf_paths), file_keys(report.description.leaf_paths())
        if old and old == new:
            return Absent()
        target = report.description.checkpoint(self.input.read(step.plan.input).checkpoint_id)
        if target is None:
            return Undetermined("the disks have changed, and the snapshot's checkpoint is gone")
        leaves = (report.description.file(path) for path in report.description.leaf_paths())
        below = file_keys(leaf.parent_path if leaf else "" for leaf in leaves)
        targets = file_keys(d.path for d in target.disks if d.path)
        applied = new and not old & new and below <= targets
        if applied and report.description.current_checkpoint_id == target.checkpoint_id:
            return self.done()
        return Undetermined("the disks are neither as they were nor as the snapshot has them")

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if the VM's power or a blocker does not allow it, or the checkpoint is gone."""
        return refusal(vm, self.input.read(step.plan.input).checkpoint_id)

    def claims(self, vm: VirtualMachine, step: Step) -> frozenset[Power]:
        """Return SAVED, which one that was killed leaves too (inferred). Applied without memory, it leaves STOPPED."""
        applied = step.state in (StepState.DONE, StepState.UNDETERMINED)
        stops = applied and not _with_memory(vm, step.plan)
        return frozenset({Power.SAVED, Power.STOPPED} if stops else {Power.SAVED})

    def leaves(self, step: Step, recorded: VmDescription, observed: VmDescription) -> VmDescription:
        """Return the VM with the disks and the offering of the checkpoint's moment (documented)."""
        if not step.attempts:
            return recorded
        target = recorded.checkpoint(self.input.read(step.plan.input).checkpoint_id)
        known = target.offering if target else None
        disks = target.disks if target else observed.disks
        return replace(recorded, disks=disks, offering=known or observed.offering)

    def touched(self, vm: VirtualMachine, step: Step) -> bool:
        """Return whether it was tried and has left the VM saved, as a killed one can (inferred)."""
        return step.attempts > 0 and vm.power is Power.SAVED

    def undo(self, vm: VirtualMachine, step: Step) -> tuple[PlannedStep, ...]:
        """Return a start if the VM was running, and a failed restore has left it saved."""
        assert step.before is not None, step
        if self.facts.read(step.before).power is not Power.RUNNING:
            return ()
        return (VM_START.planned(nature=StepNature.FORWARD_ONLY),)

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for reverts."""
        return policy.revert_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        return "Apply the snapshot's checkpoint to the VM."

    def may_lose(self, vm: VirtualMachine, plan: PlannedStep) -> str:
        """Return what is lost; with a checkpoint's memory also the guest's: without, a stop before it has lost that."""
        disks = "what was written to the disks since the current snapshot"
        return f"guest memory, and {disks}" if _with_memory(vm, plan) and vm.power in IN_MEMORY else disks


def _with_memory(vm: VirtualMachine, plan: PlannedStep) -> bool:
    """Return whether the snapshot that a step brings back holds memory."""
    snapshot = vm.snapshots.get(plan.snapshot_id) if plan.snapshot_id else None
    return snapshot is not None and snapshot.with_memory


def forbids(vm: VirtualMachine) -> SnapshotdError | None:
    """Return why the VM, as it was last reported, cannot be brought back to any checkpoint; None if it can."""
    return wrong_power(vm, "revert_begins", "revert") or blocked(vm, "revert")


def refusal(vm: VirtualMachine, checkpoint_id: CheckpointId) -> Failure | None:
    """Return why a checkpoint cannot be applied as things are now; None if it can."""
    if forbidden := forbids(vm):
        return Failure.of(forbidden)
    checkpoint = vm.description.checkpoint(checkpoint_id) if vm.description else None
    if vm.description is None or checkpoint is None:
        return Failure(reason="CHECKPOINT_MISSING", message="The snapshot's checkpoint is no longer on the host.")
    if damage := vm.description.damage(checkpoint):
        text = f"The snapshot's checkpoint cannot be brought back: {damage}."
        return Failure(reason="CHECKPOINT_DAMAGED", message=text)
    return None


CHECKPOINT_RESTORE = CheckpointRestore()
