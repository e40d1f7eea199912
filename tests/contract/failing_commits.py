"""Statements of the log's writer that fail on demand: commits, before they are done or after, and others."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from eventsourcing.sqlite import SQLiteConnection

from snapshotd.store.sqlite_log import SqliteEventLog


class FailingCommit:
    """A writer's connection on which COMMIT raises; before that, it may have gone through.

    Args:
        connection: the real one.
        goes_through: whether what was to be committed is.
        code: SQLite's result code that is raised.
        unreadable: lose the file's table meanwhile, so that nothing can be read back.
        at: how the statement begins that fails, in place of COMMIT.
        times: how often it fails; None: always.
        defect: what is raised in place of an error of SQLite's.
    """

    def __init__(
        self,
        connection: SQLiteConnection,
        *,
        goes_through: bool = False,
        code: int = sqlite3.SQLITE_IOERR,
        unreadable: bool = False,
        at: str = "COMMIT",
        times: int | None = None,
        defect: Exception | None = None,
    ) -> None:
        self.real = connection
        self.goes_through = goes_through
        self.code = code
        self.unreadable = unreadable
        self.at = at
        self.left = times
        self.defect = defect
        self.seen: list[str] = []
        """The statements so far."""

    def cursor(self) -> "FailingCursor":
        """Return a cursor that fails to commit."""
        return FailingCursor(self)

    def passes(self, statement: str) -> bool:
        """Return whether a statement is executed. Raises if it fails."""
        self.seen.append(statement)
        if not statement.startswith(self.at) or self.left == 0:
            return True
        self.left = None if self.left is None else self.left - 1
        with self.real.cursor() as cursor:
            if self.goes_through:
                cursor.execute("COMMIT")
            if self.unreadable:
                cursor.execute("ALTER TABLE stored_events RENAME TO elsewhere")
        if self.defect is not None:
            raise self.defect
        error = sqlite3.OperationalError("injected")
        error.sqlite_errorcode = self.code
        raise error

    def rollback(self) -> None:
        """Roll back."""
        self.real.rollback()


class FailingCursor:
    """A cursor of it, in place of the library's."""

    def __init__(self, owner: FailingCommit) -> None:
        self._owner = owner
        self._real = owner.real.cursor()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._real.__exit__(None, None, None)

    def execute(self, statement: str, values: Sequence[object] = ()) -> None:
        """Execute a statement, or fail."""
        if self._owner.passes(statement):
            self._real.execute(statement, values)

    def executemany(self, statement: str, values: Sequence[Sequence[object]]) -> None:
        """Execute a statement for each of several values, or fail."""
        if self._owner.passes(statement):
            self._real.executemany(statement, values)

    def fetchone(self) -> Any:  # noqa: ANN401
        """Return a row."""
        return self._real.fetchone()


@contextmanager
def failing_commit(log: SqliteEventLog, **how: Any) -> Iterator[FailingCommit]:  # noqa: ANN401
    """Have the log's commits fail, or other statements of its writer (see FailingCommit)."""
    real = log._connection
    failing = FailingCommit(real, **how)
    log._connection = failing  # type: ignore[assignment]
    try:
        yield failing
    finally:
        log._connection = real
