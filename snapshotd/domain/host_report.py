"""What a host says of its VMs, in the core's terms: reports and answers.

Parses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import Enum
from typing import Final, Protocol, Self

from msgspec import field

from snapshotd.domain.ids import CheckpointId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.offering import Offering
from snapshotd.domain.recorded import JsonObject, Time
from snapshotd.domain.state import State

PROTOCOL: Final = 1
"""Version of the host protocol (docs/host-protocol.md) that this release speaks, server and executor alike."""


class Disk(State, frozen=True, kw_only=True):
    """One virtual disk: where it is attached, and the file that it begins with."""

    location: str
    path: str
    """The VM's: what it writes to. A checkpoint's: what holds the frozen content. Empty: a pass-through disk."""


class DiskFile(State, frozen=True, kw_only=True, eq=False):
    """One file of a VM's disks, and the file that it is based on.

    Two are equal though they differ in what a guest changes all the time: that is not worth an event.
    """

    path: str
    parent_path: str = ""
    """Empty: it is a base, or missing."""
    missing: bool = False
    """It belongs into a chain, and is not on the host's disk."""
    file_bytes: int = 0
    """It grows by itself: not compared."""
    size_bytes: int = 0
    """What it shows its guest; 0: not known."""
    identifier: str = ""
    """The virtual disk's own id, in lower case; empty: not known."""
    minimum_bytes: int = 0
    """It cannot be shrunk below this, which the guest changes by itself: not compared; 0: not known."""
    vhd_type: str = ""
    """Dynamic, Fixed or Differencing; empty: not known."""

    def __eq__(self, other: object) -> bool:
        """Return whether it is the same file, based on the same one, of the same size to its guest."""
        return isinstance(other, DiskFile) and self._compared() == other._compared()

    def __hash__(self) -> int:
        """Return a hash of what is compared."""
        return hash(self._compared())

    def _compared(self) -> tuple[str | bool | int, ...]:
        return (self.path, self.parent_path, self.missing, self.size_bytes, self.identifier, self.vhd_type)


def file_key(path: str) -> str:
    """Return a key that all spellings of one path share: Windows' file systems ignore case."""
    return path.lower()


def file_keys(paths: Iterable[str]) -> set[str]:
    """Return the keys of files."""
    return {file_key(path) for path in paths}


class Checkpoint(State, frozen=True, kw_only=True):
    """One checkpoint on the host, ours or not."""

    checkpoint_id: CheckpointId
    name: str
    parent_id: CheckpointId | None
    created_at: Time | None
    checkpoint_type: str
    """Hyper-V's SnapshotType: Standard, Recovery, Replica, ..."""
    has_memory: bool
    automatic: bool
    system_files_bytes: int
    disks: tuple[Disk, ...]
    offering: Offering | None = None
    """What the VM had at its moment; None: not known."""


class VmDescription(State, frozen=True, kw_only=True):
    """The part of a VM report that is kept on record: all but power, activities, progress and journal."""

    name: str
    checkpoint_type: str
    """Disabled, Production, ProductionOnly or Standard: the VM's own setting."""
    current_checkpoint_id: CheckpointId | None
    """The host's current checkpoint, possibly foreign."""
    checkpoints: tuple[Checkpoint, ...]
    disks: tuple[Disk, ...]
    files: tuple[DiskFile, ...]
    """Every file in the chains of the VM's disks and of its checkpoints, each once."""
    snapshot_blockers: tuple[str, ...]
    offering: Offering
    is_replica: bool
    critical: bool = False
    """Its state is a critical one: storage or configuration cannot be reached, or the volume is full (documented)."""
    generation: int = 0
    """Of its virtual hardware: 1 or 2; 0: not known."""

    @property
    def cpu_count(self) -> int:
        """How many virtual processors it has."""
        return self.offering.cpu_count

    @property
    def memory_bytes(self) -> int:
        """Its memory at its start."""
        return self.offering.memory_bytes

    def damage(self, checkpoint: Checkpoint) -> str:
        """Return why a checkpoint cannot be brought back, for people; empty: it is intact, as far as its host tells."""
        if checkpoint.checkpoint_type == "Missing":
            return "Hyper-V lists its checkpoint as Missing: the checkpoint's own files are not found"
        by_path = {file_key(file.path): file for file in self.files}
        for disk in checkpoint.disks:
            at, seen = file_key(disk.path), set[str]()
            while (file := by_path.get(at)) is not None and at not in seen:
                if file.missing:
                    return f"disk {disk.location} needs the file {file.path}, which is not there"
                seen.add(at)
                at = file_key(file.parent_path)
        return ""

    def checkpoint(self, checkpoint_id: CheckpointId | None) -> Checkpoint | None:
        """Return the checkpoint of that id, or None."""
        return next((c for c in self.checkpoints if c.checkpoint_id == checkpoint_id), None)

    def size_of(self, checkpoint: Checkpoint) -> int:
        """Return the size of what a checkpoint holds: its memory and configuration, and its frozen files, in bytes."""
        frozen = file_keys(disk.path for disk in checkpoint.disks)
        return checkpoint.system_files_bytes + sum(f.file_bytes for f in self.files if file_key(f.path) in frozen)

    def checkpoint_ids(self) -> tuple[CheckpointId, ...]:
        """Return the ids of all checkpoints, sorted."""
        return tuple(sorted(c.checkpoint_id for c in self.checkpoints))

    def leaf_paths(self) -> tuple[str, ...]:
        """Return the files that the VM writes to, sorted."""
        return tuple(sorted(d.path for d in self.disks if d.path))

    def drives(self) -> tuple[str, ...]:
        """Return the VM's disks, each as "SCSI:0:1=path", sorted."""
        return tuple(sorted(f"{disk.location}={disk.path}" for disk in self.disks))

    def chain_files(self) -> tuple[str, ...]:
        """Return every file in the chains of the VM's leaves and of its checkpoints, sorted."""
        return tuple(sorted(file.path for file in self.files))

    def file(self, path: str) -> DiskFile | None:
        """Return the file of that path, however it is spelt; None if it is in no chain."""
        return next((f for f in self.files if file_key(f.path) == file_key(path)), None)


STATE_CHANGE: Final = "STATE_CHANGE"
"""The activity of a VM on its way from one power to another."""


class JobState(Enum):
    """What has become of a job of the hypervisor."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    GONE = "GONE"
    """The host does not know it: it never did, or its last minutes there are over, or the host was restarted."""


class HostJob(State, frozen=True, kw_only=True):
    """A job of the hypervisor that was watched by its id."""

    job_id: str
    """As the host gave it out."""
    state: JobState
    job_type: int = 0
    """Msvm_ConcreteJob.JobType: 62 is an export, for example; 0 if it is gone."""
    percent: int = 0
    error: str = ""
    """FAILED: the host's text."""


class JournalState(Enum):
    """Whether the VM has a journal on the host."""

    PRESENT = "PRESENT"
    MISSING = "MISSING"
    UNREADABLE = "UNREADABLE"
    """Never the same as 'not begun'."""


class Journal(State, frozen=True, kw_only=True):
    """The host's journal of one VM: the fence, and the last step that was begun."""

    state: JournalState
    journal_id: str = ""
    highest_token: int = 0
    operation: str = ""
    step: int = 0
    begun: bool = False
    done: bool = False
    begun_token: int = 0
    """The token of the command that began the step; 0: none."""
    output: JsonObject = field(default_factory=dict)
    """Of a step that is done: what came of it, as its action's file reads it. Empty: nothing, or it is gone."""


class Unread(State, frozen=True):
    """All that is known of a VM that its host could not read."""

    name: str
    error_id: str
    message: str


class Listed(Protocol):
    """One VM in a report of many: what tells whether the whole of it has to be read."""

    @property
    def vm_id(self) -> str:
        """The VM."""
        ...

    @property
    def readable(self) -> bool:
        """Whether its host could read it."""
        ...

    @property
    def holds_vm(self) -> bool:
        """Whether the host has the VM, and not merely a replica of it."""
        ...

    @property
    def digest(self) -> str:
        """Of all that is compared with the record: two reports of a VM with one digest say the same. Empty: unknown."""
        ...

    def read(self) -> VmReport:
        """Return the whole of it. Raises ValueError if it breaks the host protocol."""
        ...


class VmReport(State, frozen=True, kw_only=True):
    """One VM as its host reports it."""

    vm_id: str
    power: Power
    """ABSENT: the host does not have it."""
    host_state: str
    """Hyper-V's own word."""
    description: VmDescription | None
    """None if the host does not have it, or could not read it."""
    unread: Unread | None = None
    """Only in a report of all VMs. Nothing can be concluded about such a VM."""
    activities: tuple[str, ...] = ()
    """The hypervisor does: CREATE, APPLY, DELETE, MERGE, EXPORT, MIGRATE, BACKUP, STATE_CHANGE, JOB_<type>, OTHER."""
    percent: int = 0
    journal: Journal = field(default_factory=lambda: Journal(state=JournalState.MISSING))
    existing_files: tuple[str, ...] = ()
    """Those of the watched files that are on the disk."""
    unknown_files: tuple[str, ...] = ()
    """Those of the watched files of which nobody can tell."""
    jobs: tuple[HostJob, ...] = ()
    """The watched jobs, also of a VM that is absent."""
    digest: str = ""
    """Of all that is compared with the record: two reports of a VM with one digest say the same. Empty: not known."""

    @property
    def readable(self) -> bool:
        """Whether its host could read it."""
        return self.unread is None

    @property
    def holds_vm(self) -> bool:
        """Whether the host has the VM, and not merely a replica of it."""
        return self.description is not None and not self.description.is_replica

    def read(self) -> Self:
        """Return it: it was read."""
        return self

    def job(self, job_id: str) -> HostJob | None:
        """Return the watched job of that id, or None if it was not watched."""
        return next((j for j in self.jobs if j.job_id.lower() == job_id.lower()), None)

    def works_besides_merging(self) -> bool:
        """Return whether the hypervisor works on the VM, merging left aside."""
        return any(a != "MERGE" for a in self.activities)


class Verdict(Enum):
    """What a host's answer says of a command (docs/host-protocol.md)."""

    DONE = "DONE"
    NO_EFFECT = "NO_EFFECT"
    CHANGED = "CHANGED"
    IN_PROGRESS = "IN_PROGRESS"
    STALE = "STALE"
    BUSY = "BUSY"
    WRONG_JOURNAL = "WRONG_JOURNAL"
    OBSERVED = "OBSERVED"
    REPORTED = "REPORTED"
    FOREIGN_INSTALLATION = "FOREIGN_INSTALLATION"
    FAILED = "FAILED"
    NOT_BEGUN = "NOT_BEGUN"
    NO_ANSWER = "NO_ANSWER"
    """The script did not answer: lost connection, deadline, unreachable, refused."""


class HostAnswer(State, frozen=True, kw_only=True):
    """What came back for one command, or that nothing did."""

    verdict: Verdict
    vms: tuple[VmReport, ...] = ()
    listed: tuple[Listed, ...] = ()
    """REPORTED, of many VMs: those, in place of `vms`. Most of them have not changed, and need not be read."""
    error_id: str = ""
    """FullyQualifiedErrorId; for NO_ANSWER the reason, e.g. HOST_UNREACHABLE."""
    error_message: str = ""
    output: JsonObject = field(default_factory=dict)
    """DONE: the action's output, as its file reads it."""
    highest_token: int = 0
    host_time: datetime | None = None
    host_name: str = ""
    os_version: str = ""
    powershell: str = ""
    installation_id: str = ""
    """The owner of the journals; empty: none, or none that can be read."""
    former_installation_ids: tuple[str, ...] = ()
    """Those that it was taken over from, the last one first."""
    more: bool = False
    """A report of all VMs: there are more after the last one in `vms`."""
    journal_error_id: str = ""
    journal_error: str = ""
    """REPORTED: why the journals on the host could not be written; empty: they could."""

    @property
    def listing(self) -> tuple[Listed, ...]:
        """All VMs that it tells of, read or not."""
        return self.listed or self.vms

    @property
    def vm(self) -> VmReport | None:
        """The report of the one VM that the command was for."""
        return self.vms[0] if self.vms else None
