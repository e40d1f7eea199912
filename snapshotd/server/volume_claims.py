"""Sees to it that a volume belongs to one VM: looks at all of them, and claims a path before a request is recorded.

    look at the records of all VMs ──► claim the path ──► decide the request ──► drop the claim if nothing came of it

The claim is what two requests at the same instant meet at (application/volumes.py). A crash between two of these leaves
a claim without a reason, which the next start drops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

from snapshotd.application.virtual_machines import VirtualMachines
from snapshotd.application.volumes import Volumes
from snapshotd.domain.events import ClaimCause
from snapshotd.domain.host_path import name_in, normalised
from snapshotd.domain.ids import VmId
from snapshotd.domain.own_files import UsedFile
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.volume_errors import VolumeBeingDeleted, VolumeInExport, VolumeInUse
from snapshotd.server.runtime import Runtime
from snapshotd.server.sync import HostReports
from snapshotd.steps.export_folder import folder_around, is_partial

T = TypeVar("T")
_HAS, _WANTS = "it is a file of", "it belongs to"
_ACTIONS: Final = {ClaimCause.REQUESTED: "attach", ClaimCause.DELETION: "delete"}


class VolumeClaims:
    """The claims of one server.

    Args:
        runtime: the running core.
        vms: the VMs of the log.
        volumes: the volumes of the log.
        reports: looks at VMs again.
    """

    def __init__(self, runtime: Runtime, vms: VirtualMachines, volumes: Volumes, reports: HostReports) -> None:
        self._runtime = runtime
        self._vms = vms
        self._volumes = volumes
        self._reports = reports

    async def refuse_used(self, path: str, vm_id: VmId, action: str) -> None:
        """Raise VolumeInUse if another VM has a file, or a claim to it; VolumeBeingDeleted if that one deletes it.

        A VM that seems to have it is looked at once more.

        Args:
            path: of the file.
            vm_id: the VM that may have it.
            action: what cannot be done then, as a verb: "attach", "resize", "delete".
        """
        for other in await asyncio.to_thread(_users, self._vms.registered(), path, vm_id):
            await self._reports.look(other)
            if _uses(self._vms.known(other), normalised(path)):
                raise self._in_use(path, other, action, _HAS)
        owner = self._volumes.owner(path)
        if owner not in (None, vm_id):
            assert owner is not None
            await self._runtime.follow(owner)
            if self._volumes.owner(path) == owner:
                raise self._in_use(path, owner, action, _WANTS)

    async def refuse_exported(self, path: str) -> None:
        """Raise VolumeInExport if a path is inside a VM's export, complete or not, that may be removed.

        The VM need not be registered any more: its exports stay on record.
        """
        found = await asyncio.to_thread(_export_with, self._vms.on_record(), path)
        if found is not None:
            vm, directory, complete = found
            what = "an export" if complete else "an unfinished export"
            raise VolumeInExport(path, directory, what, vm.name or vm.vm_id, vm.vm_id)

    async def used_by_others(self, vm_id: VmId) -> tuple[UsedFile, ...]:
        """Return those of a VM's files that another VM has, as it is on record, or has claimed; sorted by path."""
        vm = await self._runtime.load(vm_id)
        paths = [file.path for file in vm.description.files] if vm.description else []
        # In a thread: what all VMs have of files can take longer than the loop may be held.
        found = await asyncio.to_thread(_used, self._vms.registered(), paths, vm_id)
        for path in paths:
            owner = self._volumes.owner(path)
            if owner not in (None, vm_id) and path not in found:
                assert owner is not None
                found[path] = owner
        return tuple(UsedFile(path, f"VM {self._vms.known(user).name or user}") for path, user in sorted(found.items()))

    async def with_claim(
        self,
        path: str,
        vm_id: VmId,
        request: Callable[[], Awaitable[T]],
        *,
        cause: ClaimCause,
        actor: str,
        request_id: str,
    ) -> T:
        """Decide a request while a path belongs to its VM, and return what comes of it.

        Raises VolumeInUse or VolumeBeingDeleted if it belongs to another one, and what the request is refused with:
        then the claim is dropped. A caller that goes away ends none of it.
        """

        async def run() -> T:
            try:
                with self._volumes.hold(path, vm_id):
                    owner, envelopes = await self._volumes.claim(
                        path, vm_id, cause=cause, actor=actor, request_id=request_id
                    )
                    self._runtime.acknowledge(envelopes)
                    if owner != vm_id:
                        raise self._in_use(path, owner, _ACTIONS[cause], _WANTS)
                    return await request()
            finally:
                await self._runtime.follow(vm_id)

        return await self._runtime.to_the_end(run())

    def _in_use(self, path: str, owner: VmId, action: str, how: str) -> VolumeInUse | VolumeBeingDeleted:
        vm = self._vms.known(owner)
        if how == _WANTS and self._volumes.is_deleted(path):
            return VolumeBeingDeleted(path, vm.name or owner, owner, action)
        refused = VolumeInUse(path, vm.name or owner, owner, vm.host_id, action, how)
        refused.ground = self._reports.ground(owner)
        return refused


def _users(vms: Iterable[VirtualMachine], path: str, vm_id: VmId) -> tuple[VmId, ...]:
    """Return the other VMs that have a file."""
    key = normalised(path)
    return tuple(vm.vm_id for vm in vms if vm.vm_id != vm_id and _uses(vm, key))


def _export_with(vms: Iterable[VirtualMachine], path: str) -> tuple[VirtualMachine, str, bool] | None:
    """Return the VM whose export has a path in it, the export's folder, and whether it is complete; None: none has."""
    found = ((vm, folder_around(path, vm.vm_id, vm.exports)) for vm in vms)
    return next(((vm, folder, not is_partial(folder)) for vm, folder in found if folder), None)


def _used(vms: Iterable[VirtualMachine], paths: Iterable[str], vm_id: VmId) -> dict[str, VmId]:
    """Return those of a VM's files that other VMs have, with one that has it."""
    keys = {path: normalised(path) for path in paths}
    others = [vm for vm in vms if vm.vm_id != vm_id]
    found = ((path, next((vm.vm_id for vm in others if _uses(vm, key)), None)) for path, key in keys.items())
    return {path: user for path, user in found if user is not None}


def _uses(vm: VirtualMachine, key: str) -> bool:
    """Return whether a file, by the normal form of its path, is in a chain of a VM, as it is on record."""
    there = vm.description
    if not vm.registered or there is None:
        return False
    heads = (d.path for disks in (there.disks, *(c.disks for c in there.checkpoints)) for d in disks)
    name = name_in(key)  # most files are told apart by it, at a small part of the cost
    paths = (path for path in (*heads, *(f.path for f in there.files)) if name in path.lower())
    return any(normalised(path) == key for path in paths)
