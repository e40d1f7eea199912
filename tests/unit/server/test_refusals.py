"""Refused calls in the log: the first of a kind at once, the others counted, and never more than a few a minute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshotd.domain.events import CallRefused
from snapshotd.server.access_errors import NotAllowed, SignInMissing
from snapshotd.server.refusals import STREAM, Refusals
from snapshotd.store.sqlite_log import SqliteEventLog
from tests.doubles import Clock, Ids

METHOD = "/snapshotd.api.v1.HostService/RegisterHost"
REFUSED = NotAllowed(METHOD[1:], "token:a", "it takes the role admin on a host")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteEventLog]:
    with SqliteEventLog(tmp_path / "events.db") as log:
        yield log


async def recorded(log: SqliteEventLog) -> list[tuple[str, str, int]]:
    """Return what is in the log: actor, reason, times."""
    found = []
    for envelope in await log.read_stream(STREAM):
        assert isinstance(envelope.event, CallRefused)
        found.append((envelope.actor, envelope.event.refusal, envelope.event.times))
    return found


async def test_the_first_of_a_kind_is_recorded_at_once_and_the_others_counted_once_a_minute(
    log: SqliteEventLog,
) -> None:
    now, told = [0.0], list[str]()
    refusals = Refusals(log, Clock(), Ids(), lambda: now[0], told.append)
    refusals.refused("token:a", METHOD, REFUSED, "ipv4:10.0.0.9:1")
    refusals.refused("", METHOD, SignInMissing(METHOD[1:]), "ipv4:10.0.0.9:2")
    await refusals.record()
    first = [("token:a", "NOT_ALLOWED", 1), ("anonymous", "SIGN_IN_MISSING", 1)]
    assert await recorded(log) == first
    for _ in range(5):
        refusals.refused("token:a", METHOD, REFUSED, "ipv4:10.0.0.9:1")
    now[0] = 59.0
    await refusals.record()
    assert await recorded(log) == first
    now[0] = 61.0
    await refusals.record()
    assert await recorded(log) == [*first, ("token:a", "NOT_ALLOWED", 5)]
    now[0] = 200.0
    await refusals.record()
    assert len(await recorded(log)) == 3
    assert told.count("NOT_ALLOWED") == 6


async def test_however_many_kinds_there_are_the_log_grows_by_sixty_events_a_minute_and_memory_does_not_grow(
    log: SqliteEventLog,
) -> None:
    now = [0.0]
    refusals = Refusals(log, Clock(), Ids(), lambda: now[0])
    for number in range(2_000):
        refusals.refused(f"token:{number}", METHOD, REFUSED, "ipv4:10.0.0.9:1")
    for second in range(10):
        now[0] = second
        await refusals.record()
    assert len(await recorded(log)) == 60
    for minute in range(1, 12):
        for second in range(5):
            now[0] = 61.0 * minute + second
            await refusals.record()
    kinds = await recorded(log)
    assert len(kinds) == 501
    assert ("(others)", "NOT_ALLOWED", 1_500) in kinds
    assert sum(times for _, _, times in kinds) == 2_000


async def test_a_second_start_goes_on_in_the_same_stream(log: SqliteEventLog) -> None:
    for _ in range(2):
        refusals = Refusals(log, Clock(), Ids())
        refusals.refused("token:a", METHOD, REFUSED, "ipv4:10.0.0.9:1")
        await refusals.record()
    assert await recorded(log) == [("token:a", "NOT_ALLOWED", 1)] * 2
