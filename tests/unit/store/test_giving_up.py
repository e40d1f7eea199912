"""Whoever gives up waiting for the log's writer disturbs nobody else who waits for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from snapshotd.domain.events import CallRefused, NewEvent
from snapshotd.server.refusals import STREAM
from snapshotd.store.sqlite_log import SqliteEventLog
from tests.doubles import Clock, Ids

EVENT = NewEvent(
    event_id=Ids().fresh(),
    time=Clock().now(),
    actor="anonymous",
    request_id="",
    operation=None,
    event=CallRefused(method="m", refusal="r", detail="d", peer="p", times=1),
)


async def test_a_look_whether_the_log_can_be_written_may_be_given_up(tmp_path: Path) -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    with SqliteEventLog(tmp_path / "events.db") as log:
        looks = [asyncio.create_task(log.refuse_unwritable()) for _ in range(3)]
        appended = asyncio.create_task(log.append(STREAM, 0, [EVENT]))
        await asyncio.sleep(0)
        for look in looks:
            look.cancel()
        assert len(await appended) == 1
        await log.refuse_unwritable()
    assert [look.cancelled() for look in looks] == [True] * 3
    assert told == []
