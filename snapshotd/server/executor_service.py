"""Attach: signs executors in, feeds them with commands, and takes the outcomes. The dispatcher decides what they get.

Each executor has one stream. It gets the connection of a host before the first command for it, and after a change.
The stream ends if the executor ends its side, is silent for too long, or opens another stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

import grpc

from snapshotd.api.v1 import executor_pb2 as pb
from snapshotd.api.v1.executor_pb2_grpc import ExecutorServiceServicer
from snapshotd.application.hosts import Hosts
from snapshotd.dispatch.feeding import EVERY_HOST
from snapshotd.dispatch.orders import Order
from snapshotd.domain.errors import InvalidArgument, NotFound
from snapshotd.domain.host import Host
from snapshotd.domain.ids import HostId, executor_label, executor_name, is_guid, is_host_id
from snapshotd.logs import about
from snapshotd.ports.clock import Clock
from snapshotd.server.access_errors import NotAllowed
from snapshotd.server.callers import NOBODY, Caller, caller
from snapshotd.server.gate import Refusals
from snapshotd.server.host_wire import from_outcome, no_answer, to_command
from snapshotd.server.ownership import explained
from snapshotd.server.runtime import Runtime
from snapshotd.server.sync_schedule import SyncSchedule
from snapshotd.server.wire_limits import TooLong, bound

_log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[pb.AttachRequest, pb.AttachResponse]

LEASE_TTL_S: Final = 8.0
"""The lease, short enough to replace a dead executor within 10 s."""
_HEARTBEAT_MS: Final = 2000
_REMEMBERED: Final = 1000
"""Executors whose identities are remembered."""


class Attached:
    """The stream of one executor: what waits to be sent, and what is known of the executor."""

    def __init__(
        self, hello: pb.Hello, by: Caller, hosts: Hosts, runtime: Runtime, installation_id: str, now: datetime
    ) -> None:
        """Read the Hello. Raises InvalidArgument if it cannot be used, NotAllowed if it names hosts of others."""
        try:
            bound(hello)
        except TooLong as error:
            raise InvalidArgument("hello", "", f"it is too long: {error}.") from error
        if not is_guid(hello.executor_id):
            raise InvalidArgument("hello.executor_id", hello.executor_id, "must be a UUID, new at each start.")
        if not hello.hosts:
            raise InvalidArgument("hello.hosts", "", f"must name the hosts that it serves, or {EVERY_HOST!r}.")
        for host in hello.hosts:
            if host != EVERY_HOST and not is_host_id(host):
                raise InvalidArgument("hello.hosts", host, "must be a host's id.")
        self.executor = executor_name(hello.executor_id)
        """Its name. The id itself is its secret: who knows it can take its place, as it does when it reconnects."""
        self.signed_in_as = "" if by.subject == NOBODY else by.subject
        """Empty: it did not have to."""
        self.label = executor_label(self.executor, self.signed_in_as)
        """What people read of it."""
        self.facts = about(executor=self.executor, actor=self.signed_in_as)
        """What lines of the log say of it."""
        self.serves = _allowed(frozenset(hello.hosts), by)
        self.version = hello.version
        self.since = now
        self.heard = now
        self.to_send: asyncio.Queue[pb.AttachResponse | None] = asyncio.Queue()
        """The messages to send; None ends the stream."""
        self._told: dict[HostId, Host] = {}
        """The hosts whose connection the executor knows, as it was sent."""
        self._hosts = hosts
        self._runtime = runtime
        self._installation_id = installation_id

    def deliver(self, dispatch_id: str, order: Order) -> None:
        """Send an order, and before it the host's connection if the executor does not know it."""
        try:
            host = self._hosts.get(order.host_id)
        except NotFound:
            self._runtime.outcome(
                self.executor, dispatch_id, no_answer("HOST_UNREACHABLE", "The host is no longer registered.")
            )
            return
        if self._told.get(host.host_id) != host:
            self._told[host.host_id] = host
            self.to_send.put_nowait(pb.AttachResponse(host=_connection(host)))
        command = to_command(order, self._installation_id, host.journal_directory)
        dispatch = pb.Dispatch(dispatch_id=dispatch_id, host=f"hosts/{host.host_id}", command=command)
        if order.operation is not None:
            dispatch.traceparent = self._runtime.traces.of_step(order.operation, order.step)
        dispatch.time_limit.FromTimedelta(order.deadline - self._runtime.moment().utc)
        self.to_send.put_nowait(pb.AttachResponse(dispatch=dispatch))

    def abandon(self, dispatch_id: str) -> None:
        """Notify the executor that nobody waits for the outcome of an order."""
        self.to_send.put_nowait(pb.AttachResponse(abandon=pb.Abandon(dispatch_id=dispatch_id)))

    def end(self) -> None:
        """End the stream, when everything before has been sent."""
        self.to_send.put_nowait(None)

    def release(self, host_id: HostId) -> None:
        """Notify the executor that a host is no longer registered."""
        if self._told.pop(host_id, None) is not None:
            self.to_send.put_nowait(pb.AttachResponse(released_host=f"hosts/{host_id}"))


class ExecutorService(ExecutorServiceServicer):
    """The servicer, and the attached executors.

    Args:
        runtime: the running core.
        hosts: the hosts of the log.
        schedule: syncs the hosts that an executor serves.
        installation_id: our name in the journals on the hosts.
        clock: the time of day.
        refusals: is told of who was refused.
    """

    def __init__(
        self,
        runtime: Runtime,
        hosts: Hosts,
        schedule: SyncSchedule,
        installation_id: str,
        clock: Clock,
        refusals: Refusals,
    ) -> None:
        self._runtime = runtime
        self._hosts = hosts
        self._schedule = schedule
        self._installation_id = installation_id
        self._clock = clock
        self._refusals = refusals
        self.attached: dict[str, Attached] = {}
        """By the executor's name."""
        self._subjects: dict[str, str] = {}
        """By the executor's name, who it signed in as: nobody else takes its place."""

    async def Attach(
        self, request_iterator: AsyncIterator[pb.AttachRequest], context: Context
    ) -> AsyncIterator[pb.AttachResponse]:
        """Sign in an executor, and feed it until its stream ends."""
        by = caller()
        try:
            async with asyncio.timeout(LEASE_TTL_S):
                first = await anext(request_iterator, None)
        except TimeoutError:
            _log.warning("an executor connected and did not say Hello within %.0f s", LEASE_TTL_S)
            return
        if first is None or first.WhichOneof("message") != "hello":
            raise InvalidArgument("message", "", "must be Hello, the first message of an executor.")
        try:
            now = self._clock.now()
            stream = Attached(first.hello, by, self._hosts, self._runtime, self._installation_id, now)
            self._claim(stream.executor, by)
        except NotAllowed as error:
            self._refusals.refused(by.subject, by.method, error, context.peer())
            raise
        yield pb.AttachResponse(
            welcome=pb.Welcome(heartbeat_interval_ms=_HEARTBEAT_MS, lease_ttl_ms=int(LEASE_TTL_S * 1000))
        )
        serves = ", ".join(sorted(stream.serves))
        _log.info("executor %s attached, for %s", stream.label, serves, extra=stream.facts)
        if stream.executor in self.attached:
            self.attached[stream.executor].end()
        self.attached[stream.executor] = stream
        self._runtime.attached(stream.executor, stream.serves, stream)
        self._schedule.attached(self._fed_by(stream))
        reading = asyncio.create_task(self._read(request_iterator, stream))
        try:
            while (message := await stream.to_send.get()) is not None:
                yield message
            if reading.done():
                reading.result()  # raises if it ended at what could not be read
        finally:
            reading.cancel()
            if self.attached.get(stream.executor) is stream:
                del self.attached[stream.executor]
            self._runtime.detached(stream.executor, stream)
            _log.info("executor %s detached", stream.label, extra=stream.facts)

    def _claim(self, executor: str, by: Caller) -> None:
        """Note who an executor is. Raises NotAllowed if it attached as somebody else before."""
        subject = self._subjects.setdefault(executor, by.subject)
        if subject != by.subject:
            raise NotAllowed("Attach", by.subject, f"executor {executor} belongs to another identity")
        if len(self._subjects) > _REMEMBERED:
            self._subjects.pop(next((name for name in self._subjects if name not in self.attached), executor))

    def release(self, host_id: HostId) -> None:
        """Notify the executors that a host is no longer registered."""
        for stream in self.attached.values():
            stream.release(host_id)

    def reached_anew(self, host_id: HostId) -> None:
        """Sync a host whose connection has changed: with the first command, its executor is told of that."""
        fed = self._runtime.dispatcher.feeding.fed(host_id)
        self._schedule.attached([host_id] if fed is not None else [])

    async def _read(self, requests: AsyncIterator[pb.AttachRequest], stream: Attached) -> None:
        """Handle the executor's messages until it ends its side, then end the stream."""
        try:
            async for request in requests:
                stream.heard = self._clock.now()
                if request.WhichOneof("message") == "outcome":
                    answer = explained(from_outcome(request.outcome), self._installation_id)
                    self._runtime.outcome(stream.executor, request.outcome.dispatch_id, answer)
                if not self._runtime.heard(stream.executor, stream):
                    text = "executor %s was silent for too long; it must attach again"
                    _log.warning(text, stream.label, extra=stream.facts)
                    break
        finally:
            stream.end()

    def _fed_by(self, stream: Attached) -> list[HostId]:
        """Return the registered hosts that this executor serves now."""
        fed = self._runtime.dispatcher.feeding.fed
        return [h.host_id for h in self._hosts.registered() if fed(h.host_id) == stream.executor]


def _allowed(hosts: frozenset[str], by: Caller) -> frozenset[str]:
    """Return the hosts that an executor serves: those it names, or all that it may. Raises NotAllowed for others."""
    if EVERY_HOST in by.hosts or hosts == {EVERY_HOST}:
        return hosts if EVERY_HOST in by.hosts else by.hosts
    if others := sorted(hosts - by.hosts):
        may = ", ".join(sorted(by.hosts)) or "none"
        raise NotAllowed("Attach", by.subject, f"it may serve {may}, and names {', '.join(others)}")
    return hosts


def _connection(host: Host) -> pb.HostConnection:
    return pb.HostConnection(
        host=f"hosts/{host.host_id}",
        address=host.address,
        port=host.port,
        transport=pb.HostConnection.Transport.Value(host.transport),
        credential=host.credential,
        ca_file=host.ca_file,
        journal_directory=host.journal_directory,
    )
