"""Sees to it that a volume belongs to one VM: looks at all of them, and claims a path before a request is recorded.

    look at the records of all VMs ──► claim the path ──► decide the request ──► drop the claim if nothing came of it

The claim is what two requests at the same instant meet at (application/volumes.py). A crash between two of these leaves
a claim without a reason, which the next start drops.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from snapshotd.application.virtual_machines import VirtualMachines
from snapshotd.application.volumes import Volumes
from snapshotd.domain.events import ClaimCause
from snapshotd.domain.host_path import normalised
from snapshotd.domain.ids import VmId, guids_in
from snapshotd.domain.own_files import UsedFile
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.volume_errors import VolumeBeingDeleted, VolumeInExport, VolumeInUse
from snapshotd.server.callers import caller
from snapshotd.server.runtime import Runtime
from snapshotd.server.sync import HostReports
from snapshotd.steps.export_folder import folder_around, is_partial

T = TypeVar("T")
_HAS, _WANTS = "it is a file of", "it belongs to"
_HIDDEN: Final = "(not yours to see)"
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
        for other in await self._users(path, vm_id):
            await self._reports.look(other)
        for other in await self._users(path, vm_id):
            raise await self._in_use(path, other, action, _HAS)
        owner = self._volumes.owner(path)
        if owner not in (None, vm_id):
            assert owner is not None
            await self._runtime.follow(owner)
            if self._volumes.owner(path) == owner:
                raise await self._in_use(path, owner, action, _WANTS)

    async def _users(self, path: str, vm_id: VmId) -> tuple[VmId, ...]:
        """Return the other VMs that have a file, as they are on record."""
        users = (await self._vms.with_files([path])).get(path, ())
        return tuple(user for user in users if user != vm_id)

    async def refuse_exported(self, path: str) -> None:
        """Raise VolumeInExport if a path is inside a VM's export, complete or not, that may be removed.

        The VM need not be registered any more: its exports stay on record.
        """
        # The folder of a VM's exports bears its id.
        for vm_id in dict.fromkeys(map(VmId, guids_in(normalised(path)))):
            vm = await self._vms.load(vm_id)
            if vm.version and (directory := folder_around(path, vm_id, vm.exports)):
                what = "an unfinished export" if is_partial(directory) else "an export"
                raise VolumeInExport(path, directory, what, _told(vm), vm.vm_id if caller().sees_vm(vm) else "")

    async def used_by_others(self, vm_id: VmId, *, recorded: bool) -> tuple[UsedFile, ...]:
        """Return those of a VM's files that another VM has, as it is on record, or has claimed; sorted by path.

        Args:
            vm_id: the VM.
            recorded: whether it goes on the VM's record, which others read than who calls: no VM is named there.
        """
        vm = await self._runtime.load(vm_id)
        paths = [file.path for file in vm.description.files] if vm.description else []
        have = await self._vms.with_files(paths)
        found: dict[str, VmId] = {}
        for path in paths:
            others = [user for user in (*have.get(path, ()), self._volumes.owner(path)) if user not in (None, vm_id)]
            if others and others[0] is not None:
                found[path] = others[0]
        if recorded:
            return tuple(UsedFile(path, "another VM") for path in sorted(found))
        names = {user: _told(await self._vms.load(user)) for user in found.values()}
        return tuple(UsedFile(path, f"VM {names[user]}") for path, user in sorted(found.items()))

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
                        raise await self._in_use(path, owner, _ACTIONS[cause], _WANTS)
                    return await request()
            finally:
                await self._runtime.follow(vm_id)

        return await self._runtime.to_the_end(run())

    async def _in_use(self, path: str, owner: VmId, action: str, how: str) -> VolumeInUse | VolumeBeingDeleted:
        vm = await self._vms.load(owner)
        owner_id, host_id = (owner, vm.host_id) if caller().sees_vm(vm) else ("", _HIDDEN)
        if how == _WANTS and await self._volumes.is_deleted(path):
            return VolumeBeingDeleted(path, _told(vm), owner_id, action)
        refused = VolumeInUse(path, _told(vm), owner_id, host_id, action, how)
        refused.ground = self._reports.ground(vm)
        return refused


def _told(vm: VirtualMachine) -> str:
    """Return a VM's name, if the caller may see it."""
    return (vm.name or vm.vm_id) if caller().sees_vm(vm) else _HIDDEN
