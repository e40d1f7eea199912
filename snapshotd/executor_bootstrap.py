"""The composition root of an executor in a process of its own. Decides nothing."""

from __future__ import annotations

import asyncio
import os

from snapshotd.executor.service import run_executor
from snapshotd.executor_from_settings import (
    check_credentials,
    endpoint_of,
    executor_settings,
    open_pool,
    open_traces,
)
from snapshotd.monitoring.endpoint import Scrapes
from snapshotd.monitoring.meters import ExecutorMeters
from snapshotd.service_manager import ServiceManager
from snapshotd.settings import Settings


def run(settings: Settings) -> int:
    """Run an executor until a signal ends it. Return the exit code."""
    check_credentials(settings)
    own = executor_settings(settings, settings.text("executor.server"))
    if own.tls is not None:
        own.tls.read()
    meters, traces = ExecutorMeters(), open_traces(settings, "snapshotd-executor")

    async def attached() -> None:
        manager, endpoint = ServiceManager(os.environ), endpoint_of(settings, Scrapes(meters.registry))
        await run_executor(own, open_pool(settings), manager, meters, endpoint, traces=traces)

    try:
        asyncio.run(attached())
    finally:
        traces.close()
    return 0
