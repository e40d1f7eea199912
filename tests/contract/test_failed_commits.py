"""Commits that fail: an append is answered by what stands in the log, and never by a guess."""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from eventsourcing.sqlite import SQLiteConnection

from snapshotd.domain.errors import AppendUncertain, LogUnavailable, SnapshotError, StreamChanged
from snapshotd.domain.ids import StreamId
from snapshotd.store.sqlite_log import SqliteEventLog
from tests.contract.logs import STREAM, new


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteEventLog]:
    with SqliteEventLog(tmp_path / "events.db") as opened:
        yield opened


class FailingCommit:
    """A writer's connection on which COMMIT raises; before that, it may have gone through.

    Args:
        connection: the real one.
        goes_through: whether what was to be committed is.
        code: SQLite's result code that is raised.
        unreadable: lose the file's table meanwhile, so that nothing can be read back.
    """

    def __init__(
        self, connection: SQLiteConnection, *, goes_through: bool, code: int, unreadable: bool = False
    ) -> None:
        self.real = connection
        self.goes_through = goes_through
        self.code = code
        self.unreadable = unreadable

    def cursor(self) -> Any:  # noqa: ANN401  (stands where the library's cursor does)
        """Return a cursor that fails to commit."""
        real, own = self.real.cursor(), self

        class Cursor:
            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None:
                real.__exit__(None, None, None)

            def execute(self, statement: str, values: Sequence[object] = ()) -> None:
                if statement != "COMMIT":
                    real.execute(statement, values)
                    return
                if own.goes_through:
                    real.execute("COMMIT")
                if own.unreadable:
                    real.execute("ALTER TABLE stored_events RENAME TO elsewhere")
                error = sqlite3.OperationalError("injected")
                error.sqlite_errorcode = own.code
                raise error

            def fetchone(self) -> Any:  # noqa: ANN401
                return real.fetchone()

            @property
            def lastrowid(self) -> Any:  # noqa: ANN401
                return real.lastrowid

        return Cursor()

    def rollback(self) -> None:
        """Roll back."""
        self.real.rollback()


@contextmanager
def failing_commit(log: SqliteEventLog, **how: Any) -> Iterator[None]:  # noqa: ANN401
    """Have the log's commits fail."""
    real = log._connection
    log._connection = FailingCommit(real, **how)  # type: ignore[assignment]
    try:
        yield
    finally:
        log._connection = real


async def test_a_commit_that_failed_and_yet_went_through_is_answered_as_recorded(log: SqliteEventLog) -> None:
    with failing_commit(log, goes_through=True, code=sqlite3.SQLITE_IOERR_FSYNC):
        outcomes = await asyncio.gather(
            log.append(STREAM, 0, [new("a"), new("b")]),
            log.append(StreamId("vm/2"), 0, [new("c")]),
            log.append(StreamId("vm/3"), 7, [new("d")]),
            return_exceptions=True,
        )
    written = await log.read_all(0, 10)
    assert [outcomes[0], outcomes[1]] == [written[:2], written[2:]]
    # The third was refused by the version, or came in the next batch of a log that takes no more.
    assert isinstance(outcomes[2], StreamChanged | LogUnavailable)
    assert log.head_position() == written[-1].position
    with pytest.raises(LogUnavailable, match="until snapshotd is started again"):
        await log.append(STREAM, 2, [new("e")])


@pytest.mark.parametrize(
    ("code", "kind"), [(sqlite3.SQLITE_FULL, LogUnavailable), (sqlite3.SQLITE_IOERR_FSYNC, AppendUncertain)]
)
async def test_a_commit_that_failed_and_is_not_seen_is_a_refusal_only_if_that_is_certain(
    log: SqliteEventLog, code: int, kind: type[SnapshotError]
) -> None:
    with failing_commit(log, goes_through=False, code=code), pytest.raises(kind, match="injected"):
        await log.append(STREAM, 0, [new("a")])
    assert await log.read_all(0, 10) == ()
    assert log.head_position() == 0


async def test_a_commit_that_cannot_be_read_back_may_have_gone_through(log: SqliteEventLog) -> None:
    how = {"goes_through": True, "code": sqlite3.SQLITE_FULL, "unreadable": True}
    with failing_commit(log, **how), pytest.raises(AppendUncertain, match="may have been recorded"):
        await log.append(STREAM, 0, [new("a")])
