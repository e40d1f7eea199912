"""Make a checkpoint. Undone by its removal, and the wait for its merge.

The checkpoint bears a marker in its name (`checkpoint_name`). Hyper-V makes a checkpoint first and names it in a
second call (source read), so a script that dies in between leaves one under its default name. Such a newcomer is
adopted only if all evidence fits (`_is_like_ours`); else the outcome is undetermined, and nothing is run again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from snapshotd.domain.errors import (
    MemoryNeedsRunningVm,
    SnapshotdError,
    VmCritical,
)
from snapshotd.domain.host_report import Checkpoint, VmReport
from snapshotd.domain.ids import CheckpointId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import HYPERV_CHECKPOINT_LIMIT, Policy
from snapshotd.domain.snapshot_errors import (
    CheckpointLimitReached,
    CheckpointsDisabled,
)
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import checkpoint_remove
from snapshotd.steps.action import (
    Absent,
    Action,
    Done,
    InProgress,
    Judgement,
    Trace,
    Undetermined,
    blocked,
    trace,
    wrong_power,
)
from snapshotd.steps.checkpoint_name import marker_in
from snapshotd.steps.disks_merge import DISKS_MERGE
from snapshotd.steps.made_checkpoint import NAME, OUTPUT, Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What checkpoint to make."""

    checkpoint_name: str
    """With its marker."""
    with_memory: bool
    allow_fallback: bool
    """Make one with memory if the guest cannot be frozen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What the host must find."""

    power: Power
    checkpoint_ids: tuple[CheckpointId, ...]
    current_checkpoint_id: CheckpointId | None


class CheckpointCreate(Action):
    """Make a checkpoint."""

    name = NAME
    label = "checkpoint"
    made_up = frozenset({"checkpoint_name"})
    input: Versioned[Input] = Versioned(Input)
    facts: Versioned[Before] = Versioned(Before)
    output: Versioned[Output] = OUTPUT

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done if a newcomer has our marker, or the only newcomer can only be ours."""
        if report.activities:
            return InProgress()
        found = trace(vm, operation, step, report.journal)
        if report.description is None:
            return Absent() if found is Trace.UNTOUCHED else Undetermined("the host does not have the VM any more")
        assert step.before is not None
        before = self.facts.read(step.before)
        new = [c for c in report.description.checkpoints if c.checkpoint_id not in before.checkpoint_ids]
        if (marked := self._marked(step, new)) is not None:
            return marked
        if not new and found is not Trace.DONE:
            return Absent()
        if found is Trace.NO_EVIDENCE:
            return Undetermined("the journal was replaced, and a checkpoint has appeared")
        if found is Trace.DONE:
            return Undetermined("the checkpoint was made, and which one it was is not on record any more")
        if found is Trace.UNTOUCHED:
            return Absent()
        alike = [c for c in new if _is_like_ours(vm, before, c)]
        if found is Trace.BEGUN_BEFORE and not alike:
            return Absent()
        if found is Trace.BEGUN and len(new) == len(alike) == 1:
            return self.done(Output(new[0].checkpoint_id, new[0].has_memory))
        return Undetermined(f"{len(new)} checkpoints have appeared, and none bears our marker")

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return why the VM cannot be checkpointed now, by the rules that a request is accepted by."""
        forbidden = forbids(vm, with_memory=self.input.read(step.plan.input).with_memory)
        return Failure.of(forbidden) if forbidden else None

    def made_by(self, operation: Operation) -> Output | None:
        """Return the checkpoint that an operation has made; None if it has made none."""
        recorded = operation.output_of(self.name)
        return self.output.read(recorded) if recorded else None

    def believable(self, vm: VirtualMachine, step: Step, done: Done) -> bool:
        """Return whether the checkpoint can be the step's: it was not there before, and is no other snapshot's."""
        made = self.output.read(done.output).checkpoint_id
        before = self.facts.read(step.before).checkpoint_ids if step.before else ()
        owner = vm.by_checkpoint(made)
        return made not in before and (owner is None or owner.snapshot_id == step.plan.snapshot_id)

    def settled(self, vm: VirtualMachine, step: Step) -> Done | None:
        """Return the checkpoint with our marker that the VM was last reported with."""
        return self._marked(step, vm.description.checkpoints) if vm.description else None

    def _marked(self, step: Step, checkpoints: Iterable[Checkpoint]) -> Done | None:
        tail = marker_in(self.input.read(step.plan.input).checkpoint_name)
        marked = next((c for c in checkpoints if c.name.endswith(tail)), None)
        return self.done(Output(marked.checkpoint_id, marked.has_memory)) if marked else None

    def made(self, step: Step) -> frozenset[CheckpointId]:
        """Return the checkpoint, once it is there."""
        return frozenset({self.output.read(step.output).checkpoint_id} if step.output else ())

    def undo(self, vm: VirtualMachine, step: Step) -> tuple[PlannedStep, ...]:
        """Return the checkpoint's removal, and the wait for its merge."""
        assert step.output is not None, step
        remove = checkpoint_remove.Input(self.output.read(step.output).checkpoint_id)
        snapshot_id, nature = step.plan.snapshot_id, StepNature.FORWARD_ONLY
        return (
            checkpoint_remove.CHECKPOINT_REMOVE.planned(remove, nature=nature, snapshot_id=snapshot_id),
            DISKS_MERGE.planned(nature=nature, snapshot_id=snapshot_id),
        )

    def time_limit_s(self, policy: Policy) -> float:
        """Return `snapshots.create_wait`."""
        return policy.create_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        if plan.snapshot_id is None:
            return "Freeze the VM's disks by a temporary checkpoint. It is no snapshot, and is removed afterwards."
        return "Take a checkpoint of the VM."


def forbids(vm: VirtualMachine, *, with_memory: bool, action: str = "take a snapshot of") -> SnapshotdError | None:
    """Return why the VM, as it was last reported, cannot be checkpointed; None if it can.

    Args:
        vm: the VM.
        with_memory: whether its memory is wanted too.
        action: what cannot be done then, as a verb phrase.
    """
    assert vm.description is not None
    checkpoints = len(vm.description.checkpoints)
    if wrong := wrong_power(vm, "snapshot_begins", action):
        return wrong
    if with_memory and vm.power is not Power.RUNNING:
        return MemoryNeedsRunningVm(vm.name, vm.power.name)
    if vm.description.checkpoint_type == "Disabled":
        return CheckpointsDisabled(vm.name, vm.host_id)
    if vm.description.critical:
        return VmCritical(vm.name, vm.host_id)
    if found := blocked(vm, action):
        return found
    if checkpoints >= HYPERV_CHECKPOINT_LIMIT:
        return CheckpointLimitReached(vm.name, checkpoints, HYPERV_CHECKPOINT_LIMIT)
    return None


def _is_like_ours(vm: VirtualMachine, before: Before, new: Checkpoint) -> bool:
    """Return whether an unmarked newcomer looks as our script leaves it when it dies between its two calls.

    Its time does not count: the script has compared the checkpoints with `before` when it began, so a newcomer is
    younger than that, whatever the host's clock says. Clocks are set, and go through an hour twice in autumn.
    """
    by_default_name = re.fullmatch(re.escape(vm.name) + r" (- )?\(.+\)", new.name) is not None
    plain = new.checkpoint_type == "Standard" and not new.automatic
    return plain and new.parent_id == before.current_checkpoint_id and by_default_name


CHECKPOINT_CREATE = CheckpointCreate()
