"""Traces: which spans there are, and how they join. Where they go to is decided elsewhere: here, nowhere.

    a call ──► the operation that it asked for ──► its steps ──► commands to the host (in the executor)

The ids of an operation's spans are made from its name, and so is that of its trace, unless the caller's context
(`traceparent`, W3C) names one. So spans made before and after a restart join, though nothing of them is kept. If a
caller has named a trace, what ends after a restart is in the operation's own; `snapshotd.operation` joins the two.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from snapshotd.domain.events import Envelope, OperationRequested
from snapshotd.domain.ids import OperationName
from snapshotd.monitoring.lives import News

Attributes: TypeAlias = Mapping[str, str]
OPERATION: Final = "snapshotd.operation"
"""The attribute that every span of an operation has."""
TRACEPARENT: Final = "traceparent"
"""The name of the metadata with a caller's context."""
_FORM: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SAMPLED: Final = 1


@dataclass(frozen=True, slots=True)
class SpanRef:
    """A span, by its ids."""

    trace_id: int
    span_id: int
    sampled: bool = True
    """Whether its trace is kept: the caller decides on its own."""

    @property
    def traceparent(self) -> str:
        """The ids as they are handed on (W3C Trace Context, version 00)."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.sampled):02x}"


def read_traceparent(text: str) -> SpanRef | None:
    """Return the span that a context names; None: it names none, or is no context."""
    found = _FORM.fullmatch(text)
    if found is None or text.startswith("ff"):
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    return SpanRef(trace_id, span_id, bool(flags & _SAMPLED)) if trace_id and span_id else None


def trace_of(operation: OperationName) -> int:
    """Return the id of an operation's own trace."""
    return int.from_bytes(hashlib.sha256(f"trace of {operation}".encode()).digest()[:16]) or 1


def span_of(operation: OperationName, what: str) -> int:
    """Return the id of a span of an operation: `call`, `operation`, or `step <n>`."""
    return int.from_bytes(hashlib.sha256(f"{what} of {operation}".encode()).digest()[:8]) or 1


@dataclass(slots=True, kw_only=True)
class Call:
    """A gRPC call that is under way."""

    method: str
    began_ns: int
    """Unix time."""
    caller: SpanRef | None
    """The span that the caller has named."""
    operations: list[OperationName] = field(default_factory=list)
    """What it has asked for so far."""

    @property
    def span(self) -> SpanRef | None:
        """Its span, as far as its ids are given: by the caller's trace, or by the operation that it asked for."""
        if not self.operations:
            return None
        first = self.operations[0]
        trace_id = self.caller.trace_id if self.caller is not None else trace_of(first)
        return SpanRef(trace_id, span_of(first, "call"), self.caller is None or self.caller.sampled)


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
"""The call that this task works for."""


class Traces:
    """Where spans go. This one lets them go nowhere, and costs nothing."""

    enabled: bool = False
    """Whether anybody takes the spans."""

    def requested(self, envelopes: Iterable[Envelope]) -> None:
        """Note the operations that the call of this task has asked for."""
        call = current_call.get() if self.enabled else None
        if call is not None:
            for envelope in envelopes:
                if isinstance(envelope.event, OperationRequested):
                    call.operations.append(envelope.event.name)
                    self.begun(envelope.event.name, call)

    def begun(self, operation: OperationName, call: Call) -> None:
        """Note which call an operation comes from."""

    def of_step(self, operation: OperationName, step: int) -> str:
        """Return the context of a step, for the executor; empty: there is none."""
        del operation, step
        return ""

    def call_ended(self, call: Call, code: str) -> None:
        """Make the span of a call."""

    def take(self, news: News) -> None:
        """Make the span of an operation or a step that has ended."""

    def command_ended(self, traceparent: str, name: str, attributes: Attributes, began_ns: int, error: str) -> None:
        """Make the span of a command to a host.

        Args:
            traceparent: the context that came with the command; empty: it belongs to no operation.
            name: what it does.
            attributes: what it is about.
            began_ns: when it came, in Unix time.
            error: what went wrong; empty: nothing.
        """

    def close(self) -> None:
        """Send what has not been sent, if that does not take long."""


NO_TRACES: Final = Traces()
