"""Tables of views.db, and their rows as handlers see and change them.

A row is its key, the columns that are searched by, and one JSON column with a value of the domain.

    handlers ──get, put, add──► Rows, in memory ──flush──► a few statements of many rows each

SQLite gives the interpreter away at each step of a statement, and getting it back in a busy process takes long. So what
a batch has changed is written with as few steps as there can be, each row once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from projections.reading import reading
from snapshotd.ports import plain
from snapshotd.ports.views import PageQuery, Where
from snapshotd.store.insert import Insert

RowT = TypeVar("RowT")

_KEPT: Final = 5_000
"""Rows of a table kept in memory; more are forgotten, and read again."""


class Schema:
    """The tables of a projection: the statements that make them, and the types of what is written into them.

    Args:
        statements: make the tables.
        indexes: make the indexes. A file that has a long log to take in gets them when it has done so.
        rows: the types of what is written into JSON columns.
    """

    def __init__(self, *statements: str, indexes: Sequence[str] = (), rows: tuple[type, ...] = ()) -> None:
        self.statements = statements
        self.indexes = tuple(indexes)
        self.rows = rows


class Table(Schema, Generic[RowT]):
    """One table of rows.

    Args:
        name: of the table.
        row: the dataclass that its JSON column holds.
        key: what a row is found by, column by column.
        fixed: columns that are searched by besides, and that a row never changes.
        columns: those that it changes.
        indexes: statements that make its indexes.
    """

    def __init__(
        self,
        name: str,
        row: type[RowT],
        *,
        key: Mapping[str, Callable[[RowT], object]],
        columns: Mapping[str, Callable[[RowT], object]],
        fixed: Mapping[str, Callable[[RowT], object]] | None = None,
        indexes: Sequence[str] = (),
    ) -> None:
        fixed = fixed or {}
        self._row = row
        self._key = tuple(key.values())
        self._columns = (*key.values(), *fixed.values(), *columns.values())
        names = (*key, *fixed, *columns, "row")
        create = f"CREATE TABLE {name} ({', '.join(names)}, PRIMARY KEY ({', '.join(key)}))"
        super().__init__(create, indexes=indexes, rows=(row,))
        self._select = f"SELECT row FROM {name} WHERE "  # noqa: S608  (constants, here and below)
        self._get = self._select + " AND ".join(f"{column} = ?" for column in key)
        # An update, unlike REPLACE, leaves the indexes alone that hold none of the columns that it sets.
        changes = ", ".join(f"{column} = excluded.{column}" for column in (*columns, "row"))
        self._put = Insert(name, len(names), f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}")
        self._put_row = Insert(name, len(names), f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET row = excluded.row")

    def put(
        self,
        connection: sqlite3.Connection,
        rows: Mapping[tuple[object, ...], RowT],
        known: dict[tuple[object, ...], tuple[object, ...]],
    ) -> None:
        """Write rows, each in place of the one with its key.

        Args:
            connection: to write.
            rows: by key.
            known: the columns of rows in the file, by key, as far as they are known; those of these are added.
        """
        same: list[tuple[object, ...]] = []
        changed: list[tuple[object, ...]] = []
        for key, row in rows.items():
            columns = tuple([column(row) for column in self._columns])
            (same if known.get(key) == columns else changed).append((*columns, plain.encode_text(row)))
            known[key] = columns
        self._put(connection, changed)
        self._put_row(connection, same)

    def get(self, connection: sqlite3.Connection, *key: object) -> RowT | None:
        """Return the row of a key."""
        return next(iter(self._read(connection, self._get, key)), None)

    def key_of(self, row: RowT) -> tuple[object, ...]:
        """Return a row's key."""
        return tuple([column(row) for column in self._key])

    def find(
        self, connection: sqlite3.Connection, where: str, values: Sequence[object] = (), rest: str = ""
    ) -> tuple[RowT, ...]:
        """Return the rows that match; `where` and `rest` are built from constants only."""
        return self._read(connection, f"{self._select}{where} {rest}", values)

    def page(
        self, connection: sqlite3.Connection, where: str, values: Sequence[object], page: PageQuery
    ) -> tuple[RowT, ...]:
        """Return the rows of a page that match. The fields of its order are columns of the table."""
        where, values = narrowed(where, values, page.where)
        after = page.after or ()
        if after:
            beyond, compared = _beyond(page.order, after)
            where, values = f"{where} AND ({beyond})", (*values, *compared)
        by = ", ".join(f"{field} DESC" if falls else field for field, falls in page.order)
        return self.find(connection, where, (*values, page.limit), f"ORDER BY {by} LIMIT ?")

    def _read(self, connection: sqlite3.Connection, statement: str, values: Sequence[object]) -> tuple[RowT, ...]:
        with reading(connection):
            return tuple(plain.decode_own(self._row, row) for (row,) in connection.execute(statement, values))


def narrowed(where: str, values: Sequence[object], more: Sequence[Where]) -> tuple[str, Sequence[object]]:
    """Return a condition with others, which name columns and comparisons, and its values."""
    conditions = [where, *(f"{one.column} {one.compare} ?" for one in more)]
    return " AND ".join(conditions), (*values, *(one.value for one in more))


def _beyond(order: Sequence[tuple[str, bool]], after: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return the condition that a row comes after a place in an order, and the values that it compares with."""
    fields, directions = [field for field, _ in order], {falls for _, falls in order}
    if len(directions) == 1:  # as one comparison, which an index can answer
        sign = "<" if True in directions else ">"
        return f"({', '.join(fields)}) {sign} ({', '.join('?' * len(fields))})", tuple(after)
    terms: list[str] = []
    values: list[str] = []
    for n, (field, falls) in enumerate(order):
        same = "".join(f"{earlier} = ? AND " for earlier in fields[:n])
        terms.append(f"({same}{field} {'<' if falls else '>'} ?)")
        values += after[: n + 1]
    return " OR ".join(terms), tuple(values)


class Rows:
    """Rows as handlers see and change them: kept in memory, written together when a batch has been taken in.

    One VM's row changes with each of its events; it is read and written once a batch. Only the runner writes views.db,
    so what is kept stays true until `forget`.

    Args:
        connection: views.db, to write.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._known: dict[Table[Any], dict[tuple[object, ...], Any]] = {}
        self._changed: dict[Table[Any], dict[tuple[object, ...], Any]] = {}
        self._columns: dict[Table[Any], dict[tuple[object, ...], tuple[object, ...]]] = {}
        self._added: dict[Insert, list[tuple[object, ...]]] = {}

    def get(self, table: Table[RowT], *key: object) -> RowT | None:
        """Return the row of a key."""
        known = self._known.setdefault(table, {})
        if key not in known:
            known[key] = table.get(self.connection, *key)
        found: RowT | None = known[key]
        return found

    def put(self, table: Table[RowT], row: RowT, *key: object) -> None:
        """Change a row. Its key can be given, which is quicker than to find it out."""
        key = key or table.key_of(row)
        self._known.setdefault(table, {})[key] = row
        self._changed.setdefault(table, {})[key] = row

    def add(self, insert: Insert, *values: object) -> None:
        """Add a row that is never read here."""
        self._added.setdefault(insert, []).append(values)

    def flush(self) -> None:
        """Write what has changed."""
        for table, rows in self._changed.items():
            table.put(self.connection, rows, self._columns.setdefault(table, {}))
            rows.clear()
        for insert, added in self._added.items():
            insert(self.connection, added)
            added.clear()
        for known in (*self._known.values(), *self._columns.values()):
            if len(known) > _KEPT:
                known.clear()

    def forget(self) -> None:
        """Forget everything: what was changed is rolled back."""
        self._known.clear()
        self._changed.clear()
        self._columns.clear()
        self._added.clear()
