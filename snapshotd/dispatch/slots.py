"""The slots of one host: how many orders may be under way on it, which are, and who waits for one.

A slot is taken before anything is recorded that will be sent. So no order waits elsewhere, where its time would run.

No kind of order can take all slots: one is left for effects, and one for all that merely reads. Among the kinds that
may have a slot, the one that was served longest ago comes first; within a kind, the one that has waited longest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import Enum

from snapshotd.domain.ids import VmId


class Share(Enum):
    """What a slot is used for."""

    EFFECT = "EFFECT"
    LOOK = "LOOK"
    """An observation or a poll."""
    QUESTION = "QUESTION"
    """A report that belongs to no operation."""


Waiter = tuple[VmId, int] | str
"""An operation, by its VM and number, or the key of a question."""


class Slots:
    """The slots of one host."""

    def __init__(self, count: int) -> None:
        """Begin with all slots free."""
        self.count = count
        self._taken = dict.fromkeys(Share, 0)
        self._waiting: dict[Share, dict[Waiter, None]] = {share: {} for share in Share}
        self._turns = list(Share)
        """The share that was served longest ago first."""

    def wait(self, share: Share, waiter: Waiter) -> None:
        """Put a waiter at the end of a queue. One that waits there already keeps its place."""
        for other in Share:
            if other is not share:
                self._waiting[other].pop(waiter, None)
        self._waiting[share].setdefault(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Take a waiter out of its queue, if it waits."""
        for queue in self._waiting.values():
            queue.pop(waiter, None)

    def next(self, shares: Collection[Share], ready: Callable[[Waiter], bool]) -> Waiter | None:
        """Return whose turn it is, out of its queue; None: nobody who is ready, or no slot for it.

        Args:
            shares: those that may be served now.
            ready: whether a waiter may be. One who may not be keeps its place, and there must be few such.
        """
        for share in self._turns:
            if share not in shares or not self._waiting[share] or not self.free(share):
                continue
            waiter = next((w for w in self._waiting[share] if ready(w)), None)
            if waiter is not None:
                del self._waiting[share][waiter]
                self._turns.remove(share)
                self._turns.append(share)
                return waiter
        return None

    @property
    def taken(self) -> int:
        """How many slots are taken."""
        return sum(self._taken.values())

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return sum(map(len, self._waiting.values()))

    def take(self, share: Share) -> None:
        """Take a slot, which `next` or `free` has said is there."""
        self._taken[share] += 1

    def release(self, share: Share) -> None:
        """Give a slot back."""
        assert self._taken[share], share
        self._taken[share] -= 1

    def free(self, share: Share) -> bool:
        """Return whether there is a slot for a share now."""
        taken, effects = self.taken, self._taken[Share.EFFECT]
        alike = effects if share is Share.EFFECT else taken - effects
        return taken < self.count and alike < max(1, self.count - 1)
