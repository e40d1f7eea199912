"""Where a stream stands: what the log keeps beside its events, so that it is found without being folded.

    a VM        belongs to its host while it is registered
                marks: ACTIVE, ROLLED_BACK, CLAIMED, claimed by a host, has a file (all but the first: while registered)
    a volume    belongs to the VM that has claimed it, and is marked OWNED

All of it can be made again from the events (replay.py), and is when a log was written with another SHAPE.
"""

from __future__ import annotations

from typing import Final

from snapshotd.domain.attached import file_paths
from snapshotd.domain.host_path import normalised
from snapshotd.domain.ids import HostId, VmId, host_stream, vm_stream
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.volume import Volume
from snapshotd.ports.event_log import Standing

SHAPE: Final = "1"
"""Raise it when a VM or a volume gets another place or other marks than before by the same events."""
ACTIVE: Final = "active"
"""An operation has not ended."""
ROLLED_BACK: Final = "rolled back"
"""The log is older than the host of a registered VM."""
CLAIMED: Final = "claimed"
"""Another host has a registered VM, too."""
OWNED: Final = "owned"
"""A VM has claimed the volume."""


def claimed_by(host_id: HostId) -> str:
    """Return the mark of a registered VM that another host has, too."""
    return f"claimed by {host_id}"


def with_file(path: str) -> str:
    """Return the mark of a registered VM that has a file, in a chain of its disks or of its checkpoints' disks."""
    return f"file {normalised(path)}"


def vm_standing(before: VirtualMachine, after: VirtualMachine) -> Standing:
    """Return what changes of where a VM stands."""
    place, marks, known = _place(after), _marks(after), _marks(before)
    if after.description is before.description and after.registered == before.registered:
        had = has = frozenset[str]()  # the same ones, which most events leave alone
    else:
        had, has = _files(before), _files(after)
    return Standing(
        place=None if before.version and place == _place(before) else place,
        added=(marks - known) | set(map(with_file, has - had)),
        removed=(known - marks) | (set(map(with_file, had - has)) - set(map(with_file, has))),
    )


def volume_standing(after: Volume) -> Standing:
    """Return where a volume stands."""
    marks = frozenset({OWNED})
    if after.owner is None:
        return Standing("", removed=marks)
    return Standing(vm_stream(after.owner), added=marks)


def owner_of(place: str) -> VmId:
    """Return the VM that a volume belongs to by its row."""
    return VmId(place.removeprefix("vm/"))


def _place(vm: VirtualMachine) -> str:
    return host_stream(vm.host_id) if vm.registered else ""


def _marks(vm: VirtualMachine) -> frozenset[str]:
    active = {ACTIVE} if vm.active else set[str]()
    if not vm.registered:
        return frozenset(active)
    rolled_back = {ROLLED_BACK} if vm.rolled_back else set[str]()
    claims = {CLAIMED, *(claimed_by(claim.host_id) for claim in vm.claims)} if vm.claims else set[str]()
    return frozenset(active | rolled_back | claims)


def _files(vm: VirtualMachine) -> frozenset[str]:
    return file_paths(vm.description) if vm.registered and vm.description is not None else frozenset()
