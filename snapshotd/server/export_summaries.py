"""What events about a VM's exports mean, in a sentence for people. A part of event_summaries.py."""

from __future__ import annotations

from typing import Final, assert_never

from snapshotd.domain import events as e

_GIB: Final = 1 << 30


def export_summary(event: e.ExportEvent, vm: str) -> str:
    """Return what happened. `vm`: how the VM is called."""
    match event:
        case e.VmExported():
            size = f"{event.size_bytes / _GIB:.1f} GiB" if event.size_bytes else "of unknown size"
            return f"{vm} was exported, as of its version {event.of_version}, to {event.directory} ({size})."
        case e.ExportRemoved():
            return f"The export of {vm} in {event.directory} was removed."
        case e.VmReleased():
            return f"{vm} was released: it is on no host any more, and is kept as its export in {event.directory}."
        case e.VmReleaseEnded():
            how = "it was imported from its export" if event.cause == "step" else "others have brought it back"
            return f"{vm} is released no longer: {how}."
        case _:
            assert_never(event)
