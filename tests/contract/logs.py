"""What goes into event logs here, and a disk that has no room for it."""

from snapshotd.domain.events import JournalIdentified, NewEvent
from snapshotd.domain.ids import StreamId
from snapshotd.store.sqlite_log import SqliteEventLog
from tests.fakes import START

STREAM = StreamId("vm/1")


def new(name: str) -> NewEvent:
    """Return an event of that id."""
    event = JournalIdentified(journal_id=name)
    return NewEvent(event_id=name, time=START, actor="ann", request_id="", operation=None, event=event)


def limit(log: SqliteEventLog, pages: int) -> None:
    """Let the database grow to so many pages, as a disk of that size would."""
    log._execute(f"PRAGMA max_page_count = {pages}")


def log_pages(log: SqliteEventLog) -> int:
    """Return how many pages the database has."""
    with log._connection.cursor() as cursor:
        cursor.execute("PRAGMA page_count")
        return int(cursor.fetchone()[0])
