"""Views rebuilt from the log, events per second: our projections beside the stock library's, both on SQLite.

The stock library's runner subscribes to an application, which it does not implement on SQLite. So its projection pulls
its own notifications, and does what its runner does with each: the view's row and the tracking in one transaction.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.projection import Projection
from eventsourcing.sqlite import SQLiteDatastore, SQLiteTrackingRecorder

from benchmarks.progress import Figures, say
from benchmarks.sizes import log_of
from projections.rebuild import rebuild
from snapshotd.store.sqlite_log import SqliteEventLog

_EVENTS: Final = 100_000
_STOCK_AGGREGATES: Final = 400
_STOCK_EVENTS_EACH: Final = 13
"""As many as a create has."""
_PAGE: Final = 100


def measure(directory: Path, figures: Figures) -> None:
    """Rebuild both."""
    place = directory / "views"
    place.mkdir()
    say("\nviews rebuilt, events per second")
    own, other = ours(), stock(place)
    figures |= {"views.per_s": own, "views.stock_per_s": other, "views.ratio_stock": own / other}
    say(f"  ours, {_EVENTS:,} events into all views    {own:>8.0f}")
    say(f"  stock library, one row each, tracked  {other:>8.0f}")
    say(f"  ratio                                 {own / other:>8.1f}")


def ours() -> float:
    """Return at how many events per second all our views are made again."""
    log = log_of(_EVENTS)
    with log.copied() as files, SqliteEventLog(files / "events.db") as opened:
        began = time.perf_counter()
        reached = asyncio.run(rebuild(opened, files / "views.db"))
        assert reached == log.events, reached
        return reached / (time.perf_counter() - began)


class Machine(Aggregate):
    """The aggregate of the stock library's log."""

    @event("Named")
    def be_named(self, name: str) -> None:
        """Trigger an event."""
        self.name = name


class Machines(SQLiteTrackingRecorder):
    """The stock library's view: one row for each aggregate, and how far it has come."""

    def construct_create_table_statements(self) -> list[str]:
        """Return the schema."""
        own = "CREATE TABLE IF NOT EXISTS machines (id TEXT PRIMARY KEY, version INTEGER, name TEXT) WITHOUT ROWID"
        return [*super().construct_create_table_statements(), own]

    def put(self, machine: str, version: int, name: str, tracking: Tracking) -> None:
        """Write a row, and how far the view has come, in one transaction."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute("INSERT OR REPLACE INTO machines VALUES (?, ?, ?)", (machine, version, name))


class MachineProjection(Projection[Machines]):
    """The stock library's projection."""

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:  # noqa: ANN401  (the library's signature)
        """Take an event in."""
        name = str(getattr(domain_event, "name", ""))
        self.view.put(str(domain_event.originator_id), domain_event.originator_version, name, tracking)


def stock(directory: Path) -> float:
    """Return at how many events per second the stock library makes its one view again."""
    settings = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(directory / "stock.db")}
    application: Application[uuid.UUID] = Application(env=settings)
    for _ in range(_STOCK_AGGREGATES):
        machine = Machine()
        for number in range(_STOCK_EVENTS_EACH - 1):
            machine.be_named(f"web{number}")
        application.save(machine)
    view = Machines(SQLiteDatastore(str(directory / "stock-view.db")))
    view.create_table()
    projection = MachineProjection(view)
    began = time.perf_counter()
    for notification in _notifications(application):
        projection.process_event(
            application.mapper.to_domain_event(notification), Tracking(application.name, notification.id)
        )
    took = time.perf_counter() - began
    application.close()
    return _STOCK_AGGREGATES * _STOCK_EVENTS_EACH / took


def _notifications(application: Application[uuid.UUID]) -> Iterator[Any]:
    """Yield all notifications of an application, a page at a time."""
    for page in count():
        found = application.recorder.select_notifications(start=page * _PAGE + 1, limit=_PAGE)
        yield from found
        if len(found) < _PAGE:
            return
