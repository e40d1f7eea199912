"""A VM of a running system, and what a small reference model says of its disks: see test_disk_contents.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1 import snapshot_pb2
from snapshotd.api.v1.operation_pb2 import OperationMetadata
from tests.e2e.system import System, metadata_of, until
from tests.unit.simulator_model.oracle import Oracle

MIB = 1 << 20
FIRST = ("SCSI:0:0", "SCSI:0:1")
"""Where the disks are that each VM has from the beginning."""
WRITING = ("Running", "Off")
"""The states in which something can be written to the disks."""
DATA = "SCSI:0:2"
"""Where the volume is that is attached before a row that wants one."""


READER = "reader01"
"""A VM that is not registered, and is off."""


@dataclass
class Guest:
    """A VM, and what the model says of it.

    A tree has three snapshots, one below the other, and the guest has written before and after each:
    `a`, `b` with memory if the VM runs, `c`, which is current.
    """

    system: System
    vm: str
    shelf: Path
    oracle: Oracle = field(default_factory=lambda: Oracle(list(FIRST)))
    loose: dict[str, dict[str, str]] = field(default_factory=dict)
    """What is on the files that no VM has, by path."""
    kinds: set[str] = field(default_factory=set)
    """Of the operations that were carried out."""
    written: int = 0
    gone: bool = False
    """The host does not have it any more."""

    @property
    def vm_id(self) -> str:
        """Its id."""
        return self.system.ids[self.vm]

    @property
    def name(self) -> str:
        """Its name in the API."""
        return f"virtualMachines/{self.vm_id}"

    @property
    def state(self) -> str:
        """Its state on the host."""
        return str(self.there()["state"])

    def there(self) -> dict[str, Any]:
        """Return it as the host has it."""
        return self.system.truth_of(self.vm_id)

    def ended(self, operation: Operation) -> Operation:
        """Wait for an operation, however it ends."""
        self.kinds.add(OperationMetadata.Kind.Name(metadata_of(operation).kind))
        return self.system.client.wait(operation)

    def done(self, operation: Operation) -> None:
        """Wait for an operation, which must succeed."""
        ended = self.ended(operation)
        assert not ended.HasField("error"), ended.error.message

    def write(self) -> None:
        """Have the guest write to each disk, over what it wrote before and beside that, unless it stands still."""
        if self.gone or self.state not in WRITING:
            return
        for location, content in self.oracle.now.items():
            self.written += 1
            for block in ("0", str(self.written)):
                content[block] = f"{self.vm} {self.written}"
                self.by_hand("write_disk", location=location, block=block, data=content[block])

    def by_hand(self, action: str, **arguments: object) -> dict[str, Any]:
        """Use the host's control port on this VM."""
        return self.system.host.control(action, vm=self.vm, **arguments)

    def snapshot(self, name: str) -> snapshot_pb2.Snapshot:
        """Return a snapshot by its name."""
        (found,) = [s for s in self.system.client.list_snapshots(self.vm_id) if s.display_name == name]
        return found

    def checkpoint(self, name: str) -> str:
        """Return the id of a snapshot's checkpoint."""
        return self.snapshot(name).checkpoint_id

    def take(self, name: str, *, memory: bool = False) -> None:
        """Take a snapshot."""
        self.done(self.system.client.create(self.vm_id, name, memory=memory))
        self.oracle.take(self.checkpoint(name))

    def grow(self) -> None:
        """Take the three snapshots."""
        for name in "abc":
            self.take(name, memory=name == "b" and self.state == "Running")
            self.write()

    @property
    def path(self) -> str:
        """The file of the volume at DATA."""
        return f"{self.shelf}/{self.vm}.vhdx"

    def attach_first(self) -> None:
        """Attach the volume at DATA, and have the guest write to it."""
        self.done(self.system.client.attach(self.vm_id, self.path, DATA, size_bytes=64 * MIB))
        self.oracle.attach(DATA, 64 * MIB)
        self.write()

    def detach(self) -> None:
        """Detach the volume at DATA."""
        self.done(self.system.client.detach(self.vm_id, DATA))
        self.loose[self.path] = self.oracle.detach(DATA)

    def compare(self) -> None:
        """Compare the host with the model, once nothing merges any more."""
        if not self.gone:
            until(lambda: not self.there()["merging"] and not self.there()["job"])
            self.oracle.compare(self.there())
            if self.state in WRITING:
                seen = {at: self.by_hand("read_disk", location=at)["blocks"] for at in self.oracle.now}
                assert seen == self.oracle.now
        for path, content in self.loose.items():
            assert read_loose(self.system, path) == content, path


def read_loose(system: System, path: str) -> object:
    """Return what is on a file that no VM has: a VM that snapshotd does not know looks at it."""
    system.host.control("admin", do="attach", vm=READER, location="SCSI:0:9", path=path)
    try:
        return system.host.control("read_disk", vm=READER, location="SCSI:0:9")["blocks"]
    finally:
        system.host.control("admin", do="detach", vm=READER, location="SCSI:0:9")


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    name: str
    kind: str
    """Of the operation."""
    act: Callable[[Guest], None]
    """Ask for it, wait for it, and tell the model what it means."""
    tree: bool
    """The VM has three snapshots; else none, and a volume at DATA."""
    states: tuple[str, ...]
    """Of the VM, each tried by itself."""


ROWS: list[Row] = []


def row(kind: str, *states: str, tree: bool = False) -> Callable[[Callable[[Guest], None]], Callable[[Guest], None]]:
    """Put a function into the table, which is named by it."""

    def put(act: Callable[[Guest], None]) -> Callable[[Guest], None]:
        ROWS.append(Row(act.__name__.replace("_", " "), kind, act, tree, states or WRITING))
        return act

    return put
