"""Finds volume snapshots by name, id, or the beginning of an id. What is ambiguous is an error that lists the ids."""

from __future__ import annotations

import re
from typing import Final

from snapshotd.api.v1.virtual_machine_pb2 import ListVolumeSnapshotsRequest, VolumeSnapshot
from snapshotd.client.calls import Server
from snapshotd.client.failure import ExitCode, Failed
from snapshotd.client.pages import pages
from snapshotd.client.render import last, quoted, shown
from snapshotd.client.resolve import BEGIN_WITH, is_beginning, is_id, one_of
from snapshotd.domain.names import same_name

_FULL: Final = re.compile(r"(virtualMachines/[^/]+)/volumeSnapshots/[^/]+", re.IGNORECASE)


def find_volume_snapshot(server: Server, vm: str, text: str, *, repeated: bool = False) -> VolumeSnapshot:
    """Return a volume snapshot that was named by id or by name; of a full name, no more than that. Raises Failed.

    Args:
        server: the server to ask.
        vm: resource name of the VM.
        text: the user's text. A full name must be of this VM.
        repeated: the request may have been carried out already. Then a name that none has now means the last one that
            had it.
    """
    if full := _FULL.fullmatch(text):
        if full[1].lower() != vm.lower():
            raise Failed(f"Cannot use {shown(text)}: it is not a volume snapshot of {shown(vm)}.", ExitCode.USAGE)
        return VolumeSnapshot(name=text)
    every = _all(server, vm)
    there = [s for s in every if s.state != VolumeSnapshot.REMOVED]
    # An id comes first, so that nobody can hide one by naming another after it.
    found, what = [s for s in every if is_id(text) and last(s.name) == text.lower()], "are named"
    found = found or [s for s in there if same_name(s.display_name, text)]
    if not found and repeated:
        gone = [s for s in every if same_name(s.display_name, text)]
        found = sorted(gone, key=lambda s: s.create_time.ToNanoseconds())[-1:]
    if not found and is_beginning(text):
        found, what = [s for s in every if last(s.name).startswith(text.lower())], BEGIN_WITH
    lines = [f"{last(s.name)} {shown(s.display_name)} ({VolumeSnapshot.State.Name(s.state)})" for s in found]
    one_of("volume snapshots", what, text, lines)
    if not found:
        gone = [s for s in every if same_name(s.display_name, text)]
        why = f"the VM has none of that name. See `snapshotctl volume-snapshot list {last(vm)}`."
        if gone:
            why = f"it was deleted. See `snapshotctl volume-snapshot list {last(vm)} --deleted`."
        raise Failed(f"Cannot find volume snapshot {quoted(text)}: {why}", ExitCode.NOT_FOUND)
    return found[0]


def _all(server: Server, vm: str) -> list[VolumeSnapshot]:
    request = ListVolumeSnapshotsRequest(parent=vm, show_deleted=True)
    return [s for page in pages(server, server.vms.ListVolumeSnapshots, request) for s in page.volume_snapshots]
