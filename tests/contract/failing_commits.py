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

    def cursor(self) -> Any:  # noqa: ANN401  (stands where the library's cursor does)
        """Return a cursor that fails to commit."""
        real, own = self.real.cursor(), self

        class Cursor:
            def __enter__(self) -> Self:
                return self

            def __exit__(self, *_: object) -> None:
                real.__exit__(None, None, None)

            def execute(self, statement: str, values: Sequence[object] = ()) -> None:
                own.seen.append(statement)
                if not statement.startswith(own.at) or own.left == 0:
                    real.execute(statement, values)
                    return
                own.left = None if own.left is None else own.left - 1
                if own.goes_through:
                    real.execute("COMMIT")
                if own.unreadable:
                    real.execute("ALTER TABLE stored_events RENAME TO elsewhere")
                if own.defect is not None:
                    raise own.defect
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
def failing_commit(log: SqliteEventLog, **how: Any) -> Iterator[FailingCommit]:  # noqa: ANN401
    """Have the log's commits fail, or other statements of its writer (see FailingCommit)."""
    real = log._connection
    failing = FailingCommit(real, **how)
    log._connection = failing  # type: ignore[assignment]
    try:
        yield failing
    finally:
        log._connection = real
