"""Commits that fail: an append is answered by what stands in the log, and never by a guess."""

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.ids import StreamId
from snapshotd.domain.storage_errors import AppendUncertain, LogUnavailable, StreamChanged
from snapshotd.store.sqlite_log import SqliteEventLog
from tests.contract.failing_commits import failing_commit
from tests.contract.logs import STREAM, new


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteEventLog]:
    with SqliteEventLog(tmp_path / "events.db") as opened:
        yield opened


async def test_a_commit_that_failed_and_yet_went_through_is_answered_as_recorded(log: SqliteEventLog) -> None:
    with failing_commit(log, goes_through=True, code=sqlite3.SQLITE_IOERR_FSYNC):
        outcomes = await asyncio.gather(
            log.append(STREAM, 0, [new("a"), new("b")]),
            log.append(StreamId("vm/2"), 0, [new("c")]),
            log.append(StreamId("vm/3"), 7, [new("d")]),
            return_exceptions=True,
        )
    written = await log.read_all(0, 10)
    assert outcomes[0] == written[:2]
    # The others may have come in the next batch, of a log that takes no more.
    assert outcomes[1] == written[2:] != () or (isinstance(outcomes[1], LogUnavailable) and written[2:] == ())
    assert isinstance(outcomes[2], StreamChanged | LogUnavailable)
    assert log.head_position() == written[-1].position
    with pytest.raises(LogUnavailable, match=r"snapshotd ends\. Check the disk, then start it again"):
        await log.append(STREAM, 2, [new("e")])


@pytest.mark.parametrize(
    ("code", "kind"), [(sqlite3.SQLITE_FULL, LogUnavailable), (sqlite3.SQLITE_IOERR_FSYNC, AppendUncertain)]
)
async def test_a_commit_that_failed_and_is_not_seen_is_a_refusal_only_if_that_is_certain(
    log: SqliteEventLog, code: int, kind: type[SnapshotdError]
) -> None:
    with failing_commit(log, goes_through=False, code=code), pytest.raises(kind, match="injected"):
        await log.append(STREAM, 0, [new("a")])
    assert await log.read_all(0, 10) == ()
    assert log.head_position() == 0


async def test_a_commit_that_cannot_be_read_back_may_have_gone_through(log: SqliteEventLog) -> None:
    how = {"goes_through": True, "code": sqlite3.SQLITE_FULL, "unreadable": True}
    with failing_commit(log, **how), pytest.raises(AppendUncertain, match="Cannot tell whether this was recorded"):
        await log.append(STREAM, 0, [new("a")])
