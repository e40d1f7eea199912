"""What attaching, detaching and resizing a volume have in common: the place, the power needed there, and the judgement.

A disk on SCSI can be attached and detached while the VM runs, one on IDE only while it is off (documented).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Final, Protocol

from snapshotd.domain.attached import Attached, Controller, attached_at, place_of
from snapshotd.domain.errors import VmAbsent, WrongPower
from snapshotd.domain.host_path import same
from snapshotd.domain.host_report import Disk, VmDescription, VmReport
from snapshotd.domain.ids import ActionName
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.recorded import Recorded
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports import plain
from snapshotd.ports.versioned import Versioned
from snapshotd.steps.action import (
    Absent,
    Action,
    InProgress,
    Judgement,
    Trace,
    Undetermined,
    power_outside,
    trace,
)

ATTACH: Final = ActionName("volume_attach")
DETACH: Final = ActionName("volume_detach")
"""Named here, since attaching is undone by detaching, and the other way round."""
_OFF: Final = frozenset({Power.STOPPED})
_OFF_OR_ON: Final = frozenset({Power.STOPPED, Power.RUNNING})


@dataclass(frozen=True, slots=True)
class Input:
    """Which volume, and at which place."""

    location: str
    path: str


@dataclass(frozen=True, slots=True)
class Before:
    """What the host must find."""

    drives: tuple[str, ...]
    """The VM's disks, each as "SCSI:0:1=path"."""


class Placed(Protocol):
    """An Input that names a place."""

    @property
    def location(self) -> str:
        """The place, as it is recorded."""


class VolumeStep(Action):
    """Change what is attached at a place: it shows in the VM, and is the step's doing unless that was never begun."""

    input: Versioned[Placed]
    facts: Versioned[Before] = Versioned(Before)

    @abstractmethod
    def shows(self, step: Step, description: VmDescription) -> bool:
        """Return whether a VM is as the step wants it."""

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done if the VM is as the step wants it, and no one else can have made it so."""
        found = trace(vm, operation, step, report.journal)
        if report.activities:
            return InProgress()
        if report.description is None:
            untouched = found is Trace.UNTOUCHED
            return Absent() if untouched else Undetermined("the host does not have the VM any more")
        return self.done() if self.shows(step, report.description) and found is not Trace.UNTOUCHED else Absent()

    def satisfied(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether the VM is as the step wants it."""
        return vm.description is not None and self.shows(step, vm.description)

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if the VM's power does not allow it."""
        wrong = wrong_power_at(vm, self.input.read(step.plan.input).location, self.label)
        return Failure.of(wrong) if wrong else None

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for removals: it fits small changes, and a fixed disk filled as it grows."""
        return policy.remove_wait_s


def undoing(action: ActionName, values: Input) -> PlannedStep:
    """Return the step that undoes the other one of the two."""
    return PlannedStep(number=0, action=action, input=Recorded(1, plain.encode(values)), nature=StepNature.FORWARD_ONLY)


def wrong_power_at(vm: VirtualMachine, location: str, verb: str) -> WrongPower | VmAbsent | None:
    """Return why the VM's power does not allow a change at a place; None if it does.

    Args:
        vm: the VM.
        location: the place.
        verb: what cannot be done there then: "attach", "detach", "resize".
    """
    place = place_of(location)
    allowed = _OFF if place is not None and place.controller is Controller.IDE else _OFF_OR_ON
    return power_outside(vm, allowed, f"{verb} a volume at {location} of")


def at(description: VmDescription, location: str, path: str) -> Attached | None:
    """Return the volume at a place, if it is the one of that path."""
    there = attached_at(description, location)
    return there if there is not None and same(there.path, path) else None


def without(description: VmDescription, location: str) -> VmDescription:
    """Return a VM without the disk at a place."""
    return replace(description, disks=tuple(d for d in description.disks if d.location != location))


def with_disk(description: VmDescription, values: Input) -> VmDescription:
    """Return a VM with a disk at a place."""
    added = Disk(location=values.location, path=values.path)
    kept = without(description, values.location).disks
    return replace(description, disks=tuple(sorted((*kept, added), key=lambda d: d.location)))
