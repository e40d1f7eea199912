"""Rename a checkpoint: to have its marker, or to have its snapshot's new name."""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain.host_report import Checkpoint, VmDescription, VmReport
from snapshotd.domain.ids import ActionName, CheckpointId
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.recorded import JsonObject
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports import plain
from snapshotd.ports.versioned import Versioned
from snapshotd.steps.action import Absent, Action, InProgress, Judgement, power_refusal
from snapshotd.steps.checkpoint_create import CHECKPOINT_CREATE
from snapshotd.steps.checkpoint_name import unmarked


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What to rename, and how."""

    checkpoint_id: CheckpointId | None = None
    """None in the plan: it is the one that the operation makes."""
    checkpoint_name: str


@dataclass(frozen=True, slots=True)
class Before:
    """What the host must find."""

    checkpoint_ids: tuple[CheckpointId, ...]


class CheckpointRename(Action):
    """Rename a checkpoint."""

    name = ActionName("checkpoint_rename")
    label = "rename"
    made_up = frozenset({"checkpoint_name"})
    input: Versioned[Input] = Versioned(Input)
    facts: Versioned[Before] = Versioned(Before)

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Look at the checkpoint's name."""
        if report.activities:
            return InProgress()
        there = self._there(operation, step, report.description)
        named = there is not None and there.name == self.input.read(step.plan.input).checkpoint_name
        return self.done() if named else Absent()

    def sent(self, operation: Operation, step: Step) -> JsonObject:
        """Return the name, and the checkpoint that the operation has made."""
        planned = self.input.read(step.plan.input)
        return plain.encode(replace(planned, checkpoint_id=self._target(operation, step)))

    def satisfied(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Skip if the checkpoint has the name already, or is gone."""
        there = self._there(operation, step, vm.description)
        return there is None or there.name == self.input.read(step.plan.input).checkpoint_name

    def _there(self, operation: Operation, step: Step, description: VmDescription | None) -> Checkpoint | None:
        return description.checkpoint(self._target(operation, step)) if description else None

    def _target(self, operation: Operation, step: Step) -> CheckpointId | None:
        made = CHECKPOINT_CREATE.made_by(operation)
        return self.input.read(step.plan.input).checkpoint_id or (made.checkpoint_id if made else None)

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if the VM's power is not known, or its host does not have it."""
        return power_refusal(vm, "reconfiguration_begins", "rename a checkpoint of")

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for removals, which fits small changes."""
        return policy.remove_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it does, without the marker, whose id each call may make up."""
        planned = self.input.read(plan.input)
        if planned.checkpoint_id is None:
            return "Mark the checkpoint as ours, if it was found under the host's own name."
        return f"Rename the checkpoint to {unmarked(planned.checkpoint_name)!r}, marked as ours."


CHECKPOINT_RENAME = CheckpointRename()
