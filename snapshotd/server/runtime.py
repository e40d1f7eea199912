"""Runs the core: carries out what the dispatcher asks for, and hands it the results.

    a call ──► request ──► VirtualMachines.execute (durable) ──► Dispatcher.changed ───┐
    Attach ──► attached, heard, outcome, detached ─────────────────────────────────────┼──► Record, Send, Reply
    the clock ──► tick ────────────────────────────────────────────────────────────────┘

A Record is decided in a task of its own, so that a slow log holds up nobody. A Send or Abandon goes to the executor's
stream, a Reply to whoever asked. Holds no rule: the dispatcher decides what is due, and when.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

from snapshotd.application.standing import ACTIVE
from snapshotd.application.virtual_machines import Decided, VirtualMachines
from snapshotd.application.volumes import Volumes
from snapshotd.dispatch.dispatcher import Dispatcher
from snapshotd.dispatch.orders import Order, OrderKind
from snapshotd.dispatch.outputs import Abandon, End, Fault, Moment, Output, Record, Reply, Send
from snapshotd.domain.commands import SyncVm, VmCommand
from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.events import Envelope
from snapshotd.domain.host_report import HostAnswer
from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.operation import Failure
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.logs import about
from snapshotd.monitoring.traces import NO_TRACES, Traces
from snapshotd.ports.clock import Clock
from snapshotd.ports.ids import Ids
from snapshotd.server.host_wire import no_answer
from snapshotd.server.log_lines import tell, tell_way
from snapshotd.server.paging import in_slices
from snapshotd.server.vm_gate import VmGate
from snapshotd.server.waiting import Waiting

T = TypeVar("T")
_log = logging.getLogger(__name__)

ITSELF: Final = "snapshotd"
"""The actor of what the service does by itself."""
TICK_S: Final = 1.0
"""How often the dispatcher looks for what is due by time alone."""
_TOGETHER: Final = 64
"""How many VMs are decided on at once: what falls together is committed together."""


class Stream(Protocol):
    """An executor's stream."""

    def deliver(self, dispatch_id: str, order: Order) -> None:
        """Put an order on it."""

    def abandon(self, dispatch_id: str) -> None:
        """Put on it that nobody waits for an order any more."""

    def end(self) -> None:
        """End it."""


class Runtime:
    """One running core.

    Args:
        vms: the VMs of the log, replayed.
        dispatcher: decides what is due.
        policy: for the deadlines of reports.
        clock: the time as people know it.
        ids: keys of questions.
        volumes: the volumes of the log, whose claims follow what is recorded of VMs; None: nothing follows.
        traces: takes the spans of calls and operations.
    """

    def __init__(
        self,
        vms: VirtualMachines,
        dispatcher: Dispatcher,
        policy: Policy,
        clock: Clock,
        ids: Ids,
        volumes: Volumes | None = None,
        *,
        traces: Traces = NO_TRACES,
    ) -> None:
        self._vms = vms
        self._policy = policy
        self._clock = clock
        self._ids = ids
        self._volumes = volumes
        self._streams: dict[str, Stream] = {}
        self._questions: dict[str, asyncio.Future[HostAnswer | None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._gate = VmGate()
        self.traces = traces
        self.dispatcher = dispatcher
        self.waiting = Waiting()
        self.acknowledged = 0
        """Position of the newest event that a caller was told of. Reads wait until the views hold it."""

    async def run(self) -> None:
        """Carry out what is due after the replay, and then whatever is due, until cancelled."""
        # By the log, not by what is in memory: this may be another start of the core, amid an append.
        async for some in in_slices(await self._vms.load_all(await self._vms.marked(ACTIVE))):
            for vm in some:  # as it is by now
                self._carry_out(self.dispatcher.changed(self._vms.known(vm.vm_id), self.moment()))
        await self.follow(None)
        try:
            while True:
                await asyncio.sleep(0 if self.dispatcher.behind(self.moment()) else TICK_S)
                self._carry_out(self.dispatcher.tick(self.moment()))
        finally:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def moment(self) -> Moment:
        """Return what time it is."""
        return Moment(utc=self._clock.now(), monotonic_s=time.monotonic())

    # --- for callers --------------------------------------------------------------------------------------------

    async def load(self, vm_id: VmId) -> VirtualMachine:
        """Return a VM as the log has it."""
        return await self._vms.load(vm_id)

    async def request(
        self, vm_id: VmId, command: VmCommand, *, actor: str, request_id: str = "", digest: str = ""
    ) -> Decided:
        """Decide a command, and return once its events are durable. Raises the SnapshotdError that refused it."""

        async def alone() -> Decided:
            async with self._gate.enter(vm_id):
                return await self._decide(vm_id, command, actor, request_id, digest)

        return await self.to_the_end(alone())

    async def request_of_all(
        self, vm_ids: Sequence[VmId], command: VmCommand, *, actor: str, request_id: str, digest: str
    ) -> None:
        """Decide a command on several VMs: on all of them, or on none if one refuses it. Raises what that one raises.

        If the log fails on the way, what was recorded stands, and a repetition does the rest.
        """

        async def all_of_them() -> None:
            async with self._gate.close(vm_ids):
                for vm_id in vm_ids:
                    await self._vms.consider(vm_id, command, actor=actor, request_id=request_id, digest=digest)
                for first in range(0, len(vm_ids), _TOGETHER):
                    some = vm_ids[first : first + _TOGETHER]
                    await asyncio.gather(*(self._decide(one, command, actor, request_id, digest) for one in some))

        await self.to_the_end(all_of_them())

    async def _decide(self, vm_id: VmId, command: VmCommand, actor: str, request_id: str, digest: str) -> Decided:
        decided = await self._vms.execute(vm_id, command, actor=actor, request_id=request_id, digest=digest)
        self.acknowledge(decided.envelopes)
        self.traces.requested(decided.envelopes)
        tell(decided.vm, decided.envelopes)
        if decided.envelopes or decided.vm.active:
            self._carry_out(self.dispatcher.changed(decided.vm, self.moment()))
        looked = isinstance(command, SyncVm) and command.host_id in (None, decided.vm.host_id)
        await self.follow(vm_id, decided.envelopes, looked=looked and not decided.vm.rolled_back)
        return decided

    async def follow(self, vm_id: VmId | None, envelopes: tuple[Envelope, ...] = (), *, looked: bool = False) -> None:
        """Make the claims of a VM, or None: of all, what is on record. What fails is made good by the next sync."""
        if self._volumes is None:
            return
        try:
            if vm_id is None:
                self.acknowledge(await self._volumes.follow_all(actor=ITSELF))
            else:
                self.acknowledge(await self._volumes.follow(vm_id, envelopes, looked=looked, actor=ITSELF))
        except SnapshotdError as error:
            facts = about(vm=vm_id or "", reason=error.reason)
            _log.warning("vm %s: its claims on volumes are left as they were: %s", vm_id or "(all)", error, extra=facts)

    async def unsettled(self, vm_ids: Iterable[VmId]) -> tuple[VmId, ...]:
        """Return those of these VMs that have a claim which a look at them may end. Raises LogUnavailable."""
        return await self._volumes.unsettled(vm_ids) if self._volumes is not None else ()

    async def to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Await work that appends. A caller that goes away does not end it: the server must learn what is durable."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_unheard)
            raise

    async def ask(
        self, host_id: HostId, vm_id: VmId | None = None, after_vm_id: str = "", *, asked: bool = False
    ) -> HostAnswer | None:
        """Ask a host for a report of a VM, or of those after one; None if no executor serves it.

        `asked`: a person asks for it now.
        """
        order = Order(
            kind=OrderKind.REPORT,
            host_id=host_id,
            deadline=self._deadline(),
            vm_id=vm_id,
            after_vm_id=after_vm_id,
            asked=asked,
        )
        return await self._answer(order)

    async def take_over(self, host_id: HostId, former_installation_id: str) -> HostAnswer | None:
        """Make a host's journals this installation's, if they are the former one's; None: no executor serves it."""
        kind, deadline = OrderKind.TAKE_OVER, self._deadline()
        return await self._answer(
            Order(kind=kind, host_id=host_id, deadline=deadline, former_installation_id=former_installation_id)
        )

    def _deadline(self) -> datetime:
        return self._clock.now() + timedelta(seconds=self._policy.observe_wait_s)

    async def _answer(self, order: Order) -> HostAnswer | None:
        """Send an order that belongs to no operation, and return what comes of it."""
        key = self._ids.fresh()
        answer: asyncio.Future[HostAnswer | None] = asyncio.get_running_loop().create_future()
        self._questions[key] = answer
        try:
            self._carry_out(self.dispatcher.asked(key, order, self.moment()))
            async with asyncio.timeout(self._policy.observe_wait_s + self._policy.answer_grace_s):
                return await answer
        except TimeoutError:
            return no_answer("DEADLINE_EXCEEDED", "The executor did not answer in time.")
        finally:
            self._questions.pop(key, None)
            # Not in time, or the caller has gone: the order must not take its host's room until an answer comes.
            self._carry_out(self.dispatcher.unasked(key, self.moment()))

    def acknowledge(self, envelopes: Sequence[Envelope]) -> None:
        """Note that a caller is told of these events, and wake who waits for one."""
        for envelope in envelopes:
            self.acknowledged = max(self.acknowledged, envelope.position)
        self.waiting.note(envelopes)

    # --- for executors ------------------------------------------------------------------------------------------

    def attached(self, executor: str, hosts: frozenset[str], stream: Stream) -> None:
        """Register an executor that has signed in. If its last stream is still there, that one has ended."""
        if executor in self._streams:
            self._carry_out(self.dispatcher.detached(executor, self.moment()))
        self._streams[executor] = stream
        self._carry_out(self.dispatcher.attached(executor, hosts, self.moment()))

    def heard(self, executor: str, stream: Stream) -> bool:
        """Record a sign of life. Return False if the executor was given up or has another stream: end this one."""
        self.dispatcher.heard(executor, self.moment())
        return self._streams.get(executor) is stream and self.dispatcher.feeding.knows(executor)

    def outcome(self, executor: str, dispatch_id: str, answer: HostAnswer) -> None:
        """Hand on what an executor says came of an order. If nobody waits for that from it, nothing follows."""
        flight = self.dispatcher.flights.get(dispatch_id)
        before = self._contact(flight.order.host_id) if flight is not None else None
        self._carry_out(self.dispatcher.answered(executor, dispatch_id, answer, self.moment()))
        if flight is not None:
            tell_way(flight.order.host_id, before, self._contact(flight.order.host_id))

    def _contact(self, host_id: HostId) -> Failure | None:
        """Return why a host does not answer; None: it does, or nobody has tried."""
        wait = self.dispatcher.reach.contact.get(host_id)
        return wait.failure if wait is not None else None

    def detached(self, executor: str, stream: Stream) -> None:
        """Give up an executor whose stream has ended. Nothing follows if it has attached again meanwhile."""
        if self._streams.get(executor) is stream:
            del self._streams[executor]
            self._carry_out(self.dispatcher.detached(executor, self.moment()))

    # --- carrying out -------------------------------------------------------------------------------------------

    def _carry_out(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            match output:
                case Record():
                    task = asyncio.create_task(self._record(output), name=f"record {output.vm_id}")
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                    task.add_done_callback(_log_unheard)
                case Send():
                    self._send(output)
                case Fault():
                    _log_fault(output)
                case Abandon():
                    if (stream := self._streams.get(output.executor)) is not None:
                        stream.abandon(output.dispatch_id)
                case End():
                    if (ended := self._streams.pop(output.executor, None)) is not None:
                        ended.end()
                case Reply():
                    question = self._questions.get(output.key)
                    if question is not None and not question.done():
                        question.set_result(output.answer)

    def _send(self, send: Send) -> None:
        stream = self._streams.get(send.executor)
        if stream is None:
            return  # it has just ended, and `detached` settles the flight
        try:
            stream.deliver(send.dispatch_id, send.order)
        except Exception as defect:  # noqa: BLE001  (a defect that shows on one order must not touch the others)
            self._carry_out(self.dispatcher.unsendable(send.dispatch_id, defect, self.moment()))

    async def _record(self, record: Record) -> None:
        """Decide and append. If that fails, a later tick returns the command again while it is due."""
        decided = None
        try:
            decided = await self._vms.execute(record.vm_id, record.command, actor=ITSELF)
        except asyncio.CancelledError:
            self.dispatcher.interrupted(record.vm_id)  # the core stops, and may be started again
            raise
        except Exception as error:  # noqa: BLE001  (what one VM cannot get recorded must not touch the others)
            outputs = self.dispatcher.refused(record.vm_id, error, self.moment())
        else:
            self.acknowledge(decided.envelopes)
            tell(decided.vm, decided.envelopes)
            outputs = self.dispatcher.recorded(decided.vm, decided.envelopes, self.moment())
        self._carry_out(outputs)
        await self.follow(record.vm_id, decided.envelopes if decided is not None else ())


def _log_fault(fault: Fault) -> None:
    """Log why a VM cannot be gone on with: in one line what the world did, and whole what is a defect."""
    known = isinstance(fault.error, SnapshotdError)
    _log.log(
        logging.WARNING if known else logging.ERROR,
        "vm %s: cannot go on with its operations (attempt %d): %s",
        fault.vm_id,
        fault.times,
        fault.error if known else f"a defect: {fault.error!r}",
        exc_info=None if known else fault.error,
        extra=about(vm=fault.vm_id),
    )


def _log_unheard(task: asyncio.Task[Any]) -> None:
    """Log a defect whose caller has gone: nobody else will."""
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, SnapshotdError):
        _log.error("%s failed, and its caller has gone", task.get_name(), exc_info=error)
