"""The claim on a volume, as a fold of its events: a file that is attached to a VM belongs to that VM alone.

    free ── claimed ──► a VM's ── released ──► free

Its stream is named by the normal form of its path, so of two claims at the same instant one comes too late, whatever
spellings they have. Hyper-V itself notices a disk that two VMs use only when the second one starts (observed).
"""

from __future__ import annotations

from typing import assert_never

from snapshotd.domain import events as e
from snapshotd.domain.host_path import normalised
from snapshotd.domain.ids import StreamId, VmId
from snapshotd.domain.state import State, replace


class Volume(State, frozen=True, kw_only=True):
    """The aggregate: a path, and the VM that it belongs to."""

    key: str
    """The normal form of its path."""
    version: int = 0
    path: str = ""
    """As it was claimed last."""
    owner: VmId | None = None
    """The VM that it belongs to; None: to none, as far as claims go."""

    def claimed(self, path: str, vm_id: VmId, cause: e.ClaimCause) -> tuple[e.VolumeEvent, ...]:
        """Return the event that gives it to a VM; none if it belongs to another one.

        A VM that has it already claims it again: a release that is on its way then comes too late, and is decided anew.
        """
        return () if self.owner not in (None, vm_id) else (e.VolumeClaimed(vm_id=vm_id, path=path, cause=cause),)

    def released(self, vm_id: VmId, cause: e.ReleaseCause) -> tuple[e.VolumeEvent, ...]:
        """Return the event that takes it from a VM; none if it does not belong to that one."""
        return () if self.owner != vm_id else (e.VolumeReleased(vm_id=vm_id, path=self.path, cause=cause),)


def volume_stream(path: str) -> StreamId:
    """Return the name of a volume's stream."""
    return StreamId(f"volume/{normalised(path)}")


def evolve_volume(volume: Volume, event: e.VolumeEvent, at: e.Occasion) -> Volume:
    """Return the aggregate with one event applied. Never refuses, calls no port."""
    volume = replace(volume, version=at.version)
    match event:
        case e.VolumeClaimed():
            return replace(volume, owner=event.vm_id, path=event.path)
        case e.VolumeReleased():
            return replace(volume, owner=None)
        case _:
            assert_never(event)
