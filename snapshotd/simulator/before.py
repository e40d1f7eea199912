"""Whether a VM is as an effect must find it (docs/host-protocol.md, 'What each action depends on').

Of the host it only asks whether files are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from snapshotd.api.v1.executor_pb2 import Before, VmReport
from snapshotd.simulator.hypervisor import Hypervisor
from snapshotd.simulator.watched import is_there


@dataclass(frozen=True, slots=True)
class Found:
    """What is there now."""

    host: Hypervisor
    report: VmReport


_Fact = Callable[[Before, Found], bool]


def equals_before(action: str, before: Before, found: Found) -> bool:
    """Return whether every fact that an action depends on is as it was.

    Never for a VM that is not there, unless the action acts without it. Raises HyperVError if nobody can tell.
    """
    acts = found.report.present or action in OF_ABSENT
    return acts and all(same(before, found) for same in _COMPARED[action])


def _power(before: Before, found: Found) -> bool:
    return before.power == found.report.power


def _checkpoint_ids(before: Before, found: Found) -> bool:
    return _set(before.checkpoint_ids) == _set(checkpoint.checkpoint_id for checkpoint in found.report.checkpoints)


def _current(before: Before, found: Found) -> bool:
    return before.current_checkpoint_id.lower() == found.report.current_checkpoint_id.lower()


def _leaf_paths(before: Before, found: Found) -> bool:
    return _set(before.leaf_paths) == _set(disk.path for disk in found.report.disks if disk.path)


def _chain_files(before: Before, found: Found) -> bool:
    return _set(before.chain_files) == _set(file.path for file in found.report.files)


def _drives(before: Before, found: Found) -> bool:
    return _set(before.drives) == _set(f"{disk.location}={disk.path}" for disk in found.report.disks)


def _offering(before: Before, found: Found) -> bool:
    return before.offering == found.report.offering


def _absent_files(before: Before, found: Found) -> bool:
    return not any(is_there(found.host, path) for path in before.absent_files)


def _vm_absent(before: Before, found: Found) -> bool:
    # A command that does not ask for the absence finds the VM different, whether it is there or not.
    return before.vm_absent and not found.report.present


def _set(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(text.lower() for text in texts)


_COMPARED: Final[dict[str, tuple[_Fact, ...]]] = {
    "vm_start": (_power,),
    "vm_stop": (_power,),
    "checkpoint_create": (_power, _checkpoint_ids, _current),
    "checkpoint_rename": (_checkpoint_ids,),
    "checkpoint_restore": (_power, _checkpoint_ids, _current, _leaf_paths),
    "checkpoint_remove": (_checkpoint_ids, _chain_files),
    "volume_attach": (_drives,),
    "volume_detach": (_drives,),
    "volume_resize": (_drives,),
    "disk_create": (_absent_files,),
    "files_delete": (),
    "vm_configure": (_power, _offering),
    "disk_export": (_checkpoint_ids,),
    "disk_convert": (_power, _leaf_paths),
    "disk_place": (),
    "export_end": (),
    "vm_remove": (_power, _checkpoint_ids, _drives, _chain_files),
    "vm_export": (_power, _checkpoint_ids, _current, _drives, _offering),
    "export_complete": (),
    "vm_import": (_vm_absent,),
    "vm_release": (_power, _checkpoint_ids, _current, _drives, _offering),
}
"""The facts that each action depends on, by its name."""

OF_ABSENT: Final = frozenset({"files_delete", "disk_place", "vm_import", "export_complete", "export_end"})
"""Actions that act though the host does not have the VM."""
