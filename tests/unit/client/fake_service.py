"""A service that answers as it is told, behind real gRPC on loopback; and snapshotctl in this process against it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc
import pytest
from google.longrunning import operations_pb2 as _operations  # noqa: F401  (its service is looked up by name)
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from snapshotd.api.v1.snapshot_pb2 import Snapshot
from snapshotd.api.v1.virtual_machine_pb2 import VirtualMachine
from snapshotd.client.__main__ import main

Answer = Callable[[Any], Message]


class Refuse(Exception):
    """An answer that is none: a status, with a reason if it is the service's own."""

    def __init__(
        self, code: grpc.StatusCode, text: str = "", reason: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(text)
        self.code, self.text, self.reason, self.metadata = code, text, reason, metadata


def refuse(context: grpc.ServicerContext, refused: Refuse) -> NoReturn:
    """End a call with a status."""
    if refused.reason:
        status = Status(code=refused.code.value[0], message=refused.text)
        status.details.add().Pack(ErrorInfo(reason=refused.reason, domain="snapshotd", metadata=refused.metadata))
        context.abort_with_status(rpc_status.to_status(status))
    context.abort(refused.code, refused.text)
    raise AssertionError("abort raises")


@dataclass
class FakeService(grpc.GenericRpcHandler):
    """Answers methods by their names ("ListSnapshots"), and keeps what it was asked. Whatever an id names is there."""

    answers: dict[str, Answer] = field(
        default_factory=lambda: {
            "GetVirtualMachine": lambda request: VirtualMachine(name=request.name),
            "GetSnapshot": lambda request: Snapshot(name=request.name),
        }
    )
    streams: dict[str, Callable[[Any], Iterator[Message]]] = field(default_factory=dict)
    """What those methods send that answer with a stream."""
    asked: list[Any] = field(default_factory=list)
    address: str = "127.0.0.1:0"
    tls: grpc.ServerCredentials | None = None
    came_with: list[dict[str, str]] = field(default_factory=list)
    """The metadata of each call."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Find what answers a call."""
        service, _, method = handler_call_details.method.removeprefix("/").rpartition("/")
        self.came_with.append({key: str(value) for key, value in handler_call_details.invocation_metadata or ()})
        described = Default().FindServiceByName(service).methods_by_name[method]

        def behave(request: Message, context: grpc.ServicerContext) -> Message:
            self.asked.append(request)
            try:
                return self.answers[method](request)
            except Refuse as refused:
                refuse(context, refused)

        def behave_for_long(request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
            self.asked.append(request)
            try:
                yield from self.streams[method](request)
            except Refuse as refused:
                refuse(context, refused)

        if described.server_streaming:
            return grpc.unary_stream_rpc_method_handler(
                behave_for_long,
                request_deserializer=GetMessageClass(described.input_type).FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
        return grpc.unary_unary_rpc_method_handler(
            behave,
            request_deserializer=GetMessageClass(described.input_type).FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def start(self) -> None:
        """Serve: where it served before, if it did."""
        self._server = grpc.server(ThreadPoolExecutor(4), handlers=[self])
        add = self._server
        port = add.add_secure_port(self.address, self.tls) if self.tls else add.add_insecure_port(self.address)
        if not self.address.startswith("unix:"):
            self.address = f"127.0.0.1:{port}"
        self._server.start()

    def stop(self) -> None:
        """End it."""
        self._server.stop(None).wait()

    def of(self, kind: type[Message]) -> list[Any]:
        """Return the requests of a type that came in."""
        return [request for request in self.asked if isinstance(request, kind)]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


@dataclass(frozen=True)
class Said:
    """What the program printed, and its exit code."""

    code: int
    out: str
    err: str


@dataclass
class Ctl:
    """Runs snapshotctl."""

    service: FakeService
    captured: pytest.CaptureFixture[str]
    known: dict[str, str] | None = None
    """What the environment has of the server; None: its address."""

    def __call__(self, *arguments: str, **environ: str) -> Said:
        """Run a command."""
        known = {"SNAPSHOTD_SERVER": self.service.address} if self.known is None else self.known
        try:
            code = main(arguments, {"SNAPSHOTD_ACTOR": "ann", **known, **environ})
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = self.captured.readouterr()
        return Said(code, out, err)


class Terminal(io.StringIO):
    """A person at a terminal, and what it types."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Have a person type something."""
    monkeypatch.setattr("sys.stdin", Terminal(text))
