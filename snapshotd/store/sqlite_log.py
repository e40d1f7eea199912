"""The event log on SQLite: one owner process, one writer thread that commits the appends of many callers together.

    append (many tasks) ──► queue ──► writer thread: BEGIN IMMEDIATE, a SAVEPOINT per append, COMMIT (fsync) ──► futures

A conflict rolls back its own savepoint and no other. No append is answered before its commit has returned. A failed
commit is ambiguous, so its events are looked for in the log before the answer. What an error means for the log is in
one table (store/errors.py). What passes is tried again for a while, then the batch is refused. If the disk is full, it
is refused at once. In both cases the log is in trouble until it takes as much again. After any other error the log is
broken: nobody knows what the disk holds (a failed fsync is never tried again), so the process has to end.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, NoReturn, Self, TypeAlias

from eventsourcing.persistence import PersistenceError
from eventsourcing.sqlite import SQLiteConnection

from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.events import Envelope, NewEvent
from snapshotd.domain.ids import StreamId
from snapshotd.domain.state import replace
from snapshotd.domain.storage_errors import AppendUncertain, LogUnavailable, StreamChanged
from snapshotd.ports.trouble import Trouble
from snapshotd.store.condition import Condition
from snapshotd.store.errors import Fault, StorageUnusable, UnreadableEvent, fault_of, surely_not_committed
from snapshotd.store.log_file import check_file, take_lock
from snapshotd.store.recorder import EventLogApplication, StoredEnvelope, envelopes

_BATCH: Final = 256
"""The most appends that are committed together."""
_PATIENCE_S: Final = 5.0
"""How long an append is tried again while something is in its way that passes."""
_PAUSE_S: Final = 0.05
"""Between two tries."""
_PROBE_S: Final = 1.0
"""How often a log that was in trouble, and has nothing to append, is tried."""

_Outcome: TypeAlias = tuple[Envelope, ...] | SnapshotdError


@dataclass(frozen=True, slots=True, eq=False)
class _Append:
    stream: StreamId
    expected: int
    envelopes: tuple[Envelope, ...]
    rows: tuple[StoredEnvelope, ...]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[tuple[Envelope, ...]]
    asked_s: float
    """When, by the monotonic clock."""

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return sum(len(row.state) + sum(map(len, row.columns)) for row in self.rows)

    def answer(self, outcome: _Outcome) -> None:
        """Hand the outcome to the caller, on the caller's event loop."""

        def settle() -> None:
            if self.future.done():
                return  # the caller was cancelled; committed events stay
            if isinstance(outcome, SnapshotdError):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)

        _call(self.loop, settle)


class SqliteEventLog:
    """Implements ports.event_log.EventLog. Open it once per process, close it when done."""

    def __init__(self, path: Path) -> None:
        """Open or make the log.

        Raises LogInUse if another process owns it, LogForeign if the file is not ours, is corrupt or is of another
        version, and StorageUnusable if it cannot be opened.
        """
        self._path = path
        self._lock = take_lock(path)
        try:
            check_file(path)
            self._application = EventLogApplication(str(path))
            self.installation_id = self._application.recorder.installation_id(str(uuid.uuid4()))
            """Id of the installation, made with the log and kept in it. It owns the journals on the hosts."""
            self._connection = self._writer_connection()
            newest = self._application.recorder.one(self._connection, "MAX(position)", "1 = ?", (1,))
        except (sqlite3.Error, PersistenceError) as error:
            os.close(self._lock)
            raise StorageUnusable(str(path), str(error)) from error
        except BaseException:
            os.close(self._lock)
            raise
        self._head = int(newest[0] or 0)
        self._condition = Condition(path, self._wake)
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._waiters_lock = threading.Lock()
        self._queue: queue.SimpleQueue[_Append | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="event-log-writer", daemon=True)
        self._writer.start()

    def __enter__(self) -> Self:
        """Return the open log."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the log."""
        self.close()

    async def append(self, stream: StreamId, expected_version: int, events: Sequence[NewEvent]) -> tuple[Envelope, ...]:
        """Append all events or none, and return them when they are durable.

        Raises StreamChanged, LogUnavailable and AppendUncertain (see ports/event_log.py).
        """
        loop = asyncio.get_running_loop()
        # Encoded here and not by the writer: an event that cannot be encoded is a bug of this caller only.
        wrapped = tuple(envelopes(stream, expected_version, events))
        rows = tuple(self._application.mapper.to_stored_event(e) for e in wrapped)
        asked = _Append(stream, expected_version, wrapped, rows, loop, loop.create_future(), time.monotonic())
        self._queue.put(asked)
        return await asked.future

    async def read_stream(
        self, stream: StreamId, after_version: int = 0, limit: int | None = None
    ) -> tuple[Envelope, ...]:
        """Return a stream's envelopes after a version, in order, at most `limit`."""
        where, most = "originator_id = ? AND originator_version > ?", -1 if limit is None else limit
        return await asyncio.to_thread(self._read, where, (stream, after_version), "originator_version", most)

    async def read_all(self, after_position: int, limit: int) -> tuple[Envelope, ...]:
        """Return up to `limit` envelopes after a position, in order."""
        return await asyncio.to_thread(self._read, "position > ?", (after_position,), "position", limit)

    async def read_at(self, positions: Sequence[int]) -> tuple[Envelope, ...]:
        """Return the envelopes at these positions, in the order asked. Raises KeyError where there is none."""
        # As one value, because the number of values in a statement is limited.
        where, wanted = "position IN (SELECT value FROM json_each(?))", json.dumps(list(positions))
        found = {e.position: e for e in await asyncio.to_thread(self._read, where, (wanted,), "position", -1)}
        return tuple(found[position] for position in positions)

    def head_position(self) -> int:
        """Return the position of the newest durable event."""
        return self._head

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

    def close(self) -> None:
        """Commit the waiting appends, close the file, and free it for another process."""
        self._queue.put(None)
        self._writer.join()
        self._application.recorder.datastore.pool.put_connection(self._connection)
        self._application.close()
        os.close(self._lock)

    def _read(self, where: str, values: Sequence[object], order: str, limit: int) -> tuple[Envelope, ...]:
        """Return what matches. Raises LogUnavailable if it cannot be read."""
        try:
            rows = self._application.recorder.rows(where, values, order, limit)
        except (sqlite3.Error, PersistenceError) as error:
            raise LogUnavailable(self._condition.unread(error)) from error
        return tuple(self._application.mapper.to_envelope(row) for row in rows)

    def _writer_connection(self) -> SQLiteConnection:
        connection = self._application.recorder.datastore.pool.get_connection(is_writer=True)
        _pragma(connection, "synchronous = FULL")
        _pragma(connection, "busy_timeout = 0")  # `_commit` waits, for whatever passes
        found = _pragma(connection, "synchronous"), _pragma(connection, "journal_mode")
        assert found == (2, "wal"), found
        return connection

    def _write(self) -> None:
        """Run the writer thread: take the waiting appends, commit them together, answer. Only `close` ends it."""
        ended = False
        while not ended:
            batch = []
            try:
                taken = self._queue.get(timeout=_PROBE_S if self._condition.trouble is not None else None)
            except queue.Empty:
                self._probe()
                continue
            while taken is not None:
                batch.append(taken)
                if len(batch) >= _BATCH or self._queue.empty():
                    break
                taken = self._queue.get()
            ended = taken is None
            outcomes = self._commit(batch) if batch else []
            for asked, outcome in zip(batch, outcomes, strict=True):
                asked.answer(outcome)
            self._wake()

    def _wake(self) -> None:
        with self._waiters_lock:
            for loop, event in self._waiters:
                _call(loop, event.set)

    def _commit(self, batch: Sequence[_Append]) -> list[_Outcome]:
        """Commit a batch; again while something is in the way that passes, for as long as its first one can wait."""
        until_s = batch[0].asked_s + _PATIENCE_S
        while self._condition.broken is None:
            outcomes: list[_Outcome] = []
            committing = False
            try:
                self._execute("BEGIN IMMEDIATE")
                outcomes.extend(self._append_one(asked) for asked in batch)
                committing = True
                self._execute("COMMIT")
            except Exception as error:  # noqa: BLE001  (what is none of SQLite's is a defect: it breaks the log, too)
                self._roll_back()
                fault = fault_of(error, self._path)
                if fault is Fault.PASSES and time.monotonic() < until_s:
                    time.sleep(_PAUSE_S)  # in this thread of its own
                    continue
                detail = self._condition.failed(fault, error, max(asked.size for asked in batch))
                if not committing:
                    return [LogUnavailable(detail) for _ in batch]
                certain = surely_not_committed(error)
                outcomes = [
                    self._read_back(a, o, detail, certain=certain) for a, o in zip(batch, outcomes, strict=True)
                ]
            else:
                self._condition.passed()
            positions = [e.position for o in outcomes if isinstance(o, tuple) for e in o]
            self._head = max([self._head, *positions])
            return outcomes
        return [LogUnavailable(self._condition.broken.detail()) for _ in batch]

    def _probe(self) -> None:
        """Find out whether the log takes as much as it has refused. If it does, the trouble is over."""
        try:
            self._execute("BEGIN IMMEDIATE")
            self._execute(
                "INSERT OR REPLACE INTO room (one, filler) VALUES (1, zeroblob(?))", self._condition.refused_bytes
            )
            self._execute("COMMIT")
            self._execute("DELETE FROM room")
        except Exception as error:  # noqa: BLE001  (as in `_commit`)
            self._roll_back()
            self._condition.failed(fault_of(error, self._path), error)
        else:
            self._condition.passed()

    def _append_one(self, asked: _Append) -> _Outcome:
        recorder = self._application.recorder
        version = recorder.version(self._connection, asked.stream)
        if version != asked.expected:
            try:
                return self._appended_before(asked) or StreamChanged(asked.stream, asked.expected)
            except UnreadableEvent as error:
                return error
        self._execute("SAVEPOINT one")
        try:
            positions = recorder.insert(self._connection, asked.rows)
        except sqlite3.IntegrityError:
            self._execute("ROLLBACK TO one")
            self._execute("RELEASE one")
            return StreamChanged(asked.stream, asked.expected)
        self._execute("RELEASE one")
        return tuple(replace(e, position=p) for e, p in zip(asked.envelopes, positions, strict=True))

    def _appended_before(self, asked: _Append) -> tuple[Envelope, ...] | None:
        """Return the events if exactly these are in the log already: the append is a retry of one that succeeded."""
        rows = self._application.recorder.rows(
            "originator_id = ? AND originator_version > ?",
            (asked.stream, asked.expected),
            "originator_version",
            len(asked.envelopes),
        )
        ours = [row["event_id"] for row in rows] == [e.event_id for e in asked.envelopes]
        return tuple(self._application.mapper.to_envelope(row) for row in rows) if ours else None

    def _read_back(self, asked: _Append, outcome: _Outcome, detail: str, *, certain: bool) -> _Outcome:
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

    def _execute(self, statement: str, *values: object) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)

    def _roll_back(self) -> None:
        try:
            self._connection.rollback()
        except sqlite3.Error as error:
            self._condition.broke(error)


def _call(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    """Call something on an event loop, unless that has ended meanwhile."""
    try:
        loop.call_soon_threadsafe(what)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _pragma(connection: SQLiteConnection, pragma: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {pragma}")
        row = cursor.fetchone()
        return row[0] if row else None
