"""The event log, as the core sees it: an append-only sequence of envelopes in streams.

Beside the events, the log keeps a row of each stream, so that no stream has to be folded to be found. The row is
written in the transaction of the append. What else it keeps of a stream (a memento, the last comparison) is a cache.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

from snapshotd.domain.events import Envelope, NewEvent
from snapshotd.domain.ids import StreamId
from snapshotd.ports.trouble import Trouble


@dataclass(frozen=True, slots=True)
class Standing:
    """What an append changes of its stream's row, besides version and position."""

    place: str | None = None
    """What the stream belongs to now; empty: to nothing. None: as before."""
    added: frozenset[str] = frozenset()
    """Marks that it has from now on: it is found by each."""
    removed: frozenset[str] = frozenset()
    """Marks that it has no more."""


UNCHANGED = Standing()
"""Leaves place and marks as they are."""


@dataclass(frozen=True, slots=True)
class StreamRow:
    """What the log knows of a stream without its events."""

    stream: StreamId
    version: int
    """Of its newest event."""
    place: str
    digest: str
    """Of what it was last compared with (`note_compared`); empty: of nothing."""
    compared_version: int
    """The stream's version at that comparison."""


@dataclass(frozen=True, slots=True)
class Memento:
    """A fold of a stream at one version, as text: a cache, which is used only by who has written it."""

    version: int
    text: str


APPEND_BOUNDS_S: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 5.0)
"""The bounds by which appends are counted."""


@dataclass(frozen=True, slots=True)
class LogWork:
    """What a log has appended since it was opened."""

    events: int
    within: tuple[int, ...]
    """Appends by what they took: up to the first of APPEND_BOUNDS_S, from there to the second, ...; then the others."""
    seconds: float
    """What all of them took."""


class EventLog(Protocol):
    """Durable, ordered, with optimistic concurrency."""

    async def append(
        self, stream: StreamId, expected_version: int, events: Sequence[NewEvent], standing: Standing = UNCHANGED
    ) -> tuple[Envelope, ...]:
        """Append all events or none, as versions `expected_version + 1` and following. Returns when they are durable.

        The stream's row changes with them. Raises StreamChanged if the stream is past `expected_version`,
        LogUnavailable if nothing was written (within seconds: what is in the way is not waited for without bound), and
        AppendUncertain if the log itself cannot tell. After an ambiguous commit the implementation reads the stream
        back before it answers: an append that went through is never reported as failed.
        """
        ...

    async def read_stream(
        self, stream: StreamId, after_version: int = 0, limit: int | None = None
    ) -> tuple[Envelope, ...]:
        """Return the stream's envelopes after a version, in order, at most `limit`; empty for an unknown stream."""
        ...

    async def read_streams(self, after: Mapping[StreamId, int]) -> tuple[Envelope, ...]:
        """Return the envelopes of streams, each after its version; those of one stream are in order."""
        ...

    async def read_all(self, after_position: int, limit: int) -> tuple[Envelope, ...]:
        """Return up to `limit` envelopes after a position of the log, in order."""
        ...

    async def read_at(self, positions: Sequence[int]) -> tuple[Envelope, ...]:
        """Return the envelopes at these positions, in the order asked. Raises KeyError where there is none."""
        ...

    async def rows(self, streams: Collection[StreamId]) -> tuple[StreamRow, ...]:
        """Return the rows of streams; those that are not on record are left out."""
        ...

    async def rows_at(self, place: str) -> tuple[StreamRow, ...]:
        """Return the rows of the streams that belong to something, by their names."""
        ...

    async def rows_from(self, prefix: str, after: StreamId | None, limit: int) -> tuple[StreamRow, ...]:
        """Return the rows of streams whose name begins so, by their names: the next ones after a name."""
        ...

    async def marked(self, marks: Collection[str]) -> tuple[tuple[str, StreamRow], ...]:
        """Return each of these marks with the row of each stream that has it, by mark and name."""
        ...

    async def mementos(self, streams: Collection[StreamId], shape: str) -> Mapping[StreamId, Memento]:
        """Return the mementos that there are of streams, of one shape."""
        ...

    def keep(self, stream: StreamId, shape: str, memento: Memento) -> None:
        """Keep a memento, in place of the last one, some time after this. `shape`: what must be alike to read it."""
        ...

    def note_compared(self, digests: Mapping[StreamId, tuple[int, str]]) -> None:
        """Keep with which digest streams were compared, each at a version, some time after this."""
        ...

    async def standings_shape(self) -> str:
        """Return how places and marks were made, as `restand` was told; empty: nobody has said."""
        ...

    async def restand(self, standings: AsyncIterator[Mapping[StreamId, Standing]], shape: str) -> None:
        """Make all places and marks anew. What fails or is interrupted has to be begun again: then no shape is known.

        Nobody may append meanwhile. Raises LogUnavailable.
        """
        ...

    def head_position(self) -> int:
        """Return the position of the newest durable event; 0 for an empty log."""
        ...

    async def wait_past(self, position: int, timeout_s: float) -> None:
        """Return when the head is past `position`, or after `timeout_s`. A hint: callers read again either way."""
        ...

    async def refuse_unwritable(self) -> None:
        """Write something and take it away, as an append is written. Raises LogUnavailable."""
        ...

    async def verify(self) -> None:
        """Read all that there is. If it is damaged or incomplete, the log breaks (`until_broken`)."""
        ...

    def work(self) -> LogWork:
        """Return what was appended since the log was opened."""
        ...

    def trouble(self) -> Trouble | None:
        """Return why nothing can be recorded just now; None: nothing is known to be in the way."""
        ...

    async def until_broken(self) -> NoReturn:
        """Wait until the log cannot be trusted any more, and raise why. The process has to end then."""
        ...
