"""AttachVolume: give a VM one more disk, a new one or one that is there.

    create disk → attach        a new disk: if it cannot be attached, the file that was made is deleted again
    attach                      a file that is there: it stays, whatever comes of it

The place may be left open. Then the first free one of the VM's SCSI controllers is chosen when the request is accepted,
and is on record from then on. The claim on the path is made before that (server/claiming.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from snapshotd.domain.attached import SUFFIXES, attached, attached_at, free_place, has_file
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.errors import InvalidArgument
from snapshotd.domain.host_path import problem, same, suffix
from snapshotd.domain.ids import KindName
from snapshotd.domain.operation import Operation, PlannedStep, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.volume_errors import NoFreePlace, PlaceTaken, VolumeAttached
from snapshotd.operations.volumes import VolumeChange, canonical, check_size
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import attachment, disk_create
from snapshotd.steps.disk_create import DISK_CREATE
from snapshotd.steps.volume_attach import VOLUME_ATTACH


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """Which file, where, and whether it is to be made."""

    path: str
    location: str = ""
    """Empty in a request: the first free place."""
    size_bytes: int = 0
    """Of a new disk; 0: the file is there."""


class AttachVolume(VolumeChange):
    """Attach a volume."""

    name = KindName("ATTACH_VOLUME")
    params: Versioned[Params] = Versioned(Params)
    joins = True
    verb = "attach"

    def does(self, request: RequestOperation, active: Operation) -> bool:
        """Return whether an active operation attaches the same, at the place that is asked for, if one is."""
        if request.kind != active.kind:
            return False
        asked, chosen = self.params.read(request.params), self.params.read(active.params)
        place = asked.location in ("", chosen.location)
        return place and same(asked.path, chosen.path) and asked.size_bytes == chosen.size_bytes

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError if the VM cannot get this volume, or not at this place."""
        asked = self.params.read(request.params)
        check_path(asked.path)
        if asked.size_bytes:
            check_size(asked.size_bytes, asked.path)
        location = canonical(asked.location) if asked.location else self._free(vm)
        if forbidden := self.forbids(vm, location):
            raise forbidden
        assert vm.description is not None, vm.vm_id
        taken = attached_at(vm.description, location)
        if taken is not None and not same(taken.path, asked.path):
            raise PlaceTaken(vm.name, location, taken.path or "another disk")
        if has_file(vm.description, asked.path):
            at = [a.location for a in attached(vm.description).values() if same(a.path, asked.path)]
            raise VolumeAttached(vm.name, asked.path, f"at {at[0]}" if at else "in the chain of one of its disks")

    def resolved(self, vm: VirtualMachine, request: RequestOperation, now: datetime) -> RequestOperation:
        """Return the request with its place."""
        asked = self.params.read(request.params)
        location = canonical(asked.location) if asked.location else self._free(vm)
        return self.request(replace(asked, location=location))

    def _free(self, vm: VirtualMachine) -> str:
        place = free_place(vm.description) if vm.description else None
        if place is None:
            raise NoFreePlace(vm.name)
        return str(place)

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return the making of the disk, if it is a new one, and its attachment."""
        asked = self.params.read(request.params)
        make = DISK_CREATE.planned(disk_create.Input(asked.path, asked.size_bytes), nature=StepNature.UNDOABLE)
        attach = VOLUME_ATTACH.planned(attachment.Input(asked.location, asked.path), nature=StepNature.UNDOABLE)
        return (make, attach) if asked.size_bytes else (attach,)

    def brings(self, operation: Operation) -> tuple[str, ...]:
        """Return the path."""
        return (self.params.read(operation.params).path,)


def check_path(path: str, field: str = "path") -> None:
    """Raise InvalidArgument for a path that cannot be a volume's."""
    if why := problem(path):
        raise InvalidArgument(field, path[:200], why)
    if suffix(path) not in SUFFIXES:
        raise InvalidArgument(field, path[:200], "must end in .vhdx or .vhd: no other file is a volume.")


ATTACH_VOLUME = AttachVolume()
