"""Requests on a VM go on side by side; who closes it waits for them, and lets no other in."""

from __future__ import annotations

import asyncio

import pytest

from snapshotd.domain.ids import VmId
from snapshotd.server.vm_gate import VmGate

ONE, OTHER = VmId("1"), VmId("2")


class Work:
    """Notes what is inside, in order, and goes on when it is told to."""

    def __init__(self, gate: VmGate) -> None:
        self.gate = gate
        self.noted: list[str] = []
        self.go = asyncio.Event()

    async def request(self, vm_id: VmId, name: str) -> None:
        """Be inside of a VM until told to go."""
        async with self.gate.enter(vm_id):
            self.noted.append(name)
            await self.go.wait()
            self.noted.append(f"{name} ended")

    async def deal(self, *vm_ids: VmId) -> None:
        """Close VMs for a moment."""
        async with self.gate.close(vm_ids):
            self.noted.append("closed")
            await asyncio.sleep(0)
            self.noted.append("open")


@pytest.fixture
async def work() -> Work:
    return Work(VmGate())


async def turns() -> None:
    """Let everything that can go on do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_requests_on_one_vm_go_on_side_by_side(work: Work) -> None:
    both = [asyncio.create_task(work.request(ONE, name)) for name in ("a", "b")]
    await turns()
    assert work.noted == ["a", "b"]
    work.go.set()
    await asyncio.gather(*both)


async def test_who_closes_a_vm_waits_for_those_inside_and_lets_none_in_meanwhile(work: Work) -> None:
    first = asyncio.create_task(work.request(ONE, "first"))
    await turns()
    closing = asyncio.create_task(work.deal(ONE, OTHER))
    await turns()
    later = asyncio.create_task(work.request(OTHER, "later"))
    await turns()
    assert work.noted == ["first"]
    work.go.set()
    await asyncio.gather(first, closing, later)
    assert work.noted == ["first", "first ended", "closed", "open", "later", "later ended"]


async def test_another_vm_stays_open(work: Work) -> None:
    first = asyncio.create_task(work.request(ONE, "first"))
    await turns()
    closing = asyncio.create_task(work.deal(ONE))
    other = asyncio.create_task(work.request(OTHER, "other"))
    await turns()
    assert work.noted == ["first", "other"]
    work.go.set()
    await asyncio.gather(first, closing, other)


async def test_a_vm_is_open_again_after_what_failed_inside(work: Work) -> None:
    async def fail() -> None:
        async with work.gate.close([ONE]):
            raise KeyError(ONE)

    with pytest.raises(KeyError):
        await fail()
    with pytest.raises(KeyError):
        async with work.gate.enter(ONE):
            raise KeyError(ONE)
    await work.deal(ONE)
    assert work.noted == ["closed", "open"]
