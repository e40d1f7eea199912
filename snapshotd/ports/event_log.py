"""The event log, as the core sees it: an append-only sequence of envelopes in streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, Protocol

from snapshotd.domain.events import Envelope, NewEvent
from snapshotd.domain.ids import StreamId
from snapshotd.ports.trouble import Trouble


class EventLog(Protocol):
    """Durable, ordered, with optimistic concurrency."""

    async def append(self, stream: StreamId, expected_version: int, events: Sequence[NewEvent]) -> tuple[Envelope, ...]:
        """Append all events or none, as versions `expected_version + 1` and following. Returns when they are durable.

        Raises StreamChanged if the stream is past `expected_version`, LogUnavailable if nothing was written (within
        seconds: what is in the way is not waited for without bound), and AppendUncertain if the log itself cannot tell.
        After an ambiguous commit the implementation reads the stream back before it answers: an append that went
        through is never reported as failed.
        """
        ...

    async def read_stream(
        self, stream: StreamId, after_version: int = 0, limit: int | None = None
    ) -> tuple[Envelope, ...]:
        """Return the stream's envelopes after a version, in order, at most `limit`; empty for an unknown stream."""
        ...

    async def read_all(self, after_position: int, limit: int) -> tuple[Envelope, ...]:
        """Return up to `limit` envelopes after a position of the log, in order."""
        ...

    async def read_at(self, positions: Sequence[int]) -> tuple[Envelope, ...]:
        """Return the envelopes at these positions, in the order asked. Raises KeyError where there is none."""
        ...

    def head_position(self) -> int:
        """Return the position of the newest durable event; 0 for an empty log."""
        ...

    async def wait_past(self, position: int, timeout_s: float) -> None:
        """Return when the head is past `position`, or after `timeout_s`. A hint: callers read again either way."""
        ...

    def trouble(self) -> Trouble | None:
        """Return why nothing can be recorded just now; None: nothing is known to be in the way."""
        ...

    async def until_broken(self) -> NoReturn:
        """Wait until the log cannot be trusted any more, and raise why. The process has to end then."""
        ...
