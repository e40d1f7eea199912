"""The event log on SQLite: one owner process, one writer thread that commits the appends of many callers together.

    append (many tasks) ──► queue ──► writer thread: BEGIN IMMEDIATE, all rows of all appends, COMMIT ──► futures

Only this thread writes, so it knows the version of each stream that it has written, and gives out the positions. A
conflict is found before anything is inserted, and takes no other append along. No append is answered before its commit
has returned. A failed commit is ambiguous, so its events are looked for in the log before the answer. What an error
means for the log is in one table (store/errors.py). What passes is tried again for a while, then the batch is refused.
If the disk is full, it is refused at once. In both cases the log is in trouble until it takes as much again. After any
other error the log is broken: nobody knows what the disk holds (a failed fsync is never tried again), so the process
has to end.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self

from eventsourcing.persistence import PersistenceError
from eventsourcing.sqlite import SQLiteConnection

from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.events import Envelope, NewEvent
from snapshotd.domain.ids import StreamId
from snapshotd.domain.storage_errors import AppendUncertain, LogIncomplete, LogUnavailable, StreamChanged
from snapshotd.ports.event_log import UNCHANGED, Memento, Standing
from snapshotd.ports.trouble import Trouble
from snapshotd.store import streams
from snapshotd.store.appending import Append, Batch, Keeping, Outcome, call_each, settle
from snapshotd.store.codec import refuse_unknown
from snapshotd.store.condition import Condition
from snapshotd.store.errors import Fault, StorageUnusable, UnreadableEvent, fault_of, surely_not_committed
from snapshotd.store.insert import Statement
from snapshotd.store.inserting import Inserting
from snapshotd.store.log_file import LogFile
from snapshotd.store.reading import LogReading
from snapshotd.store.recorder import EventLogApplication, row_of
from snapshotd.store.verification import look_through

_BATCH: Final = 256
"""The most appends that are committed together."""
_MOMENTS: Final = 3
_MOMENT_S: Final = 0.0001
"""How long, and how often at most, a batch waits for those who came with the last one."""
_PATIENCE_S: Final = 5.0
"""How long an append is tried again while something is in its way that passes."""
_PAUSE_S: Final = 0.05
"""Between two tries."""
_PROBE_S: Final = 1.0
"""How often a log that was in trouble, and has nothing to append, is tried."""
_VERIFY_AGAIN_S: Final = 60.0
"""When the file is read through again, if something was in the way that passes."""
_FILL: Final = "INSERT OR REPLACE INTO room (one, filler) VALUES (1, zeroblob(?))"
_EMPTY: Final = "DELETE FROM room"
_GONE: Final = "the event log was removed, or another file has taken its place"


class SqliteEventLog(LogReading):
    """Implements ports.event_log.EventLog. Open it once per process, close it when done."""

    def __init__(self, path: Path) -> None:
        """Open or make the log.

        Raises LogInUse if another process owns it, LogForeign if the file is not ours, is corrupt or is of another
        version, LogIncomplete, UnreadableEvent if it holds what this release does not know, and StorageUnusable if it
        cannot be opened.
        """
        self._path = path
        self._file = LogFile(path)
        try:
            self._file.check()
            self._application = EventLogApplication(str(path))
            self.installation_id = self._application.recorder.installation_id(str(uuid.uuid4()))
            """Id of the installation, made with the log and kept in it. It owns the journals on the hosts."""
            self._connection = self._writer_connection()
            newest = self._application.recorder.select(f"SELECT MAX(position) FROM {streams.EVENTS}")  # noqa: S608  (a constant)
            known = self._application.recorder.select(streams.MADE_OF, (streams.TOPIC,))
            topics = {str(topic) for (topic,) in known}
            refuse_unknown(topics)
            self._file.remember()
        except (sqlite3.Error, PersistenceError) as error:
            self._file.release()
            raise StorageUnusable(str(path), str(error)) from error
        except BaseException:
            self._file.release()
            raise
        head = int(newest[0][0] or 0)
        self._inserting = Inserting(head, topics, self._conflict)
        super().__init__(self._application, Condition(path, self._wake), head)
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._waiters_lock = threading.Lock()
        self._queue: queue.SimpleQueue[Append | Keeping | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="event-log-writer", daemon=True)
        self._writer.start()

    def __enter__(self) -> Self:
        """Return the open log."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the log."""
        self.close()

    # --- for callers --------------------------------------------------------------------------------------------

    async def append(
        self, stream: StreamId, expected_version: int, events: Sequence[NewEvent], standing: Standing = UNCHANGED
    ) -> tuple[Envelope, ...]:
        """Append all events or none, and return them when they are durable.

        Raises StreamChanged, LogUnavailable and AppendUncertain (see ports/event_log.py).
        """
        loop = asyncio.get_running_loop()
        # Encoded here and not by the writer: an event that cannot be encoded is a bug of this caller only.
        rows = tuple(row_of(stream, version, new) for version, new in enumerate(events, expected_version + 1))
        future: asyncio.Future[tuple[Envelope, ...]] = loop.create_future()
        asked_s = time.monotonic()
        self._queue.put(Append(stream, expected_version, tuple(events), rows, standing, loop, future, asked_s))
        return await future

    def keep(self, stream: StreamId, shape: str, memento: Memento) -> None:
        """Keep a memento, in place of the last one, some time after this."""
        self._queue.put(Keeping([streams.memento(stream, shape, memento)]))

    def note_compared(self, digests: Mapping[StreamId, tuple[int, str]]) -> None:
        """Keep with which digest streams were compared, each at a version, some time after this."""
        if digests:
            self._queue.put(Keeping(list(streams.compared(digests))))

    async def restand(self, standings: AsyncIterator[Mapping[StreamId, Standing]], shape: str) -> None:
        """Make all places and marks anew. Raises LogUnavailable."""
        await self._written(list(streams.cleared()))
        async for some in standings:
            await self._written(list(streams.restood(some)))
        await self._written([streams.made_of(streams.STANDINGS, shape)])

    async def refuse_unwritable(self) -> None:
        """Write something and take it away, in one transaction by the writer thread. Raises LogUnavailable."""
        if detail := self._condition.detail:  # it is tried every second, with as much as was refused
            raise LogUnavailable(detail)
        await self._written([(_FILL, (0,)), (_EMPTY, ())])

    async def _written(self, statements: Sequence[Statement]) -> None:
        """Return when statements are durable. Raises LogUnavailable."""
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()

        def done(error: SnapshotdError | None) -> None:
            call_each([(loop, partial(settle, written, error))])

        self._queue.put(Keeping(statements, done))
        await written

    async def wait_past(self, position: int, timeout_s: float) -> None:
        """Return when the head is past `position`, or after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._until(lambda: self._head > position)
        except TimeoutError:
            return

    def trouble(self) -> Trouble | None:
        """Return why nothing can be recorded just now, or None."""
        return self._condition.trouble

    async def until_broken(self) -> NoReturn:
        """Wait until the log cannot be trusted any more. Raises LogBroken then."""
        await self._until(lambda: self._condition.broken is not None)
        assert self._condition.broken is not None
        raise self._condition.broken

    async def _until(self, true: Callable[[], bool]) -> None:
        event = asyncio.Event()
        waiter = (asyncio.get_running_loop(), event)
        with self._waiters_lock:
            self._waiters.add(waiter)
        try:
            while not true():
                event.clear()
                await event.wait()
        finally:
            with self._waiters_lock:
                self._waiters.discard(waiter)

    async def verify(self) -> None:
        """Read the whole file, and break the log if it is damaged or lacks an event. Takes seconds for a large one."""
        while True:
            try:
                await look_through(self._path)
            except LogIncomplete as error:
                self._condition.broke(error)
            except sqlite3.Error as error:
                self._condition.unread(error)
                if fault_of(error, self._path) is Fault.PASSES:
                    await asyncio.sleep(_VERIFY_AGAIN_S)
                    continue
            return

    def close(self) -> None:
        """Commit the waiting appends, close the file, and free it for another process."""
        self._queue.put(None)
        self._writer.join()
        self._application.recorder.datastore.pool.put_connection(self._connection)
        self._application.close()
        self._file.remember(closed=True)
        self._file.release()

    # --- the writer ---------------------------------------------------------------------------------------------

    def _writer_connection(self) -> SQLiteConnection:
        connection = self._application.recorder.datastore.pool.get_connection(is_writer=True)
        _pragma(connection, "synchronous = FULL")
        _pragma(connection, "busy_timeout = 0")  # `_commit` waits, for whatever passes
        found = _pragma(connection, "synchronous"), _pragma(connection, "journal_mode")
        assert found == (2, "wal"), found
        return connection

    def _write(self) -> None:
        """Run the writer thread: take the waiting appends, commit them together, answer. Only `close` ends it."""
        batch = Batch()
        while not batch.last:
            try:
                taken = self._queue.get(timeout=_PROBE_S if self._condition.trouble is not None else None)
            except queue.Empty:
                self._probe()
                continue
            batch = self._gathered(taken, expected=len(batch.appends))
            try:
                outcomes, failed = self._commit(batch)
            except Exception as error:  # noqa: BLE001  (else nobody would be answered any more, and nobody told)
                self._condition.broke(error)
                outcomes, failed = self._uncertain(batch), LogUnavailable(str(error))
            for kept in batch.kept:
                kept.done(failed)
            self._answer(batch, outcomes)

    def _uncertain(self, batch: Batch) -> list[Outcome]:
        """Return the outcomes of appends to a log that has just broken."""
        assert self._condition.broken is not None
        return [AppendUncertain(self._condition.detail) for _ in batch.appends]

    def _answer(self, batch: Batch, outcomes: Sequence[Outcome]) -> None:
        """Answer the appends, then show the events to those who follow the log.

        In this order, and on the loop of who appended: what decides knows of an event before any view tells it.
        """
        durable = batch.durable(outcomes)
        self._times.note(batch.appends, outcomes, time.monotonic())
        self._inserting.reached(max((envelope.position for envelope, _ in durable), default=0))
        calls = batch.settled(outcomes)
        calls += [(loop, partial(self._show, durable)) for loop in dict.fromkeys(loop for loop, _ in calls)]
        with self._waiters_lock:
            taken = call_each([*calls, *((loop, event.set) for loop, event in self._waiters)])
        if not taken:
            self._show(durable)

    def _show(self, durable: Sequence[tuple[Envelope, int]]) -> None:
        """Show durable events, each with its size, to who follows the log. What is shown already is left out."""
        newer = [pair for pair in durable if pair[0].position > self._head]
        self._tail.append(newer)
        self._head = max([self._head, *(envelope.position for envelope, _ in newer)])

    def _gathered(self, taken: Append | Keeping | None, expected: int) -> Batch:
        """Return what is committed together: what waits, and what will in a moment.

        Those who were answered together mostly come again together, one after another. To sync the disk for each few of
        them would cost more than the moment.

        Args:
            taken: the first of it; None ends the log.
            expected: how many appends there were in the last batch. One caller alone never waits for others.
        """
        batch, moments = Batch(), _MOMENTS if expected > 1 else 0
        while True:
            batch.add(taken)
            if batch.last or len(batch.appends) >= _BATCH:
                return batch
            while self._queue.empty() and moments and len(batch.appends) < expected:
                moments -= 1
                time.sleep(_MOMENT_S)
            if self._queue.empty():
                return batch
            taken = self._queue.get()

    def _wake(self) -> None:
        with self._waiters_lock:
            call_each([(loop, event.set) for loop, event in self._waiters])

    def _commit(self, batch: Batch) -> tuple[list[Outcome], LogUnavailable | None]:
        """Commit a batch; again while something is in the way that passes, for as long as its first one can wait.

        Return the outcomes of its appends, and why the rest of it was not written.
        """
        until_s = min((asked.asked_s for asked in batch.appends), default=time.monotonic()) + _PATIENCE_S
        while self._condition.broken is None:
            outcomes: list[Outcome] = []
            refused: LogUnavailable | None = None
            committing = False
            try:
                self._execute("BEGIN IMMEDIATE")
                outcomes = self._inserting.insert(self._connection, batch)
                committing = True
                self._execute("COMMIT")
            except Exception as error:  # noqa: BLE001  (what is none of SQLite's is a defect: it breaks the log, too)
                self._roll_back()
                self._inserting.rolled_back()
                fault = fault_of(error, self._path)
                if fault is Fault.PASSES and time.monotonic() < until_s:
                    time.sleep(_PAUSE_S)  # in this thread of its own
                    continue
                detail = self._condition.failed(fault, error, max((asked.size for asked in batch.appends), default=0))
                if not committing:
                    return [LogUnavailable(detail) for _ in batch.appends], LogUnavailable(detail)
                refused = LogUnavailable(detail)
                certain = surely_not_committed(error)
                outcomes = [
                    self._read_back(a, o, detail, certain=certain) for a, o in zip(batch.appends, outcomes, strict=True)
                ]
            else:
                self._condition.passed()
                self._inserting.committed()
                if not self._file.remember():
                    self._condition.broke(FileNotFoundError("it was removed, or another file has taken its place"))
                    return self._uncertain(batch), LogUnavailable(_GONE)
            return outcomes, refused
        return [LogUnavailable(self._condition.detail) for _ in batch.appends], LogUnavailable(self._condition.detail)

    def _conflict(self, asked: Append) -> Outcome:
        """Return the outcome of an append that expects another version than there is."""
        try:
            return self._appended_before(asked) or StreamChanged(asked.stream, asked.expected)
        except UnreadableEvent as error:
            return error

    def _appended_before(self, asked: Append) -> tuple[Envelope, ...] | None:
        """Return the events if exactly these are in the log already: the append is a retry of one that succeeded."""
        where, order = "originator_id = ? AND originator_version > ?", "originator_version"
        values = (asked.stream, asked.expected, len(asked.events))
        rows = self._application.recorder.select(streams.events(where, order), values)
        ours = [row["event_id"] for row in rows] == [new.event_id for new in asked.events]
        return self._envelopes(rows) if ours else None

    def _read_back(self, asked: Append, outcome: Outcome, detail: str, *, certain: bool) -> Outcome:
        """Return the outcome of an append whose commit failed, by what the log holds of its events.

        Args:
            asked: the append.
            outcome: what it would have been.
            detail: why the commit failed.
            certain: whether what the log does not show is not in it. After a failed fsync, for one, the frames may be
                in the file all the same: SQLite shows them only after a restart.
        """
        if isinstance(outcome, SnapshotdError):
            return outcome
        try:
            recorded = self._appended_before(asked)
        except (sqlite3.Error, PersistenceError, UnreadableEvent) as unread:
            return AppendUncertain(f"{detail}; reading it back: {unread}")
        if recorded is not None:
            return recorded
        return LogUnavailable(detail) if certain else AppendUncertain(detail)

    def _probe(self) -> None:
        """Find out whether the log takes as much as it has refused. If it does, the trouble is over."""
        try:
            self._execute("BEGIN IMMEDIATE")
            self._execute(_FILL, self._condition.refused_bytes)
            self._execute("COMMIT")
            self._execute(_EMPTY)
        except Exception as error:  # noqa: BLE001  (as in `_commit`)
            self._roll_back()
            self._condition.failed(fault_of(error, self._path), error)
        else:
            self._condition.passed()

    def _execute(self, statement: str, *values: object) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)

    def _roll_back(self) -> None:
        try:
            self._connection.rollback()
        except sqlite3.Error as error:
            self._condition.broke(error)


def _pragma(connection: SQLiteConnection, pragma: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {pragma}")
        row = cursor.fetchone()
        return row[0] if row else None
