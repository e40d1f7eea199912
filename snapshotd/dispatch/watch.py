"""What is kept of active operations outside the log: why each waits, and how often and in vain it was looked at.

A look that cannot be taken ages like one that shows nothing. Only the time in which the host itself could not be asked
does not count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from snapshotd.application.host_failures import failure_of
from snapshotd.dispatch.outputs import Moment
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.ids import VmId
from snapshotd.domain.lifecycle import Power, StepState
from snapshotd.domain.operation import Failure, Operation, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine

_HOLDS_UP: Final = frozenset(
    {
        Verdict.NO_ANSWER,
        Verdict.FAILED,
        Verdict.NOT_BEGUN,
        Verdict.FOREIGN_INSTALLATION,
        Verdict.BUSY,
        Verdict.IN_PROGRESS,
    }
)
"""Answers after which an operation waits, and the host is asked again."""


VM_MISSING: Final = "VM_MISSING"
"""Reason of an operation whose host does not have the VM."""
_ELSEWHERE: Final = Failure(
    reason=VM_MISSING,
    message="The host does not have the VM. The other hosts are asked for it, since it may have been moved to one.",
)


@dataclass(frozen=True, slots=True)
class Wait:
    """Why an operation or a host waits, and since when."""

    failure: Failure
    since: datetime


@dataclass(slots=True)
class Watch:
    """An active operation: how often it was looked at, and why it waits."""

    looked_at: tuple[int, int] = (0, 0)
    """The step's number and token: a new step, or a new token, begins to count anew."""
    looks: int = 0
    next_s: float = 0.0
    idle_s: float = 0.0
    """How long, all in all, nothing has been seen at work."""
    quiet_at_s: float | None = None
    """When the last look saw nothing at work, or could not be taken; None: it saw something, or the host was away."""
    wait: Wait | None = None
    percent: int = 0
    """How far what is polled for has come, by the last poll."""
    worked_at: datetime | None = None
    """When the host was last seen at work for it; None: not since the service started."""

    def idle(self, answer: HostAnswer, now_s: float, *, forward: bool = False) -> float:
        """Take in the answer to a look. Return for how long nothing has been seen at work.

        Args:
            answer: to the look.
            now_s: the time.
            forward: what is waited for has come forward since the last look, though nothing may be seen at work now.
        """
        if forward or answer.verdict is Verdict.IN_PROGRESS or (answer.vm is not None and answer.vm.activities):
            self.idle_s, self.quiet_at_s = 0.0, None
        elif _of_the_host(answer):
            self.quiet_at_s = None
        else:
            self.idle_s += 0.0 if self.quiet_at_s is None else now_s - self.quiet_at_s
            self.quiet_at_s = now_s
        return self.idle_s


def _of_the_host(answer: HostAnswer) -> bool:
    """Return whether a look failed for a reason that is not the VM's own."""
    silent = answer.verdict is Verdict.NO_ANSWER and answer.error_id != "MALFORMED_ANSWER"
    return silent or answer.verdict is Verdict.FOREIGN_INSTALLATION


class Watches:
    """The watches of all active operations."""

    def __init__(self, policy: Policy) -> None:
        """Begin with none."""
        self._policy = policy
        self._known: dict[VmId, dict[int, Watch]] = {}
        self._missing: dict[VmId, None] = {}
        """Those of which an answer said that their host does not have them; some may have been found since."""

    def keep(self, vm: VirtualMachine) -> Iterable[int]:
        """Keep a watch for each active operation of a VM. Return the numbers of those that have ended since."""
        known, operations = self._known.get(vm.vm_id, {}), vm.active_operations
        if operations and len(known) == len(operations) and all(o.number in known for o in operations):
            return ()
        active = {o.number: known.get(o.number, Watch()) for o in operations}
        if active:
            self._known[vm.vm_id] = active
        else:
            self._known.pop(vm.vm_id, None)
        return known.keys() - active.keys()

    def get(self, vm_id: VmId, number: int) -> Watch | None:
        """Return the watch of an active operation."""
        return self._known.get(vm_id, {}).get(number)

    def wait(self, vm_id: VmId, number: int) -> Wait | None:
        """Return why an active operation waits; None: nothing holds it up."""
        watch = self.get(vm_id, number)
        return watch.wait if watch is not None else None

    def note_missing(self, vm_id: VmId) -> None:
        """Note whether an answer said that a VM's host does not have it."""
        if self._misses(vm_id):
            self._missing.setdefault(vm_id)

    def missing(self) -> tuple[VmId, ...]:
        """Return the VMs of which an operation waits since their host does not have them."""
        for vm_id in [vm_id for vm_id in self._missing if not self._misses(vm_id)]:
            del self._missing[vm_id]
        return tuple(self._missing)

    def _misses(self, vm_id: VmId) -> bool:
        waits = (watch.wait for watch in self._known.get(vm_id, {}).values())
        return any(wait is not None and wait.failure.reason == VM_MISSING for wait in waits)

    def forget(self, vm_id: VmId) -> None:
        """Forget why the operations of a VM wait, and how often it was looked at: it has moved to another host."""
        self._known.pop(vm_id, None)

    def of_step(self, vm: VirtualMachine, operation: Operation, step: Step) -> Watch:
        """Return the watch of an operation whose step is to be looked at."""
        watch = self._known.setdefault(vm.vm_id, {}).setdefault(operation.number, Watch())
        at = (step.plan.number, step.token)
        if watch.looked_at != at:
            watch.looked_at, watch.looks, watch.next_s = at, 0, 0.0
            watch.idle_s, watch.quiet_at_s, watch.percent = 0.0, None, 0
        return watch

    def looked(self, vm: VirtualMachine, operation: Operation, step: Step, moment: Moment) -> None:
        """Schedule the next look at a step, each time later."""
        watch = self.of_step(vm, operation, step)
        watch.looks += 1
        polls = step.state is StepState.WAITING
        interval = self._policy.poll_interval_s if polls else self._policy.backoff_s
        watch.next_s = moment.monotonic_s + interval(watch.looks)

    def waits(self, vm_id: VmId, number: int, failure: Failure, moment: Moment) -> None:
        """Note why an operation waits."""
        if (watch := self.get(vm_id, number)) is not None:
            watch.wait = still(watch.wait, failure, moment.utc)

    def waits_no_more(self, vm_id: VmId, number: int, reasons: frozenset[str]) -> None:
        """Note that none of these reasons holds an operation up any more."""
        watch = self.get(vm_id, number)
        if watch is not None and watch.wait is not None and watch.wait.failure.reason in reasons:
            watch.wait = None

    def answered(self, vm_id: VmId, number: int, answer: HostAnswer, moment: Moment) -> None:
        """Note why an operation waits, and clear that when its host answers."""
        watch = self.get(vm_id, number)
        if watch is None:
            return
        if answer.verdict is Verdict.IN_PROGRESS or (answer.vm is not None and answer.vm.activities):
            watch.worked_at = moment.utc
        if answer.verdict in _HOLDS_UP:
            watch.wait = still(watch.wait, failure_of(answer), moment.utc)
        elif answer.verdict is Verdict.OBSERVED and answer.vm is not None and answer.vm.power is Power.ABSENT:
            watch.wait = still(watch.wait, _ELSEWHERE, moment.utc)
        elif answer.verdict is Verdict.OBSERVED and answer.vm is not None and answer.vm.works_besides_merging():
            watch.wait = still(watch.wait, failure_of(HostAnswer(verdict=Verdict.IN_PROGRESS)), moment.utc)
        else:
            watch.wait = None


def still(known: Wait | None, failure: Failure, now: datetime) -> Wait:
    """Return a wait. It keeps its beginning while the reason stays the same."""
    began = known is not None and known.failure.reason == failure.reason
    return Wait(failure, known.since if began and known else now)
