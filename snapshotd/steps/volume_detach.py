"""Detach the volume at a place; its file stays. Undone by attaching it there again."""

from __future__ import annotations

from snapshotd.domain.host_report import VmDescription
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import PlannedStep, Step
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import attachment
from snapshotd.steps.attachment import Input, VolumeStep


class VolumeDetach(VolumeStep):
    """Detach a volume."""

    name = attachment.DETACH
    label = "detach"
    input: Versioned[Input] = Versioned(Input)

    def shows(self, step: Step, description: VmDescription) -> bool:
        """Return whether the volume is not at its place."""
        wanted = self.input.read(step.plan.input)
        return attachment.at(description, wanted.location, wanted.path) is None

    def leaves(self, step: Step, recorded: VmDescription, observed: VmDescription) -> VmDescription:
        """Return the VM without the volume, if it was tried."""
        return attachment.without(recorded, self.input.read(step.plan.input).location) if step.attempts else recorded

    def undo(self, vm: VirtualMachine, step: Step) -> tuple[PlannedStep, ...]:
        """Return that the volume is attached again."""
        return (attachment.undoing(attachment.ATTACH, self.input.read(step.plan.input)),)

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        wanted = self.input.read(plan.input)
        return f"Detach {wanted.path} from {wanted.location}. The file stays."

    def may_lose(self, vm: VirtualMachine, plan: PlannedStep) -> str:
        """Return that a guest that runs loses what it has not written yet."""
        return "what the guest has not yet written to the volume" if vm.power is Power.RUNNING else ""


VOLUME_DETACH = VolumeDetach()
