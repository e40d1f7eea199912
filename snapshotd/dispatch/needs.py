"""What each operation needs now: a slot of its host, or nothing until something else has come.

    it waits for                                  what ends that
    ───────────────────────────────────────────── ──────────────────────────────────────────────────────────────
    a time: a retry, its next look, a VM's rest   the alarm
    its turn, a person                            an event of its VM: `changed`, `recorded`
    an answer                                     its order has landed: answered, given up, or its executor is gone
    a Record that is under way                    `recorded`, `refused`, `interrupted`
    an executor                                   one that attaches (Dispatcher.attached)
    a host that is away                           the way to it has changed (Dispatcher)
    a slot, also while its host is on trial       one has become free (Flights.stirred)

So an operation is looked at when that which it waits for has come, and otherwise only once in a long while: a safety
net, which the tests take away.
"""

from __future__ import annotations

from snapshotd.application.next_action import AwaitAnswer, AwaitPerson, AwaitTurn, Later, Observe, Poll, next_action
from snapshotd.dispatch.active import ActiveVms
from snapshotd.dispatch.alarms import Alarms
from snapshotd.dispatch.faults import Faults
from snapshotd.dispatch.flights import Flights
from snapshotd.dispatch.outputs import Moment, Output
from snapshotd.dispatch.sending import TURN, Sending
from snapshotd.dispatch.slots import Share
from snapshotd.dispatch.watch import Watches
from snapshotd.domain.commands import LoseOutcome, NotSent, Proceed
from snapshotd.domain.ids import VmId
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Failure, Operation
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine

_RESTARTED = "The service was restarted, or lost its executor, before an answer came."


class Needs:
    """Finds out what the operations of a VM need, and goes on with one that has got it.

    Args:
        policy: for the pure core.
        vms: with active operations.
        watches: of the operations.
        flights: the slots, and what is under way.
        faults: the VMs that rest.
        sending: the ways to the hosts.
        look_again_s: after how long an operation is looked at though nothing has come for it; `math.inf`: never.
    """

    def __init__(
        self,
        policy: Policy,
        vms: ActiveVms,
        watches: Watches,
        flights: Flights,
        faults: Faults,
        sending: Sending,
        *,
        look_again_s: float,
    ) -> None:
        self._policy = policy
        self._vms = vms
        self._watches = watches
        self._flights = flights
        self._faults = faults
        self._sending = sending
        self._look_again_s = look_again_s
        self.alarms: Alarms[VmId] = Alarms()
        """When a VM is to be looked at next, by time alone."""
        self.looks = 0
        """How often the core was asked what comes next with an operation: what all this costs, for whoever measures."""

    def look_at(self, vm: VirtualMachine, moment: Moment) -> list[Output]:
        """Put a VM's operations into the queues of its host, or take them out. Record what was never answered."""
        self.alarms.clear(vm.vm_id)
        for ended in self._watches.keep(vm):
            self._flights.leave(vm.host_id, (vm.vm_id, ended))
        operations = vm.active_operations
        if not operations:
            self._vms.drop(vm.vm_id)
            self._faults.over(vm.vm_id)
            return []
        if self._flights.recording(vm.vm_id):
            return []  # the end of the Record leads back here
        rests_until_s = self._faults.rests_until(vm.vm_id)
        if moment.monotonic_s < rests_until_s:
            self.alarms.by(vm.vm_id, rests_until_s)
            for operation in operations:
                self._leave(vm, operation)
            return []
        self.alarms.by(vm.vm_id, moment.monotonic_s + self._look_again_s)
        out: list[Output] = []
        for operation in operations:
            share = self._share(vm, operation, moment)
            if share is None:
                self._leave(vm, operation)
            else:
                self._flights.wait(vm.host_id, share, (vm.vm_id, operation.number))
                self._sending.queued(vm, operation, moment)
            out += self._lost(vm, operation)
        return out

    def _leave(self, vm: VirtualMachine, operation: Operation) -> None:
        self._flights.leave(vm.host_id, (vm.vm_id, operation.number))
        self._sending.queued_no_more(vm, operation)

    def _share(self, vm: VirtualMachine, operation: Operation, moment: Moment) -> Share | None:
        """Return what an operation needs a slot for now. None: nothing; note why it waits, and until when."""
        self.looks += 1
        action = next_action(vm, operation, moment.utc, self._policy)
        share = Share.EFFECT
        match action:
            case Later(until=until):
                self.alarms.by(vm.vm_id, moment.monotonic_s + (until - moment.utc).total_seconds())
                return None
            case AwaitTurn(older=older):
                turn = Failure(reason=TURN, message=f"{older.name} has to end first.")
                self._watches.waits(vm.vm_id, operation.number, turn, moment)
                return None
            case AwaitPerson(why=why):
                self._watches.waits(vm.vm_id, operation.number, why, moment)
                return None
            case AwaitAnswer(step=step) | Poll(step=step):
                if not step.observing and step.state is not StepState.WAITING:
                    return None
                next_look_s = self._sending.next_look_s(vm, operation, step)
                if next_look_s is None:
                    return None
                if moment.monotonic_s < next_look_s:
                    self.alarms.by(vm.vm_id, next_look_s)
                    return None
                share = Share.LOOK
            case Observe():
                share = Share.LOOK
            case _:
                pass
        return share if self._sending.possible(vm, operation, moment) else None

    def go_on(self, vm_id: VmId, number: int, moment: Moment) -> list[Output]:
        """Use a slot for an operation: look at its step, or record what comes next, which is then sent."""
        vm = self._vms[vm_id]
        operation = vm.operations[number]
        self._sending.queued_no_more(vm, operation)
        share = self._share(vm, operation, moment)
        if share is None:
            return []
        step = operation.open_step or operation.next_due
        if step is not None and (step.observing or step.state is StepState.WAITING):
            return [self._sending.look(vm, operation, step, moment)]
        self._flights.reserve(vm_id, vm.host_id, share)
        return [self._flights.record(vm_id, Proceed())]

    def send_issued(self, vm: VirtualMachine, number: int, at: int, moment: Moment) -> list[Output]:
        """Send what has just been recorded. Its slot has been kept."""
        operation = vm.operations[number]
        step = operation.step(at)
        why = self._sending.unreachable(vm.host_id)
        if why is None:
            send = self._sending.look if step.observing else self._sending.effect
            return [send(vm, operation, step, moment)]
        if step.observing:
            return []  # until the host can be reached
        not_sent = NotSent(number=number, step=at, token=step.token, failure=why)
        return [self._flights.record(vm.vm_id, not_sent)]

    def landed(self, vm_id: VmId, number: int, moment: Moment) -> None:
        """Note that an order of an operation came back, and nothing is recorded of that: when is the next look due?"""
        watch = self._watches.get(vm_id, number)
        self.alarms.by(vm_id, moment.monotonic_s if watch is None else watch.next_s)

    def _lost(self, vm: VirtualMachine, operation: Operation) -> list[Output]:
        """Return the Record of a step whose answer cannot come: it is ISSUED, and not in flight."""
        step = operation.open_step
        if step is None or step.state is not StepState.ISSUED or self._sending.in_flight(vm, step):
            return []
        failure = Failure(reason="CONNECTION_LOST", message=_RESTARTED)
        lost = LoseOutcome(number=operation.number, step=step.plan.number, token=step.token, failure=failure)
        return [self._flights.record(vm.vm_id, lost)]
