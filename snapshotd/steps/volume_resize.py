"""Give a volume another size. Judged by the size that shows; not undone: a guest may have used the room at once."""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain.host_path import same
from snapshotd.domain.host_report import VmDescription
from snapshotd.domain.ids import ActionName
from snapshotd.domain.operation import PlannedStep, Step
from snapshotd.domain.state import replace
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import attachment
from snapshotd.steps.attachment import VolumeStep


@dataclass(frozen=True, slots=True)
class Input:
    """Which volume, at which place, and the size that it gets."""

    location: str
    path: str
    size_bytes: int


class VolumeResize(VolumeStep):
    """Resize a volume."""

    name = ActionName("volume_resize")
    label = "resize"
    input: Versioned[Input] = Versioned(Input)

    def shows(self, step: Step, description: VmDescription) -> bool:
        """Return whether the volume has its size."""
        wanted = self.input.read(step.plan.input)
        there = attachment.at(description, wanted.location, wanted.path)
        return there is not None and there.size_bytes == wanted.size_bytes

    def leaves(self, step: Step, recorded: VmDescription, observed: VmDescription) -> VmDescription:
        """Return the VM with the volume in its size, if it was tried."""
        if not step.attempts:
            return recorded
        wanted = self.input.read(step.plan.input)
        sized = (replace(f, size_bytes=wanted.size_bytes) if same(f.path, wanted.path) else f for f in recorded.files)
        return replace(recorded, files=tuple(sized))

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        wanted = self.input.read(plan.input)
        return f"Give {wanted.path} at {wanted.location} a size of {wanted.size_bytes:,} bytes."


VOLUME_RESIZE = VolumeResize()
