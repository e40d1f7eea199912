"""The dispatcher, without I/O. Given what has happened and the time, it returns what to record and what to send.

    in:  attached, heard, detached, changed, recorded, refused, answered, asked, unasked, tick
    out: Record (a command to decide), Send (an order to an executor), Abandon (one that nobody waits for any more),
         End (a stream), Reply (to whoever asked), Fault (to be logged)

An order is sent only for what is durable: `changed` and `recorded` are called after the commit, with the events. It has
its slot on the host before it is recorded, so that it is sent at once (slots.py). A step that is ISSUED, but not by
this process (a restart), has an unknown outcome and is observed. One slow host delays no other: each has its own slots.
For a host that cannot be reached nothing is recorded, and it is probed until it answers (reach.py). An exception on one
VM is a Fault of that VM, and touches no other (faults.py).
No wait is endless: an order that is not answered in time is given up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial

from snapshotd.application.host_failures import failure_of
from snapshotd.application.next_action import AwaitAnswer, AwaitPerson, AwaitTurn, Later, Observe, Poll, next_action
from snapshotd.dispatch.answers import fitting
from snapshotd.dispatch.faults import Faults
from snapshotd.dispatch.feeding import Feeding
from snapshotd.dispatch.flights import Flight, Flights
from snapshotd.dispatch.orders import Order, OrderKind, effect_order, observe_order, poll_order
from snapshotd.dispatch.outputs import Abandon, End, Moment, Output, Record, Reply
from snapshotd.dispatch.reach import NEVER_SENT, Reach, never_sent
from snapshotd.dispatch.slots import Share, Waiter
from snapshotd.dispatch.watch import Wait, Watch, still
from snapshotd.domain.commands import LoseOutcome, NotSent, Proceed, StallWait, TakeAnswer, TakePoll, VmCommand
from snapshotd.domain.events import Envelope, ObservationIssued, StepIssued
from snapshotd.domain.host_errors import NoExecutor
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Failure, Operation, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.steps.catalogue import ACTIONS

_LATE = "No answer came in time."
_CROWDED = "All sessions of the host were busy until the deadline; nothing was sent."
_RESTARTED = "The service was restarted, or lost its executor, before an answer came."
_TURN = "AWAITING_TURN"
"""Reason of an operation that waits for the end of one that it preempts."""

_PASSED = NEVER_SENT | {NoExecutor.reason, _TURN}
"""Reasons to wait that no longer hold when something can be sent."""
_HOLDS_UP = frozenset(
    {Verdict.NO_ANSWER, Verdict.FAILED, Verdict.FOREIGN_INSTALLATION, Verdict.BUSY, Verdict.IN_PROGRESS}
)
"""Answers after which an operation waits, and the host is asked again."""


class Dispatcher:
    """Decides what to record and what to send. Holds nothing that must outlive it.

    Besides the VMs with active operations, it holds who is fed, what is in flight, and when a step was looked at and
    will be again; and for people, why an operation or a host waits, and how far a job is.
    """

    def __init__(self, policy: Policy, lease_ttl_s: float, orders_per_host: int, incarnation: str) -> None:
        """Start with nothing in flight. `incarnation` makes dispatch ids unique over restarts."""
        self._policy = policy
        self.feeding = Feeding(lease_ttl_s)
        self._flights = Flights(orders_per_host, incarnation)
        self._questions: dict[str, Order] = {}
        """Those that wait for a slot, by key."""
        self._vms: dict[VmId, VirtualMachine] = {}
        """Those with active operations."""
        self._watches: dict[VmId, dict[int, Watch]] = {}
        """By VM and number of the operation."""
        self._recording: dict[VmId, int] = {}
        """How many Records of a VM are under way."""
        self.reach = Reach(policy)
        self.faults = Faults(policy)

    # --- for people ---------------------------------------------------------------------------------------------

    def wait(self, vm_id: VmId, number: int) -> Wait | None:
        """Return why an active operation waits, for people; None: nothing holds it up."""
        watch = self._watches.get(vm_id, {}).get(number)
        return watch.wait if watch else None

    def percent(self, vm_id: VmId, number: int) -> int:
        """Return how far the hypervisor's job for an active operation has come, as last reported."""
        watch = self._watches.get(vm_id, {}).get(number)
        return watch.percent if watch else 0

    def under_way(self) -> int:
        """Return how many orders are under way."""
        return len(self._flights)

    def forget(self, host_id: HostId) -> None:
        """Forget whether a host answered, and who is fed for it: it is registered no longer."""
        self.reach.forget(host_id)
        self.feeding.forget(host_id)

    # --- executors ----------------------------------------------------------------------------------------------

    def attached(self, executor: str, hosts: frozenset[str], moment: Moment) -> list[Output]:
        """Register an executor that has signed in; return what is due now."""
        self.feeding.attach(executor, hosts, moment.monotonic_s)
        self.reach.at_once()
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
        for dispatch_id in self._flights.which(lambda f: f.executor == executor):
            out += self._landed(dispatch_id, lost, moment)
        return out

    # --- VMs ----------------------------------------------------------------------------------------------------

    def recorded(self, vm: VirtualMachine, envelopes: Iterable[Envelope], moment: Moment) -> list[Output]:
        """Return what is due after a Record was carried out. A step or an observation in it is sent at once."""
        self._keep(vm)
        out: list[Output] = []
        issued = [e for e in envelopes if isinstance(e.event, StepIssued | ObservationIssued)]
        if self._record_ended(vm.vm_id) or issued:
            self._flights.release(vm.vm_id)
        self.faults.over(vm.vm_id)
        for envelope in issued:
            assert isinstance(envelope.event, StepIssued | ObservationIssued)
            number, step = envelope.event.number, envelope.event.step
            out += self._alone(vm.vm_id, partial(self._send_issued, self._vms[vm.vm_id], number, step, moment), moment)
        return out + self._look_and_serve(vm.vm_id, vm.host_id, moment)

    def changed(self, vm: VirtualMachine, moment: Moment) -> list[Output]:
        """Return what is due after a VM has durably changed by a request, or was replayed."""
        self._keep(vm)
        self.faults.wake(vm.vm_id)
        return self._look_and_serve(vm.vm_id, vm.host_id, moment)

    def refused(self, vm_id: VmId, error: Exception, moment: Moment) -> list[Output]:
        """Note that a Record could not be carried out. A tick returns it again, if it is still due."""
        if self._record_ended(vm_id):
            self._flights.release(vm_id)
        vm = self._vms.get(vm_id)
        return [*self.faults.note(vm_id, error, moment), *(self._serve(vm.host_id, moment) if vm else [])]

    def interrupted(self, vm_id: VmId) -> None:
        """Note that a Record was given up, and nobody knows whether it was carried out."""
        if self._record_ended(vm_id):
            self._flights.release(vm_id)

    def _alone(self, vm_id: VmId, work: Callable[[], list[Output]], moment: Moment) -> list[Output]:
        """Return what work on a VM leads to. An exception is a fault of this VM."""
        try:
            return work()
        except Exception as error:  # noqa: BLE001  (a defect that shows on one VM must not touch the others)
            return [*self.faults.note(vm_id, error, moment)]

    def _keep(self, vm: VirtualMachine) -> None:
        """Keep the newest fold of a VM. Of one without active operations nothing is kept."""
        known = self._vms.get(vm.vm_id)
        if known is None or known.version <= vm.version:
            self._vms[vm.vm_id] = vm

    def _record(self, vm_id: VmId, command: VmCommand) -> Record:
        """Return a Record of a command. Until it is carried out, nothing else is due on this VM."""
        self._recording[vm_id] = self._recording.get(vm_id, 0) + 1
        return Record(vm_id, command)

    def _record_ended(self, vm_id: VmId) -> bool:
        """Note that a Record of a VM has ended; return whether none is under way now."""
        left = self._recording.pop(vm_id, 1) - 1
        if left:
            self._recording[vm_id] = left
        return not left

    # --- questions ----------------------------------------------------------------------------------------------

    def asked(self, key: str, order: Order, moment: Moment) -> list[Output]:
        """Send an order that belongs to no operation, such as a report; without an executor, reply at once."""
        self._questions[key] = order
        self._flights.slots(order.host_id).wait(Share.QUESTION, key)
        return self._serve(order.host_id, moment)

    def unasked(self, key: str, moment: Moment) -> list[Output]:
        """Abandon the order with this key: nobody waits for it any more. Harmless once it is answered."""
        if (waiting := self._questions.pop(key, None)) is not None:
            self._flights.slots(waiting.host_id).leave(key)
        out: list[Output] = []
        for dispatch_id in self._flights.which(lambda f: f.key == key):
            flight = self._flights.land(dispatch_id)
            assert flight is not None, dispatch_id
            out += [Abandon(flight.executor, dispatch_id), *self._serve(flight.order.host_id, moment)]
        return out

    # --- answers ------------------------------------------------------------------------------------------------

    def answered(self, executor: str, dispatch_id: str, answer: HostAnswer, moment: Moment) -> list[Output]:
        """Settle an order that its executor has answered. The word of any other executor counts for nothing."""
        flight = self._flights.get(dispatch_id)
        if flight is None:
            return self._answered_late(executor, dispatch_id, answer)
        if flight.executor != executor:
            return []
        return self._landed(dispatch_id, fitting(flight.order, answer), moment)

    def _landed(self, dispatch_id: str, answer: HostAnswer, moment: Moment) -> list[Output]:
        """Settle an order that was answered, or that no answer will come for."""
        flight = self._flights.land(dispatch_id)
        assert flight is not None, dispatch_id
        host_id = flight.order.host_id
        back = self.reach.answered(host_id, answer, moment, report=not flight.number)
        out = self._settle(dispatch_id, flight, answer, moment)
        if back:
            for vm in [vm for vm in self._vms.values() if vm.host_id == host_id]:
                out += self._look(vm, moment)
        return out + self._serve(host_id, moment)

    def unsendable(self, dispatch_id: str, error: Exception, moment: Moment) -> list[Output]:
        """Settle an order that could not be put on its executor's stream, by a defect of ours."""
        flight = self._flights.land(dispatch_id)
        if flight is None:
            return []
        # An attempt as any other, so that a defect does not keep the operation for ever.
        text = f"snapshotd could not send it, because of a defect: {type(error).__name__}. See the daemon's log."
        answer = HostAnswer(verdict=Verdict.NO_ANSWER, error_id="CONNECTION_LOST", error_message=text)
        out = self._settle(dispatch_id, flight, answer, moment)
        if flight.order.vm_id is not None:
            out += self.faults.note(flight.order.vm_id, error, moment)
        return out + self._serve(flight.order.host_id, moment)

    def _settle(self, dispatch_id: str, flight: Flight, answer: HostAnswer, moment: Moment) -> list[Output]:
        """Return what an order's answer leads to, or the fault of its VM."""
        if flight.order.vm_id is None:
            return self._settled(dispatch_id, flight, answer, moment)
        return self._alone(flight.order.vm_id, partial(self._settled, dispatch_id, flight, answer, moment), moment)

    def _settled(self, dispatch_id: str, flight: Flight, answer: HostAnswer, moment: Moment) -> list[Output]:
        """Return what an order's answer leads to."""
        if flight.key:
            return [Reply(flight.key, answer)]
        if not flight.number:
            return []  # a probe
        order = flight.order
        assert order.vm_id is not None, order
        self._note_waiting(order.vm_id, flight.number, answer, moment)
        if order.kind is OrderKind.POLL:
            return self._polled(order.vm_id, flight, answer, moment)
        if answer.verdict is not Verdict.NO_ANSWER:
            return [self._record(order.vm_id, _told(flight, answer))]
        if order.kind is OrderKind.OBSERVE:
            return []  # sent again with the same token, without an event
        self._flights.remember(dispatch_id, flight)
        if never_sent(answer):
            return [self._record(order.vm_id, _unsent(flight.number, order.step, order.token, failure_of(answer)))]
        lost = LoseOutcome(number=flight.number, step=order.step, token=order.token, failure=failure_of(answer))
        return [self._record(order.vm_id, lost)]

    def _answered_late(self, executor: str, dispatch_id: str, answer: HostAnswer) -> list[Output]:
        """Take a DONE that an executor held while it was away, whatever was concluded since. Ignore other answers."""
        flight = self._flights.late(dispatch_id, executor)
        if flight is None or flight.order.vm_id is None:
            return []
        answer = fitting(flight.order, answer)
        if answer.verdict is not Verdict.DONE:
            return []
        return [self._record(flight.order.vm_id, _told(flight, answer))]

    # --- time ---------------------------------------------------------------------------------------------------

    def tick(self, moment: Moment) -> list[Output]:
        """Return everything that is due now."""
        out: list[Output] = []
        for executor in self.feeding.silent(moment.monotonic_s):
            out += [End(executor), *self._lose(executor, moment)]
        out += self._give_up(moment)
        for vm in tuple(self._vms.values()):
            out += self._look(vm, moment)
        out += self._probe(moment)
        for host_id in self._flights.hosts():
            out += self._serve(host_id, moment)
        return out

    def _give_up(self, moment: Moment) -> list[Output]:
        """Give up orders that should have been answered: else they would hold up their VM and their host for ever."""
        latest = moment.utc - timedelta(seconds=self._policy.answer_grace_s)
        late = HostAnswer(verdict=Verdict.NO_ANSWER, error_id="DEADLINE_EXCEEDED", error_message=_LATE)
        out: list[Output] = []
        for dispatch_id in self._flights.which(lambda f: f.order.deadline < latest):
            flight = self._flights.get(dispatch_id)
            assert flight is not None, dispatch_id
            out += [Abandon(flight.executor, dispatch_id), *self._landed(dispatch_id, late, moment)]
        crowded = HostAnswer(verdict=Verdict.NO_ANSWER, error_id="DEADLINE_EXCEEDED", error_message=_CROWDED)
        for key in [key for key, order in self._questions.items() if order.deadline < moment.utc]:
            self._flights.slots(self._questions.pop(key).host_id).leave(key)
            out.append(Reply(key, crowded))
        return out

    def _probe(self, moment: Moment) -> list[Output]:
        """Ask the hosts that are away for a report of one VM, if an operation waits for them. One probe at a time."""
        out: list[Output] = []
        for host_id in self.reach.due(moment.monotonic_s):
            vm = next((vm for vm in self._vms.values() if vm.host_id == host_id), None)
            executor = self.feeding.fed(host_id)
            asked = any(f.order.host_id == host_id and not f.number for f in self._flights)
            if vm is None or executor is None or asked or not self._flights.slots(host_id).free(Share.LOOK):
                continue
            deadline = moment.utc + timedelta(seconds=self._policy.observe_wait_s)
            order = Order(kind=OrderKind.REPORT, host_id=host_id, deadline=deadline, vm_id=vm.vm_id)
            out.append(self._flights.send(Flight(executor=executor, order=order, share=Share.LOOK)))
        return out

    # --- what is due --------------------------------------------------------------------------------------------

    def _look_and_serve(self, vm_id: VmId, host_id: HostId, moment: Moment) -> list[Output]:
        out = self._drop_unwanted(self._vms[vm_id])
        return out + self._look(self._vms[vm_id], moment) + self._serve(host_id, moment)

    def _drop_unwanted(self, vm: VirtualMachine) -> list[Output]:
        """Abandon the effects that are not waited for any more; a late DONE of one still counts."""
        issued = {s.token for o in vm.active_operations for s in o.steps if s.state is StepState.ISSUED}
        out: list[Output] = []
        for dispatch_id in self._flights.which(
            lambda f: f.order.kind is OrderKind.EFFECT and f.order.vm_id == vm.vm_id and f.order.token not in issued
        ):
            flight = self._flights.land(dispatch_id)
            assert flight is not None, dispatch_id
            self._flights.remember(dispatch_id, flight)
            out.append(Abandon(flight.executor, dispatch_id))
        return out

    def _look(self, vm: VirtualMachine, moment: Moment) -> list[Output]:
        """Do `_look_at` a VM, or return its fault."""
        return self._alone(vm.vm_id, partial(self._look_at, vm, moment), moment)

    def _look_at(self, vm: VirtualMachine, moment: Moment) -> list[Output]:
        """Put a VM's operations into the queues of its host, or take them out. Record what was never answered."""
        slots = self._flights.slots(vm.host_id)
        known = self._watches.pop(vm.vm_id, {})
        for ended in known.keys() - {o.number for o in vm.active_operations}:
            slots.leave((vm.vm_id, ended))
        if not vm.active_operations:
            self._vms.pop(vm.vm_id, None)
            self.faults.over(vm.vm_id)
            return []
        self._watches[vm.vm_id] = {o.number: known.get(o.number, Watch()) for o in vm.active_operations}
        if vm.vm_id in self._recording:
            return []  # the end of the Record leads back here
        if self.faults.rests(vm.vm_id, moment):
            for operation in vm.active_operations:
                slots.leave((vm.vm_id, operation.number))
            return []
        out: list[Output] = []
        for operation in vm.active_operations:
            share = self._wants(vm, operation, moment)
            if share is None:
                slots.leave((vm.vm_id, operation.number))
            else:
                slots.wait(share, (vm.vm_id, operation.number))
            out += self._lost(vm, operation)
        return out

    def _wants(self, vm: VirtualMachine, operation: Operation, moment: Moment) -> Share | None:
        """Return what an operation needs a slot for now; None: nothing. Note why it waits."""
        action = next_action(vm, operation, moment.utc, self._policy)
        match action:
            case Later():
                return None
            case AwaitTurn(older=older):
                watch = self._watches[vm.vm_id][operation.number]
                turn = Failure(reason=_TURN, message=f"{older.name} has to end first.")
                watch.wait = still(watch.wait, turn, moment.utc)
                return None
            case AwaitPerson(why=why):
                watch = self._watches[vm.vm_id][operation.number]
                watch.wait = still(watch.wait, why, moment.utc)
                return None
            case AwaitAnswer(step=step) | Poll(step=step):
                looks = step.observing or step.state is StepState.WAITING
                due = looks and self._due(vm, operation, step, moment)
                return Share.LOOK if due and self._can_send(vm, operation, moment) else None
            case Observe():
                return Share.LOOK if self._can_send(vm, operation, moment) else None
            case _:
                return Share.EFFECT if self._can_send(vm, operation, moment) else None

    def _serve(self, host_id: HostId, moment: Moment) -> list[Output]:
        """Give the free slots of a host to those whose turn it is."""
        slots = self._flights.slots(host_id)
        out: list[Output] = []
        trial = self.reach.on_trial(host_id)

        def is_ready(waiter: Waiter) -> bool:
            if isinstance(waiter, str):
                return True
            return waiter[0] not in self._recording and not (trial and self._flights.at_work(host_id))

        while (waiter := slots.next(is_ready)) is not None:
            if isinstance(waiter, str):
                out += self._answer_question(waiter)
            else:
                out += self._alone(waiter[0], partial(self._go_on, *waiter, moment), moment)
        return out

    def _answer_question(self, key: str) -> list[Output]:
        order = self._questions.pop(key)
        executor = self.feeding.fed(order.host_id)
        if executor is None:
            return [Reply(key, None)]
        return [self._flights.send(Flight(executor=executor, order=order, share=Share.QUESTION, key=key))]

    def _go_on(self, vm_id: VmId, number: int, moment: Moment) -> list[Output]:
        """Use a slot for an operation: look at its step, or record what comes next, which is then sent."""
        vm = self._vms[vm_id]
        operation = vm.operations[number]
        share = self._wants(vm, operation, moment)
        if share is None:
            return []
        step = operation.open_step or operation.next_due
        if step is not None and (step.observing or step.state is StepState.WAITING):
            return self._send_look(vm, operation, step, moment)
        self._flights.reserve(vm_id, vm.host_id, share)
        return [self._record(vm_id, Proceed())]

    def _can_send(self, vm: VirtualMachine, operation: Operation, moment: Moment) -> bool:
        """Return whether an executor reaches an operation's host. If none does, note why the operation waits."""
        watch = self._watches[vm.vm_id][operation.number]
        why = self._unreachable(vm.host_id)
        if why is not None:
            watch.wait = still(watch.wait, why, moment.utc)
            return False
        if watch.wait is not None and watch.wait.failure.reason in _PASSED:
            watch.wait = None
        return True

    def _unreachable(self, host_id: HostId) -> Failure | None:
        """Return why nothing can be sent to a host; None: it can."""
        if self.feeding.fed(host_id) is None:
            return Failure.of(NoExecutor(host_id))
        contact = self.reach.contact.get(host_id)
        return None if self.reach.open(host_id) or contact is None else contact.failure

    # --- steps --------------------------------------------------------------------------------------------------

    def _send_issued(self, vm: VirtualMachine, number: int, at: int, moment: Moment) -> list[Output]:
        """Send what has just been recorded. Its slot has been kept."""
        operation = vm.operations[number]
        step = operation.step(at)
        executor = self.feeding.fed(vm.host_id)
        why = self._unreachable(vm.host_id)
        if executor is None or why is not None:  # since it was decided to record this
            assert why is not None, vm.host_id
            return [] if step.observing else [self._record(vm.vm_id, _unsent(number, at, step.token, why))]
        if step.observing:
            return self._send_look(vm, operation, step, moment)
        order = effect_order(vm, operation, step)
        flight = Flight(executor=executor, order=order, share=Share.EFFECT, number=number, asked_version=vm.version)
        return [self._flights.send(flight)]

    def _send_look(self, vm: VirtualMachine, operation: Operation, step: Step, moment: Moment) -> list[Output]:
        """Send an observation or a poll, and schedule the next one, each time later."""
        executor = self.feeding.fed(vm.host_id)
        if executor is None:
            return []
        watch = self._watch(vm, operation, step)
        watch.looks += 1
        polls = step.state is StepState.WAITING
        interval = self._policy.poll_interval_s if polls else self._policy.backoff_s
        watch.next_s = moment.monotonic_s + interval(watch.looks)
        deadline = moment.utc + timedelta(seconds=self._policy.observe_wait_s)
        order = poll_order(vm, step, deadline) if polls else observe_order(vm, operation, step, deadline)
        number, version = operation.number, vm.version
        flight = Flight(executor=executor, order=order, share=Share.LOOK, number=number, asked_version=version)
        return [self._flights.send(flight)]

    def _lost(self, vm: VirtualMachine, operation: Operation) -> list[Output]:
        """Return the Record of a step whose answer cannot come: it is ISSUED, and not in flight."""
        step = operation.open_step
        if step is None or step.state is not StepState.ISSUED:
            return []
        if any(f.order.vm_id == vm.vm_id and f.order.token == step.token for f in self._flights):
            return []  # until it is answered or given up
        failure = Failure(reason="CONNECTION_LOST", message=_RESTARTED)
        lost = LoseOutcome(number=operation.number, step=step.plan.number, token=step.token, failure=failure)
        return [self._record(vm.vm_id, lost)]

    def _watch(self, vm: VirtualMachine, operation: Operation, step: Step) -> Watch:
        """Return the watch of a step. A new step, or a new token, begins to count anew."""
        watches = self._watches.setdefault(vm.vm_id, {})
        watch = watches.setdefault(operation.number, Watch())
        at = (step.plan.number, step.token)
        if watch.looked_at != at:
            watch.looked_at, watch.looks, watch.next_s, watch.idle_since_s = at, 0, 0.0, None
        return watch

    def _due(self, vm: VirtualMachine, operation: Operation, step: Step, moment: Moment) -> bool:
        """Return whether to look at a step now."""
        if any(f.order.vm_id == vm.vm_id and f.number == operation.number for f in self._flights):
            return False
        return moment.monotonic_s >= self._watch(vm, operation, step).next_s

    def _polled(self, vm_id: VmId, flight: Flight, answer: HostAnswer, moment: Moment) -> list[Output]:
        """Record a poll's report, and end a wait in which nothing moves."""
        vm = self._vms.get(vm_id)
        operation = vm.operations.get(flight.number) if vm is not None else None
        step = operation.open_step if operation is not None else None
        if operation is None or step is None or step.state is not StepState.WAITING:
            return []
        number, at, action = operation.number, step.plan.number, ACTIONS[step.plan.action]
        watch = self._watches[vm_id][number]
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
            return [self._record(vm_id, poll), self._record(vm_id, stall)]
        return [self._record(vm_id, poll)]

    # --- why something waits ------------------------------------------------------------------------------------

    def _note_waiting(self, vm_id: VmId, number: int, answer: HostAnswer, moment: Moment) -> None:
        """Note why an operation waits, and clear that when its host answers."""
        watch = self._watches.get(vm_id, {}).get(number)
        if watch is None:
            return
        if answer.verdict in _HOLDS_UP:
            watch.wait = still(watch.wait, failure_of(answer), moment.utc)
        elif answer.verdict is Verdict.OBSERVED and answer.vm is not None and answer.vm.works_besides_merging():
            watch.wait = still(watch.wait, failure_of(HostAnswer(verdict=Verdict.IN_PROGRESS)), moment.utc)
        else:
            watch.wait, watch.percent = None, answer.vm.percent if answer.vm else 0


def _told(flight: Flight, answer: HostAnswer) -> TakeAnswer:
    """Return the command that judges an order's answer."""
    return TakeAnswer(number=flight.number, step=flight.order.step, token=flight.order.token, answer=answer)


def _unsent(number: int, step: int, token: int, failure: Failure) -> NotSent:
    """Return the command for an effect that is on record, and was certainly not sent."""
    return NotSent(number=number, step=step, token=token, failure=failure)
