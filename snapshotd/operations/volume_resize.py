"""ResizeVolume: grow a volume; shrink it only if that is asked for by name, and not below what its host allows.

Never one that stands on another file, or that another stands on: that would break the chain (documented).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from snapshotd.domain.attached import Attached, stands_on
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.errors import WrongPower
from snapshotd.domain.host_path import suffix
from snapshotd.domain.ids import KindName
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import PlannedStep, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.volume_errors import VolumeNotResizable
from snapshotd.operations.kind import Preview
from snapshotd.operations.volumes import VolumeChange, canonical, check_size, volume_at
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import volume_resize
from snapshotd.steps.volume_resize import VOLUME_RESIZE

_DIFFERENCING = "Differencing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Which volume, and its new size."""

    location: str
    size_bytes: int
    allow_shrink: bool = False
    path: str = ""
    """What is attached there, as it was when the request was accepted; empty in a request."""


class ResizeVolume(VolumeChange):
    """Resize a volume."""

    name = KindName("RESIZE_VOLUME")
    params: Versioned[Params] = Versioned(Params)
    verb = "resize"

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError if the volume at this place cannot have that size."""
        asked = self.params.read(request.params)
        location = canonical(asked.location)
        if forbidden := self.forbids(vm, location):
            raise forbidden
        there = volume_at(vm, location, self.verb)
        check_size(asked.size_bytes, there.path)
        if suffix(there.path) == ".vhd" and vm.power is not Power.STOPPED:
            action = f"resize the volume at {location}, which is no VHDX, of"
            raise WrongPower(vm.name, vm.power.name, Power.STOPPED.name, action, vm.host_id)
        if why := _why_not(vm, there, asked):
            raise VolumeNotResizable(vm.name, location, there.path, why)

    def resolved(self, vm: VirtualMachine, request: RequestOperation, now: datetime) -> RequestOperation:
        """Return the request with what is attached there."""
        asked = self.params.read(request.params)
        location = canonical(asked.location)
        return self.request(replace(asked, location=location, path=volume_at(vm, location, self.verb).path))

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return one step, which is not taken back."""
        asked = self.params.read(request.params)
        wanted = volume_resize.Input(asked.location, asked.path, asked.size_bytes)
        return (VOLUME_RESIZE.planned(wanted, nature=StepNature.PIVOT),)

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return that the guest has to extend its partitions itself."""
        text = "The guest sees the room, and has to extend its partitions itself."
        asked = self.params.read(request.params)
        grows = asked.size_bytes > volume_at(vm, canonical(asked.location), self.verb).size_bytes
        return Preview(current=vm.current_id, power=vm.power, warnings=(text,) if grows else ())


def _why_not(vm: VirtualMachine, there: Attached, asked: Params) -> str:
    """Return why a volume cannot have a size, for people; empty: it can."""
    assert vm.description is not None, vm.vm_id
    file = vm.description.file(there.path)
    if file is None or not there.size_bytes:
        return f"its host has not told its size. Run `snapshotctl host sync {vm.host_id}`"
    if file.parent_path or file.vhd_type == _DIFFERENCING:
        return f"it is a differencing disk, which stands on {file.parent_path or 'another file'}"
    if above := sorted(stands_on(vm.description, there.path)):
        return f"{above[0]} stands on it"
    now, wanted = there.size_bytes, asked.size_bytes
    if wanted == now:
        return f"it has {now:,} bytes already"
    if wanted > now:
        return ""
    if not asked.allow_shrink:
        return f"it has {now:,} bytes, so {wanted:,} would shrink it. Ask for that by name (--allow-shrink)"
    if suffix(there.path) != ".vhdx":
        return "only a VHDX can be shrunk"
    if wanted < file.minimum_bytes:
        return f"its partitions need {file.minimum_bytes:,} bytes, and {wanted:,} is less. Shrink them in the guest"
    return "" if file.minimum_bytes else "its host does not tell how far it can be shrunk"


RESIZE_VOLUME = ResizeVolume()
