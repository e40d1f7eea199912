"""The event log on SQLite: one owner process, one writer thread that commits the appends of many callers together.

    append (many tasks) ──► queue ──► writer thread: BEGIN IMMEDIATE, a SAVEPOINT per append, COMMIT (fsync) ──► futures

A conflict rolls back its own savepoint and no other. No append is answered before its commit has returned. A failed
commit is ambiguous, so its events are looked for in the log before the answer. If the disk is full, the batch is
refused and the log goes on. After any other write error the log stops, because nobody knows what the disk holds (a
failed fsync is never tried again).
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import queue
import sqlite3
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from eventsourcing.persistence import PersistenceError
from eventsourcing.sqlite import SQLiteConnection

from snapshotd.domain.errors import AppendUncertain, LogUnavailable, SnapshotdError, StreamChanged
from snapshotd.domain.events import Envelope, NewEvent
from snapshotd.domain.ids import StreamId
from snapshotd.store.errors import LogForeign, LogInUse, StorageUnusable, UnreadableEvent
from snapshotd.store.recorder import EventLogApplication, StoredEnvelope, envelopes

APPLICATION_ID = 0x534E4150
"""The application_id of our SQLite files: "SNAP"."""
SCHEMA = 1
"""The user_version of our SQLite files."""
_BATCH = 256
"""The most appends that are committed together."""

_Outcome: TypeAlias = tuple[Envelope, ...] | SnapshotdError


@dataclass(frozen=True, slots=True, eq=False)
class _Append:
    stream: StreamId
    expected: int
    envelopes: tuple[Envelope, ...]
    rows: tuple[StoredEnvelope, ...]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[tuple[Envelope, ...]]

    def answer(self, outcome: _Outcome) -> None:
        """Hand the outcome to the caller, on the caller's event loop."""

        def settle() -> None:
            if self.future.done():
                return  # the caller was cancelled; committed events stay
            if isinstance(outcome, SnapshotdError):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)

        self.loop.call_soon_threadsafe(settle)


class SqliteEventLog:
    """Implements ports.event_log.EventLog. Open it once per process, close it when done."""

    def __init__(self, path: Path) -> None:
        """Open or make the log.

        Raises LogInUse if another process owns it, LogForeign if the file is not ours, is corrupt or is of another
        version, and StorageUnusable if it cannot be opened.
        """
        self._path = path
        self._lock = _take_lock(path)
        try:
            _check_file(path)
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
        self._broken: str | None = None
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
        asked = _Append(stream, expected_version, wrapped, rows, loop, loop.create_future())
        self._queue.put(asked)
        return await asked.future

    async def read_stream(self, stream: StreamId, after_version: int = 0) -> tuple[Envelope, ...]:
        """Return a stream's envelopes after a version, in order."""
        where = "originator_id = ? AND originator_version > ?"
        return await asyncio.to_thread(self._read, where, (stream, after_version), "originator_version", -1)

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
        event = asyncio.Event()
        waiter = (asyncio.get_running_loop(), event)
        with self._waiters_lock:
            self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                while self._head <= position:
                    event.clear()
                    await event.wait()
        except TimeoutError:
            return
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
        rows = self._application.recorder.rows(where, values, order, limit)
        return tuple(self._application.mapper.to_envelope(row) for row in rows)

    def _writer_connection(self) -> SQLiteConnection:
        connection = self._application.recorder.datastore.pool.get_connection(is_writer=True)
        _pragma(connection, "synchronous = FULL")
        found = _pragma(connection, "synchronous"), _pragma(connection, "journal_mode")
        assert found == (2, "wal"), found
        return connection

    def _write(self) -> None:
        """Run the writer thread: take the waiting appends, commit them together, answer."""
        ended = False
        while not ended:
            batch = []
            taken = self._queue.get()
            while taken is not None:
                batch.append(taken)
                if len(batch) >= _BATCH or self._queue.empty():
                    break
                taken = self._queue.get()
            ended = taken is None
            outcomes = self._commit(batch) if batch else []
            for asked, outcome in zip(batch, outcomes, strict=True):
                asked.answer(outcome)
            with self._waiters_lock:
                for loop, event in self._waiters:
                    if not loop.is_closed():
                        loop.call_soon_threadsafe(event.set)

    def _commit(self, batch: Sequence[_Append]) -> list[_Outcome]:
        if self._broken is not None:
            return [LogUnavailable(self._broken) for _ in batch]
        outcomes: list[_Outcome] = []
        committing = False
        try:
            self._execute("BEGIN IMMEDIATE")
            outcomes.extend(self._append_one(asked) for asked in batch)
            committing = True
            self._execute("COMMIT")
        except (sqlite3.Error, PersistenceError) as error:
            if not _is(error, sqlite3.SQLITE_FULL):
                self._broken = f"{error}. Restart snapshotd to resume writing"
            self._roll_back()
            if not committing:
                return [LogUnavailable(str(error)) for _ in batch]
            outcomes = [self._read_back(a, o, error) for a, o in zip(batch, outcomes, strict=True)]
        positions = [e.position for o in outcomes if isinstance(o, tuple) for e in o]
        self._head = max([self._head, *positions])
        return outcomes

    def _append_one(self, asked: _Append) -> _Outcome:
        recorder = self._application.recorder
        version = recorder.version(self._connection, asked.stream)
        if version != asked.expected:
            return self._appended_before(asked) or StreamChanged(asked.stream, asked.expected)
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

    def _read_back(self, asked: _Append, outcome: _Outcome, error: Exception) -> _Outcome:
        """Return the outcome of an append whose commit failed, by what the log holds of its events."""
        if isinstance(outcome, SnapshotdError):
            return outcome
        try:
            recorded = self._appended_before(asked)
        except (sqlite3.Error, PersistenceError, UnreadableEvent) as unread:
            return AppendUncertain(f"{error}; reading it back: {unread}")
        if recorded is not None:
            return recorded
        # After a failed fsync, the frames may be in the file all the same: SQLite shows them only after a restart.
        return AppendUncertain(str(error)) if _is(error, sqlite3.SQLITE_IOERR) else LogUnavailable(str(error))

    def _execute(self, statement: str) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)

    def _roll_back(self) -> None:
        try:
            self._connection.rollback()
        except sqlite3.Error as error:
            self._broken = f"{error} (while rolling back)"


def _is(error: Exception, primary: int) -> bool:
    """Return whether an error has this primary result code of SQLite. Extended codes add bits above it."""
    cause = error if isinstance(error, sqlite3.Error) else error.__cause__
    return int(getattr(cause, "sqlite_errorcode", 0)) & 0xFF == primary


def _pragma(connection: SQLiteConnection, pragma: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {pragma}")
        row = cursor.fetchone()
        return row[0] if row else None


def _take_lock(path: Path) -> int:
    """Lock the log for this process, by a file beside it. Raises LogInUse and StorageUnusable."""
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(handle, 20).decode(errors="replace").strip()
        os.close(handle)
        raise LogInUse(str(path), owner) from None
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    except OSError as error:
        os.close(handle)
        raise StorageUnusable(f"{path}.lock", str(error.strerror)) from error
    return handle


def _check_file(path: Path) -> None:
    """Mark a new file as ours. Raise LogForeign for one that is not ours, is corrupt or is of another version."""
    if not path.exists() or path.stat().st_size == 0:
        _mark(path)
        return
    try:
        connection = sqlite3.connect(path)
        try:
            (application_id,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (checked,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.OperationalError:
        raise  # the file could not be read, so nobody knows what it holds
    except sqlite3.DatabaseError as error:
        raise LogForeign(str(path), str(error)) from error
    if application_id != APPLICATION_ID:
        raise LogForeign(str(path), f"its application id is {application_id:#x}, not {APPLICATION_ID:#x}")
    if version != SCHEMA:
        raise LogForeign(str(path), f"its schema is {version}, and this release writes {SCHEMA}")
    if checked != "ok":
        raise LogForeign(str(path), f"it is corrupt: {checked}")


def _mark(path: Path) -> None:
    """Mark an empty file as ours, in one transaction: a start that ends here or later can be repeated."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.executescript(
            f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA}; COMMIT;"
        )
    finally:
        connection.close()
