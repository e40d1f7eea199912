"""Who waits for what the views take in, by stream: an event wakes those who wait for its stream, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from snapshotd.domain.ids import StreamId


class StreamWatch:
    """Notices what is taken in of one stream."""

    def __init__(self) -> None:
        self._moved = asyncio.Event()

    def wake(self) -> None:
        """Note that something was taken in."""
        self._moved.set()

    async def changed(self, timeout_s: float) -> None:
        """Return when something was taken in since the watch began or since this returned last, or after a time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._moved.wait()
        self._moved.clear()


class Watches:
    """All watches."""

    def __init__(self) -> None:
        self._by_stream: dict[StreamId, set[StreamWatch]] = {}

    @contextmanager
    def of(self, stream: StreamId) -> Iterator[StreamWatch]:
        """Watch a stream."""
        watch = StreamWatch()
        self._by_stream.setdefault(stream, set()).add(watch)
        try:
            yield watch
        finally:
            self._by_stream[stream].discard(watch)
            if not self._by_stream[stream]:
                del self._by_stream[stream]

    def wake(self, streams: Iterable[StreamId]) -> None:
        """Wake who watches these streams."""
        for stream in streams:
            for watch in self._by_stream.get(stream, ()):
                watch.wake()
