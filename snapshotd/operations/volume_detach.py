"""DetachVolume: take a disk from a VM. Its file stays, and belongs to no VM afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.ids import KindName
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Operation, PlannedStep, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import Preview
from snapshotd.operations.volumes import VolumeChange, canonical, volume_at
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import attachment
from snapshotd.steps.volume_detach import VOLUME_DETACH


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Which volume."""

    location: str
    path: str = ""
    """What is attached there, as it was when the request was accepted; empty in a request."""


class DetachVolume(VolumeChange):
    """Detach a volume."""

    name = KindName("DETACH_VOLUME")
    params: Versioned[Params] = Versioned(Params)
    joins = True
    verb = "detach"

    def does(self, request: RequestOperation, active: Operation) -> bool:
        """Return whether an active operation detaches what is at the same place."""
        if request.kind != active.kind:
            return False
        asked, chosen = self.params.read(request.params), self.params.read(active.params)
        return canonical(asked.location) == chosen.location

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError if nothing can be detached from this place."""
        location = canonical(self.params.read(request.params).location)
        if forbidden := self.forbids(vm, location):
            raise forbidden
        volume_at(vm, location, self.verb)

    def resolved(self, vm: VirtualMachine, request: RequestOperation, now: datetime) -> RequestOperation:
        """Return the request with what is attached there."""
        asked = self.params.read(request.params)
        location = canonical(asked.location)
        return self.request(replace(asked, location=location, path=volume_at(vm, location, self.verb).path))

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return one step."""
        asked = self.params.read(request.params)
        return (VOLUME_DETACH.planned(attachment.Input(asked.location, asked.path), nature=StepNature.UNDOABLE),)

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return that a guest that runs loses the disk at once."""
        text = "The guest runs, and loses the disk at once: take it offline in the guest first."
        warnings = (text,) if vm.power is Power.RUNNING else ()
        return Preview(current=vm.current_id, power=vm.power, warnings=warnings)


DETACH_VOLUME = DetachVolume()
