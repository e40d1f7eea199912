"""Spans as a collector gets them: one operation is one trace, from the call to the command on its host."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collected
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from demo.programs import PASSWORD
from snapshotd.domain.ids import OperationName
from snapshotd.monitoring import otlp
from snapshotd.monitoring.traces import read_traceparent, span_of, trace_of
from tests.integration.watched_daemon import VM, watched

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@dataclass
class Collector(TraceServiceServicer):
    """A collector that keeps what it gets."""

    port: int = 0
    spans: list[Span] = field(default_factory=list)
    whole: list[bytes] = field(default_factory=list)

    def Export(  # noqa: N802  (the service's name)
        self, request: collected.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> collected.ExportTraceServiceResponse:
        """Take spans."""
        self.whole.append(request.SerializeToString())
        self.spans += [span for r in request.resource_spans for s in r.scope_spans for span in s.spans]
        return collected.ExportTraceServiceResponse()

    def of(self, operation: str) -> list[Span]:
        """Return the spans that name an operation."""
        return [span for span in self.spans if attributes(span).get("snapshotd.operation") == operation]


def attributes(span: Span) -> dict[str, str]:
    """Return what a span tells."""
    return {a.key: a.value.string_value for a in span.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(made, server)  # type: ignore[no-untyped-call]
    made.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield made
    server.stop(None).wait()


@pytest.mark.slow
async def test_one_operation_is_one_trace_from_the_call_to_the_command_on_its_host(
    tmp_path: Path, collector: Collector
) -> None:
    async with watched(tmp_path, metrics__listen="", traces__endpoint=f"http://127.0.0.1:{collector.port}") as daemon:
        named = await daemon.snapshot("first", traceparent=CALLER)
        plain = await daemon.snapshot("second")
    caller = read_traceparent(CALLER)
    assert caller is not None
    for name, trace, above in ((named.name, caller.trace_id, caller.span_id), (plain.name, None, None)):
        operation = OperationName(name)
        spans = {span.name: span for span in collector.of(operation)}
        assert {int.from_bytes(span.trace_id) for span in spans.values()} == {trace or trace_of(operation)}
        chain = ["EFFECT checkpoint_create", "checkpoint_create", "CREATE_SNAPSHOT"]
        chain.append("snapshotd.api.v1.SnapshotService/CreateSnapshot")
        for below, parent in pairwise(chain):
            assert spans[below].parent_span_id == spans[parent].span_id, below
        assert spans[chain[-1]].parent_span_id == (above.to_bytes(8) if above else b"")
        assert int.from_bytes(spans["CREATE_SNAPSHOT"].span_id) == span_of(operation, "operation")
        for span in spans.values():
            assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
            assert span.status.code == 0
        told = attributes(spans["EFFECT checkpoint_create"])
        assert (told["snapshotd.host"], told["snapshotd.vm"], told["snapshotd.outcome"]) == ("hv01", VM, "DONE")
    waits = [span for span in collector.spans if span.name.endswith("/WaitOperation")]
    assert len(waits) == 2
    assert not [request for request in collector.whole if PASSWORD.encode() in request or b"second" in request]


@pytest.mark.slow
async def test_a_collector_that_is_away_holds_up_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(otlp, "_EXPORT_S", 0.3)
    monkeypatch.setattr(otlp, "_CLOSE_S", 0.05)
    with socket.socket() as mute:  # it takes connections, and never answers
        mute.bind(("127.0.0.1", 0))
        mute.listen(8)
        async with watched(tmp_path, traces__endpoint=f"http://127.0.0.1:{mute.getsockname()[1]}") as daemon:
            await daemon.snapshot("first")
    assert "the last spans could not be sent in time" in caplog.text
