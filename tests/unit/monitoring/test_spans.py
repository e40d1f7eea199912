"""Spans of one operation join, whoever makes them: the daemon before a restart, the one after it, an executor."""

from __future__ import annotations

from datetime import timedelta

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from snapshotd.domain.events import Envelope, OperationRequested
from snapshotd.domain.ids import ActionName
from snapshotd.domain.lifecycle import OperationState, StepState
from snapshotd.monitoring.lives import Life, OperationEnded, StepEnded
from snapshotd.monitoring.otlp import SentTraces
from snapshotd.monitoring.traces import Call, current_call, read_traceparent
from tests.fakes import START
from tests.unit.projections.histories import history

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Program:
    """A program that makes spans, and ends."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.traces = SentTraces(self._exporter, "snapshotd", "1")

    def spans(self) -> dict[str, ReadableSpan]:
        """End it; return what it has sent, by name."""
        self.traces.close()
        return {span.name: span for span in self._exporter.get_finished_spans()}


def requested() -> tuple[Envelope, Life]:
    """Return the request of an operation, and its life."""
    envelope = next(e for e in history(1, 1).envelopes if isinstance(e.event, OperationRequested))
    event = envelope.event
    assert isinstance(event, OperationRequested)
    life = Life(name=event.name, kind=event.kind, host_id=event.host_id, actor="ann", requested_at=START, asked=True)
    return envelope, life


def parents(*spans: ReadableSpan) -> list[int | None]:
    """Return the ids of the spans above."""
    return [span.parent.span_id if span.parent is not None else None for span in spans]


def ids(*spans: ReadableSpan) -> list[int]:
    """Return the ids of spans."""
    return [span.context.span_id for span in spans]


@pytest.mark.parametrize("told", ["", CALLER])
def test_before_and_after_a_restart_they_are_of_one_trace_and_join_but_for_a_trace_of_the_callers(told: str) -> None:
    envelope, life = requested()
    before, after, executor = Program(), Program(), Program()
    call = Call(method="/s.S/Create", began_ns=1, caller=read_traceparent(told))
    current_call.set(call)
    before.traces.requested([envelope])
    step = before.traces.of_step(life.name, 1)
    before.traces.call_ended(call, "OK")
    executor.traces.command_ended(step, "EFFECT x", {"snapshotd.operation": life.name}, 1, "CONNECTION_LOST")
    late = START + timedelta(seconds=9)
    after.traces.take(
        StepEnded(
            life=life, step=1, action=ActionName("x"), outcome=StepState.DONE, reason="", begun_at=START, ended_at=late
        )
    )
    after.traces.take(OperationEnded(life=life, outcome=OperationState.FAILED, reason="HOST_ERROR", ended_at=late))
    spans = before.spans() | executor.spans() | after.spans()
    command, stepped, operation, called = (spans[n] for n in ("EFFECT x", "x", life.kind, "s.S/Create"))
    assert parents(command, stepped, operation) == ids(stepped, operation, called)
    assert {span.attributes["snapshotd.operation"] for span in spans.values() if span.attributes} == {life.name}
    if told:
        assert parents(called) == [0x00F067AA0BA902B7]
        assert command.context.trace_id == called.context.trace_id == 0x4BF92F3577B34DA6A3CE929D0E0E4736
        assert stepped.context.trace_id == operation.context.trace_id != called.context.trace_id
    else:
        assert parents(called) == [None]
        assert len({span.context.trace_id for span in spans.values()}) == 1
    assert [span.status.description for span in (command, operation, stepped)] == [
        "CONNECTION_LOST",
        "HOST_ERROR",
        None,
    ]
    assert (operation.start_time, operation.end_time) == (START.timestamp() * 1e9, late.timestamp() * 1e9)


def test_an_operation_that_follows_another_has_no_call_above_it_and_one_that_is_not_sampled_no_span() -> None:
    envelope, life = requested()
    program = Program()
    life.asked = False
    program.traces.take(OperationEnded(life=life, outcome=OperationState.SUCCEEDED, reason="", ended_at=START))
    (span,) = program.spans().values()
    assert parents(span) == [None]
    program = Program()
    call = Call(method="/s.S/Create", began_ns=1, caller=read_traceparent(CALLER[:-1] + "0"))
    current_call.set(call)
    program.traces.requested([envelope])
    program.traces.call_ended(call, "OK")
    assert program.traces.of_step(life.name, 1).endswith("-00")
    program.traces.command_ended(program.traces.of_step(life.name, 1), "EFFECT x", {}, 1, "")
    life.asked = True
    program.traces.take(OperationEnded(life=life, outcome=OperationState.SUCCEEDED, reason="", ended_at=START))
    assert program.spans() == {}
