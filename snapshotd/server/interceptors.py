"""Rules for every call: errors become statuses, what cannot be read or is not built is refused, callers have names."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn, Self

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc.status_pb2 import Status

from snapshotd.domain.errors import NotBuilt, SnapshotdError
from snapshotd.logs import Seldom, about, and_more
from snapshotd.monitoring.meters import Meters
from snapshotd.monitoring.traces import TRACEPARENT, Call, Traces, current_call, read_traceparent
from snapshotd.server.callers import CALLER, Caller
from snapshotd.server.gate import Gate
from snapshotd.server.request_errors import AnswerTooLarge, MalformedRequest, Stopping
from snapshotd.server.status import internal_status, to_status

_log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
_Call = Callable[[Any, Context], Any]

_OURS: Final = ("/snapshotd.", "/google.longrunning.")
_COMPLAINT_S: Final = 10.0
"""The least time between two log lines about malformed requests, or about calls refused for one reason."""
_SHOWN: Final = 100
"""The most characters of a request's id in the log."""
_READS: Final = re.compile(r"(Get|List|Wait|Watch|Discover)\w*|Attach")
"""Methods that change nothing. An executor stays attached to deliver its outcomes."""
_REQUEST_S: Final = 30.0
"""How long a call may send nothing: it takes one of its caller's places meanwhile."""
LARGEST_ANSWER: Final = 4 * 1024 * 1024
"""The bytes of the largest message that gRPC's clients take, if nobody tells them to take more."""
_OK: Final = grpc.StatusCode.OK.name
_NO_METHOD: Final = "other"
"""What calls of methods that do not exist are counted as: callers may call by any name."""
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class ErrorsAsStatuses(grpc.aio.ServerInterceptor):
    """Answers an error of any service with a status and its ErrorInfo.

    Args:
        gate: decides on each call before its service does.
        meters: counts the calls.
        traces: takes their spans.
    """

    def __init__(self, gate: Gate, meters: Meters, traces: Traces) -> None:
        self._gate = gate
        self._meters = meters
        self._traces = traces
        self._complaints = Seldom(_COMPLAINT_S)
        self._refusals: dict[str, Seldom] = {}
        """By reason: there are few."""
        self.stopping = False
        """Whether calls that change something are refused."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the wrapped handler of a call.

        It takes a stream in any case: one that takes a single message is not called at all if none comes, and the
        caller waits for ever.
        """
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return grpc.stream_unary_rpc_method_handler(self._unary(method, _not_built(method), _NO_METHOD))
        streams = "stream" if handler.response_streaming else "unary"
        kind = f"{'stream' if handler.request_streaming else 'unary'}_{streams}"
        behaviour: _Call = getattr(handler, kind)
        if behaviour.__module__.endswith("_pb2_grpc"):  # the generated one: this method is not built
            behaviour = _not_built(method)
        elif self.stopping and method.startswith(_OURS) and not _READS.fullmatch(method.rpartition("/")[2]):
            behaviour = _stopping(method)
        elif handler.request_streaming:
            behaviour = self._of_stream(method, behaviour)
        else:
            behaviour = self._of_one(method, behaviour, streams=handler.response_streaming)
        make: Any = getattr(grpc, f"stream_{streams}_rpc_method_handler")
        return make(  # type: ignore[no-any-return]
            (self._stream if handler.response_streaming else self._unary)(method, behaviour, method),
            request_deserializer=_reader(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _unary(self, method: str, behaviour: _Call, counted_as: str) -> _Call:
        async def call(request: Any, context: Context) -> Any:  # noqa: ANN401  (any method's messages)
            with _Measured(self._meters, counted_as, self._call(counted_as, context)) as measured:
                try:
                    answer = _taken(method, await behaviour(request, context))
                except Exception as error:  # noqa: BLE001  (a defect's cause is in the log, by the incident's id)
                    await measured.abort(context, _status_of(error))
                measured.code = _OK
                return answer

        return call

    def _stream(self, method: str, behaviour: _Call, counted_as: str) -> _Call:
        async def call(request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401
            with _Measured(self._meters, counted_as, self._call(counted_as, context)) as measured:
                try:
                    async for response in behaviour(request, context):
                        yield _taken(method, response)
                except Exception as error:  # noqa: BLE001  (as above)
                    await measured.abort(context, _status_of(error))
                measured.code = _OK

        return call

    def _call(self, method: str, context: Context) -> Callable[[str], None]:
        """Begin the trace of a call, if spans are wanted; return what ends it, with its code."""
        if not self._traces.enabled:
            return _untraced
        told = dict(context.invocation_metadata() or ()).get(TRACEPARENT, "")
        call = Call(method=method, began_ns=time.time_ns(), caller=read_traceparent(str(told)))
        current_call.set(call)  # each call has a task of its own
        return partial(self._traces.call_ended, call)

    def _of_stream(self, method: str, behaviour: _Call) -> _Call:
        """Return the behaviour of a method that takes a stream, with only messages that could be read."""

        async def answers(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            with await self._gate.admit(method, context) as caller:
                CALLER.set(caller)
                async for response in behaviour(self._read(method, caller, requests, context), context):
                    await self._gate.still(caller, None, context.peer())
                    yield response

        return answers

    def _of_one(self, method: str, behaviour: _Call, *, streams: bool) -> _Call:
        """Return the behaviour of a method that takes one message, for the stream that it comes in."""
        waits = method.rpartition("/")[2].startswith("Wait")

        async def first(requests: AsyncIterator[Any], context: Context) -> Any:  # noqa: ANN401  (any method's messages)
            # No generator in between: one that is left early is ended by a task of its own.
            try:
                async with asyncio.timeout(_REQUEST_S):
                    async for request in requests:
                        return self._checked(method, request, context)
            except TimeoutError:
                raise MalformedRequest(method.removeprefix("/"), f"none came within {_REQUEST_S:g} s") from None
            raise MalformedRequest(method.removeprefix("/"), "there is none")

        async def allowed(caller: Caller, requests: AsyncIterator[Any], context: Context) -> Any:  # noqa: ANN401
            request = await first(requests, context)
            await self._gate.check(caller, request, context.peer())
            CALLER.set(caller)
            return request

        async def answer(requests: AsyncIterator[Any], context: Context) -> Any:  # noqa: ANN401
            with await self._gate.admit(method, context) as caller:
                request = await allowed(caller, requests, context)
                with self._told(caller, request):
                    response = await behaviour(request, context)
                if waits:
                    await self._gate.still(caller, request, context.peer())
                return response

        async def answers(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            with await self._gate.admit(method, context) as caller:
                request = await allowed(caller, requests, context)
                responses = aiter(behaviour(request, context))
                while True:
                    with self._told(caller, request):
                        response = await anext(responses, None)
                    if response is None:
                        return
                    await self._gate.still(caller, request, context.peer())
                    yield response

        return answers if streams else answer

    @contextmanager
    def _told(self, caller: Caller, request: Message) -> Iterator[None]:
        """Log that a call is refused; of those with the same reason only one in a while, since callers may repeat it.

        Who may not call is told by the gate (refusals.py). The words may be the caller's: so they are cut.
        """
        try:
            yield
        except SnapshotdError as error:
            if (more := self._refusals.setdefault(error.reason, Seldom(_COMPLAINT_S)).due()) is not None:
                known = getattr(request, "request_id", "")
                request_id = known[:_SHOWN] if known.isprintable() else ""
                facts = about(method=caller.method, actor=caller.subject, reason=error.reason, request=request_id)
                _log.info("call refused: %.300s%s", error, and_more(more), extra=facts)
            raise

    async def _read(
        self, method: str, caller: Caller, requests: AsyncIterator[Any], context: Context
    ) -> AsyncIterator[Any]:
        """Yield the messages of a call. Raises MalformedRequest for one that could not be read, and NotAllowed."""
        async for request in requests:
            await self._gate.still(caller, None, context.peer())
            yield self._checked(method, request, context)

    def _checked(self, method: str, request: Any, context: Context) -> Any:  # noqa: ANN401  (any method's messages)
        """Return a message of a call. Raises MalformedRequest for one that could not be read."""
        if isinstance(request, _Unreadable):
            if (more := self._complaints.due()) is not None:
                _log.warning(
                    "malformed request of %.200s from %.100s: %s%s",
                    method,
                    context.peer(),
                    request.problem,
                    and_more(more),
                )
            raise MalformedRequest(method.removeprefix("/"), request.problem)
        return request


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """What came instead of a message."""

    problem: str


def _reader(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """Return a deserializer that never raises: gRPC would answer UNKNOWN, and log a traceback."""
    if deserialize is None:
        return None

    def read(data: bytes) -> Any:  # noqa: ANN401  (any method's messages)
        try:
            return deserialize(data)
        except (DecodeError, ValueError, RecursionError) as error:
            return _Unreadable(str(error))

    return read


def _taken(method: str, answer: Message) -> Message:
    """Return an answer that callers will take. Raises AnswerTooLarge for another one."""
    size = answer.ByteSize()
    if size > LARGEST_ANSWER:
        raise AnswerTooLarge(method.removeprefix("/"), size, LARGEST_ANSWER)
    return answer


def _not_built(method: str) -> _Call:
    def refuse(_request: Any, _context: Context) -> NoReturn:  # noqa: ANN401
        raise NotBuilt(method.removeprefix("/"))

    return refuse


def _stopping(method: str) -> _Call:
    def refuse(_request: Any, _context: Context) -> NoReturn:  # noqa: ANN401
        raise Stopping(method.rpartition("/")[2])

    return refuse


def _status_of(error: Exception) -> Status:
    """Return the status that answers an error. A defect gets an id, by which its cause is found in the log."""
    if isinstance(error, SnapshotdError):
        return to_status(error)
    name = uuid.uuid4().hex[:12]
    _log.error("incident %s", name, exc_info=error)
    return internal_status(name)


def _untraced(_: str) -> None:
    pass


class _Measured:
    """One call, counted when it has ended.

    Args:
        meters: counts it.
        method: what it is counted as.
        ended: is told of its end, with the name of its code.
    """

    def __init__(self, meters: Meters, method: str, ended: Callable[[str], None]) -> None:
        self._meters = meters
        self._method = method
        self._ended = ended
        self._began_s = time.perf_counter()
        self.code = grpc.StatusCode.CANCELLED.name
        """What it ends with: until something else is known, its caller has gone."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._meters.call_ended(self._method, self.code, time.perf_counter() - self._began_s)
        self._ended(self.code)

    async def abort(self, context: Context, status: Status) -> NoReturn:
        """End the call with a status."""
        code = _CODES[status.code]
        self.code = code.name
        details = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(code, status.message, details)
