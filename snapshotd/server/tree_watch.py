"""A VM's tree as it is now, and again whenever what it shows has changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from snapshotd.api.v1.snapshot_pb2 import SnapshotTree
from snapshotd.domain.ids import VmId
from snapshotd.domain.vm_record import VmRecord
from snapshotd.ports.plain import encode_time
from snapshotd.server.backend import Backend
from snapshotd.server.request_errors import VmNotThere
from snapshotd.server.resource_messages import tree_message

_LOOK_AGAIN_S: Final = 5.0
"""A watch looks again so often even if nothing was recorded of the VM: a view may have stopped."""


async def tree_now(backend: Backend, vm: VmRecord) -> SnapshotTree:
    """Return the tree of a registered VM."""
    standing = (await (await backend.seen("tree")).standing([vm.vm_id]))[vm.vm_id]
    return await asyncio.to_thread(tree_message, vm, standing, backend.observed(vm))


async def watched_tree(backend: Backend, vm_id: VmId) -> AsyncIterator[SnapshotTree]:
    """Yield the tree, and again after each change. What changes while one is being taken is in the next one.

    Raises NotFound, VmNotThere when the VM is unregistered, and Stopping when the server stops.
    """
    vm, told = await backend.vm(vm_id), SnapshotTree()
    version = 0
    with backend.views.watch(vm_id) as watch:
        while True:
            await backend.views.reached(backend.log.head_position(), ["inventory", "tree"])
            vm = await backend.views.vm(vm_id) or vm
            if not vm.readable:
                since = encode_time(vm.updated_at) if vm.updated_at else "just now"
                raise VmNotThere(vm_id, f"it is not registered any more, since {since}.")
            if vm.version != version:
                version, tree = vm.version, await tree_now(backend, vm)
                if (shown := _shown(tree)) != told:
                    yield tree
                    told = shown
            await backend.ending.unless("WatchSnapshotTree", watch.changed(_LOOK_AGAIN_S))


def _shown(tree: SnapshotTree) -> SnapshotTree:
    """Return a tree without what every event and every look at the VM changes."""
    shown = SnapshotTree()
    shown.CopyFrom(tree)
    shown.ClearField("version")
    shown.ClearField("observe_time")
    shown.ClearField("update_time")
    return shown
