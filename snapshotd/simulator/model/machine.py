"""One VM of the simulated host, its checkpoints, and the file that keeps both. Holds no rule of Hyper-V's."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

OFFERING: Final = ("cpu_count", "memory_bytes", "dynamic_memory", "minimum_bytes", "maximum_bytes")
"""The fields of a VM's processors and memory, which a checkpoint has alike."""
MINIMUM_BYTES: Final = 512 << 20
"""The least memory of a VM that nobody has set it for (not verified, as the next)."""
MAXIMUM_BYTES: Final = 1 << 40


@dataclass(slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint of a VM, as the model keeps it."""

    checkpoint_id: str
    name: str
    parent_id: str
    """Empty: a root."""
    created_at: str
    """RFC 3339."""
    memory: str
    """What the guest held in memory; empty: none."""
    checkpoint_type: str
    """The VM's CheckpointType at that moment: a restore brings it back (inferred; docs/hyperv.md, section 2)."""
    automatic: bool
    disks: dict[str, str]
    """The frozen files, by location."""
    snapshot_type: str = "Standard"
    """Standard, Recovery, Missing, ..."""
    cpu_count: int = 0
    """The VM's processors and memory at that moment: a restore brings them back (documented). 0: not kept."""
    memory_bytes: int = 0
    dynamic_memory: bool = False
    minimum_bytes: int = 0
    maximum_bytes: int = 0

    @property
    def has_memory(self) -> bool:
        """Whether it holds memory."""
        return bool(self.memory)


@dataclass(slots=True, kw_only=True)
class Machine:
    """A VM."""

    vm_id: str
    name: str
    state: str
    """Running, Off, Saved or Paused."""
    cpu_count: int
    memory_bytes: int
    checkpoint_type: str
    blockers: list[str]
    disks: dict[str, str]
    """The files that it writes to, by location."""
    dynamic_memory: bool = False
    minimum_bytes: int = MINIMUM_BYTES
    """The least memory that dynamic memory may leave it, and the most that it may give it."""
    maximum_bytes: int = MAXIMUM_BYTES
    generation: int = 2
    """1 has IDE controllers, 2 has none (documented)."""
    folder: str = ""
    """Where its configuration is; empty: in a folder named by its id, where all VMs are."""
    memory: str = ""
    """What the guest holds in memory; empty: it is off."""
    current_id: str = ""
    """The checkpoint that its disks descend from."""
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    vss: bool = True
    """The guest can be frozen for a production checkpoint."""
    shutdown_service: bool = True
    """The guest shuts down when asked to."""
    shuts_down: bool = True
    """It comes to the end of a shutdown, once it has begun; else it stays in Stopping, unless that is forced."""
    boots: bool = True
    """It starts when it was off."""
    automatic_checkpoints: bool = False
    """A checkpoint is taken at each start, and removed at the stop, unless Set-VM has said otherwise."""
    hidden: bool = False
    """The account that signs in does not see it."""
    critical: bool = False
    """Its storage or configuration cannot be relied on: its state reads OffCritical, RunningCritical, ..."""
    strays: list[str] = field(default_factory=list)
    """Files in its chains that are nobody's and never merge."""
    switch: str = ""
    """What its network adapter is connected to; empty: nothing."""
    leftovers: list[str] = field(default_factory=list)
    """Files of checkpoints that are gone, which the hypervisor merges, or removes, as soon as it can."""
    created_at: str = ""
    """RFC 3339."""
    running_since: str = ""
    """RFC 3339, by this machine's clock, since nobody sets that: when it was started, resumed from a saved state, or
    reset. Empty: it is off or saved."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What Set-VM has set, by the property's name."""
    effects: int = 0
    """How many effects there were on it."""
    last_effect: dict[str, Any] | None = None
    """The last, as it stands in the truth."""

    @property
    def takes_automatic_checkpoints(self) -> bool:
        """Whether a start takes a checkpoint: as Set-VM has said, or else as the host does by itself."""
        return bool(self.settings.get("AutomaticCheckpointsEnabled", self.automatic_checkpoints))

    def files(self) -> set[str]:
        """Return the files that it is known by: those that it or a checkpoint uses, strays, and leftovers."""
        used = {*self.disks.values(), *(p for c in self.checkpoints.values() for p in c.disks.values())}
        return {*used, *self.strays, *self.leftovers}

    def goes_to(self, state: str) -> None:
        """Change its power; its uptime begins where a guest begins to run, and not after a pause."""
        if state in ("Off", "Saved"):
            self.running_since = ""
        elif not self.running_since:
            self.running_since = rfc3339(datetime.now(UTC))
        self.state = state

    def save(self, directory: Path) -> None:
        """Write it to its file, whole or not at all."""
        beside = directory / f"{self.vm_id}.new"
        beside.write_text(json.dumps(self.document()), encoding="utf-8")
        beside.replace(directory / f"{self.vm_id}.json")

    def document(self) -> dict[str, Any]:
        """Return what its file holds."""
        # By name, and not by dataclasses.asdict, which copies everything first: it is written with each effect.
        document = {f.name: getattr(self, f.name) for f in fields(self)}
        document["checkpoints"] = {
            c: {f.name: getattr(s, f.name) for f in fields(s)} for c, s in self.checkpoints.items()
        }
        return document


def read_machine(path: Path) -> Machine:
    """Read a VM from its file. Raises ValueError naming the file."""
    try:
        return machine_of(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path} is not the state of a VM: {error}") from error


def machine_of(document: Any) -> Machine:  # noqa: ANN401  (what a file, or a test, holds)
    """Return the VM of a document. Raises ValueError for one that is none."""
    try:
        checkpoints = {c: Checkpoint(**s) for c, s in document["checkpoints"].items()}
        return Machine(**{**document, "checkpoints": checkpoints})
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"it has not what a VM has: {error}") from error


def rfc3339(time: datetime) -> str:
    """Return a time as text."""
    return time.isoformat().replace("+00:00", "Z")
