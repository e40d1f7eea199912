"""What each checkpoint holds and what the guest sees, as an oracle that knows no files keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from snapshotd.simulator.model.disks import digest

Contents = dict[str, dict[str, str]]


@dataclass
class Moment:
    """What a VM is at a moment, apart from its power."""

    contents: Contents
    """What the guest sees, by place."""
    sizes: dict[str, int] = field(default_factory=dict)
    """How large a disk is, by place; where none is named, nobody looks."""
    offering: dict[str, object] = field(default_factory=dict)
    """Processors and memory, as far as anybody looks."""

    def copy(self) -> Moment:
        """Return a copy, which goes its own way."""
        contents = {location: dict(blocks) for location, blocks in self.contents.items()}
        return Moment(contents, dict(self.sizes), dict(self.offering))


class Oracle:
    """What each checkpoint holds and what the guest sees, as plain dictionaries."""

    def __init__(self, locations: list[str]) -> None:
        self._moment = Moment({location: {} for location in locations})
        self.checkpoints: dict[str, tuple[Moment, str]] = {}
        self.current = ""

    @property
    def now(self) -> Contents:
        """What the guest sees."""
        return self._moment.contents

    @property
    def sizes(self) -> dict[str, int]:
        """How large the disks are."""
        return self._moment.sizes

    @property
    def offering(self) -> dict[str, object]:
        """Processors and memory."""
        return self._moment.offering

    def copy(self) -> Contents:
        """Return a copy of what the guest sees."""
        return self._moment.copy().contents

    def attach(self, location: str, size: int, blocks: dict[str, str] | None = None) -> None:
        """A disk was attached."""
        self.now[location] = dict(blocks or {})
        self.sizes[location] = size

    def detach(self, location: str) -> dict[str, str]:
        """A disk was detached; return what is on it."""
        self.sizes.pop(location, None)
        return self.now.pop(location)

    def take(self, checkpoint: str) -> None:
        """A checkpoint was taken."""
        self.checkpoints[checkpoint] = (self._moment.copy(), self.current)
        self.current = checkpoint

    def apply(self, checkpoint: str) -> None:
        """A checkpoint was applied."""
        self._moment, self.current = self.checkpoints[checkpoint][0].copy(), checkpoint

    def remove(self, checkpoint: str) -> None:
        """A checkpoint was removed."""
        _, parent = self.checkpoints.pop(checkpoint)
        self.checkpoints = {
            c: (moment, parent if p == checkpoint else p) for c, (moment, p) in self.checkpoints.items()
        }
        self.current = parent if self.current == checkpoint else self.current

    def compare(self, vm: dict[str, Any]) -> None:
        """Check a VM against what it should be."""
        assert {at: d["sha256"] for at, d in vm["disks"].items()} == _digests(self.now)
        assert {at: vm["disks"][at]["size_bytes"] for at in self.sizes} == self.sizes
        assert {name: vm["offering"][name] for name in self.offering} == self.offering
        assert vm["current"] == self.current
        assert {c["id"]: (c["disks"], c["parent"]) for c in vm["checkpoints"]} == {
            c: (_digests(moment.contents), parent) for c, (moment, parent) in self.checkpoints.items()
        }
        for checkpoint in vm["checkpoints"]:
            offering = self.checkpoints[checkpoint["id"]][0].offering
            assert {name: checkpoint["offering"][name] for name in offering} == offering


def _digests(contents: Contents) -> dict[str, str]:
    return {at: digest(blocks) for at, blocks in contents.items()}
