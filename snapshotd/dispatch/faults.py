"""The VMs that cannot be gone on with: a defect of ours, or a log that takes nothing. Each by itself.

Such a VM rests, each time longer, and is then tried again. It is told once, and again only for another fault or after a
long time, so that one fault does not fill the daemon's log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from snapshotd.dispatch.outputs import Fault, Moment
from snapshotd.domain.errors import DEFECT, told
from snapshotd.domain.ids import VmId
from snapshotd.domain.policy import Policy

_AGAIN_S: Final = 600.0
"""How long the same fault of a VM is not told again."""


@dataclass(slots=True, kw_only=True)
class VmFault:
    """What is wrong with one VM, for people."""

    vm_id: VmId
    since: datetime
    reason: str = ""
    """UPPER_SNAKE, as in errors; INTERNAL for a defect of ours."""
    text: str = ""
    """One line."""
    times: int = 0
    told_s: float = 0.0
    next_s: float = 0.0

    @property
    def defect(self) -> bool:
        """Whether it is a defect of ours."""
        return self.reason == DEFECT


class Faults:
    """The VMs at fault."""

    def __init__(self, policy: Policy) -> None:
        """Begin with none."""
        self._policy = policy
        self._known: dict[VmId, VmFault] = {}

    def __iter__(self) -> Iterator[VmFault]:
        return iter(tuple(self._known.values()))

    def rests_until(self, vm_id: VmId) -> float:
        """Return until when a VM is not to be tried; a time that has passed: it is to be."""
        fault = self._known.get(vm_id)
        return fault.next_s if fault is not None else 0.0

    def wake(self, vm_id: VmId) -> None:
        """Let a VM be tried now: it has changed."""
        if (fault := self._known.get(vm_id)) is not None:
            fault.next_s = 0.0

    def over(self, vm_id: VmId) -> None:
        """Note that a VM goes on again, or that nothing is left to do."""
        self._known.pop(vm_id, None)

    def note(self, vm_id: VmId, error: Exception, moment: Moment) -> list[Fault]:
        """Note that a VM could not be gone on with. Return what is to be told of it: nothing, if that was told."""
        reason, what = told(error)
        text = f"Cannot go on with the VM's operations: {what} It is tried again by itself."
        fault = self._known.setdefault(vm_id, VmFault(vm_id=vm_id, since=moment.utc))
        again = fault.text == text
        fault.reason, fault.text = reason, text
        fault.times += 1
        fault.next_s = moment.monotonic_s + self._policy.backoff_s(fault.times)
        if again and moment.monotonic_s - fault.told_s < _AGAIN_S:
            return []
        fault.told_s = moment.monotonic_s
        return [Fault(vm_id, error, fault.times)]
