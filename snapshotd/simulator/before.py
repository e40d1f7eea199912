"""Whether a VM is as an effect must find it (docs/host-protocol.md, 'What each action depends on'). Reads no host."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from snapshotd.api.v1.executor_pb2 import Before, VmReport

_Fact = Callable[[Before, VmReport], bool]


def equals_before(action: str, before: Before, report: VmReport) -> bool:
    """Return whether every fact that an action depends on is as it was; never for a VM that is not there."""
    return report.present and all(same(before, report) for same in _COMPARED[action])


def _power(before: Before, report: VmReport) -> bool:
    return before.power == report.power


def _checkpoint_ids(before: Before, report: VmReport) -> bool:
    return _set(before.checkpoint_ids) == _set(checkpoint.checkpoint_id for checkpoint in report.checkpoints)


def _current(before: Before, report: VmReport) -> bool:
    return before.current_checkpoint_id.lower() == report.current_checkpoint_id.lower()


def _leaf_paths(before: Before, report: VmReport) -> bool:
    return _set(before.leaf_paths) == _set(disk.path for disk in report.disks if disk.path)


def _chain_files(before: Before, report: VmReport) -> bool:
    return _set(before.chain_files) == _set(file.path for file in report.files)


def _set(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(text.lower() for text in texts)


_COMPARED: Final[dict[str, tuple[_Fact, ...]]] = {
    "vm_start": (_power,),
    "vm_stop": (_power,),
    "checkpoint_create": (_power, _checkpoint_ids, _current),
    "checkpoint_rename": (_checkpoint_ids,),
    "checkpoint_restore": (_power, _checkpoint_ids, _current, _leaf_paths),
    "checkpoint_remove": (_checkpoint_ids, _chain_files),
}
"""The facts that each action depends on, by its name."""
