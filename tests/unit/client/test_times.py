"""Times, as people write and read them: in the local zone with its offset, or in UTC."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from snapshotd.api.v1.audit_pb2 import Event, ListEventsRequest, ListEventsResponse
from snapshotd.client.failure import Failed
from snapshotd.client.render import exact, show_in_utc, when
from snapshotd.client.times import read_point, read_time
from tests.unit.client.fake_service import Ctl, FakeService

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
STAMP = Timestamp(seconds=int(NOON.timestamp()), nanos=5_000)


@pytest.fixture(autouse=True)
def in_kolkata(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "IST-5:30")
    time.tzset()
    show_in_utc(False)
    yield
    show_in_utc(False)
    monkeypatch.undo()
    time.tzset()


def test_a_time_is_shown_in_the_local_zone_with_its_offset_or_in_utc() -> None:
    assert when(STAMP) == "2026-01-31 17:30:00+05:30"
    assert exact(STAMP) == "2026-01-31T17:30:00.000005+05:30"
    show_in_utc(True)
    assert when(STAMP) == "2026-01-31 12:00:00Z"
    assert exact(STAMP) == "2026-01-31T12:00:00.000005Z"
    assert when(Timestamp()) == exact(Timestamp()) == ""


@pytest.mark.parametrize(
    ("text", "utc", "meant"),
    [
        ("2026-01-31T12:00:00Z", False, NOON),
        ("2026-01-31 17:30", False, NOON),
        ("2026-01-31 12:00", True, NOON),
        ("2026-01-31T13:00:00+01:00", True, NOON),
        ("2026-01-31", True, NOON - timedelta(hours=12)),
    ],
)
def test_a_time_without_an_offset_is_one_of_the_zone_that_is_shown(text: str, utc: bool, meant: datetime) -> None:  # noqa: FBT001
    show_in_utc(utc)
    assert read_time("--since", text) == meant


@pytest.mark.parametrize(("text", "ago_s"), [("90s", 90), ("5m", 300), ("5 min", 300), ("2h", 7200), ("3d", 259200)])
def test_a_time_can_be_said_as_so_long_ago(text: str, ago_s: int) -> None:
    before = datetime.now(UTC)
    meant = read_time("--since", text)
    assert before - timedelta(seconds=ago_s) <= meant <= datetime.now(UTC) - timedelta(seconds=ago_s)
    assert before <= read_time("--since", "now")


@pytest.mark.parametrize("text", ["yesterday", "", "5", "-5m", "99999999999h", "999999999w", "2026-13-01", "5 y"])
def test_what_is_no_time_is_refused_with_the_forms_that_are(text: str) -> None:
    with pytest.raises(Failed, match=r"Cannot read --since .* 2026-01-31T12:00:00Z, or as 2h for two hours ago"):
        read_time("--since", text)


def test_a_plain_number_is_a_version() -> None:
    assert read_point("--at", "12") == 12
    assert read_point("--at", "20260131") == 20260131
    assert read_point("--at", "2026-01-31T12:00:00Z") == NOON


def test_a_command_shows_and_reads_times_as_it_is_asked_to(ctl: Ctl, service: FakeService) -> None:
    service.answers["ListEvents"] = lambda _: ListEventsResponse(events=[Event(position=1, type="X", time=STAMP)])
    assert "2026-01-31 17:30:00+05:30" in ctl("audit", "list").out
    assert "2026-01-31 12:00:00Z" in ctl("audit", "list", "--utc").out
    assert "2026-01-31 17:30:00+05:30" in ctl("audit", "list").out
    ctl("audit", "list", "--since", "2026-01-31 17:30")
    ctl("audit", "list", "--since", "2026-01-31 12:00", "--utc")
    asked = [request.start_time.ToDatetime(UTC) for request in service.of(ListEventsRequest)][-2:]
    assert asked == [NOON, NOON]
