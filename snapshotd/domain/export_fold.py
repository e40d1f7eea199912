"""A VM's exports as a fold of their events. Decides nothing."""

from __future__ import annotations

from typing import assert_never

from snapshotd.domain import events as e
from snapshotd.domain.export import Export, Release
from snapshotd.domain.ids import HostId
from snapshotd.domain.state import State, replace


class Kept(State, frozen=True):
    """What is on record of a VM's exports."""

    exports: tuple[Export, ...]
    released: Release | None


def evolve_kept(kept: Kept, event: e.ExportEvent, host_id: HostId, at: e.Occasion) -> Kept:
    """Return what is on record with one event applied. Never refuses. `host_id`: the VM's host."""
    match event:
        case e.VmExported():
            made = Export(
                directory=event.directory,
                configuration_path=event.configuration_path,
                size_bytes=event.size_bytes,
                host_id=host_id,
                made_at=at.time,
                of_version=event.of_version,
            )
            return replace(kept, exports=(*kept.exports, made))
        case e.ExportRemoved():
            return replace(kept, exports=tuple(x for x in kept.exports if x.directory != event.directory))
        case e.VmReleased():
            place = Release(
                host_id=host_id,
                directory=event.directory,
                configuration_path=event.configuration_path,
                at=at.time,
            )
            # No disk of the VM's is in an older export any more: it has left the host that it was imported on.
            return Kept(tuple(replace(x, in_use=False) for x in kept.exports), place)
        case e.VmReleaseEnded():
            return not_released(kept)
        case _:
            assert_never(event)


def not_released(kept: Kept) -> Kept:
    """Return what is on record of a VM that is released no longer. What brought it back may use the export's files."""
    if kept.released is None:
        return kept
    used = kept.released.directory
    return Kept(tuple(replace(x, in_use=x.in_use or x.directory == used) for x in kept.exports), None)
