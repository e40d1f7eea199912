"""The dispatcher, without I/O. Given what has happened and the time, it returns what to record and what to send.

    in:  attached, heard, detached, changed, recorded, refused, answered, asked, unasked, tick
    out: Record (a command to decide), Send (an order to an executor), Abandon (one that nobody waits for any more),
         End (a stream), Reply (to whoever asked), Fault (to be logged)

It knows the VMs with an active operation and no others, and looks at one only when that which it waits for has come, or
its time (needs.py). So what waits costs nothing, however much of it there is. Of many VMs that something comes for at
once, some are looked at in each call, and the rest in the next ones (`behind`).

An order is sent only for what is durable: `changed` and `recorded` are called after the commit, with the events. It has
its slot on the host before it is recorded, so that it is sent at once (slots.py). A step that is ISSUED, but not by
this process (a restart), has an unknown outcome and is observed. One slow host delays no other: each has its own slots.
For a host that cannot be reached nothing is recorded, and it is probed until it answers (reach.py). An exception on one
VM is a Fault of that VM, and touches no other (faults.py). No wait is endless: an order that is not answered in time is
given up, and so is a VM that cannot be looked at (settling.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Final

from snapshotd.dispatch.active import ActiveVms
from snapshotd.dispatch.alarms import WallClock
from snapshotd.dispatch.answers import fitting
from snapshotd.dispatch.faults import Faults
from snapshotd.dispatch.feeding import Feeding
from snapshotd.dispatch.flights import Flight, Flights
from snapshotd.dispatch.needs import Needs
from snapshotd.dispatch.observed import Observed
from snapshotd.dispatch.orders import Order, OrderKind
from snapshotd.dispatch.outputs import Abandon, End, Moment, Output, Reply
from snapshotd.dispatch.questions import Questions
from snapshotd.dispatch.reach import Reach
from snapshotd.dispatch.sending import Sending
from snapshotd.dispatch.settling import effect_settled, look_settled, told
from snapshotd.dispatch.slots import Share, Waiter
from snapshotd.dispatch.watch import Wait, Watch, Watches
from snapshotd.domain.events import Envelope, ObservationIssued, StepIssued
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine

_LATE = "No answer came in time."
_CROWDED = "All sessions of the host were busy until the deadline; nothing was sent."
_TOGETHER: Final = 64
"""How many VMs that are due are looked at in one call."""
_LOOK_AGAIN_S: Final = 600.0
"""A VM that nothing comes for is looked at all the same after so long: should anything ever be missed, it heals."""


class Dispatcher:
    """Decides what to record and what to send. Holds nothing that must outlive it.

    Besides the VMs with active operations, it holds who is fed, what is in flight, and when a step was looked at and
    will be again; and for people, why an operation or a host waits, and how far a job is.
    """

    def __init__(
        self,
        policy: Policy,
        lease_ttl_s: float,
        orders_per_host: int,
        incarnation: str,
        *,
        look_again_s: float = _LOOK_AGAIN_S,
    ) -> None:
        """Start with nothing in flight.

        Args:
            policy: the limits.
            lease_ttl_s: after how long a silent executor is given up.
            orders_per_host: the slots of a host.
            incarnation: makes dispatch ids unique over restarts.
            look_again_s: after how long a VM is looked at though nothing has come for it; `math.inf`: never.
        """
        self._policy = policy
        self.feeding = Feeding(lease_ttl_s)
        self.flights = Flights(orders_per_host, incarnation)
        self._questions = Questions(self.flights)
        self._vms = ActiveVms()
        self._watches = Watches(policy)
        self._wall_clock = WallClock()
        self.observed = Observed()
        self.reach = Reach(policy)
        self.faults = Faults(policy)
        self._sending = Sending(policy, self.feeding, self.flights, self.reach, self._watches)
        self.needs = Needs(
            policy, self._vms, self._watches, self.flights, self.faults, self._sending, look_again_s=look_again_s
        )

    def active(self) -> Iterable[VirtualMachine]:
        """Return the VMs with an active operation."""
        return self._vms

    def behind(self, moment: Moment) -> bool:
        """Return whether VMs are due that no call has got to: the next tick should not wait."""
        return self.needs.alarms.any_due(moment.monotonic_s)

    def wait(self, vm_id: VmId, number: int) -> Wait | None:
        """Return why an active operation waits, for people; None: nothing holds it up."""
        return self._watches.wait(vm_id, number)

    def watch(self, vm_id: VmId, number: int) -> Watch | None:
        """Return what is kept of an active operation outside of the log."""
        return self._watches.get(vm_id, number)

    def sought(self) -> tuple[VmId, ...]:
        """Return the VMs that an operation waits for though their host does not have them: another one may."""
        return self._watches.missing()

    def forget(self, host_id: HostId) -> None:
        """Forget whether a host answered, and what it reported: it is registered no longer."""
        self.reach.forget(host_id)
        self.observed.forget(host_id)
        self._wake(host_id, 0.0)

    # --- executors ----------------------------------------------------------------------------------------------

    def attached(self, executor: str, hosts: frozenset[str], moment: Moment) -> list[Output]:
        """Register an executor that has signed in; return what is due now."""
        before = self._fed_by(executor)
        self.feeding.attach(executor, hosts, moment.monotonic_s)
        self.reach.at_once()
        for host_id in dict.fromkeys((*before, *self._fed_by(executor))):
            self._wake(host_id, moment.monotonic_s)
        return self.tick(moment)

    def heard(self, executor: str, moment: Moment) -> None:
        """Record a sign of life of an executor."""
        self.feeding.heard(executor, moment.monotonic_s)

    def detached(self, executor: str, moment: Moment) -> list[Output]:
        """Give up an executor whose stream has ended; return what is due now."""
        return self._lose(executor, moment) + self.tick(moment)

    def _lose(self, executor: str, moment: Moment) -> list[Output]:
        """Remove an executor, and settle its orders as unanswered."""
        before = self._fed_by(executor)
        self.feeding.detach(executor)
        lost = HostAnswer(verdict=Verdict.NO_ANSWER, error_id="CONNECTION_LOST", error_message="The executor is gone.")
        out: list[Output] = []
        for dispatch_id in self.flights.of_executor(executor):
            out += self._landed(dispatch_id, lost, moment)
        for host_id in before:
            self._wake(host_id, moment.monotonic_s)
        return out

    def _fed_by(self, executor: str) -> list[HostId]:
        """Return the hosts that something is under way for, or waits for, and that an executor is fed for."""
        return [host_id for host_id in self.flights.hosts() if self.feeding.fed(host_id) == executor]

    def _wake(self, host_id: HostId, at_s: float) -> None:
        """Let what waits for a host be looked at: the way to it has changed."""
        for vm_id in self._vms.on(host_id):
            self.needs.alarms.by(vm_id, at_s)

    # --- VMs ----------------------------------------------------------------------------------------------------

    def recorded(self, vm: VirtualMachine, envelopes: Iterable[Envelope], moment: Moment) -> list[Output]:
        """Return what is due after a Record was carried out. A step or an observation in it is sent at once."""
        self._keep(vm)
        out: list[Output] = []
        issued = [e.event for e in envelopes if isinstance(e.event, StepIssued | ObservationIssued)]
        self.flights.record_ends(vm.vm_id, sends=bool(issued))
        self.faults.over(vm.vm_id)
        for event in issued:
            send = partial(self.needs.send_issued, self._vms[vm.vm_id], event.number, event.step, moment)
            out += self._alone(vm.vm_id, send, moment)
        return out + self._looked_again(vm, moment)

    def changed(self, vm: VirtualMachine, moment: Moment) -> list[Output]:
        """Return what is due after a VM was durably changed by a request, or was replayed."""
        self._keep(vm)
        self.faults.wake(vm.vm_id)
        return self._looked_again(vm, moment)

    def _looked_again(self, vm: VirtualMachine, moment: Moment) -> list[Output]:
        kept = self._vms[vm.vm_id]
        out: list[Output] = [*self.flights.abandon_unwanted(kept)]
        return out + self._look(kept, moment) + self._serve(moment)

    def refused(self, vm_id: VmId, error: Exception, moment: Moment) -> list[Output]:
        """Note that a Record could not be carried out. A tick returns it again, if it is still due."""
        self.flights.record_ends(vm_id, sends=False)
        out = self._fault(vm_id, error, moment)
        if (vm := self._vms.get(vm_id)) is not None:
            out += self._look(vm, moment)
        return out + self._serve(moment)

    def interrupted(self, vm_id: VmId) -> None:
        """Note that a Record was given up, and nobody knows whether it was carried out."""
        self.flights.record_ends(vm_id, sends=False)
        self.needs.alarms.by(vm_id, 0.0)

    def _alone(self, vm_id: VmId, work: Callable[[], list[Output]], moment: Moment) -> list[Output]:
        """Return what work on a VM leads to. An exception is a fault of this VM."""
        try:
            return work()
        except Exception as error:  # noqa: BLE001  (a defect that shows on one VM must not touch the others)
            return self._fault(vm_id, error, moment)

    def _fault(self, vm_id: VmId, error: Exception, moment: Moment) -> list[Output]:
        out: list[Output] = [*self.faults.note(vm_id, error, moment)]
        self.needs.alarms.by(vm_id, self.faults.rests_until(vm_id))
        return out

    def _keep(self, vm: VirtualMachine) -> None:
        """Keep the newest fold of a VM. Of one without active operations nothing is kept."""
        known = self._vms.keep(vm)
        if known is not None and known.host_id != self._vms[vm.vm_id].host_id:
            for operation in known.active_operations:
                self.flights.leave(known.host_id, (vm.vm_id, operation.number))
            self._watches.forget(vm.vm_id)

    def asked(self, key: str, order: Order, moment: Moment) -> list[Output]:
        """Send an order that belongs to no operation, such as a report; without an executor, reply at once."""
        self._questions.add(key, order, moment)
        return self._serve(moment)

    def unasked(self, key: str, moment: Moment) -> list[Output]:
        """Abandon the order with this key: nobody waits for it any more. Harmless once it is answered."""
        self._questions.withdraw(key)
        dispatch_id = self.flights.of_question(key)
        if dispatch_id is None:
            return []
        flight = self.flights.land(dispatch_id)
        assert flight is not None, dispatch_id
        return [Abandon(flight.executor, dispatch_id), *self._serve(moment)]

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
        return self._landed(dispatch_id, answer, moment) + self._serve(moment)

    def _note_observed(self, host_id: HostId, answer: HostAnswer, at: datetime) -> None:
        for report in answer.listing:
            if report.readable:
                self.observed.note(host_id, VmId(report.vm_id), at)

    def _landed(self, dispatch_id: str, answer: HostAnswer, moment: Moment) -> list[Output]:
        """Settle an order that was answered, or that no answer will come for."""
        flight = self.flights.land(dispatch_id)
        assert flight is not None, dispatch_id
        host_id = flight.order.host_id
        before = self._sending.unreachable(host_id)
        self.reach.answered(host_id, answer, moment, report=not flight.number)
        out = self._settle(dispatch_id, flight, answer, moment)
        if self._sending.unreachable(host_id) != before:
            self._wake(host_id, moment.monotonic_s)
            out += self._look_at_due(moment)
        return out

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
            out += self._fault(flight.order.vm_id, error, moment)
        return out + self._serve(moment)

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
        self._watches.note_missing(vm_id)
        if not commands:
            self.needs.landed(vm_id, number, moment)
        return [self.flights.record(vm_id, command) for command in commands]

    def _answered_late(self, executor: str, dispatch_id: str, answer: HostAnswer) -> list[Output]:
        """Take a DONE that an executor held while it was away, whatever was concluded since. Ignore other answers."""
        flight = self.flights.held(dispatch_id, executor)
        if flight is None or flight.order.vm_id is None:
            return []
        answer = fitting(flight.order, answer)
        if answer.verdict is not Verdict.DONE:
            return []
        self._note_observed(
            flight.order.host_id, answer, flight.sent_at
        )  # nobody knows for how long its executor has held it
        return [self.flights.record(flight.order.vm_id, told(flight, answer))]

    # --- what is due --------------------------------------------------------------------------------------------

    def tick(self, moment: Moment) -> list[Output]:
        """Return what is due now; of very many VMs, what is so of some (`behind`)."""
        if self._wall_clock.was_set(moment):
            for vm in self._vms:
                self.needs.alarms.by(vm.vm_id, moment.monotonic_s)
        out: list[Output] = []
        for executor in self.feeding.silent(moment.monotonic_s):
            out += [End(executor), *self._lose(executor, moment)]
        out += self._give_up(moment)
        out += self._look_at_due(moment)
        out += self._probe(moment)
        return out + self._serve(moment)

    def _give_up(self, moment: Moment) -> list[Output]:
        """Give up orders that should have been answered: else they would hold up their VM and their host for ever."""
        late = HostAnswer(verdict=Verdict.NO_ANSWER, error_id="DEADLINE_EXCEEDED", error_message=_LATE)
        out: list[Output] = []
        for dispatch_id in self.flights.late(moment.monotonic_s):
            flight = self.flights.get(dispatch_id)
            assert flight is not None, dispatch_id
            out += [Abandon(flight.executor, dispatch_id), *self._landed(dispatch_id, late, moment)]
        crowded = HostAnswer(verdict=Verdict.NO_ANSWER, error_id="DEADLINE_EXCEEDED", error_message=_CROWDED)
        return out + [Reply(key, crowded) for key in self._questions.late(moment.monotonic_s)]

    def _probe(self, moment: Moment) -> list[Output]:
        """Ask the hosts that are away for a report of one VM, if an operation waits for them. One probe at a time."""
        out: list[Output] = []
        for host_id in self.reach.due(moment.monotonic_s):
            vm = self._vms.first_on(host_id)
            if vm is not None and (send := self._sending.probe(vm, moment)) is not None:
                out.append(send)
        return out

    def _look_at_due(self, moment: Moment) -> list[Output]:
        """Look at VMs that are due, the earliest first."""
        out: list[Output] = []
        for vm_id in self.needs.alarms.due(moment.monotonic_s, _TOGETHER):
            if (vm := self._vms.get(vm_id)) is not None:
                out += self._look(vm, moment)
            else:
                self.faults.over(vm_id)  # nothing is left to be tried again
        return out

    def _look(self, vm: VirtualMachine, moment: Moment) -> list[Output]:
        """Look at what a VM needs, or return its fault."""
        return self._alone(vm.vm_id, partial(self.needs.look_at, vm, moment), moment)

    def _serve(self, moment: Moment) -> list[Output]:
        """Give the free slots of hosts to those whose turn it is, wherever that may have changed."""
        out: list[Output] = []
        while (host_id := self.flights.stirred()) is not None:
            slots = self.flights.slots(host_id)
            while (waiter := slots.next(self._served(host_id), self._is_ready)) is not None:
                if isinstance(waiter, str):
                    send = self._sending.question(waiter, self._questions.take(waiter), moment)
                    out.append(send or Reply(waiter, None))
                else:
                    out += self._alone(waiter[0], partial(self.needs.go_on, *waiter, moment), moment)
        return out

    def _served(self, host_id: HostId) -> tuple[Share, ...]:
        """Return what the slots of a host may be used for now: nothing but questions while its operations must wait."""
        alone = self.reach.on_trial(host_id) and self.flights.at_work(host_id)
        return (Share.QUESTION,) if alone or self._sending.unreachable(host_id) is not None else tuple(Share)

    def _is_ready(self, waiter: Waiter) -> bool:
        return isinstance(waiter, str) or not self.flights.recording(waiter[0])
