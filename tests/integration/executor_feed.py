"""A real grpc.aio server whose Attach does what a test says, and a host whose commands end when a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import grpc

from snapshotd.api.v1.executor_pb2 import (
    Abandon,
    AttachRequest,
    AttachResponse,
    CommandOutcome,
    Dispatch,
    Hello,
    HostAnswer,
    HostCommand,
    HostConnection,
    NoAnswer,
    Welcome,
)
from snapshotd.api.v1.executor_pb2_grpc import ExecutorServiceServicer, add_ExecutorServiceServicer_to_server

Context = grpc.aio.ServicerContext[AttachRequest, AttachResponse]


class Stream:
    """One attachment, as the server sees it."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[AttachRequest | None] = asyncio.Queue()
        self.to_send: asyncio.Queue[AttachResponse | None] = asyncio.Queue()
        self.heartbeats = 0
        self.hello = Hello()

    async def next(self, kind: str) -> AttachRequest:
        """Wait for the next message of a kind; heartbeats in between are counted, others are a failure."""
        while True:
            message = await asyncio.wait_for(self.received.get(), 10)
            assert message is not None, "the executor ended the stream"
            if message.WhichOneof("message") == kind:
                return message
            assert message.HasField("heartbeat"), message
            self.heartbeats += 1

    async def outcome(self) -> CommandOutcome:
        """Wait for the next outcome."""
        return (await self.next("outcome")).outcome

    async def half_closed(self) -> None:
        """Wait until the executor has said that it writes no more."""
        while (message := await asyncio.wait_for(self.received.get(), 10)) is not None:
            assert message.HasField("heartbeat"), message

    def send(self, message: AttachResponse) -> None:
        """Send a message."""
        self.to_send.put_nowait(message)

    def host(self, name: str = "hosts/hv01", address: str = "127.0.0.1", **fields: object) -> None:
        """Tell how a host is reached."""
        connection = HostConnection(host=name, address=address, transport=HostConnection.NTLM_HTTP, credential="hv")
        for field, value in fields.items():
            setattr(connection, field, value)
        self.send(AttachResponse(host=connection))

    def dispatch(self, dispatch_id: str, host: str = "hosts/hv01", *, in_s: float | None = 60) -> None:
        """Send a command for the VM that is named like the dispatch."""
        dispatch = Dispatch(dispatch_id=dispatch_id, host=host)
        dispatch.command.CopyFrom(HostCommand(protocol=1, kind=HostCommand.REPORT, vm_id=dispatch_id))
        if in_s is not None:
            dispatch.time_limit.FromTimedelta(timedelta(seconds=in_s))
        self.send(AttachResponse(dispatch=dispatch))

    def abandon(self, dispatch_id: str) -> None:
        """Announce that nobody waits for a dispatch any more."""
        self.send(AttachResponse(abandon=Abandon(dispatch_id=dispatch_id)))

    def end(self) -> None:
        """End the stream."""
        self.to_send.put_nowait(None)


class Feed(ExecutorServiceServicer):
    """The servicer: a welcome, and then what a test sends."""

    def __init__(self) -> None:
        self.streams: asyncio.Queue[Stream] = asyncio.Queue()
        self.welcome: AttachResponse | None = AttachResponse(
            welcome=Welcome(heartbeat_interval_ms=50, lease_ttl_ms=10_000)
        )
        self.refuses: grpc.StatusCode | None = None
        """Ends each Attach with this code instead."""
        self.late: list[str] = []
        """Commands that are sent after an executor has ended its side, and before the stream ends."""
        self.port = 0
        self._server: grpc.aio.Server | None = None

    async def Attach(  # noqa: N802  (the service's name)
        self, request_iterator: AsyncIterator[AttachRequest], context: Context
    ) -> AsyncIterator[AttachResponse]:
        stream = Stream()
        reading = asyncio.create_task(self._read(request_iterator, stream))
        try:
            first = await stream.received.get()
            assert first is not None
            stream.hello = first.hello
            if self.refuses is not None:
                self.streams.put_nowait(stream)
                await context.abort(self.refuses, "for a reason.")
            if self.welcome is not None:
                yield self.welcome
            self.streams.put_nowait(stream)
            while (message := await stream.to_send.get()) is not None:
                yield message
        finally:
            reading.cancel()

    async def _read(self, requests: AsyncIterator[AttachRequest], stream: Stream) -> None:
        async for request in requests:
            stream.received.put_nowait(request)
        stream.received.put_nowait(None)
        for dispatch_id in self.late:
            stream.dispatch(dispatch_id)
        stream.end()

    async def attached(self) -> Stream:
        """Wait for the next attachment."""
        return await asyncio.wait_for(self.streams.get(), 10)

    async def start(self) -> None:
        """Serve; on the same port as before, if there was one."""
        self._server = grpc.aio.server(
            options=[("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 100)]
        )
        add_ExecutorServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Stop at once, as a killed server does."""
        assert self._server is not None
        await self._server.stop(0)


class Host:
    """A pool whose commands end when a test lets them; an ended one reports its VM."""

    def __init__(self, connection: HostConnection) -> None:
        self.connection = connection
        self.begun: asyncio.Queue[tuple[HostCommand, float]] = asyncio.Queue()
        self.closed: list[float] = []
        self.sessions = 0
        self.result: HostAnswer | NoAnswer | None = None
        self.held: dict[str, asyncio.Event] = {}
        self.cut = asyncio.Event()

    def hold(self, vm: str) -> asyncio.Event:
        """Let the command for a VM wait until the event is set."""
        self.held[vm] = asyncio.Event()
        return self.held[vm]

    async def run(self, command: HostCommand, timeout_s: float) -> HostAnswer | NoAnswer:
        """Run a command."""
        self.begun.put_nowait((command, timeout_s))
        if command.vm_id == "defect":
            raise RuntimeError("a defect")
        if command.vm_id in self.held:
            waits = [asyncio.ensure_future(e.wait()) for e in (self.held[command.vm_id], self.cut)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        if self.cut.is_set():
            return NoAnswer(reason=NoAnswer.CONNECTION_LOST, detail="cut")
        if self.result is not None:
            return self.result
        answer = HostAnswer(protocol=1, verdict=HostAnswer.REPORTED)
        answer.vms.add(vm_id=command.vm_id)
        return answer

    async def close(self, timeout_s: float) -> None:
        """Cut off what runs if there is no time left."""
        self.closed.append(timeout_s)
        if not timeout_s:
            self.cut.set()

    async def next(self) -> HostCommand:
        """Wait for the next command to begin."""
        return (await asyncio.wait_for(self.begun.get(), 10))[0]
