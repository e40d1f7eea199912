"""Requests and actions, as tests write them."""

from __future__ import annotations

from typing import Any

from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.details import SnapshotDetails
from snapshotd.domain.ids import CheckpointId, HostId, SnapshotId, VolumeSnapshotId
from snapshotd.operations import (
    checkpoint_adopt,
    offering_change,
    snapshot_create,
    snapshot_delete,
    snapshot_delete_all,
    snapshot_forget,
    snapshot_revert,
    snapshot_update,
    vm_destroy,
    vm_export,
    vm_restart,
    vm_start,
    vm_stop,
    volume_attach,
    volume_detach,
    volume_resize,
    volume_snapshot_delete,
    volume_snapshot_take,
)
from snapshotd.operations.power_change import StopParams
from snapshotd.operations.safety_snapshot import Safety
from snapshotd.operations.snapshot_delete import Scope
from snapshotd.operations.snapshot_revert import PowerAfter
from snapshotd.steps.checkpoint_create import CHECKPOINT_CREATE
from snapshotd.steps.checkpoint_remove import CHECKPOINT_REMOVE
from snapshotd.steps.checkpoint_rename import CHECKPOINT_RENAME
from snapshotd.steps.checkpoint_restore import CHECKPOINT_RESTORE
from snapshotd.steps.disk_convert import DISK_CONVERT
from snapshotd.steps.disk_create import DISK_CREATE
from snapshotd.steps.disk_export import DISK_EXPORT
from snapshotd.steps.disk_place import DISK_PLACE
from snapshotd.steps.disks_merge import DISKS_MERGE
from snapshotd.steps.export_complete import EXPORT_COMPLETE
from snapshotd.steps.export_end import EXPORT_END
from snapshotd.steps.files_delete import FILES_DELETE
from snapshotd.steps.job_wait import JOB_WAIT
from snapshotd.steps.vm_configure import VM_CONFIGURE
from snapshotd.steps.vm_export import VM_EXPORT
from snapshotd.steps.vm_import import VM_IMPORT
from snapshotd.steps.vm_release import VM_RELEASE
from snapshotd.steps.vm_remove import VM_REMOVE
from snapshotd.steps.vm_start import VM_START
from snapshotd.steps.vm_stop import VM_STOP, StopMode
from snapshotd.steps.volume_attach import VOLUME_ATTACH
from snapshotd.steps.volume_detach import VOLUME_DETACH
from snapshotd.steps.volume_resize import VOLUME_RESIZE

START, STOP, MERGE = VM_START.name, VM_STOP.name, DISKS_MERGE.name
CREATE, RENAME = CHECKPOINT_CREATE.name, CHECKPOINT_RENAME.name
RESTORE, REMOVE = CHECKPOINT_RESTORE.name, CHECKPOINT_REMOVE.name
MAKE_DISK, DELETE_FILES = DISK_CREATE.name, FILES_DELETE.name
END_EXPORT = EXPORT_END.name
ATTACH, DETACH, RESIZE = VOLUME_ATTACH.name, VOLUME_DETACH.name, VOLUME_RESIZE.name
CONFIGURE, REMOVE_VM = VM_CONFIGURE.name, VM_REMOVE.name
EXPORT, CONVERT, JOB, PLACE = DISK_EXPORT.name, DISK_CONVERT.name, JOB_WAIT.name, DISK_PLACE.name
COPIES = "C:\\ClusterStorage\\Volume1\\Copies"
"""The folder for copies of disks on a host, which other hosts see too."""
EXPORT_VM, COMPLETE = VM_EXPORT.name, EXPORT_COMPLETE.name
IMPORT, RELEASE = VM_IMPORT.name, VM_RELEASE.name


def start_vm(host_id: str | None = None) -> RequestOperation:
    """Ask for the VM's start; of one that was released, on a host of choice."""
    return vm_start.START_VIRTUAL_MACHINE.request(vm_start.Params(HostId(host_id) if host_id else None))


def export_vm(directory: str = "/exports", *, release: bool = False, attempts: int = 5) -> RequestOperation:
    """Ask for the VM's export."""
    params = vm_export.Params(directory=directory, attempts=attempts, release=release)
    return vm_export.EXPORT_VIRTUAL_MACHINE.request(params)


def stop_vm(mode: StopMode, timeout_s: float | None = None) -> RequestOperation:
    """Ask for the VM's stop."""
    return vm_stop.STOP_VIRTUAL_MACHINE.request(StopParams(mode, timeout_s))


def restart_vm(mode: StopMode = StopMode.SHUTDOWN, timeout_s: float | None = None) -> RequestOperation:
    """Ask for the VM's restart."""
    return vm_restart.RESTART_VIRTUAL_MACHINE.request(StopParams(mode, timeout_s))


def create_snapshot(
    snapshot_id: SnapshotId,
    name: str,
    *,
    description: str = "",
    with_memory: bool = False,
    allow_fallback: bool = False,
    export_directory: str = "",
) -> RequestOperation:
    """Ask for a snapshot."""
    return snapshot_create.CREATE_SNAPSHOT.request(
        snapshot_create.Params(
            snapshot_id=snapshot_id,
            name=name,
            description=description,
            with_memory=with_memory,
            allow_fallback=allow_fallback,
            export_directory=export_directory,
        )
    )


def revert_to(
    snapshot_id: SnapshotId,
    *,
    refuse_power_change: bool = False,
    power_after: PowerAfter = PowerAfter.AS_SNAPSHOT,
    safety: SnapshotId | None = None,
    safety_name: str = "",
    require_memory: bool = False,
) -> RequestOperation:
    """Ask for a revert."""
    first = Safety(safety, safety_name) if safety else None
    params = snapshot_revert.Params(snapshot_id, refuse_power_change, power_after, first, require_memory)
    return snapshot_revert.REVERT_TO_SNAPSHOT.request(params)


def delete(snapshot_id: SnapshotId, scope: Scope = Scope.ONE) -> RequestOperation:
    """Ask for the deletion of a snapshot, of what is below it, or of both."""
    return snapshot_delete.DELETE_SNAPSHOT.request(snapshot_delete.Params(snapshot_id, scope))


def delete_all(*, only_with_memory: bool = False) -> RequestOperation:
    """Ask for the deletion of all snapshots, or of those with memory."""
    return snapshot_delete_all.DELETE_ALL_SNAPSHOTS.request(snapshot_delete_all.Params(only_with_memory))


def update(snapshot_id: SnapshotId, **said: Any) -> RequestOperation:  # noqa: ANN401  (the fields of SnapshotDetails)
    """Ask for a snapshot to be described otherwise."""
    params = snapshot_update.Params(snapshot_id=snapshot_id, fields=tuple(sorted(said)), said=SnapshotDetails(**said))
    return snapshot_update.UPDATE_SNAPSHOT.request(params)


def forget(snapshot_id: SnapshotId) -> RequestOperation:
    """Ask for a snapshot to be taken off the record."""
    return snapshot_forget.FORGET_SNAPSHOT.request(snapshot_forget.Params(snapshot_id))


def adopt(snapshot_id: SnapshotId, checkpoint_id: CheckpointId, **said: Any) -> RequestOperation:  # noqa: ANN401  (as above)
    """Ask for a foreign checkpoint to become a snapshot."""
    params = checkpoint_adopt.Params(snapshot_id=snapshot_id, checkpoint_id=checkpoint_id, said=SnapshotDetails(**said))
    return checkpoint_adopt.ADOPT_CHECKPOINT.request(params)


def attach(path: str, location: str = "", *, size_bytes: int = 0) -> RequestOperation:
    """Ask for a volume to be attached; with a size: a new one."""
    params = volume_attach.Params(path=path, location=location, size_bytes=size_bytes)
    return volume_attach.ATTACH_VOLUME.request(params)


def detach(location: str) -> RequestOperation:
    """Ask for the volume at a place to be detached."""
    return volume_detach.DETACH_VOLUME.request(volume_detach.Params(location=location))


def resize(location: str, size_bytes: int, *, allow_shrink: bool = False) -> RequestOperation:
    """Ask for the volume at a place to have another size."""
    params = volume_resize.Params(location=location, size_bytes=size_bytes, allow_shrink=allow_shrink)
    return volume_resize.RESIZE_VOLUME.request(params)


def change_offering(**values: Any) -> RequestOperation:  # noqa: ANN401  (the fields of Params)
    """Ask for other processors, or another memory."""
    return offering_change.CHANGE_SERVICE_OFFERING.request(offering_change.Params(**values))


def take_volume_snapshot(
    which: VolumeSnapshotId, location: str = "SCSI:0:0", *, name: str = "", allow_fallback: bool = False
) -> RequestOperation:
    """Ask for a copy of a disk."""
    params = volume_snapshot_take.Params(
        volume_snapshot_id=which, name=name, location=location, directory=COPIES, allow_fallback=allow_fallback
    )
    return volume_snapshot_take.TAKE_VOLUME_SNAPSHOT.request(params)


def delete_volume_snapshot(which: VolumeSnapshotId) -> RequestOperation:
    """Ask for the deletion of a copy."""
    return volume_snapshot_delete.DELETE_VOLUME_SNAPSHOT.request(volume_snapshot_delete.Params(which))


def destroy(**values: Any) -> RequestOperation:  # noqa: ANN401  (as above)
    """Ask for the VM's destruction."""
    return vm_destroy.DESTROY_VIRTUAL_MACHINE.request(vm_destroy.Params(**values))
