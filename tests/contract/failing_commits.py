"""Commits that fail on demand: before they are done, or after."""

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
