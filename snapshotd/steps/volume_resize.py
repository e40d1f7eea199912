"""Give a volume another size. Judged by the size that shows; not undone: a guest may have used the room at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from snapshotd.domain.host_path import same
from snapshotd.domain.host_report import VmDescription, VmReport
from snapshotd.domain.ids import ActionName
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import attachment
from snapshotd.steps.action import Absent, Action, Judgement, Trace, trace
from snapshotd.steps.attachment import Before


@dataclass(frozen=True, slots=True)
class Input:
    """Which volume, at which place, and the size that it gets."""

    location: str
    path: str
    size_bytes: int


class VolumeResize(Action):
    """Resize a volume."""

    name = ActionName("volume_resize")
    label = "resize"
    input: Versioned[Input] = Versioned(Input)
    facts: Versioned[Before] = Versioned(Before)

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done if the volume has its size, and no one else can have given it that."""
        found = trace(vm, operation, step, report.journal)
        if (unseen := attachment.unseen(report, found)) is not None:
            return unseen
        has = self._has_it(step, report.description)
        return self.done() if has and found is not Trace.UNTOUCHED else Absent()

    def satisfied(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether the volume has its size."""
        return self._has_it(step, vm.description)

    def _has_it(self, step: Step, description: VmDescription | None) -> bool:
        wanted = self.input.read(step.plan.input)
        there = attachment.at(description, wanted.location, wanted.path) if description else None
        return there is not None and there.size_bytes == wanted.size_bytes

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if the VM's power does not allow it."""
        wrong = attachment.wrong_power_at(vm, self.input.read(step.plan.input).location, "resize")
        return Failure.of(wrong) if wrong else None

    def leaves(self, step: Step, recorded: VmDescription, observed: VmDescription) -> VmDescription:
        """Return the VM with the volume in its size, if it was tried."""
        if not step.attempts:
            return recorded
        wanted = self.input.read(step.plan.input)
        sized = (replace(f, size_bytes=wanted.size_bytes) if same(f.path, wanted.path) else f for f in recorded.files)
        return replace(recorded, files=tuple(sized))

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for removals: a fixed disk is filled with zeros as far as it grows."""
        return policy.remove_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        wanted = self.input.read(plan.input)
        return f"Give {wanted.path} at {wanted.location} a size of {wanted.size_bytes:,} bytes."


VOLUME_RESIZE = VolumeResize()
