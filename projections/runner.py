"""The runner: follows the log and hands each event to each projection, rows and position committed together.

    log ──read_all──► batch ──► one transaction: handlers, rows, positions ──► wake who waits

A projection whose handler fails keeps what came before, and stops there until the next start: it never skips. The
others go on. What is no event's fault (a full or failing disk, a log that cannot be read, a defect of this module)
stops none: all are BEHIND, which is told, and the batch is taken in when it can be. It polls; the log's wake-up is a
hint.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Final, ParamSpec

from projections.projection import Projection
from projections.reading import MADE_AGAIN, path_of
from projections.rows import Rows
from projections.watches import Watches
from snapshotd.domain.errors import DEFECT, SnapshotdError, told
from snapshotd.domain.events import Envelope
from snapshotd.domain.state import replace
from snapshotd.domain.storage_errors import ViewBehind, ViewStopped
from snapshotd.logs import about
from snapshotd.ports.event_log import EventLog
from snapshotd.ports.trouble import Trouble, still
from snapshotd.ports.views import ProjectionProgress, ProjectionState
from snapshotd.store.errors import Fault, detail_of, fault_of
from snapshotd.store.insert import Insert

P = ParamSpec("P")
_log = logging.getLogger(__name__)

_BATCH: Final = 500
"""Events that are read and committed together at first."""
_MOST: Final = 8_000
_LEAST: Final = 50
"""The most and the least, when that turned out to be little or much work."""
_TAKES_S: Final = 0.2
"""How much processor time a batch is to take."""
_POLL_S: Final = 1.0
_LINGERS_S: Final = 0.025
"""How long events may wait for others, while nobody reads."""
_REACHED_S: Final = 10.0
"""How long a read waits for the views."""
_LOCKED: Final = Fault.PASSES.value


_POSITIONS: Final = Insert("positions", 2, "ON CONFLICT DO UPDATE SET position = excluded.position")


class ViewsUnwritable(OSError):
    """views.db cannot be written just now. Nothing was taken in, and no event is to blame for it."""

    def __init__(self, fault: Fault, detail: str) -> None:
        cure = f" {MADE_AGAIN}." if fault is Fault.DAMAGED else ""
        super().__init__(f"Cannot write the views: {detail}.{cure}")
        self.reason = fault.value


class Runner:
    """Brings projections up to the log and keeps them there.

    Args:
        log: what is followed.
        connection: views.db, to write.
        projections: which get the events.
    """

    def __init__(self, log: EventLog, connection: sqlite3.Connection, projections: Sequence[Projection]) -> None:
        self._log = log
        self._projections = tuple(projections)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="projections")
        self._moved = asyncio.Event()
        self.trouble: Trouble | None = None
        """What keeps all projections from going on just now."""
        self.watches = Watches()
        """Woken when a batch is in the views."""
        self._size = _BATCH
        self._took_s = 0.0
        """Of processor time, by the last batch."""
        self.damage: asyncio.Queue[str] = asyncio.Queue()
        """What was found to be wrong inside the file, by looking, reading or writing."""
        self.caught_up = asyncio.Event()
        """Set once all that there was has been taken in."""
        self._wanted = asyncio.Event()
        """Set while a read waits for what has not been taken in."""
        self.turn = asyncio.Lock()
        """Held while a batch is taken in."""
        self.begin(connection)

    def begin(self, connection: sqlite3.Connection) -> None:
        """Go on with a file, from where that is. No batch is being taken in just now."""
        self._connection = connection
        self._path = path_of(connection)
        self._indexed = False
        self._rows = {p.name: Rows(connection) for p in self._projections}
        self._note(dict(connection.execute("SELECT projection, position FROM positions")))

    def forget(self) -> None:
        """Have reads wait from now on, since what is in the file is not to be believed. `begin` follows."""
        self._note({})

    def _note(self, known: Mapping[str, int]) -> None:
        """Note which positions the projections have."""
        self._progress = {
            p.name: ProjectionProgress(name=p.name, position=known.get(p.name, 0), state=ProjectionState.CATCHING_UP)
            for p in self._projections
        }

    def progress(self) -> tuple[ProjectionProgress, ...]:
        """Return how far each projection has come."""
        return tuple(self._progress.values())

    async def run(self) -> None:
        """Follow the log until cancelled. Whatever goes wrong is told, and tried again."""
        while True:
            try:
                took = await self.catch_up()
                if not took:
                    await self._log.wait_past(self._slowest(), _POLL_S)
                if not took or self._log.head_position() - self._slowest() < self._size:
                    await self._linger()
            except Exception as error:  # noqa: BLE001  (it shows in the log, in health and in GetStatus)
                self._fall_behind(error)
                await asyncio.sleep(_POLL_S)

    async def _linger(self) -> None:
        """Let events come together, unless a read waits for them: three batches cost three times what one costs."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGERS_S):
                await self._wanted.wait()

    async def catch_up(self) -> bool:
        """Take one batch into the projections that need it; False: there was none.

        Raises ViewsUnwritable, and what reading the log raises.
        """
        async with self.turn:
            self._wanted.clear()
            size = self._size
            batch = await self._log.read_all(self._slowest(), size)
            if not self._indexed and len(batch) < size:
                await self._in_thread(self._index)
            if not batch:
                self._show(self._following(), ProjectionState.FOLLOWING)
                self.caught_up.set()
            else:
                await self._in_thread(self._take, batch)
            self._go_on()
            self.watches.wake({envelope.stream for envelope in batch})
            if len(batch) == size:
                self._size = _size_after(size, self._took_s)
            return bool(batch)

    async def _in_thread(self, work: Callable[P, None], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Run something in the runner's thread. A cancelled task lets it finish its transaction: `close` waits."""
        await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *args, **kwargs))

    def _fall_behind(self, error: Exception) -> None:
        """Note what keeps the projections from going on."""
        known = self.trouble
        reason, message = _told(error)
        if reason == Fault.DAMAGED.value:
            self.damage.put_nowait(message)
        self.trouble = still(known, Trouble(reason=reason, message=message, since=datetime.now(UTC)))
        if known is None or known.reason != reason:
            defect = error if reason == DEFECT else None
            _log.error("the views stay behind: %s", message, exc_info=defect, extra=about(reason=reason))
        self._show(self._following(), ProjectionState.BEHIND, message, self.trouble.since)
        self._wake()

    def _go_on(self) -> None:
        """Note that the projections have gone on, and wake who waits for them."""
        if self.trouble is not None:
            _log.info("the views follow the log again")
            self.trouble = None
        behind = [p for p in self._following() if p.state is ProjectionState.BEHIND]
        self._show(behind, ProjectionState.CATCHING_UP)
        self._wake()

    def _show(
        self,
        projections: Iterable[ProjectionProgress],
        state: ProjectionState,
        failure: str = "",
        since: datetime | None = None,
    ) -> None:
        """Note the state of projections, where they have come to."""
        self._progress |= {p.name: replace(p, state=state, failure=failure, stopped_at=since) for p in projections}

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def reached(self, position: int, names: Collection[str] | None = None) -> None:
        """Wait until projections hold the log up to a position. Raises ViewStopped, ViewBehind.

        If they cannot go on just now, that is told at once, unless the file is only locked.

        Args:
            position: of the log.
            names: of the projections; None: all. The others delay nobody, and fail nobody.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(_REACHED_S):
                while self._behind(position, names) is not None:
                    if self.trouble is not None and self.trouble.reason != _LOCKED:
                        break
                    moved = self._moved
                    self._wanted.set()
                    await moved.wait()
        behind = self._behind(position, names)
        if behind is not None:
            why = self.trouble.message if self.trouble is not None else ""
            raise ViewBehind(behind.name, behind.position, position, why)

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
        full = len(batch) == self._size
        began_s = time.thread_time() if full else 0.0
        try:
            self._take_together(following, batch)
            if full:
                self._took_s = time.thread_time() - began_s
        except ViewsUnwritable:
            raise
        except Exception:  # noqa: BLE001  (the event and the projection that fail are found below, and logged)
            for projection in following:
                self._take_singly(projection, batch)

    def _take_together(self, projections: Sequence[Projection], batch: Sequence[Envelope]) -> None:
        reached: list[ProjectionProgress] = []
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._connection.execute("BEGIN")
            for projection in projections:
                rows, progress = self._rows[projection.name], self._progress[projection.name]
                new = [envelope for envelope in batch if envelope.position > progress.position]
                for envelope in projection.wanted(new):
                    projection.handle(rows, envelope)
                rows.flush()
                if new:
                    if projection.finish is not None:
                        projection.finish(self._connection, new[-1].position)
                    reached.append(replace(progress, position=new[-1].position))
            _POSITIONS(self._connection, [(progress.name, progress.position) for progress in reached])
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:  # a full disk may have ended it already
                with suppress(sqlite3.Error):  # else before the next batch
                    self._connection.execute("ROLLBACK")
            for projection in projections:
                self._rows[projection.name].forget()
            if isinstance(error, sqlite3.Error):
                fault = fault_of(error, self._path)
                if fault is not Fault.DEFECT:
                    raise ViewsUnwritable(fault, detail_of(fault, error, self._path)) from error
            raise
        self._progress |= {progress.name: progress for progress in reached}

    def _index(self) -> None:
        """Make the indexes, if they are not there: at once when the rows are there, and not row by row.

        Raises ViewsUnwritable.
        """
        try:
            self._connection.execute("BEGIN")
            for projection in self._projections:
                for index in (index for table in projection.tables for index in table.indexes):
                    self._connection.execute(index.replace("CREATE INDEX", "CREATE INDEX IF NOT EXISTS", 1))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            fault = fault_of(error, self._path)
            raise ViewsUnwritable(fault, detail_of(fault, error, self._path)) from error
        self._indexed = True

    def _take_singly(self, projection: Projection, batch: Sequence[Envelope]) -> None:
        for envelope in batch:
            progress = self._progress[projection.name]
            try:
                self._take_together([projection], [envelope])
            except ViewsUnwritable:
                raise
            except Exception as error:  # noqa: BLE001  (whatever it is, the projection stops and says so)
                text = "projection %s stops after position %d"
                _log.exception(text, projection.name, progress.position, extra=about(view=projection.name))
                failure = f"{type(error).__name__}: {error}"
                self._show([progress], ProjectionState.STOPPED, failure, datetime.now(UTC))
                return


def _size_after(size: int, took_s: float) -> int:
    """Return how many events the next batch is to have, after one of a size that took so much time.

    So neither large events take up much memory and time, nor many small ones as many transactions.
    """
    if took_s < _TAKES_S / 2:
        return min(2 * size, _MOST)
    return max(size // 2, _LEAST) if took_s > 2 * _TAKES_S else size


def _told(error: Exception) -> tuple[str, str]:
    """Return the reason and the words of what keeps the projections from going on."""
    match error:
        case ViewsUnwritable():
            return error.reason, str(error)
        case SnapshotdError():
            return error.reason, f"Cannot read the event log into the views: {error}"
        case _:
            reason, text = told(error)
            return reason, f"The views cannot follow the log: {text}"
