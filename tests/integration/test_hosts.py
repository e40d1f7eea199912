"""Hosts on the real log: a repeated request is answered as the first time, whatever has happened to the host since."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshotd.application.hosts import Hosts
from snapshotd.domain.errors import AlreadyExists, InvalidArgument, NotFound, RequestIdReused
from snapshotd.domain.events import HostUpdated
from snapshotd.domain.host import Host
from snapshotd.domain.ids import HostId
from snapshotd.store.sqlite_log import SqliteEventLog
from tests.doubles import Clock, Ids

HV01 = HostId("hv01")
Way = dict[str, str | int]
WANTED = Host(host_id=HV01, address="10.0.0.1", transport="NTLM_HTTP", credential="hv")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteEventLog]:
    with SqliteEventLog(tmp_path / "events.db") as opened:
        yield opened


async def register(hosts: Hosts, request_id: str, digest: str = "d") -> int:
    """Register the host; return how many events that took."""
    _, envelopes = await hosts.register(WANTED, actor="ann", request_id=request_id, digest=digest)
    return len(envelopes)


async def remove(hosts: Hosts, request_id: str, digest: str = "r") -> int:
    """Remove the host; return how many events that took."""
    return len(await hosts.remove(HV01, 0, actor="ann", request_id=request_id, digest=digest))


async def test_repeated_requests_change_nothing_also_when_others_came_between(log: SqliteEventLog) -> None:
    hosts = Hosts(log, Clock(), Ids())
    assert (await register(hosts, "A"), await remove(hosts, "B"), await register(hosts, "A")) == (1, 1, 0)
    assert hosts.registered() == ()
    assert (await register(hosts, "C"), await remove(hosts, "B"), await register(hosts, "A")) == (1, 0, 0)
    again = Hosts(log, Clock(), Ids())
    await again.start()
    assert again.get(HV01) == hosts.get(HV01)
    assert await remove(again, "B") == 0


async def test_a_request_id_with_another_payload_is_refused(log: SqliteEventLog) -> None:
    hosts = Hosts(log, Clock(), Ids())
    await register(hosts, "A")
    await remove(hosts, "B")
    for call in (register, remove):
        with pytest.raises(RequestIdReused):
            await call(hosts, "A", "other")
    await register(hosts, "")
    with pytest.raises(AlreadyExists):
        await register(hosts, "")
    await remove(hosts, "")
    with pytest.raises(NotFound):
        await remove(hosts, "")
    assert log.head_position() == 4


async def test_of_two_decisions_at_a_time_the_second_is_made_on_what_the_first_has_left(log: SqliteEventLog) -> None:
    hosts = Hosts(log, Clock(), Ids())
    await register(hosts, "A")
    both = [hosts.synced(HV01, 1, 0, (), actor="ann", request_id="") for _ in range(2)]
    assert [len(envelopes) for envelopes in await asyncio.gather(*both)] == [1, 1]
    assert hosts.get(HV01).version == log.head_position() == 3
    removed = await asyncio.gather(*(remove(hosts, id_) for id_ in "BC"), return_exceptions=True)
    assert [r for r in removed if isinstance(r, int)] == [1]
    assert [type(r) for r in removed if isinstance(r, Exception)] == [NotFound]


async def update(hosts: Hosts, request_id: str, way: Way, digest: str = "u") -> int:
    """Change the way to the host; return how many events that took."""
    return len(await hosts.update(HV01, way, actor="ann", request_id=request_id, digest=digest))


async def test_an_update_records_what_was_before_and_what_is_after(log: SqliteEventLog) -> None:
    hosts = Hosts(log, Clock(), Ids())
    await register(hosts, "A")
    assert await update(hosts, "B", {"address": "hv01.example.com", "credential": "new"}) == 1
    event = (await log.read_all(1, 10))[0].event
    assert isinstance(event, HostUpdated)
    assert (event.from_address, event.to_address) == ("10.0.0.1", "hv01.example.com")
    assert (event.from_credential, event.to_credential) == ("hv", "new")
    assert (event.from_port, event.to_port) == (5985, 5985)
    again = Hosts(log, Clock(), Ids())
    await again.start()
    assert again.get(HV01) == hosts.get(HV01)
    assert (again.get(HV01).address, again.get(HV01).credential) == ("hv01.example.com", "new")


async def test_an_update_is_answered_once_and_changes_nothing_that_is_so_already(log: SqliteEventLog) -> None:
    hosts = Hosts(log, Clock(), Ids())
    await register(hosts, "A")
    assert await update(hosts, "B", {"port": 1234}) == 1
    assert await update(hosts, "C", {"port": 0}, "v") == 1, "0 is the default of the transport"
    assert await update(hosts, "B", {"port": 1234}) == 0
    assert hosts.get(HV01).port == 5985
    assert await update(hosts, "D", {"address": "10.0.0.1"}) == 0
    with pytest.raises(RequestIdReused):
        await update(hosts, "B", {"port": 1}, "w")


async def test_the_default_port_of_one_transport_becomes_that_of_the_next(log: SqliteEventLog) -> None:
    hosts = Hosts(log, Clock(), Ids())
    await register(hosts, "A")
    await update(hosts, "B", {"transport": "NTLM_HTTPS"})
    assert hosts.get(HV01).port == 5986
    await update(hosts, "C", {"port": 1234})
    await update(hosts, "D", {"transport": "NTLM_HTTP"})
    assert hosts.get(HV01).port == 1234


@pytest.mark.parametrize(
    ("way", "field"),
    [
        ({"address": "no address"}, "host.address"),
        ({"address": ""}, "host.address"),
        ({"port": 70_000}, "host.port"),
        ({"transport": "PLAINTEXT"}, "host.transport"),
        ({"credential": "ann:hunter2"}, "host.credential"),
        ({"ca_file": "ca.pem"}, "host.ca_file"),
    ],
)
async def test_an_update_to_what_cannot_be_is_refused(log: SqliteEventLog, way: Way, field: str) -> None:
    hosts = Hosts(log, Clock(), Ids())
    with pytest.raises(NotFound):
        await update(hosts, "", way)
    await register(hosts, "A")
    with pytest.raises(InvalidArgument) as refused:
        await update(hosts, "", way)
    assert (refused.value.field, "hunter2" in refused.value.message()) == (field, False)
    assert log.head_position() == 1
