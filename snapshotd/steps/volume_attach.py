"""Attach a volume at a place that is free. Undone by detaching it; its file stays."""

from __future__ import annotations

from snapshotd.domain.attached import attached_at
from snapshotd.domain.host_report import VmDescription
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.volume_errors import PlaceTaken
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import attachment
from snapshotd.steps.attachment import Input, VolumeStep


class VolumeAttach(VolumeStep):
    """Attach a volume."""

    name = attachment.ATTACH
    label = "attach"
    input: Versioned[Input] = Versioned(Input)

    def shows(self, step: Step, description: VmDescription) -> bool:
        """Return whether the volume is at its place."""
        wanted = self.input.read(step.plan.input)
        return attachment.at(description, wanted.location, wanted.path) is not None

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if the VM's power does not allow it, or something is at the place."""
        if wrong := super().refusal(vm, operation, step):
            return wrong
        wanted = self.input.read(step.plan.input)
        taken = attached_at(vm.description, wanted.location) if vm.description else None
        return Failure.of(PlaceTaken(vm.name, wanted.location, taken.path)) if taken else None

    def leaves(self, step: Step, recorded: VmDescription, observed: VmDescription) -> VmDescription:
        """Return the VM with the volume, if it was tried."""
        return attachment.with_disk(recorded, self.input.read(step.plan.input)) if step.attempts else recorded

    def undo(self, vm: VirtualMachine, step: Step) -> tuple[PlannedStep, ...]:
        """Return that the volume is detached."""
        return (attachment.undoing(attachment.DETACH, self.input.read(step.plan.input)),)

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        wanted = self.input.read(plan.input)
        return f"Attach {wanted.path} at {wanted.location}."


VOLUME_ATTACH = VolumeAttach()
