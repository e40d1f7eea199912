"""What an executor process shows to a scraper: whether it is attached, its sessions, and its commands."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from snapshotd.api.v1.executor_pb2 import HostConnection, NoAnswer
from snapshotd.executor.service import run_executor
from snapshotd.executor.settings import ExecutorSettings
from snapshotd.monitoring.endpoint import Endpoint, Scrapes
from snapshotd.monitoring.meters import ExecutorMeters
from snapshotd.service_manager import ServiceManager
from tests.integration.executor_feed import Feed, Host
from tests.integration.polling import until
from tests.integration.watched_daemon import page
from tests.scraped import families_of


@pytest.fixture
async def feed() -> AsyncIterator[Feed]:
    feed = Feed()
    await feed.start()
    yield feed
    await feed.stop()


async def test_an_executor_shows_whether_it_is_attached_its_sessions_and_its_commands(feed: Feed) -> None:
    hosts = list[Host]()

    def open_pool(connection: HostConnection) -> Host:
        hosts.append(Host(connection))
        hosts[-1].sessions = 3
        return hosts[-1]

    meters = ExecutorMeters()
    endpoint = Endpoint("127.0.0.1:0", Scrapes(meters.registry))
    settings = ExecutorSettings(server=f"127.0.0.1:{feed.port}", reconnect_first_s=0.02, flush_s=0.1)
    running = asyncio.create_task(run_executor(settings, open_pool, ServiceManager({}), meters, endpoint))

    async def samples() -> dict[tuple[str, ...], float]:
        text = await page(endpoint.address, "/metrics")
        return {(s.name, *sorted(s.labels.values())): s.value for f in families_of(text) for s in f.samples}

    stream = await feed.attached()
    await until(lambda: meters.registry.get_sample_value("snapshotd_executor_attached") == 1)
    stream.host()
    stream.dispatch("vm1")
    await stream.outcome()
    hosts[0].result = NoAnswer(reason=NoAnswer.HOST_UNREACHABLE)
    stream.dispatch("vm2")
    await stream.outcome()
    told = await samples()
    assert told["snapshotd_executor_commands_total", "REPORT", "REPORTED", "hv01"] == 1
    assert told["snapshotd_executor_commands_total", "HOST_UNREACHABLE", "REPORT", "hv01"] == 1
    assert told["snapshotd_executor_command_duration_seconds_count", "hv01"] == 2
    assert told["snapshotd_executor_sessions",] == 3
    await feed.stop()
    await until(lambda: meters.registry.get_sample_value("snapshotd_executor_attached") == 0)
    assert (await samples())["snapshotd_executor_attached",] == 0
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, 20)
