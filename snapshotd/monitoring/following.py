"""Follows the log for those who watch: tells them of what has ended.

It looks a few times a second, rather than being woken by each append: nobody waits for it, and so it costs no append
anything but a few microseconds later on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from snapshotd.domain.operation import Operation
from snapshotd.monitoring.lives import Lives, News
from snapshotd.ports.event_log import EventLog

_PAUSE_S: Final = 0.25
"""How often it looks: often enough that what is new is still in memory (store/tail.py)."""
_BATCH: Final = 250
"""Events that are taken in at a time."""


class Follower:
    """Follows the log from where it stands at the start.

    Args:
        log: what is followed.
        listeners: are told.
    """

    def __init__(self, log: EventLog, listeners: Sequence[Callable[[News], None]]) -> None:
        self._log = log
        self._listeners = tuple(listeners)
        self._lives = Lives()
        self._position = log.head_position()

    def begin(self, active: Iterable[Operation]) -> None:
        """Begin at the log's end, with the operations that have not ended there."""
        self._position = self._log.head_position()
        self._lives.begin(active)

    async def run(self) -> None:
        """Follow the log until cancelled."""
        while True:
            await asyncio.sleep(_PAUSE_S)
            await self.catch_up()

    async def catch_up(self) -> None:
        """Take in all that the log holds by now."""
        while self._log.head_position() > self._position:
            batch = await self._log.read_all(self._position, _BATCH)
            for envelope in batch:
                self._position = envelope.position
                if (news := self._lives.take(envelope)) is not None:
                    for tell in self._listeners:
                        tell(news)
            await asyncio.sleep(0)  # what comes from memory comes without a turn of the loop
