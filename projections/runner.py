"""The runner: follows the log and hands each event to each projection, rows and position committed together.

    log ──read_all──► batch ──► one transaction: handlers, rows, positions ──► wake who waits

A projection whose handler fails keeps what came before, and stops there until the next start: it never skips. The
others go on. A disk that is full or fails stops nothing: the batch is taken in when it can be. It polls; the log's
wake-up is a hint.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from projections.projection import Projection
from projections.store import Rows
from snapshotd.domain.errors import ViewBehind, ViewStopped
from snapshotd.domain.events import Envelope
from snapshotd.ports.event_log import EventLog
from snapshotd.ports.views import ProjectionProgress, ProjectionState

_log = logging.getLogger(__name__)

_BATCH: Final = 500
"""Events committed together at most."""
_POLL_S: Final = 1.0
_REACHED_S: Final = 10.0
"""How long a read waits for the views."""
_PRIMARY: Final = 0xFF
"""The part of SQLite's extended result codes that is the plain one."""
_PASSING: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY}
"""What SQLite reports of the disk, or of another user of the file. No event is to blame for it."""


class ViewsUnwritable(OSError):
    """views.db cannot be written at present. Nothing was taken in."""


class Runner:
    """Brings projections up to the log and keeps them there.

    Args:
        log: what is followed.
        connection: views.db, to write.
        projections: which get the events.
    """

    def __init__(self, log: EventLog, connection: sqlite3.Connection, projections: Sequence[Projection]) -> None:
        self._log = log
        self._connection = connection
        self._projections = tuple(projections)
        self._rows = {p.name: Rows(connection) for p in projections}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="projections")
        self._moved = asyncio.Event()
        known = dict(connection.execute("SELECT projection, position FROM positions"))
        self._progress = {
            p.name: ProjectionProgress(name=p.name, position=known.get(p.name, 0), state=ProjectionState.CATCHING_UP)
            for p in projections
        }

    def progress(self) -> tuple[ProjectionProgress, ...]:
        """Return how far each projection has come."""
        return tuple(self._progress.values())

    async def run(self) -> None:
        """Follow the log until cancelled."""
        while True:
            try:
                more = await self.catch_up()
            except ViewsUnwritable as error:
                _log.warning("the views stay behind: %s", error)
                await asyncio.sleep(_POLL_S)
                continue
            if not more:
                await self._log.wait_past(self._slowest(), _POLL_S)

    async def catch_up(self) -> bool:
        """Take one batch into the projections that need it; False: there was none. Raises ViewsUnwritable."""
        after = self._slowest()
        batch = await self._log.read_all(after, _BATCH)
        if not batch:
            for progress in self._following():
                self._progress[progress.name] = replace(progress, state=ProjectionState.FOLLOWING)
        else:
            # A cancelled task lets the thread finish its transaction: `close` waits for it.
            await asyncio.get_running_loop().run_in_executor(self._thread, self._take, batch)
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        return bool(batch)

    async def reached(self, position: int, names: Collection[str] | None = None) -> None:
        """Wait until projections hold the log up to a position. Raises ViewStopped, ViewBehind.

        Args:
            position: of the log.
            names: of the projections; None: all. The others delay nobody, and fail nobody.
        """
        try:
            async with asyncio.timeout(_REACHED_S):
                while (behind := self._behind(position, names)) is not None:
                    moved = self._moved
                    await moved.wait()
        except TimeoutError:
            behind = self._behind(position, names)
            if behind is not None:
                raise ViewBehind(behind.name, behind.position, position) from None

    def close(self) -> None:
        """Wait for a transaction under way. The caller closes the connection."""
        self._thread.shutdown()

    def _slowest(self) -> int:
        """Return the position after which some projection needs events. Those that have stopped need none."""
        following = self._following()
        return min((p.position for p in following), default=self._log.head_position())

    def _following(self) -> list[ProjectionProgress]:
        return [p for p in self._progress.values() if p.state is not ProjectionState.STOPPED]

    def _behind(self, position: int, names: Collection[str] | None) -> ProjectionProgress | None:
        """Return a projection that is before a position, or None. Raises ViewStopped for one that has stopped there."""
        for progress in self._progress.values():
            if progress.position < position and (names is None or progress.name in names):
                if progress.state is ProjectionState.STOPPED:
                    raise ViewStopped(progress.name, progress.position, progress.failure)
                return progress
        return None

    def _take(self, batch: Sequence[Envelope]) -> None:
        """Hand a batch to the projections that need it. Runs in the runner's thread.

        First all of them in one transaction. If an event cannot be taken in: each by itself, event by event.
        Raises ViewsUnwritable.
        """
        following = [p for p in self._projections if self._progress[p.name].state is not ProjectionState.STOPPED]
        try:
            self._take_together(following, batch)
        except ViewsUnwritable:
            raise
        except Exception:  # noqa: BLE001  (the event and the projection that fail are found below, and logged)
            for projection in following:
                self._take_singly(projection, batch)

    def _take_together(self, projections: Sequence[Projection], batch: Sequence[Envelope]) -> None:
        reached: list[ProjectionProgress] = []
        try:
            self._connection.execute("BEGIN")
            for projection in projections:
                rows, progress = self._rows[projection.name], self._progress[projection.name]
                wanted = [envelope for envelope in batch if envelope.position > progress.position]
                for envelope in wanted:
                    projection.handle(rows, envelope)
                rows.flush()
                if wanted:
                    values = (projection.name, wanted[-1].position)
                    self._connection.execute("INSERT OR REPLACE INTO positions VALUES (?, ?)", values)
                    reached.append(replace(progress, position=wanted[-1].position))
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:  # a full disk may have ended it already
                self._connection.execute("ROLLBACK")
            for projection in projections:
                self._rows[projection.name].forget()
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & _PRIMARY in _PASSING:
                raise ViewsUnwritable(f"Cannot write views.db: {error}") from error
            raise
        self._progress |= {progress.name: progress for progress in reached}

    def _take_singly(self, projection: Projection, batch: Sequence[Envelope]) -> None:
        for envelope in batch:
            progress = self._progress[projection.name]
            try:
                self._take_together([projection], [envelope])
            except ViewsUnwritable:
                raise
            except Exception as error:  # noqa: BLE001  (whatever it is, the projection stops and says so)
                _log.exception("projection %s stops after position %d", projection.name, progress.position)
                self._progress[projection.name] = replace(
                    progress,
                    state=ProjectionState.STOPPED,
                    failure=f"{type(error).__name__}: {error}",
                    stopped_at=datetime.now(UTC),
                )
                return
