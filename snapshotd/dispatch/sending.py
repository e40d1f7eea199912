"""Whether something can be sent to a host, and the sending of each kind of order. Decides nothing about steps."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from snapshotd.dispatch.feeding import Feeding
from snapshotd.dispatch.flights import Flight, Flights
from snapshotd.dispatch.orders import Order, OrderKind, effect_order, observe_order, poll_order
from snapshotd.dispatch.outputs import Moment, Send
from snapshotd.dispatch.reach import NEVER_SENT, Reach
from snapshotd.dispatch.slots import Share
from snapshotd.dispatch.watch import Watches
from snapshotd.domain.host_errors import NoExecutor
from snapshotd.domain.ids import HostId
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Failure, Operation, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine

TURN: Final = "AWAITING_TURN"
"""Reason of an operation that waits for the end of one that it preempts."""
SLOT: Final = "AWAITING_SLOT"
"""Reason of an operation that waits for a slot of its host."""
_PASSED: Final = NEVER_SENT | {NoExecutor.reason, TURN}
"""Reasons to wait that no longer hold when something can be sent."""
_QUEUED: Final = frozenset({SLOT})


class Sending:
    """The way to the hosts: who is fed, which host can be reached, and what is under way.

    Args:
        policy: the deadlines of looks.
        feeding: the executors.
        flights: the orders under way.
        reach: which hosts can be reached.
        watches: why operations wait, and when they were looked at.
    """

    def __init__(self, policy: Policy, feeding: Feeding, flights: Flights, reach: Reach, watches: Watches) -> None:
        self._policy = policy
        self._feeding = feeding
        self._flights = flights
        self._reach = reach
        self._watches = watches

    def unreachable(self, host_id: HostId) -> Failure | None:
        """Return why nothing can be sent to a host; None: it can."""
        if self._feeding.fed(host_id) is None:
            return Failure.of(NoExecutor(host_id))
        contact = self._reach.contact.get(host_id)
        return None if self._reach.open(host_id) or contact is None else contact.failure

    def possible(self, vm: VirtualMachine, operation: Operation, moment: Moment) -> bool:
        """Return whether an executor reaches an operation's host. If none does, note why the operation waits."""
        why = self.unreachable(vm.host_id)
        if why is not None:
            self._watches.waits(vm.vm_id, operation.number, why, moment)
            return False
        self._watches.waits_no_more(vm.vm_id, operation.number, _PASSED)
        return True

    def queued(self, vm: VirtualMachine, operation: Operation, moment: Moment) -> None:
        """Note that an operation waits for a slot, if nothing else is told of it, such as that its host is at work."""
        step = operation.open_step or operation.next_due
        told = step is not None and (step.observing or step.state is not StepState.DUE)
        if not told and self._watches.wait(vm.vm_id, operation.number) is None:
            why = Failure(
                reason=SLOT, message=f"Other operations are at work on host {vm.host_id}; it comes after them."
            )
            self._watches.waits(vm.vm_id, operation.number, why, moment)

    def queued_no_more(self, vm: VirtualMachine, operation: Operation) -> None:
        """Note that an operation has a slot, or needs none."""
        self._watches.waits_no_more(vm.vm_id, operation.number, _QUEUED)

    def next_look_s(self, vm: VirtualMachine, operation: Operation, step: Step) -> float | None:
        """Return when to look at a step next; None: when what is under way for its operation has come back."""
        if any(flight.number == operation.number for flight in self._flights.of_vm(vm.vm_id)):
            return None
        return self._watches.of_step(vm, operation, step).next_s

    def in_flight(self, vm: VirtualMachine, step: Step) -> bool:
        """Return whether the order with a step's token is under way."""
        return any(flight.order.token == step.token for flight in self._flights.of_vm(vm.vm_id))

    def effect(self, vm: VirtualMachine, operation: Operation, step: Step, moment: Moment) -> Send:
        """Send the effect of a step that has been recorded as issued."""
        return self._send_for(vm, operation, effect_order(vm, operation, step), Share.EFFECT, moment)

    def look(self, vm: VirtualMachine, operation: Operation, step: Step, moment: Moment) -> Send:
        """Send an observation or a poll, and schedule the next one."""
        self._watches.looked(vm, operation, step, moment)
        deadline = self._deadline(moment)
        polls = step.state is StepState.WAITING
        order = poll_order(vm, step, deadline) if polls else observe_order(vm, operation, step, deadline)
        return self._send_for(vm, operation, order, Share.LOOK, moment)

    def question(self, key: str, order: Order, moment: Moment) -> Send | None:
        """Send the order of a question; None: no executor serves the host."""
        executor = self._feeding.fed(order.host_id)
        if executor is None:
            return None
        return self._send(executor, order, Share.QUESTION, moment, key=key)

    def probe(self, vm: VirtualMachine, moment: Moment) -> Send | None:
        """Ask the host of a VM, which is away, for a report of it. None: it is being asked, or cannot be."""
        host_id = vm.host_id
        executor = self._feeding.fed(host_id)
        asked = any(not flight.number for flight in self._flights.on(host_id))
        if executor is None or asked or not self._flights.slots(host_id).free(Share.LOOK):
            return None
        order = Order(kind=OrderKind.REPORT, host_id=host_id, deadline=self._deadline(moment), vm_id=vm.vm_id)
        return self._send(executor, order, Share.LOOK, moment)

    def _deadline(self, moment: Moment) -> datetime:
        return moment.utc + timedelta(seconds=self._policy.observe_wait_s)

    def _send_for(self, vm: VirtualMachine, operation: Operation, order: Order, share: Share, moment: Moment) -> Send:
        executor = self._feeding.fed(vm.host_id)
        assert executor is not None, vm.host_id
        return self._send(executor, order, share, moment, number=operation.number, asked_version=vm.version)

    def _send(
        self,
        executor: str,
        order: Order,
        share: Share,
        moment: Moment,
        *,
        number: int = 0,
        key: str = "",
        asked_version: int = 0,
    ) -> Send:
        allowed_s = (order.deadline - moment.utc).total_seconds() + self._policy.answer_grace_s
        flight = Flight(
            executor=executor,
            order=order,
            share=share,
            sent_at=moment.utc,
            late_s=moment.monotonic_s + allowed_s,
            number=number,
            key=key,
            asked_version=asked_version,
        )
        return self._flights.send(flight)
