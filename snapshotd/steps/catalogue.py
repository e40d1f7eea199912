"""All actions of steps, by name. To add an action, list it here."""

from __future__ import annotations

from snapshotd.domain.ids import ActionName
from snapshotd.steps.action import Action
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
from snapshotd.steps.vm_stop import VM_STOP
from snapshotd.steps.volume_attach import VOLUME_ATTACH
from snapshotd.steps.volume_detach import VOLUME_DETACH
from snapshotd.steps.volume_resize import VOLUME_RESIZE

_ALL: tuple[Action, ...] = (
    VM_START,
    VM_STOP,
    CHECKPOINT_CREATE,
    CHECKPOINT_RENAME,
    CHECKPOINT_RESTORE,
    CHECKPOINT_REMOVE,
    DISKS_MERGE,
    DISK_CREATE,
    VOLUME_ATTACH,
    VOLUME_DETACH,
    VOLUME_RESIZE,
    DISK_EXPORT,
    DISK_CONVERT,
    JOB_WAIT,
    DISK_PLACE,
    EXPORT_END,
    FILES_DELETE,
    VM_EXPORT,
    EXPORT_COMPLETE,
    VM_IMPORT,
    VM_RELEASE,
    VM_CONFIGURE,
    VM_REMOVE,
)
ACTIONS: dict[ActionName, Action] = {action.name: action for action in _ALL}
"""By name."""
