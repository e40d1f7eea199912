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
from snapshotd.unusable import Unusable

_log = logging.getLogger(__name__)

_HEARTBEAT_S = 1.0
"""The interval if the Welcome names none."""

_FOR_GOOD = frozenset(
    {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED}
)
"""Codes of a refusal that no further attempt would change."""

Call = grpc.aio.StreamStreamCall[AttachRequest, AttachResponse]


class Detached(Exception):
    """The attachment ended; the text says why."""


class AttachRefused(Unusable):
    """The server refused the Hello for good: with the same settings, another attempt would fail too."""


class Attachment:
    """One stream to the server.

    Args:
        call: the stream, just opened.
        work: takes the dispatches.
        outbox: holds the outcomes to deliver.
        settings: those of the executor.
        clock: the clock for the lease.
        finishing: is set when nothing will be added to the outbox any more.
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
        self._closing = False
        """All outcomes are written, and none follows."""
        self._half_closed = False
        self.read_to_the_end = False
        """The server has read everything that was written, and has ended the stream normally."""

    async def sign_in(self, hello: Hello) -> Welcome:
        """Send Hello and return the server's Welcome. Raises Detached and AttachRefused."""
        try:
            async with asyncio.timeout(self._settings.welcome_s):
                await self._call.write(AttachRequest(hello=hello))
                # Taken before the Welcome was written, so that we never hold the lease longer than the server thinks.
                asked_at = self._clock.monotonic()
                response = await self._call.read()
        except TimeoutError:
            raise Detached(f"no Welcome within {self._settings.welcome_s} s") from None
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            if isinstance(error, asyncio.InvalidStateError) or error.code() in _FOR_GOOD:
                await self._refused()
            raise Detached(_describe(error)) from error
        if not isinstance(response, AttachResponse) or response.WhichOneof("message") != "welcome":
            raise Detached("the server's first message is not a Welcome")
        self._lease = Lease(response.welcome.lease_ttl_ms / 1000, asked_at)
        return response.welcome

    async def serve(self, welcome: Welcome) -> None:
        """Work until the stream ends. Always raises Detached.

        When the executor is finishing and all is delivered, this side closes the stream, and the server ends it.
        """
        interval_s = welcome.heartbeat_interval_ms / 1000 or _HEARTBEAT_S
        works = (self._receive(), self._deliver(), self._heartbeat(interval_s), self._half_close())
        # No TaskGroup: on Python 3.11 it leaves its task marked as cancelled, and on 3.11.2 the next timeout in that
        # task is taken for a cancellation from outside.
        tasks = [asyncio.create_task(work) for work in works]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        errors = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
        for error in errors:
            if not isinstance(error, Detached | grpc.aio.AioRpcError | asyncio.InvalidStateError):
                raise error
        raise Detached(_describe(errors[0]))

    async def end(self) -> None:
        """End the call, and wait until it has ended."""
        self._call.cancel()
        await self._call.code()

    async def _refused(self) -> None:
        """Raise AttachRefused if the server has refused for good."""
        code = await self._call.code()
        if code in _FOR_GOOD:
            said = f"{code.name}: {await self._call.details()}"
            raise AttachRefused(
                f"Cannot attach to {self._settings.server}: the server refused this executor: {said} "
                "Check executor.server and executor.hosts, and that both programs are of the same release."
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
                    # From a newer server. This release must not guess what it means.
                    _log.warning("the server sent a message (%s) that this executor does not know", other)

    def _dispatch(self, message: AttachResponse) -> None:
        if self._closing:
            # No outcome could be written any more. The end of the stream tells the server that nothing was started.
            return
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
        while len(self._outbox):
            await self._outbox.emptied()
        self._closing = True
        # The lock is kept: nobody may write on a stream that is closed on this side.
        await self._writing.acquire()
        await self._call.done_writing()
        self._half_closed = True

    async def _write(self, request: AttachRequest) -> None:
        async with self._writing:
            await self._call.write(request)


def _describe(error: BaseException) -> str:
    """Return why a stream ended."""
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) if isinstance(error, Detached) else "the stream has ended"
