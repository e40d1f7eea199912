"""Attach a volume at a place that is free. Undone by detaching it; its file stays."""

from __future__ import annotations

from snapshotd.domain.attached import attached_at
from snapshotd.domain.host_report import VmDescription, VmReport
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.volume_errors import PlaceTaken
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import attachment
from snapshotd.steps.action import Absent, Action, Judgement, Trace, trace
from snapshotd.steps.attachment import Before, Input


class VolumeAttach(Action):
    """Attach a volume."""

    name = attachment.ATTACH
    label = "attach"
    input: Versioned[Input] = Versioned(Input)
    facts: Versioned[Before] = Versioned(Before)

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done if the volume is at its place, and no one else can have put it there."""
        found = trace(vm, operation, step, report.journal)
        if (unseen := attachment.unseen(report, found)) is not None:
            return unseen
        there = self._there(step, report.description)
        return self.done() if there and found is not Trace.UNTOUCHED else Absent()

    def satisfied(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether the volume is at its place."""
        return self._there(step, vm.description)

    def _there(self, step: Step, description: VmDescription | None) -> bool:
        wanted = self.input.read(step.plan.input)
        return description is not None and attachment.at(description, wanted.location, wanted.path) is not None

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if the VM's power does not allow it, or something is at the place."""
        wanted = self.input.read(step.plan.input)
        if wrong := attachment.wrong_power_at(vm, wanted.location, "attach"):
            return Failure.of(wrong)
        taken = attached_at(vm.description, wanted.location) if vm.description else None
        return Failure.of(PlaceTaken(vm.name, wanted.location, taken.path)) if taken else None

    def leaves(self, step: Step, recorded: VmDescription, observed: VmDescription) -> VmDescription:
        """Return the VM with the volume, if it was tried."""
        return attachment.with_disk(recorded, self.input.read(step.plan.input)) if step.attempts else recorded

    def undo(self, vm: VirtualMachine, step: Step) -> tuple[PlannedStep, ...]:
        """Return that the volume is detached."""
        return (attachment.undoing(attachment.DETACH, self.input.read(step.plan.input)),)

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for removals, which fits small changes."""
        return policy.remove_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        wanted = self.input.read(plan.input)
        return f"Attach {wanted.path} at {wanted.location}."


VOLUME_ATTACH = VolumeAttach()
