"""What a scrape reads of a daemon that has trouble: hosts, operations, log, views and disk as they are just then."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from snapshotd.api.v1 import host_pb2
from snapshotd.domain.host_errors import HostUnreachable, NoExecutor
from snapshotd.domain.storage_errors import ViewBehind
from snapshotd.ports.trouble import Trouble
from snapshotd.server.gauges import Gauges
from snapshotd.server.host_wire import no_answer
from snapshotd.server.storage_use import StorageUse
from snapshotd.steps.vm_stop import StopMode
from tests.asking import stop_vm
from tests.fakes import VM_ID, FakeHost
from tests.integration.quiet_server import CALLER, Running, run, turns

Values = Mapping[tuple[str, ...], float]


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with run(tmp_path) as served:
        yield served


async def read(gauges: Gauges) -> Values:
    """Return what is read, by the sample's name and the values of its labels."""
    return {(s.name, *s.labels.values()): s.value for f in await gauges.read() for s in f.samples}


async def test_a_host_that_does_not_answer_is_told_with_its_reason(running: Running, tmp_path: Path) -> None:
    gauges = Gauges(running.backend, tmp_path)
    assert ("snapshotd_host_reachable", "hv01") not in await read(gauges)  # nobody has tried
    syncing = asyncio.create_task(running.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"), CALLER))
    dispatch = await running.asked.orders.get()
    assert (await read(gauges))["snapshotd_host_slots_taken", "hv01"] == 1
    running.service.runtime.outcome("executor", dispatch, no_answer("HOST_UNREACHABLE", "no route"))
    with pytest.raises(HostUnreachable):
        await syncing
    values = await read(gauges)
    assert values["snapshotd_host_reachable", "hv01"] == 0
    assert values["snapshotd_host_unreachable", "hv01", "HOST_UNREACHABLE"] == 1
    assert values["snapshotd_host_slots_taken", "hv01"] == 0
    running.service.runtime.detached("executor", running.asked)
    values = await read(gauges)
    assert values["snapshotd_host_unreachable", "hv01", NoExecutor.reason] == 1
    assert values["snapshotd_executors_attached",] == 0


async def test_that_a_host_answers_no_more_and_answers_again_is_logged_once_each(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "snapshotd")
    for error in ("HOST_UNREACHABLE", "HOST_UNREACHABLE", "CONNECTION_LOST", "", ""):
        syncing = asyncio.create_task(running.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"), CALLER))
        dispatch = await running.asked.orders.get()
        if error:
            running.service.runtime.outcome("executor", dispatch, no_answer(error, "no route"))
        else:
            running.answer(dispatch)
        await asyncio.gather(syncing, return_exceptions=True)
    told = [r for r in caplog.records if r.message.startswith("host hv01 ") and "answer" in r.message.split(":")[0]]
    assert [(r.message.split(":")[0], r.__dict__["facts"].get("reason")) for r in told] == [
        ("host hv01 does not answer", "HOST_UNREACHABLE"),
        ("host hv01 does not answer", "CONNECTION_LOST"),
        ("host hv01 answers again", None),
    ]


async def test_operations_under_way_are_counted_with_their_age_and_their_vms_compared(
    running: Running, tmp_path: Path
) -> None:
    report = FakeHost().report()
    await running.register(report)
    gauges = Gauges(running.backend, tmp_path)
    await running.service.runtime.request(VM_ID, stop_vm(StopMode.TURN_OFF), actor="ann")
    await turns()
    values = await read(gauges)
    active = {key[2]: value for key, value in values.items() if key[0] == "snapshotd_operations_active"}
    assert sum(active.values()) == 1
    assert values["snapshotd_oldest_operation_age_seconds",] > 0
    assert values["snapshotd_operations_overdue",] == 0


async def test_a_log_and_views_in_trouble_are_told(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gauges = Gauges(running.backend, tmp_path)
    values = await read(gauges)
    assert (values["snapshotd_log_writable",], values["snapshotd_problems",]) == (1, 0)
    assert running.backend.at_work()
    running.log._condition.trouble = Trouble(reason="DISK_FULL", message="full", since=datetime.now(UTC))
    values = await read(gauges)
    assert (values["snapshotd_log_writable",], values["snapshotd_problems",]) == (0, 1)
    assert not running.backend.at_work()


async def test_snapshots_are_counted_once_a_minute_and_while_the_views_cannot_be_read_as_before(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, asked = [0.0], list[str]()
    gauges = Gauges(running.backend, tmp_path, now_s=lambda: now_s[0])

    async def refused(after: str, vms: int, before: object) -> None:
        asked.append(after)
        raise ViewBehind("tree", 0, 1, "")

    assert (await read(gauges))["snapshotd_snapshots",] == 0
    monkeypatch.setattr(running.backend.views, "snapshot_counts", refused)
    now_s[0] = 59.0
    await read(gauges)
    assert asked == []
    now_s[0] = 60.0
    assert (await read(gauges))["snapshotd_snapshots",] == 0
    assert asked == [""]


async def test_of_a_disk_that_hangs_there_is_one_reading_and_nobody_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, begun = threading.Event(), list[int]()
    use = StorageUse(tmp_path)
    honest = use._read

    def hanging() -> object:
        begun.append(1)
        goes_on.wait(30)
        return honest()

    monkeypatch.setattr(use, "_read", hanging)
    assert [await use.read(0.01) for _ in range(3)] == [None, None, None]
    assert len(begun) == 1
    goes_on.set()
    found = await use.read(30)
    assert found is not None
    assert found.files == {"events.db": 0, "views.db": 0}
    assert 0 < found.free <= found.size
    assert await StorageUse(tmp_path / "nowhere").read(30) is None
