"""Mementos: folds that the log keeps as text, so that a long stream is cheap to load. They are only a cache.

Only who folds alike reads one: `shape` changes with the state's fields and with the code that folds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Generic, Protocol, TypeVar

from snapshotd.domain.ids import StreamId
from snapshotd.ports import plain
from snapshotd.ports.event_log import EventLog, Memento

EVERY: Final = 200
"""How many events a stream grows from one memento to the next."""


class Folded(Protocol):
    """A fold of a stream."""

    @property
    def version(self) -> int:
        """The version that it is folded up to."""


FoldT = TypeVar("FoldT", bound=Folded)


class Mementos(Generic[FoldT]):
    """The mementos of one kind of aggregate.

    Args:
        log: keeps them.
        cls: the aggregate's class.
        shape: what must be alike to read one; empty: none is kept, and none is read.
    """

    def __init__(self, log: EventLog, cls: type[FoldT], shape: str) -> None:
        self._log = log
        self._cls = cls
        self._shape = shape
        self._kept: dict[StreamId, int] = {}
        """The versions of the last ones, of streams in memory."""

    async def of(self, streams: Collection[StreamId]) -> Mapping[StreamId, FoldT]:
        """Return the folds that there are of streams. One that cannot be read is none. Raises LogUnavailable."""
        if not self._shape:
            return {}
        folds: dict[StreamId, FoldT] = {}
        for stream, memento in (await self._log.mementos(streams, self._shape)).items():
            fold = plain.read_own(self._cls, memento.text)
            if fold is not None and fold.version == memento.version:
                folds[stream], self._kept[stream] = fold, memento.version
        return folds

    def keep(self, stream: StreamId, fold: FoldT) -> None:
        """Keep a fold, if its stream has grown enough since the last one."""
        if self._shape and fold.version - self._kept.get(stream, 0) >= EVERY:
            self._kept[stream] = fold.version
            self._log.keep(stream, self._shape, Memento(fold.version, plain.encode_text(fold)))

    def forget(self, stream: StreamId) -> None:
        """Forget which version was kept of a stream that is in memory no longer."""
        self._kept.pop(stream, None)
