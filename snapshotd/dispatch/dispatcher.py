"""The dispatcher, without I/O. Given what has happened and the time, it returns what to record and what to send.

    in:  attached, heard, detached, changed, recorded, refused, answered, asked, unasked, tick
    out: Record (a command to decide), Send (an order to an executor), Abandon (one that nobody waits for any more),
         End (a stream), Reply (to whoever asked), Fault (to be logged)

An order is sent only for what is durable: `changed` and `recorded` are called after the commit, with the events. It has
its slot on the host before it is recorded, so that it is sent at once (slots.py). A step that is ISSUED, but not by
this process (a restart), has an unknown outcome and is observed. One slow host delays no other: each has its own slots.
For a host that cannot be reached nothing is recorded, and it is probed until it answers (reach.py). An exception on one
VM is a Fault of that VM, and touches no other (faults.py). No wait is endless: an order that is not answered in time is
given up, and so is a VM that cannot be looked at (settling.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial

from snapshotd.application.next_action import AwaitAnswer, AwaitPerson, AwaitTurn, Later, Observe, Poll, next_action
from snapshotd.dispatch.answers import fitting
from snapshotd.dispatch.faults import Faults
from snapshotd.dispatch.feeding import Feeding
from snapshotd.dispatch.flights import Flight, Flights
from snapshotd.dispatch.observed import Observed
from snapshotd.dispatch.orders import Order, OrderKind
from snapshotd.dispatch.outputs import Abandon, End, Moment, Output, Record, Reply
from snapshotd.dispatch.reach import Reach
from snapshotd.dispatch.sending import TURN, Sending
from snapshotd.dispatch.settling import effect_settled, look_settled, told
from snapshotd.dispatch.slots import Share, Waiter
from snapshotd.dispatch.watch import Wait, Watch, Watches
from snapshotd.domain.commands import LoseOutcome, NotSent, Proceed, VmCommand
from snapshotd.domain.events import Envelope, ObservationIssued, StepIssued
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Failure, Operation
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine

_LATE = "No answer came in time."
_CROWDED = "All sessions of the host were busy until the deadline; nothing was sent."
_RESTARTED = "The service was restarted, or lost its executor, before an answer came."


class Dispatcher:
    """Decides what to record and what to send. Holds nothing that must outlive it.

    Besides the VMs with active operations, it holds who is fed, what is in flight, and when a step was looked at and
    will be again; and for people, why an operation or a host waits, and how far a job is.
    """

    def __init__(self, policy: Policy, lease_ttl_s: float, orders_per_host: int, incarnation: str) -> None:
        """Start with nothing in flight. `incarnation` makes dispatch ids unique over restarts."""
        self._policy = policy
        self.feeding = Feeding(lease_ttl_s)
        self.flights = Flights(orders_per_host, incarnation)
        self._questions: dict[str, Order] = {}
        """Those that wait for a slot, by key."""
        self._vms: dict[VmId, VirtualMachine] = {}
        """Those with active operations."""
        self._watches = Watches(policy)
        self.observed = Observed()
        self.reach = Reach(policy)
        self.faults = Faults(policy)
        self._sending = Sending(policy, self.feeding, self.flights, self.reach, self._watches)

    def wait(self, vm_id: VmId, number: int) -> Wait | None:
        """Return why an active operation waits, for people; None: nothing holds it up."""
        watch = self._watches.get(vm_id, number)
        return watch.wait if watch else None

    def watch(self, vm_id: VmId, number: int) -> Watch | None:
        """Return what is kept of an active operation outside of the log."""
        return self._watches.get(vm_id, number)

    def sought(self) -> tuple[VmId, ...]:
        """Return the VMs that an operation waits for though their host does not have them: another one may."""
        return tuple(vm_id for vm_id in self._vms if self._watches.misses(vm_id))

    def forget(self, host_id: HostId) -> None:
        """Forget whether a host answered, and what it reported: it is registered no longer."""
        self.reach.forget(host_id)
        self.observed.forget(host_id)

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
        for dispatch_id in self.flights.which(lambda f: f.executor == executor):
            out += self._landed(dispatch_id, lost, moment)
        return out

    # --- VMs ----------------------------------------------------------------------------------------------------

    def recorded(self, vm: VirtualMachine, envelopes: Iterable[Envelope], moment: Moment) -> list[Output]:
        """Return what is due after a Record was carried out. A step or an observation in it is sent at once."""
        self._keep(vm)
        out: list[Output] = []
        issued = [e.event for e in envelopes if isinstance(e.event, StepIssued | ObservationIssued)]
        self.flights.record_ends(vm.vm_id, sends=bool(issued))
        self.faults.over(vm.vm_id)
        for event in issued:
            send = partial(self._send_issued, self._vms[vm.vm_id], event.number, event.step, moment)
            out += self._alone(vm.vm_id, send, moment)
        return out + self._looked_again(vm, moment)

    def changed(self, vm: VirtualMachine, moment: Moment) -> list[Output]:
        """Return what is due after a VM was durably changed by a request, or was replayed."""
        self._keep(vm)
        self.faults.wake(vm.vm_id)
        return self._looked_again(vm, moment)

    def _looked_again(self, vm: VirtualMachine, moment: Moment) -> list[Output]:
        out: list[Output] = [*self.flights.abandon_unwanted(self._vms[vm.vm_id])]
        return out + self._look(self._vms[vm.vm_id], moment) + self._serve(vm.host_id, moment)

    def refused(self, vm_id: VmId, error: Exception, moment: Moment) -> list[Output]:
        """Note that a Record could not be carried out. A tick returns it again, if it is still due."""
        self.flights.record_ends(vm_id, sends=False)
        vm = self._vms.get(vm_id)
        return [*self.faults.note(vm_id, error, moment), *(self._serve(vm.host_id, moment) if vm else [])]

    def interrupted(self, vm_id: VmId) -> None:
        """Note that a Record was given up, and nobody knows whether it was carried out."""
        self.flights.record_ends(vm_id, sends=False)

    def _alone(self, vm_id: VmId, work: Callable[[], list[Output]], moment: Moment) -> list[Output]:
        """Return what work on a VM leads to. An exception is a fault of this VM."""
        try:
            return work()
        except Exception as error:  # noqa: BLE001  (a defect that shows on one VM must not touch the others)
            return [*self.faults.note(vm_id, error, moment)]

    def _keep(self, vm: VirtualMachine) -> None:
        """Keep the newest fold of a VM. Of one without active operations nothing is kept."""
        known = self._vms.get(vm.vm_id)
        if known is not None and known.version > vm.version:
            return
        self._vms[vm.vm_id] = vm
        if known is not None and known.host_id != vm.host_id:
            for operation in known.active_operations:
                self.flights.slots(known.host_id).leave((vm.vm_id, operation.number))
            self._watches.forget(vm.vm_id)

    def _record(self, vm_id: VmId, command: VmCommand) -> Record:
        """Return a Record of a command. Until it is carried out, nothing else is due on this VM."""
        self.flights.record_begins(vm_id)
        return Record(vm_id, command)

    def asked(self, key: str, order: Order, moment: Moment) -> list[Output]:
        """Send an order that belongs to no operation, such as a report; without an executor, reply at once."""
        self._questions[key] = order
        self.flights.slots(order.host_id).wait(Share.QUESTION, key)
        return self._serve(order.host_id, moment)

    def unasked(self, key: str, moment: Moment) -> list[Output]:
        """Abandon the order with this key: nobody waits for it any more. Harmless once it is answered."""
        if (waiting := self._questions.pop(key, None)) is not None:
            self.flights.slots(waiting.host_id).leave(key)
        out: list[Output] = []
        for dispatch_id in self.flights.which(lambda f: f.key == key):
            flight = self.flights.land(dispatch_id)
            assert flight is not None, dispatch_id
            out += [Abandon(flight.executor, dispatch_id), *self._serve(flight.order.host_id, moment)]
        return out

    # --- answers ------------------------------------------------------------------------------------------------

    def answered(self, executor: str, dispatch_id: str, answer: HostAnswer, moment: Moment) -> list[Output]:
        """Settle an order that its executor has answered. The word of any other executor counts for nothing."""
        flight = self.flights.get(dispatch_id)
        if flight is None:
            return self._answered_late(executor, dispatch_id, answer)
        if flight.executor != executor:
            return []
        answer = fitting(flight.order, answer)
        # An effect reports when it has ended; a look may show what was there when it was sent.
        at = moment.utc if flight.order.kind is OrderKind.EFFECT else flight.sent_at
        self._note_observed(flight.order.host_id, answer, at)
        return self._landed(dispatch_id, answer, moment)

    def _note_observed(self, host_id: HostId, answer: HostAnswer, at: datetime) -> None:
        for report in answer.vms:
            if report.unread is None:
                self.observed.note(host_id, VmId(report.vm_id), at)

    def _landed(self, dispatch_id: str, answer: HostAnswer, moment: Moment) -> list[Output]:
        """Settle an order that was answered, or that no answer will come for."""
        flight = self.flights.land(dispatch_id)
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
        flight = self.flights.land(dispatch_id)
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
        vm_id, number = flight.order.vm_id, flight.number
        assert vm_id is not None, flight
        self._watches.answered(vm_id, number, answer, moment)
        if flight.order.kind is OrderKind.EFFECT:
            if answer.verdict is Verdict.NO_ANSWER:
                self.flights.remember(dispatch_id, flight)
            commands = effect_settled(flight, answer)
        else:
            watch = self._watches.get(vm_id, number)
            commands = look_settled(self._vms.get(vm_id), flight, answer, watch, self._policy, moment)
        return [self._record(vm_id, command) for command in commands]

    def _answered_late(self, executor: str, dispatch_id: str, answer: HostAnswer) -> list[Output]:
        """Take a DONE that an executor held while it was away, whatever was concluded since. Ignore other answers."""
        flight = self.flights.late(dispatch_id, executor)
        if flight is None or flight.order.vm_id is None:
            return []
        answer = fitting(flight.order, answer)
        if answer.verdict is not Verdict.DONE:
            return []
        self._note_observed(
            flight.order.host_id, answer, flight.sent_at
        )  # nobody knows for how long its executor has held it
        return [self._record(flight.order.vm_id, told(flight, answer))]

    def tick(self, moment: Moment) -> list[Output]:
        """Return everything that is due now."""
        out: list[Output] = []
        for executor in self.feeding.silent(moment.monotonic_s):
            out += [End(executor), *self._lose(executor, moment)]
        out += self._give_up(moment)
        for vm in tuple(self._vms.values()):
            out += self._look(vm, moment)
        out += self._probe(moment)
        for host_id in self.flights.hosts():
            out += self._serve(host_id, moment)
        return out

    def _give_up(self, moment: Moment) -> list[Output]:
        """Give up orders that should have been answered: else they would hold up their VM and their host for ever."""
        latest = moment.utc - timedelta(seconds=self._policy.answer_grace_s)
        late = HostAnswer(verdict=Verdict.NO_ANSWER, error_id="DEADLINE_EXCEEDED", error_message=_LATE)
        out: list[Output] = []
        for dispatch_id in self.flights.which(lambda f: f.order.deadline < latest):
            flight = self.flights.get(dispatch_id)
            assert flight is not None, dispatch_id
            out += [Abandon(flight.executor, dispatch_id), *self._landed(dispatch_id, late, moment)]
        crowded = HostAnswer(verdict=Verdict.NO_ANSWER, error_id="DEADLINE_EXCEEDED", error_message=_CROWDED)
        for key in [key for key, order in self._questions.items() if order.deadline < moment.utc]:
            self.flights.slots(self._questions.pop(key).host_id).leave(key)
            out.append(Reply(key, crowded))
        return out

    def _probe(self, moment: Moment) -> list[Output]:
        """Ask the hosts that are away for a report of one VM, if an operation waits for them. One probe at a time."""
        out: list[Output] = []
        for host_id in self.reach.due(moment.monotonic_s):
            vm = next((vm for vm in self._vms.values() if vm.host_id == host_id), None)
            if vm is not None and (send := self._sending.probe(vm, moment)) is not None:
                out.append(send)
        return out

    # --- what is due --------------------------------------------------------------------------------------------

    def _look(self, vm: VirtualMachine, moment: Moment) -> list[Output]:
        """Do `_look_at` a VM, or return its fault."""
        return self._alone(vm.vm_id, partial(self._look_at, vm, moment), moment)

    def _look_at(self, vm: VirtualMachine, moment: Moment) -> list[Output]:
        """Put a VM's operations into the queues of its host, or take them out. Record what was never answered."""
        slots = self.flights.slots(vm.host_id)
        for ended in self._watches.keep(vm):
            slots.leave((vm.vm_id, ended))
        if not vm.active_operations:
            self._vms.pop(vm.vm_id, None)
            self.faults.over(vm.vm_id)
            return []
        if self.flights.recording(vm.vm_id):
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
                turn = Failure(reason=TURN, message=f"{older.name} has to end first.")
                self._watches.waits(vm.vm_id, operation.number, turn, moment)
                return None
            case AwaitPerson(why=why):
                self._watches.waits(vm.vm_id, operation.number, why, moment)
                return None
            case AwaitAnswer(step=step) | Poll(step=step):
                looks = step.observing or step.state is StepState.WAITING
                due = looks and self._sending.due(vm, operation, step, moment)
                return Share.LOOK if due and self._sending.possible(vm, operation, moment) else None
            case Observe():
                return Share.LOOK if self._sending.possible(vm, operation, moment) else None
            case _:
                return Share.EFFECT if self._sending.possible(vm, operation, moment) else None

    def _serve(self, host_id: HostId, moment: Moment) -> list[Output]:
        """Give the free slots of a host to those whose turn it is."""
        slots = self.flights.slots(host_id)
        out: list[Output] = []
        trial = self.reach.on_trial(host_id)

        def is_ready(waiter: Waiter) -> bool:
            if isinstance(waiter, str):
                return True
            return not self.flights.recording(waiter[0]) and not (trial and self.flights.at_work(host_id))

        while (waiter := slots.next(is_ready)) is not None:
            if isinstance(waiter, str):
                send = self._sending.question(waiter, self._questions.pop(waiter), moment)
                out.append(send or Reply(waiter, None))
            else:
                out += self._alone(waiter[0], partial(self._go_on, *waiter, moment), moment)
        return out

    def _go_on(self, vm_id: VmId, number: int, moment: Moment) -> list[Output]:
        """Use a slot for an operation: look at its step, or record what comes next, which is then sent."""
        vm = self._vms[vm_id]
        operation = vm.operations[number]
        share = self._wants(vm, operation, moment)
        if share is None:
            return []
        step = operation.open_step or operation.next_due
        if step is not None and (step.observing or step.state is StepState.WAITING):
            return [self._sending.look(vm, operation, step, moment)]
        self.flights.reserve(vm_id, vm.host_id, share)
        return [self._record(vm_id, Proceed())]

    def _send_issued(self, vm: VirtualMachine, number: int, at: int, moment: Moment) -> list[Output]:
        """Send what has just been recorded. Its slot has been kept."""
        operation = vm.operations[number]
        step = operation.step(at)
        why = self._sending.unreachable(vm.host_id)
        if why is None:
            send = self._sending.look if step.observing else self._sending.effect
            return [send(vm, operation, step, moment)]
        if step.observing:
            return []  # until the host can be reached
        return [self._record(vm.vm_id, NotSent(number=number, step=at, token=step.token, failure=why))]

    def _lost(self, vm: VirtualMachine, operation: Operation) -> list[Output]:
        """Return the Record of a step whose answer cannot come: it is ISSUED, and not in flight."""
        step = operation.open_step
        if step is None or step.state is not StepState.ISSUED or self._sending.in_flight(vm, step):
            return []
        failure = Failure(reason="CONNECTION_LOST", message=_RESTARTED)
        lost = LoseOutcome(number=operation.number, step=step.plan.number, token=step.token, failure=failure)
        return [self._record(vm.vm_id, lost)]
