"""One attachment: Hello, Welcome, and then three tasks on one stream until it ends.

    receive    hosts, dispatches, abandons ──► work
    deliver    outbox ──► outcomes
    heartbeat  the event loop is alive ──► the lease is renewed

Ends the call explicitly, and waits for its end: an abandoned call leaks in grpc.aio.
"""

from __future__ import annotations

import asyncio
import logging

import grpc

from snapshotd.api.v1.executor_pb2 import AttachRequest, AttachResponse, Heartbeat, Hello, NoAnswer, Welcome
from snapshotd.executor.clock import Clock
from snapshotd.executor.lease import Lease
from snapshotd.executor.outbox import Outbox
from snapshotd.executor.settings import ExecutorSettings
from snapshotd.executor.work import Work

_log = logging.getLogger(__name__)

_HEARTBEAT_S = 1.0
"""When the Welcome names no interval."""

_FOR_GOOD = frozenset(
    {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED}
)
"""How a server refuses what no further attempt would change."""

Call = grpc.aio.StreamStreamCall[AttachRequest, AttachResponse]


class Detached(Exception):
    """The attachment ended; the text says why."""


class AttachRefused(Exception):
    """The server refused the Hello for good: another attempt with the same settings would end likewise."""


class Attachment:
    """One stream to the server.

    Args:
        call: the stream, just opened.
        work: what dispatches are handed to.
        outbox: what is delivered.
        settings: the executor's.
        clock: for the lease.
        finishing: set when nothing more comes after what waits in the outbox.
    """

    def __init__(
        self,
        call: Call,
        work: Work,
        outbox: Outbox,
        settings: ExecutorSettings,
        clock: Clock,
        finishing: asyncio.Event,
    ) -> None:
        self._call = call
        self._work = work
        self._outbox = outbox
        self._settings = settings
        self._clock = clock
        self._writing = asyncio.Lock()
        self._lease = Lease(0, clock.monotonic())
        self._finishing = finishing
        self._half_closed = False
        self.read_to_the_end = False
        """The server has read all that was written, and ended the stream in good order."""

    async def sign_in(self, hello: Hello) -> Welcome:
        """Say Hello, and wait for the Welcome. Raises Detached, and AttachRefused."""
        try:
            async with asyncio.timeout(self._settings.welcome_s):
                await self._call.write(AttachRequest(hello=hello))
                # From before the Welcome was written, so that we never hold the lease longer than the server thinks.
                asked_at = self._clock.monotonic()
                response = await self._call.read()
        except TimeoutError:
            raise Detached(f"no Welcome within {self._settings.welcome_s} s") from None
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            if isinstance(error, asyncio.InvalidStateError) or error.code() in _FOR_GOOD:
                await self._refused()
            raise Detached(_describe(error)) from error
        if not isinstance(response, AttachResponse) or response.WhichOneof("message") != "welcome":
            raise Detached("the server's first message is no Welcome")
        self._lease = Lease(response.welcome.lease_ttl_ms / 1000, asked_at)
        return response.welcome

    async def serve(self, welcome: Welcome) -> None:
        """Work until the stream ends. Raises Detached, always.

        Once it is finishing and all is delivered, the stream is closed on this side, and the server ends it.
        """
        interval_s = welcome.heartbeat_interval_ms / 1000 or _HEARTBEAT_S
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._receive())
                tasks.create_task(self._deliver())
                tasks.create_task(self._heartbeat(interval_s))
                tasks.create_task(self._half_close())
        except BaseExceptionGroup as group:
            if group.split((Detached, grpc.aio.AioRpcError, asyncio.InvalidStateError))[1] is not None:
                raise
            raise Detached(_describe(group)) from group

    async def end(self) -> None:
        """End the call, and wait for its end."""
        self._call.cancel()
        await self._call.code()

    async def _refused(self) -> None:
        """Return if the call has not ended for good. Raises AttachRefused."""
        code = await self._call.code()
        if code in _FOR_GOOD:
            said = f"{code.name}: {await self._call.details()}"
            raise AttachRefused(
                f"the server at {self._settings.server} refused this executor: {said} "
                "Look at executor.server and executor.hosts, and at the releases of both."
            )

    async def _receive(self) -> None:
        while True:
            message = await self._call.read()
            if not isinstance(message, AttachResponse):
                self.read_to_the_end = self._half_closed
                raise Detached("the server ended the stream")
            match message.WhichOneof("message"):
                case "host":
                    self._work.reach(message.host)
                case "dispatch":
                    self._dispatch(message)
                case "abandon":
                    self._work.abandon(message.abandon.dispatch_id)
                case "released_host":
                    self._work.release(message.released_host)
                case other:
                    # A newer server's message: what this release does not know, it must not guess at.
                    _log.warning("the server sent a message (%s) that this executor does not know", other)

    def _dispatch(self, message: AttachResponse) -> None:
        if not self._lease.holds(self._clock.monotonic()):
            detail = "not started: the executor was paused, and its lease has run out."
            self._work.refuse(message.dispatch, NoAnswer.CONNECTION_LOST, detail)
            raise Detached("the lease has run out")
        self._work.start(message.dispatch)

    async def _deliver(self) -> None:
        while True:
            outcome = await self._outbox.next()
            await self._write(AttachRequest(outcome=outcome))
            self._outbox.written(outcome)

    async def _heartbeat(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            sent_at = self._clock.monotonic()
            if not self._lease.holds(sent_at):
                raise Detached("the lease has run out")
            await self._write(AttachRequest(heartbeat=Heartbeat()))
            self._lease.renew(sent_at)

    async def _half_close(self) -> None:
        await self._finishing.wait()
        await self._outbox.emptied()
        # The lock is kept: nobody may write on a stream that is closed on this side.
        await self._writing.acquire()
        await self._call.done_writing()
        self._half_closed = True

    async def _write(self, request: AttachRequest) -> None:
        async with self._writing:
            await self._call.write(request)


def _describe(error: BaseException) -> str:
    """Return why a stream ended; of several reasons the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) if isinstance(error, Detached) else "the stream had ended"
