"""Windows' named mutexes, as far as the host script needs them: one owner each, freed when the owner dies."""

from __future__ import annotations

import threading
import time

from snapshotd.simulator.hypervisor import Caller, ScriptKilled


class NamedMutexes:
    """All named mutexes of one simulated host."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._owners: dict[str, Caller] = {}

    def acquire(self, name: str, owner: Caller, wait_s: float) -> bool:
        """Take a mutex, abandoned or free; False when somebody still holds it after so many seconds.

        Raises ScriptKilled when the owner-to-be dies meanwhile.
        """
        deadline = time.monotonic() + wait_s
        with self._changed:
            while True:
                # Looked at under the lock: whoever dies after this is found among the owners by abandon().
                if owner.killed:
                    raise ScriptKilled
                if name not in self._owners:
                    self._owners[name] = owner
                    return True
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)

    def release(self, name: str, owner: Caller) -> None:
        """Give a mutex back; nothing happens when it is somebody else's by now."""
        with self._changed:
            if self._owners.get(name) is owner:
                del self._owners[name]
                self._changed.notify_all()

    def abandon(self, owner: Caller) -> None:
        """Free all that a dead script held, and wake it if it waits."""
        with self._changed:
            for name in [name for name, holder in self._owners.items() if holder is owner]:
                del self._owners[name]
            self._changed.notify_all()
