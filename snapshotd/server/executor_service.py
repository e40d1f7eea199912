"""Attach: signs executors in, feeds them, and hears what came of it. What they are fed with, the dispatcher says.

One stream an executor. A host's connection is told on the stream before the first command for it, and again when it has
changed. The stream ends when the executor has ended its side, when it was silent for too long, or when it has another.
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
from snapshotd.domain.ids import HostId, is_guid, is_host_id
from snapshotd.ports.clock import Clock
from snapshotd.server.comparisons import Comparisons
from snapshotd.server.drive import Drive
from snapshotd.server.host_wire import from_outcome, no_answer, to_command
from snapshotd.server.ownership import explained

_log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[pb.AttachRequest, pb.AttachResponse]

LEASE_TTL_S: Final = 8.0
"""So that a dead executor is replaced within 10 s."""
_HEARTBEAT_MS: Final = 2000


class Attached:
    """One executor's stream: what it is fed with, and what is known of it."""

    def __init__(self, hello: pb.Hello, hosts: Hosts, drive: Drive, installation_id: str, now: datetime) -> None:
        """Begin with nothing to send. Raises InvalidArgument for a Hello that cannot be used."""
        if not is_guid(hello.executor_id):
            raise InvalidArgument("hello.executor_id", hello.executor_id, "must be a UUID, new at each start.")
        if not hello.hosts:
            raise InvalidArgument("hello.hosts", "", f"must name the hosts that it serves, or {EVERY_HOST!r}.")
        for host in hello.hosts:
            if host != EVERY_HOST and not is_host_id(host):
                raise InvalidArgument("hello.hosts", host, "is no host's id.")
        self.executor = hello.executor_id
        self.serves = frozenset(hello.hosts)
        self.version = hello.version
        self.since = now
        self.heard = now
        self.to_send: asyncio.Queue[pb.AttachResponse | None] = asyncio.Queue()
        """None ends the stream."""
        self._told: dict[HostId, Host] = {}
        """The hosts whose connection it has been told, as they were then."""
        self._hosts = hosts
        self._drive = drive
        self._installation_id = installation_id

    def deliver(self, dispatch_id: str, order: Order) -> None:
        """Put an order on the stream, after its host's connection where that is news."""
        try:
            host = self._hosts.get(order.host_id)
        except NotFound:
            self._drive.outcome(dispatch_id, no_answer("HOST_UNREACHABLE", "The host is not registered any more."))
            return
        if self._told.get(host.host_id) != host:
            self._told[host.host_id] = host
            self.to_send.put_nowait(pb.AttachResponse(host=_connection(host)))
        command = to_command(order, self._installation_id, host.journal_directory)
        dispatch = pb.Dispatch(dispatch_id=dispatch_id, host=f"hosts/{host.host_id}", command=command)
        dispatch.time_limit.FromTimedelta(order.deadline - self._drive.moment().utc)
        self.to_send.put_nowait(pb.AttachResponse(dispatch=dispatch))

    def abandon(self, dispatch_id: str) -> None:
        """Say that nobody waits for what comes of an order."""
        self.to_send.put_nowait(pb.AttachResponse(abandon=pb.Abandon(dispatch_id=dispatch_id)))

    def release(self, host_id: HostId) -> None:
        """Tell the executor that a host is forgotten."""
        if self._told.pop(host_id, None) is not None:
            self.to_send.put_nowait(pb.AttachResponse(released_host=f"hosts/{host_id}"))


class ExecutorService(ExecutorServiceServicer):
    """The servicer, and the executors that are attached.

    Args:
        drive: the running core.
        hosts: the hosts of the log.
        comparisons: are told of the hosts that an executor is fed for.
        installation_id: who we are, to the journals on the hosts.
        clock: the time as people know it.
    """

    def __init__(
        self, drive: Drive, hosts: Hosts, comparisons: Comparisons, installation_id: str, clock: Clock
    ) -> None:
        self._drive = drive
        self._hosts = hosts
        self._comparisons = comparisons
        self._installation_id = installation_id
        self._clock = clock
        self.attached: dict[str, Attached] = {}
        """By executor id."""

    async def Attach(
        self, request_iterator: AsyncIterator[pb.AttachRequest], context: Context
    ) -> AsyncIterator[pb.AttachResponse]:
        """Sign an executor in, and feed it until its stream ends."""
        del context
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("message") != "hello":
            raise InvalidArgument("message", "", "the first message of an executor must be Hello.")
        stream = Attached(first.hello, self._hosts, self._drive, self._installation_id, self._clock.now())
        yield pb.AttachResponse(
            welcome=pb.Welcome(heartbeat_interval_ms=_HEARTBEAT_MS, lease_ttl_ms=int(LEASE_TTL_S * 1000))
        )
        _log.info("executor %s attached, for %s", stream.executor, ", ".join(sorted(stream.serves)))
        if stream.executor in self.attached:
            self.attached[stream.executor].to_send.put_nowait(None)
        self.attached[stream.executor] = stream
        self._drive.attached(stream.executor, stream.serves, stream)
        self._comparisons.attached(self._fed_by(stream))
        reading = asyncio.create_task(self._read(request_iterator, stream))
        try:
            while (message := await stream.to_send.get()) is not None:
                yield message
        finally:
            reading.cancel()
            if self.attached.get(stream.executor) is stream:
                del self.attached[stream.executor]
            self._drive.detached(stream.executor, stream)
            _log.info("executor %s detached", stream.executor)

    def release(self, host_id: HostId) -> None:
        """Tell executors that a host is forgotten."""
        for stream in self.attached.values():
            stream.release(host_id)

    async def _read(self, requests: AsyncIterator[pb.AttachRequest], stream: Attached) -> None:
        """Take what the executor says, until it has ended its side; then end the stream."""
        try:
            async for request in requests:
                stream.heard = self._clock.now()
                if request.WhichOneof("message") == "outcome":
                    answer = explained(from_outcome(request.outcome), self._installation_id)
                    self._drive.outcome(request.outcome.dispatch_id, answer)
                if not self._drive.heard(stream.executor, stream):
                    _log.warning("executor %s was silent for too long; it has to attach anew", stream.executor)
                    break
        finally:
            stream.to_send.put_nowait(None)

    def _fed_by(self, stream: Attached) -> list[HostId]:
        """Return the registered hosts that this executor is fed for."""
        fed = self._drive.dispatcher.feeding.fed
        return [h.host_id for h in self._hosts.registered() if fed(h.host_id) == stream.executor]


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
