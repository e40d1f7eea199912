"""A connection of SQLite's whose statements fail on demand."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest


class FailingConnection(sqlite3.Connection):
    """A connection on which statements fail that begin in one way."""

    at = ""
    """How the statements begin that fail; empty: none fails."""
    code = sqlite3.SQLITE_IOERR
    """SQLite's result code that is raised."""
    tried = 0
    """How many have failed."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:  # noqa: ANN401
        """Execute a statement, or fail."""
        if self.at and sql.startswith(self.at):
            type(self).tried += 1
            error = sqlite3.OperationalError("injected")
            error.sqlite_errorcode = self.code
            raise error
        return super().execute(sql, parameters)


def failing_connections(monkeypatch: pytest.MonkeyPatch, at: str, code: int) -> type[FailingConnection]:
    """Have all connections that are opened from now on fail, but for readers; return their type, to change that."""
    kind = type("Failing", (FailingConnection,), {"at": at, "code": code})
    real = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:  # noqa: ANN401
        connection: sqlite3.Connection = real(*arguments, **{"factory": kind, **options})
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)
    return kind
