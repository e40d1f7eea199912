"""Rules for every call: errors become statuses, a method that is not built is refused, and the caller has a name.

Health and reflection belong to libraries, and pass through.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, NoReturn

import grpc
from google.rpc.status_pb2 import Status

from snapshotd.domain.errors import InvalidArgument, NotBuilt, SnapshotdError
from snapshotd.server.request_errors import ActorNotAllowed, Stopping
from snapshotd.server.runtime import ITSELF
from snapshotd.server.status import internal_status, to_status

_log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
_Call = Callable[[Any, Context], Any]

ACTOR_METADATA: Final = "x-snapshotd-actor"
"""The name of the caller. It is trusted, on loopback only, until there is authentication."""
_NOBODY: Final = "anonymous"
_ACTOR_LIMIT: Final = 100
_OURS: Final = ("/snapshotd.", "/google.longrunning.")
_READS: Final = ("Get", "List", "Wait", "Discover", "Attach")
"""Prefixes of methods that change nothing. An executor stays attached to deliver its outcomes."""
_LOCAL: Final = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:")
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class ErrorsAsStatuses(grpc.aio.ServerInterceptor):
    """Answers an error of our services with a status and its ErrorInfo."""

    def __init__(self) -> None:
        self.stopping = False
        """Whether calls that change something are refused."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Return the wrapped handler of a call."""
        handler: Any = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return grpc.unary_unary_rpc_method_handler(_unary(_not_built(method)))
        if not method.startswith(_OURS):
            return handler  # type: ignore[no-any-return]
        streams = "stream" if handler.response_streaming else "unary"
        kind = f"{'stream' if handler.request_streaming else 'unary'}_{streams}"
        behaviour: _Call = getattr(handler, kind)
        if behaviour.__module__.endswith("_pb2_grpc"):  # the generated one: this method is not built
            behaviour = _not_built(method)
        if self.stopping and not method.rpartition("/")[2].startswith(_READS):
            behaviour = _stopping(method)
        wrapped = _stream(behaviour) if handler.response_streaming else _unary(behaviour)
        make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(  # type: ignore[no-any-return]
            wrapped,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def actor_of(context: Context) -> str:
    """Return the caller's name. Raises ActorNotAllowed for another machine, and InvalidArgument for a bad name."""
    peer = context.peer()
    if not peer.startswith(_LOCAL):
        raise ActorNotAllowed(peer, "there is no authentication yet. Call from the server's machine.")
    for key, value in context.invocation_metadata() or ():
        if key == ACTOR_METADATA:
            text = value if isinstance(value, str) else value.decode(errors="replace")
            if not 0 < len(text) <= _ACTOR_LIMIT or not text.isprintable():
                raise InvalidArgument(ACTOR_METADATA, text[:40], f"must be 1 to {_ACTOR_LIMIT} printable characters.")
            if text == ITSELF:
                raise InvalidArgument(ACTOR_METADATA, text, "is the name of the service itself; use another one.")
            return text
    return _NOBODY


def _unary(behaviour: _Call) -> _Call:
    async def call(request: Any, context: Context) -> Any:  # noqa: ANN401  (any method's messages)
        try:
            return await behaviour(request, context)
        except SnapshotdError as error:
            await _abort(context, to_status(error))
        except Exception:  # noqa: BLE001  (the caller gets the incident's id, the log gets the cause)
            await _abort(context, _incident())

    return call


def _stream(behaviour: _Call) -> _Call:
    async def call(request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401
        try:
            async for response in behaviour(request, context):
                yield response
        except SnapshotdError as error:
            await _abort(context, to_status(error))
        except Exception:  # noqa: BLE001  (as above)
            await _abort(context, _incident())

    return call


def _not_built(method: str) -> _Call:
    def refuse(_request: Any, _context: Context) -> NoReturn:  # noqa: ANN401
        raise NotBuilt(method.removeprefix("/"))

    return refuse


def _stopping(method: str) -> _Call:
    def refuse(_request: Any, _context: Context) -> NoReturn:  # noqa: ANN401
        raise Stopping(method.rpartition("/")[2])

    return refuse


def _incident() -> Status:
    name = uuid.uuid4().hex[:12]
    _log.exception("incident %s", name)
    return internal_status(name)


async def _abort(context: Context, status: Status) -> NoReturn:
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(_CODES[status.code], status.message, details)
