"""The dispatcher, without I/O. Given what has happened and the time, it returns what to record and what to send.

    in:  attached, heard, detached, changed, recorded, refused, answered, asked, unasked, tick
    out: Record (a command to decide), Send (an order to an executor), Abandon (one that nobody waits for any more),
         Reply (to whoever asked)

An order is sent only for what is durable: `changed` and `recorded` are called after the commit, with the events. A step
that is ISSUED, but not by this process (a restart), has an unknown outcome and is observed. One slow host delays no
other: each has its own share. No wait is endless: an order that is not answered in time is given up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from snapshotd.application.host_failures import failure_of
from snapshotd.application.next_action import AwaitAnswer, AwaitPerson, AwaitTurn, Later, Poll, next_action
from snapshotd.dispatch.feeding import Feeding
from snapshotd.dispatch.orders import Order, OrderKind, effect_order, observe_order, poll_order
from snapshotd.dispatch.watch import Wait, Watch, still
from snapshotd.domain.commands import LoseOutcome, Proceed, StallWait, TakeAnswer, TakePoll, VmCommand
from snapshotd.domain.events import Envelope, StepIssued
from snapshotd.domain.host_errors import NoExecutor
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Failure, Operation, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.steps.catalogue import ACTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The time on two clocks: the one that people and hosts use, and one that never jumps."""

    utc: datetime
    monotonic_s: float


@dataclass(frozen=True, slots=True)
class Record:
    """Decide this command on this VM and append; then call `recorded` or `refused`."""

    vm_id: VmId
    command: VmCommand


@dataclass(frozen=True, slots=True)
class Send:
    """Send this order to this executor."""

    executor: str
    dispatch_id: str
    order: Order


@dataclass(frozen=True, slots=True)
class Abandon:
    """Nobody waits for this order any more; its executor may drop it."""

    executor: str
    dispatch_id: str


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer the question with this key. None: no executor serves the host."""

    key: str
    answer: HostAnswer | None


Output = Record | Send | Abandon | Reply

_LATE = "No answer came in time."
_TURN = "AWAITING_TURN"
"""Reason of an operation that waits for the end of one that it preempts."""

_REMEMBERED = 1000
"""How many given-up effects are remembered, so that a late DONE still counts."""
_HOLDS_UP = frozenset(
    {Verdict.NO_ANSWER, Verdict.FAILED, Verdict.FOREIGN_INSTALLATION, Verdict.BUSY, Verdict.IN_PROGRESS}
)
"""Answers after which an operation waits, and the host is asked again."""


@dataclass(slots=True)
class _Flight:
    """One order under way."""

    executor: str
    order: Order
    number: int = 0
    key: str = ""
    asked_version: int = 0
    """The VM's version when it was sent."""


class Dispatcher:
    """Decides what to record and what to send. Holds nothing that must outlive it.

    Besides the VMs of the log, it holds who is fed, what is in flight, and when a step was looked at and will be again;
    and for people, why an operation or a host waits, and how far a job is.
    """

    def __init__(self, policy: Policy, lease_ttl_s: float, orders_per_host: int, incarnation: str) -> None:
        """Start with nothing in flight. `incarnation` makes dispatch ids unique over restarts."""
        self._policy = policy
        self._per_host = orders_per_host
        self._incarnation = incarnation
        self._sent = 0
        self.feeding = Feeding(lease_ttl_s)
        self._vms: dict[VmId, VirtualMachine] = {}
        self._flights: dict[str, _Flight] = {}
        self._given_up: dict[str, _Flight] = {}
        """The latest effects whose answer is no longer awaited: a late DONE still settles its step."""
        self._fresh: set[tuple[VmId, int]] = set()
        self._watches: dict[VmId, dict[int, Watch]] = {}
        """By VM and number of the operation."""
        self._recording: set[VmId] = set()
        self.contact: dict[HostId, Wait | None] = {}
        """Why a host does not answer; None: it does. A host that nobody has tried to reach is not in here."""

    def wait(self, vm_id: VmId, number: int) -> Wait | None:
        """Return why an active operation waits, for people; None: nothing holds it up."""
        watch = self._watches.get(vm_id, {}).get(number)
        return watch.wait if watch else None

    def percent(self, vm_id: VmId, number: int) -> int:
        """Return how far the hypervisor's job for an active operation has come, as last reported."""
        watch = self._watches.get(vm_id, {}).get(number)
        return watch.percent if watch else 0

    def attached(self, executor: str, hosts: frozenset[str], moment: Moment) -> list[Output]:
        """Register an executor that has signed in; return what is due now."""
        self.feeding.attach(executor, hosts, moment.monotonic_s)
        return self.tick(moment)

    def heard(self, executor: str, moment: Moment) -> None:
        """Record a sign of life of an executor."""
        self.feeding.heard(executor, moment.monotonic_s)

    def detached(self, executor: str, moment: Moment) -> list[Output]:
        """Give up an executor whose stream has ended; return what is due now."""
        return self._lose(executor, moment) + self.tick(moment)

    def _lose(self, executor: str, moment: Moment) -> list[Output]:
        """Remove an executor, and settle its orders as unanswered."""
        self.feeding.detach(executor)
        lost = HostAnswer(verdict=Verdict.NO_ANSWER, error_id="CONNECTION_LOST", error_message="The executor is gone.")
        out: list[Output] = []
        for dispatch_id in [d for d, f in self._flights.items() if f.executor == executor]:
            out += self.answered(dispatch_id, lost, moment)
        return out

    def recorded(self, vm: VirtualMachine, envelopes: Iterable[Envelope], moment: Moment) -> list[Output]:
        """Return what is due after a Record was carried out."""
        self._recording.discard(vm.vm_id)
        return self.changed(vm, envelopes, moment)

    def changed(self, vm: VirtualMachine, envelopes: Iterable[Envelope], moment: Moment) -> list[Output]:
        """Return what is due after a VM has durably changed by a request, or was replayed (then without envelopes)."""
        known = self._vms.get(vm.vm_id)
        if known is None or known.version <= vm.version:
            self._vms[vm.vm_id] = vm
        self._fresh |= {(vm.vm_id, e.version) for e in envelopes if isinstance(e.event, StepIssued)}
        return self._drop_unwanted(self._vms[vm.vm_id]) + self._look(self._vms[vm.vm_id], moment)

    def _drop_unwanted(self, vm: VirtualMachine) -> list[Output]:
        """Abandon the effects that are not waited for any more; a late DONE of one still counts."""
        issued = {s.token for o in vm.active_operations for s in o.steps if s.state is StepState.ISSUED}
        effects = {d: f for d, f in self._flights.items() if f.order.kind is OrderKind.EFFECT}
        unwanted = [d for d, f in effects.items() if f.order.vm_id == vm.vm_id and f.order.token not in issued]
        self._given_up |= {dispatch_id: self._flights.pop(dispatch_id) for dispatch_id in unwanted}
        return [Abandon(effects[dispatch_id].executor, dispatch_id) for dispatch_id in unwanted]

    def refused(self, vm_id: VmId) -> None:
        """Note that a Record could not be carried out. A tick returns it again, if it is still due."""
        self._recording.discard(vm_id)

    def asked(self, key: str, order: Order) -> list[Output]:
        """Send an order that belongs to no operation, such as a report; without an executor, reply at once."""
        executor = self.feeding.fed(order.host_id)
        if executor is None:
            return [Reply(key, None)]
        return [self._send(_Flight(executor, order, key=key))]

    def unasked(self, key: str) -> list[Output]:
        """Abandon the order with this key: nobody waits for it any more. Harmless once it is answered."""
        asked = [dispatch_id for dispatch_id, flight in self._flights.items() if flight.key == key]
        return [Abandon(self._flights.pop(dispatch_id).executor, dispatch_id) for dispatch_id in asked]

    def answered(self, dispatch_id: str, answer: HostAnswer, moment: Moment) -> list[Output]:
        """Settle an order that was answered, or that no answer will come for."""
        flight = self._flights.pop(dispatch_id, None)
        if flight is None:
            return self._answered_late(dispatch_id, answer)
        self._note_contact(flight.order.host_id, answer, moment)
        if flight.key:
            return [Reply(flight.key, answer)]
        order = flight.order
        assert order.vm_id is not None, order
        vm = self._vms[order.vm_id]
        self._note_waiting(vm, flight.number, answer, moment)
        if order.kind is OrderKind.POLL:
            return self._polled(vm, flight, answer, moment)
        if answer.verdict is not Verdict.NO_ANSWER:
            return [self._record(vm, _told(flight, answer))]
        if order.kind is OrderKind.OBSERVE:
            return []  # sent again with the same token, without an event
        self._given_up[dispatch_id] = flight
        for oldest in list(self._given_up)[:-_REMEMBERED]:
            del self._given_up[oldest]
        lost = LoseOutcome(number=flight.number, step=order.step, token=order.token, failure=failure_of(answer))
        return [self._record(vm, lost)]

    def _answered_late(self, dispatch_id: str, answer: HostAnswer) -> list[Output]:
        """Take a DONE that an executor held while it was away, whatever was concluded since. Ignore other answers."""
        flight = self._given_up.pop(dispatch_id, None)
        if flight is None or flight.order.vm_id is None or answer.verdict is not Verdict.DONE:
            return []
        return [self._record(self._vms[flight.order.vm_id], _told(flight, answer))]

    def tick(self, moment: Moment) -> list[Output]:
        """Return everything that is due now."""
        out: list[Output] = []
        for executor in self.feeding.silent(moment.monotonic_s):
            out += self._lose(executor, moment)
        out += self._give_up(moment)
        for vm in tuple(self._vms.values()):
            out += self._look(vm, moment)
        return out

    def _give_up(self, moment: Moment) -> list[Output]:
        """Give up orders that should have been answered: else they would hold up their VM and their host for ever."""
        latest = moment.utc - timedelta(seconds=self._policy.answer_grace_s)
        late = HostAnswer(verdict=Verdict.NO_ANSWER, error_id="DEADLINE_EXCEEDED", error_message=_LATE)
        out: list[Output] = []
        for dispatch_id in [d for d, f in self._flights.items() if f.order.deadline < latest]:
            executor = self._flights[dispatch_id].executor
            out += [Abandon(executor, dispatch_id), *self.answered(dispatch_id, late, moment)]
        return out

    def _look(self, vm: VirtualMachine, moment: Moment) -> list[Output]:
        """Return what is due on a VM; nothing while a Record of it is under way, since that leads back here."""
        out: list[Output] = []
        known = self._watches.pop(vm.vm_id, {})
        if vm.active_operations:
            self._watches[vm.vm_id] = {o.number: known.get(o.number, Watch()) for o in vm.active_operations}
        if vm.vm_id in self._recording:
            return out
        for operation in vm.active_operations:
            action = next_action(vm, operation, moment.utc, self._policy)
            match action:
                case AwaitAnswer(step=step):
                    out += self._await(vm, operation, step, moment)
                case Poll(step=step):
                    if self._due(vm, operation, step, moment):
                        deadline = moment.utc + timedelta(seconds=self._policy.observe_wait_s)
                        out += self._try_to_send(vm, operation, poll_order(vm, step, deadline))
                case Later():
                    pass
                case AwaitTurn(older=older):
                    watch = self._watches[vm.vm_id][operation.number]
                    turn = Failure(reason=_TURN, message=f"{older.name} has to end first.")
                    watch.wait = still(watch.wait, turn, moment.utc)
                case AwaitPerson(why=why):
                    watch = self._watches[vm.vm_id][operation.number]
                    watch.wait = still(watch.wait, why, moment.utc)
                case _:
                    out += self._proceed(vm, operation, moment)
        return out

    def _proceed(self, vm: VirtualMachine, operation: Operation, moment: Moment) -> list[Output]:
        """Record what comes next, but only if it can then be sent."""
        fed = self._is_fed(vm, operation, moment)
        return [self._record(vm, Proceed())] if fed and self._room(vm.host_id) else []

    def _is_fed(self, vm: VirtualMachine, operation: Operation, moment: Moment) -> bool:
        """Return whether an executor serves an operation's host. If none does, note that the operation waits."""
        watch = self._watches[vm.vm_id][operation.number]
        if self.feeding.fed(vm.host_id) is None:
            watch.wait = still(watch.wait, Failure.of(NoExecutor(vm.host_id)), moment.utc)
            return False
        if watch.wait is not None and watch.wait.failure.reason in (NoExecutor.reason, _TURN):
            watch.wait = None
        return True

    def _await(self, vm: VirtualMachine, operation: Operation, step: Step, moment: Moment) -> list[Output]:
        if step.observing:
            if not self._due(vm, operation, step, moment):
                return []
            deadline = moment.utc + timedelta(seconds=self._policy.observe_wait_s)
            return self._try_to_send(vm, operation, observe_order(vm, operation, step, deadline))
        if step.state is not StepState.ISSUED:
            return []
        if (vm.vm_id, step.token) in self._fresh:
            self._fresh.discard((vm.vm_id, step.token))
            if sent := self._try_to_send(vm, operation, effect_order(vm, operation, step)):
                return sent
        assert step.deadline is not None
        if self._in_flight(vm, step):
            return []  # until it is answered or given up
        late = moment.utc > step.deadline + timedelta(seconds=self._policy.answer_grace_s)
        text = _LATE if late else "The service was restarted, or lost its executor, before an answer came."
        failure = Failure(reason="DEADLINE_EXCEEDED" if late else "CONNECTION_LOST", message=text)
        lost = LoseOutcome(number=operation.number, step=step.plan.number, token=step.token, failure=failure)
        return [self._record(vm, lost)]

    def _due(self, vm: VirtualMachine, operation: Operation, step: Step, moment: Moment) -> bool:
        """Return whether to look at a step now. If so, schedule the next look, each time later."""
        watch = self._watches[vm.vm_id][operation.number]
        at = (step.plan.number, step.token)
        if watch.looked_at != at:
            watch.looked_at, watch.looks, watch.next_s, watch.idle_since_s = at, 0, 0.0, None
        busy = any(f.order.vm_id == vm.vm_id and f.number == operation.number for f in self._flights.values())
        if busy or moment.monotonic_s < watch.next_s or not self._room(vm.host_id):
            return False
        if not self._is_fed(vm, operation, moment):
            return False
        watch.looks += 1
        interval = self._policy.poll_interval_s if step.state is StepState.WAITING else self._policy.backoff_s
        watch.next_s = moment.monotonic_s + interval(watch.looks)
        return True

    def _polled(self, vm: VirtualMachine, flight: _Flight, answer: HostAnswer, moment: Moment) -> list[Output]:
        """Record a poll's report, and end a wait in which nothing moves."""
        operation = vm.operations.get(flight.number)
        step = operation.open_step if operation is not None else None
        if operation is None or step is None or step.state is not StepState.WAITING:
            return []
        number, at, action = operation.number, step.plan.number, ACTIONS[step.plan.action]
        watch = self._watches[vm.vm_id][number]
        report = answer.vm
        if report is None:
            watch.idle_since_s = None  # without a report, the host may be at work
            return []
        watch.wait = still(watch.wait, action.awaits(step, report), moment.utc)
        poll = TakePoll(number=number, step=at, report=report, asked_version=flight.asked_version)
        if report.activities:
            watch.idle_since_s = None
        elif watch.idle_since_s is None:
            watch.idle_since_s = moment.monotonic_s
        elif moment.monotonic_s - watch.idle_since_s > action.time_limit_s(self._policy):
            stall = StallWait(number=number, step=at, failure=action.stalled(self._policy, watch.wait.failure))
            return [self._record(vm, poll), self._record(vm, stall)]
        return [self._record(vm, poll)]

    def _record(self, vm: VirtualMachine, command: VmCommand) -> Record:
        """Return a Record of a command. Until it is carried out, nothing else is due on this VM."""
        self._recording.add(vm.vm_id)
        return Record(vm.vm_id, command)

    def _in_flight(self, vm: VirtualMachine, step: Step) -> bool:
        return any(f.order.vm_id == vm.vm_id and f.order.token == step.token for f in self._flights.values())

    def _room(self, host_id: HostId) -> bool:
        return sum(f.order.host_id == host_id for f in self._flights.values()) < self._per_host

    def _try_to_send(self, vm: VirtualMachine, operation: Operation, order: Order) -> list[Output]:
        executor = self.feeding.fed(vm.host_id)
        if executor is None:
            return []
        return [self._send(_Flight(executor, order, number=operation.number, asked_version=vm.version))]

    def _send(self, flight: _Flight) -> Send:
        self._sent += 1
        dispatch_id = f"{self._incarnation}-{self._sent}"
        self._flights[dispatch_id] = flight
        return Send(flight.executor, dispatch_id, flight.order)

    def _note_waiting(self, vm: VirtualMachine, number: int, answer: HostAnswer, moment: Moment) -> None:
        """Note why an operation waits, and clear that when its host answers."""
        watch = self._watches.get(vm.vm_id, {}).get(number)
        if watch is None:
            return
        if answer.verdict in _HOLDS_UP:
            watch.wait = still(watch.wait, failure_of(answer), moment.utc)
        elif answer.verdict is Verdict.OBSERVED and answer.vm is not None and answer.vm.works_besides_merging():
            watch.wait = still(watch.wait, failure_of(HostAnswer(verdict=Verdict.IN_PROGRESS)), moment.utc)
        else:
            watch.wait, watch.percent = None, answer.vm.percent if answer.vm else 0

    def _note_contact(self, host_id: HostId, answer: HostAnswer, moment: Moment) -> None:
        """Note whether a host answers."""
        if answer.verdict is Verdict.NO_ANSWER:
            self.contact[host_id] = still(self.contact.get(host_id), failure_of(answer), moment.utc)
        else:
            self.contact[host_id] = None


def _told(flight: _Flight, answer: HostAnswer) -> TakeAnswer:
    """Return the command that judges an order's answer."""
    return TakeAnswer(number=flight.number, step=flight.order.step, token=flight.order.token, answer=answer)
