"""All actions of steps, by name. To add an action, list it here."""

from __future__ import annotations

from snapshotd.domain.ids import ActionName
from snapshotd.steps.action import Action
from snapshotd.steps.checkpoint_create import CHECKPOINT_CREATE
from snapshotd.steps.checkpoint_remove import CHECKPOINT_REMOVE
from snapshotd.steps.checkpoint_rename import CHECKPOINT_RENAME
from snapshotd.steps.checkpoint_restore import CHECKPOINT_RESTORE
from snapshotd.steps.disks_merge import DISKS_MERGE
from snapshotd.steps.vm_start import VM_START
from snapshotd.steps.vm_stop import VM_STOP

_ALL: tuple[Action, ...] = (
    VM_START,
    VM_STOP,
    CHECKPOINT_CREATE,
    CHECKPOINT_RENAME,
    CHECKPOINT_RESTORE,
    CHECKPOINT_REMOVE,
    DISKS_MERGE,
)
ACTIONS: dict[ActionName, Action] = {action.name: action for action in _ALL}
"""By name."""
