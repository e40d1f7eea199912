"""Why a VM's processors and memory cannot be changed: what a caller is told."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import ClassVar

from snapshotd.domain.errors import SnapshotdError

_WAYS = {
    "RUNNING": "Shut it down first (`snapshotctl vm stop {vm}`).",
    "PAUSED": "Resume it (`snapshotctl vm start {vm}`) and shut it down (`snapshotctl vm stop {vm}`), or turn it off "
    "(`snapshotctl vm stop {vm} --turn-off`), which loses what its guest holds in memory.",
    "SAVED": "Its saved memory fits only the processors and memory that it has. Start it (`snapshotctl vm start {vm}`) "
    "and shut it down (`snapshotctl vm stop {vm}`), or turn it off (`snapshotctl vm stop {vm} --turn-off`), which "
    "loses that memory.",
}


@dataclass(eq=False)
class OfferingNeedsStopped(SnapshotdError):
    """The VM is not off."""

    reason: ClassVar[str] = "OFFERING_NEEDS_STOPPED_VM"
    rests_on_host: ClassVar[bool] = True
    vm: str
    power: str
    host: str

    def message(self) -> str:  # noqa: D102
        again = f"Run `snapshotctl host sync {self.host}` to look again."
        way = _WAYS.get(self.power, again).format(vm=shlex.quote(self.vm))
        needed = f"its power state is {self.power}, and must be STOPPED"
        return f"Cannot change processors or memory of VM {self.vm}: {needed}. {way}"


@dataclass(eq=False)
class ForeignMemory(SnapshotdError):
    """Checkpoints that others made hold memory, which fits only the processors and memory of their moment."""

    reason: ClassVar[str] = "FOREIGN_CHECKPOINT_WITH_MEMORY"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot change processors or memory of VM {vm}: checkpoints that are not ours hold its memory: {names}. "
        "snapshotd does not touch them. Remove them in Hyper-V, or adopt them (`snapshotctl snapshot adopt {vm!q} "
        "CHECKPOINT`), which has them discarded with the VM's own snapshots with memory. Then try again."
    )
    vm: str
    names: str


@dataclass(eq=False)
class OfferingNotKnown(SnapshotdError):
    """The host has never told what the VM has."""

    reason: ClassVar[str] = "OFFERING_NOT_KNOWN"
    rests_on_host: ClassVar[bool] = True
    text: ClassVar[str] = (
        "Cannot change processors or memory of VM {vm}: what it has is not known yet. "
        "Run `snapshotctl host sync {host}`."
    )
    vm: str
    host: str
