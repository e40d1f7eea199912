"""Sends spans by OTLP over gRPC. Needs the extra `traces`; nothing else imports this module, or OpenTelemetry's.

A thread of the library's sends them in batches. If the collector is slow or away, spans are dropped, and nobody waits.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime
from typing import Final

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from snapshotd.domain.ids import OperationName
from snapshotd.domain.lifecycle import OperationState, StepState
from snapshotd.monitoring.lives import News, OperationEnded, StepEnded
from snapshotd.monitoring.traces import (
    OPERATION,
    Attributes,
    Call,
    SpanRef,
    Traces,
    read_traceparent,
    span_of,
    trace_of,
)

_log = logging.getLogger(__name__)

_EXPORT_S: Final = 3
"""How long sending a batch may take, with everything that is tried again."""
_CLOSE_S: Final = 5.0
"""How long sending the last spans may take."""
_REMEMBERED: Final = 20_000
"""Of how many operations it is kept which call they come from: those that have not ended, but for a restart."""
_NO_PROXY: Final = (("grpc.enable_http_proxy", 0),)


class _GivenIds(IdGenerator):
    """Gives out the ids that were set, once, and random ones else. Used by one thread."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.span: SpanRef | None = None

    def generate_span_id(self) -> int:
        """Return the id of the next span."""
        given, self.span = self.span, None
        return given.span_id if given is not None else self._random.generate_span_id()

    def generate_trace_id(self) -> int:
        """Return the id of the next trace; the id of its span is asked for afterwards."""
        return self.span.trace_id if self.span is not None else self._random.generate_trace_id()


def exporter(endpoint: str) -> SpanExporter:
    """Return what sends spans to a collector at http://host:port, or https://..."""
    options: tuple[tuple[str, str], ...] = _NO_PROXY  # type: ignore[assignment]  # gRPC's options have numbers, too
    return OTLPSpanExporter(
        endpoint,
        insecure=endpoint.startswith("http://"),
        timeout=_EXPORT_S,
        channel_options=options,  # type: ignore[arg-type]  # its type allows for one option only
    )


class SentTraces(Traces):
    """Makes spans, and has them sent.

    Args:
        sent: sends them.
        service: the name of this program: snapshotd, or snapshotd-executor.
        version: its release.
    """

    enabled = True

    def __init__(self, sent: SpanExporter, service: str, version: str) -> None:
        self._ids = _GivenIds()
        resource = Resource({"service.name": service, "service.version": version})
        sampler = ParentBased(ALWAYS_ON)
        self._provider = TracerProvider(sampler, resource, shutdown_on_exit=False, id_generator=self._ids)
        self._provider.add_span_processor(BatchSpanProcessor(sent))
        self._tracer = self._provider.get_tracer("snapshotd", version)
        self._calls: dict[OperationName, SpanRef] = {}
        """The spans of the calls that operations come from."""

    def begun(self, operation: OperationName, call: Call) -> None:
        """Note which call an operation comes from."""
        assert call.span is not None, operation
        self._calls[operation] = call.span
        while len(self._calls) > _REMEMBERED:
            del self._calls[next(iter(self._calls))]

    def of_step(self, operation: OperationName, step: int) -> str:
        """Return the context of a step."""
        return self._span(operation, f"step {step}").traceparent

    def _span(self, operation: OperationName, what: str) -> SpanRef:
        """Return a span of an operation, in its trace."""
        call = self._calls.get(operation)
        if call is None:
            return SpanRef(trace_of(operation), span_of(operation, what))
        return SpanRef(call.trace_id, span_of(operation, what), call.sampled)

    def call_ended(self, call: Call, code: str) -> None:
        """Make the span of a call."""
        service, _, method = call.method.removeprefix("/").rpartition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method, "rpc.grpc.status": code}
        if call.operations:
            attributes[OPERATION] = call.operations[0]
        error = "" if code == "OK" else code
        self._make(
            f"{service}/{method}", call.span, call.caller, SpanKind.SERVER, attributes, call.began_ns, error=error
        )

    def take(self, news: News) -> None:
        """Make the span of an operation or a step that has ended."""
        match news:
            case OperationEnded(life=life):
                own = self._span(life.name, "operation")
                # The call's span is told by the operation's name alone: so the two join after a restart, too.
                call = self._span(life.name, "call") if life.asked else None
                attributes = _attributes(news) | {"snapshotd.actor": life.actor}
                failed = news.reason if news.outcome is OperationState.FAILED else ""
                begin, end = _ns(life.requested_at), _ns(news.ended_at)
                self._make(life.kind, own, call, SpanKind.INTERNAL, attributes, begin, end, failed)
                self._calls.pop(life.name, None)
            case StepEnded(life=life) if news.begun_at is not None:
                own = self._span(life.name, f"step {news.step}")
                parent = self._span(life.name, "operation")
                attributes = _attributes(news) | {"snapshotd.step": str(news.step)}
                failed = "" if news.outcome in (StepState.DONE, StepState.SKIPPED) else news.reason
                begin, end = _ns(news.begun_at), _ns(news.ended_at)
                self._make(news.action, own, parent, SpanKind.INTERNAL, attributes, begin, end, failed)
            case _:
                pass

    def command_ended(self, traceparent: str, name: str, attributes: Attributes, began_ns: int, error: str) -> None:
        """Make the span of a command to a host."""
        self._make(name, None, read_traceparent(traceparent), SpanKind.CLIENT, attributes, began_ns, error=error)

    def _make(  # noqa: PLR0917  (all that a span has)
        self,
        name: str,
        own: SpanRef | None,
        parent: SpanRef | None,
        kind: SpanKind,
        attributes: Attributes,
        began_ns: int,
        ended_ns: int | None = None,
        error: str = "",
    ) -> None:
        """Make a span of what has ended: with ids of its own, or random ones; `ended_ns`: None: now."""
        context = None
        if parent is not None:
            flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
            above = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
            context = set_span_in_context(NonRecordingSpan(above))
        self._ids.span = own
        span = self._tracer.start_span(name, context, kind, attributes, start_time=began_ns)
        if error:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(time.time_ns() if ended_ns is None else max(began_ns, ended_ns))

    def close(self) -> None:
        """Send what has not been sent. A collector that is away does not hold up the end for long."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(_CLOSE_S)
        if closing.is_alive():
            _log.warning("the last spans could not be sent in time")


def _attributes(ended: OperationEnded | StepEnded) -> dict[str, str]:
    """Return what a span tells of what has ended: names only, and no text of a person."""
    why = {"snapshotd.reason": ended.reason} if ended.reason else {}
    about = {OPERATION: ended.life.name, "snapshotd.kind": ended.life.kind, "snapshotd.host": ended.life.host_id}
    return about | {"snapshotd.outcome": ended.outcome.name} | why


def _ns(time_: datetime) -> int:
    """Return a time in nanoseconds of Unix time."""
    return round(time_.timestamp() * 1_000_000) * 1000
