"""What each checkpoint holds and what the guest sees, as an oracle that knows no files keeps it."""

from __future__ import annotations

from typing import Any

from snapshotd.simulator.model.disks import digest

Contents = dict[str, dict[str, str]]


class Oracle:
    """What each checkpoint holds and what the guest sees, as plain dictionaries."""

    def __init__(self, locations: list[str]) -> None:
        self.now: Contents = {location: {} for location in locations}
        self.checkpoints: dict[str, tuple[Contents, str]] = {}
        self.current = ""

    def copy(self) -> Contents:
        """Return a copy of what the guest sees."""
        return {location: dict(blocks) for location, blocks in self.now.items()}

    def take(self, checkpoint: str) -> None:
        """A checkpoint was taken."""
        self.checkpoints[checkpoint] = (self.copy(), self.current)
        self.current = checkpoint

    def apply(self, checkpoint: str) -> None:
        """A checkpoint was applied."""
        self.now, self.current = self.checkpoints[checkpoint][0], checkpoint
        self.now = self.copy()

    def remove(self, checkpoint: str) -> None:
        """A checkpoint was removed."""
        _, parent = self.checkpoints.pop(checkpoint)
        self.checkpoints = {
            c: (contents, parent if p == checkpoint else p) for c, (contents, p) in self.checkpoints.items()
        }
        self.current = parent if self.current == checkpoint else self.current

    def compare(self, vm: dict[str, Any]) -> None:
        """Check a VM against what it should be."""
        assert {at: d["sha256"] for at, d in vm["disks"].items()} == {at: digest(b) for at, b in self.now.items()}
        assert vm["current"] == self.current
        assert {c["id"]: (c["disks"], c["parent"]) for c in vm["checkpoints"]} == {
            c: ({at: digest(b) for at, b in contents.items()}, parent)
            for c, (contents, parent) in self.checkpoints.items()
        }
