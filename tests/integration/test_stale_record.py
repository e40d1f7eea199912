"""Refusals that rest on what a host was like: the host is asked first, and the refusal says how old its ground is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.domain.errors import OperationActive, VmAbsent, WrongPower
from snapshotd.domain.host_report import VmReport
from snapshotd.domain.lifecycle import Power
from tests.fakes import VM_ID, FakeHost
from tests.integration.quiet_server import CALLER, HV01, Running, run

START = vm_pb2.StartVirtualMachineRequest(name=f"virtualMachines/{VM_ID}")
UP, OFF = FakeHost().report(), FakeHost(power=Power.STOPPED).report()


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    async with run(tmp_path) as served:
        await served.register(UP)
        yield served


def age(running: Running, seconds: int) -> None:
    """Have the VM been seen so long ago."""
    observed = running.service.runtime.dispatcher.observed
    seen = observed.get(HV01, VM_ID)
    assert seen is not None
    observed.forget(HV01)
    observed.note(HV01, VM_ID, seen - timedelta(seconds=seconds))


async def test_what_an_administrator_has_just_allowed_is_not_refused_by_an_old_record(running: Running) -> None:
    age(running, 60)
    starting = asyncio.create_task(running.vms.StartVirtualMachine(START, CALLER))
    dispatch = await running.asked.orders.get()
    assert running.asked.latest is not None
    assert running.asked.latest.vm_id == VM_ID
    running.answer(dispatch, OFF)
    assert not (await starting).done


async def test_a_refusal_that_stands_says_when_the_vm_was_seen(running: Running) -> None:
    age(running, 60)
    starting = asyncio.create_task(running.vms.StartVirtualMachine(START, CALLER))
    running.answer(await running.asked.orders.get(), UP)
    with pytest.raises(WrongPower, match=r"The VM was last looked at on its host at \d\d:\d\d:\d\dZ, \d s ago"):
        await starting


async def test_a_vm_that_its_host_does_not_show_is_told_as_that_and_was_looked_at(running: Running) -> None:
    age(running, 60)
    starting = asyncio.create_task(running.vms.StartVirtualMachine(START, CALLER))
    gone = VmReport(vm_id=VM_ID, power=Power.ABSENT, host_state="", description=None)
    running.answer(await running.asked.orders.get(), gone)
    with pytest.raises(VmAbsent, match=r"host hv01 does not show it to this account.*last looked at .* \d s ago"):
        await starting


async def test_a_host_that_was_asked_just_now_is_not_asked_again(running: Running) -> None:
    with pytest.raises(WrongPower):
        await running.vms.StartVirtualMachine(START, CALLER)
    assert running.asked.orders.empty()


async def test_without_an_executor_the_refusal_says_how_old_its_ground_is(running: Running) -> None:
    age(running, 312)
    running.service.runtime.detached("executor", running.asked)
    with pytest.raises(WrongPower, match=r"31\d s ago"):
        await running.vms.StartVirtualMachine(START, CALLER)


async def test_a_host_that_refuses_the_look_leaves_the_refusal_as_it_was(running: Running) -> None:
    age(running, 60)
    starting = asyncio.create_task(running.vms.StartVirtualMachine(START, CALLER))
    running.fail(await running.asked.orders.get(), "RightsMissing,snapshotd")
    with pytest.raises(WrongPower, match=r"6\d s ago"):
        await starting


async def test_a_refusal_that_rests_on_nothing_of_the_host_asks_nobody(running: Running) -> None:
    age(running, 60)
    call = vm_pb2.StopVirtualMachineRequest(name=START.name, mode=vm_pb2.StopVirtualMachineRequest.SHUTDOWN)
    stopping = asyncio.create_task(running.vms.StopVirtualMachine(call, CALLER))
    await stopping
    while running.asked.latest is None or running.asked.latest.operation is None:
        await running.asked.orders.get()  # the last one is the stop's own
    age(running, 60)
    while not running.asked.orders.empty():
        running.asked.orders.get_nowait()
    with pytest.raises(OperationActive):
        await running.vms.StartVirtualMachine(START, CALLER)
    assert running.asked.orders.empty()
