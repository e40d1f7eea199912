"""Detach the volume at a place; its file stays. Undone by attaching it there again."""

from __future__ import annotations

from snapshotd.domain.host_report import VmDescription, VmReport
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import attachment
from snapshotd.steps.action import Absent, Action, Judgement, Trace, trace
from snapshotd.steps.attachment import Before, Input


class VolumeDetach(Action):
    """Detach a volume."""

    name = attachment.DETACH
    label = "detach"
    input: Versioned[Input] = Versioned(Input)
    facts: Versioned[Before] = Versioned(Before)

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done if the volume is not at its place, and no one else can have detached it."""
        found = trace(vm, operation, step, report.journal)
        if (unseen := attachment.unseen(report, found)) is not None:
            return unseen
        there = self._there(step, report.description)
        return Absent() if there or found is Trace.UNTOUCHED else self.done()

    def satisfied(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether the volume is not at its place."""
        return not self._there(step, vm.description)

    def _there(self, step: Step, description: VmDescription | None) -> bool:
        wanted = self.input.read(step.plan.input)
        return description is not None and attachment.at(description, wanted.location, wanted.path) is not None

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if the VM's power does not allow it."""
        wrong = attachment.wrong_power_at(vm, self.input.read(step.plan.input).location, "detach")
        return Failure.of(wrong) if wrong else None

    def leaves(self, step: Step, recorded: VmDescription, observed: VmDescription) -> VmDescription:
        """Return the VM without the volume, if it was tried."""
        return attachment.without(recorded, self.input.read(step.plan.input).location) if step.attempts else recorded

    def undo(self, vm: VirtualMachine, step: Step) -> tuple[PlannedStep, ...]:
        """Return that the volume is attached again."""
        return (attachment.undoing(attachment.ATTACH, self.input.read(step.plan.input)),)

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for removals, which fits small changes."""
        return policy.remove_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        wanted = self.input.read(plan.input)
        return f"Detach {wanted.path} from {wanted.location}. The file stays."

    def may_lose(self, vm: VirtualMachine, plan: PlannedStep) -> str:
        """Return that a guest that runs loses what it has not written yet."""
        return "what the guest has not yet written to the volume" if vm.power is Power.RUNNING else ""


VOLUME_DETACH = VolumeDetach()
