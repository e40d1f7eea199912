"""Hosts are compared with the record: whatever goes wrong with one VM, the others are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from snapshotd.api.v1 import host_pb2
from snapshotd.domain.ids import vm_stream
from snapshotd.domain.lifecycle import Power
from tests.fakes import VM_ID, FakeHost
from tests.integration.quiet_server import CALLER, Running, run

OTHER = "22222222-2222-4222-8222-222222222222"


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with run(tmp_path) as served:
        yield served


@pytest.mark.parametrize("defect", [False, True])
async def test_a_vm_that_cannot_be_compared_does_not_hold_up_the_others(
    running: Running, caplog: pytest.LogCaptureFixture, *, defect: bool
) -> None:
    up, off = FakeHost().report(), FakeHost(power=Power.STOPPED).report()
    for vm_id in (VM_ID, OTHER):
        await running.register(replace(up, vm_id=vm_id))
    running.log.refused = vm_stream(VM_ID)
    running.log.refused_with = KeyError("a defect") if defect else running.log.refused_with
    syncing = asyncio.create_task(running.hosts.SyncHost(host_pb2.SyncHostRequest(name="hosts/hv01"), CALLER))
    running.answer(await running.asked.orders.get(), *(replace(off, vm_id=vm_id) for vm_id in (VM_ID, OTHER)))
    synced = await syncing
    assert synced.virtual_machines_compared == 1
    assert list(synced.virtual_machines_skipped) == [f"virtualMachines/{VM_ID}"]
    assert [d.subject for d in synced.drifts] == [f"virtualMachines/{OTHER}"]
    assert f"vm {VM_ID}: not compared with the record" in caplog.text
    assert ("a defect" in caplog.text) == defect
