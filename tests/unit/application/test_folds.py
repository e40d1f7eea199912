"""Folds in memory: of bounded number, read back when they are asked for, and never older than what is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from uuid import UUID

import pytest

from snapshotd.application import mementos
from snapshotd.application.folds import Folds
from snapshotd.application.standing import ACTIVE
from snapshotd.application.virtual_machines import VirtualMachines
from snapshotd.domain.commands import RegisterVm, SyncVm, UnregisterVm
from snapshotd.domain.events import Envelope, NewEvent
from snapshotd.domain.ids import HostId, KindName, StreamId, VmId, vm_stream
from snapshotd.domain.policy import Policy
from snapshotd.domain.storage_errors import RecordNotReadable
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.catalogue import KINDS
from snapshotd.ports.event_log import UNCHANGED, Memento, Standing
from snapshotd.ports.plain import encode_text
from tests.doubles import Clock, Ids
from tests.fakes import VM_ID, FakeHost
from tests.memory_log import MemoryLog
from tests.unit.application.cases import create

HOST = HostId("hv01")
VMS = [VmId(str(UUID(int=n))) for n in range(1, 6)]


class CountingLog(MemoryLog):
    """Remembers what was read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[Mapping[StreamId, int]] = []

    async def read_streams(self, after: Mapping[StreamId, int]) -> tuple[Envelope, ...]:
        """Read."""
        self.read.append(dict(after))
        return await super().read_streams(after)


def over(log: MemoryLog, room: int = 100, shape: str = "x") -> VirtualMachines:
    """Return the VMs of a log, with none in memory."""
    return VirtualMachines(log, Clock(), Ids(), Policy(), shape, room)


async def registered(vms: VirtualMachines, vm_id: VmId) -> VirtualMachine:
    """Register a VM."""
    command = RegisterVm(host_id=HOST, report=FakeHost(vm_id=vm_id).report(), owner="ops")
    return (await vms.execute(vm_id, command, actor="ann")).vm


def test_the_one_used_longest_ago_is_dropped_but_none_that_is_held_or_at_work() -> None:
    dropped: list[VmId] = []
    folds = Folds(2, dropped.append)
    for vm_id in VMS[:2]:
        folds.put(VirtualMachine(vm_id=vm_id, version=1))
    with folds.held(VMS[0]):
        for vm_id in VMS[2:4]:
            folds.put(VirtualMachine(vm_id=vm_id, version=1))
        assert folds.get(VMS[0]) is not None
        assert dropped == VMS[1:3]
    assert len(folds) == 2
    folds.put(VirtualMachine(vm_id=VMS[4], version=1))
    assert dropped == [*VMS[1:3], VMS[3]]
    assert folds.put(VirtualMachine(vm_id=VMS[0], version=0)).version == 1, "an older fold replaces no newer one"


async def test_what_was_dropped_is_read_back_as_it_was_and_goes_on() -> None:
    vms = over(MemoryLog(), room=1)
    made = {vm_id: await registered(vms, vm_id) for vm_id in VMS}
    assert len(vms._folds) == 1
    for vm_id, vm in made.items():
        assert await vms.load(vm_id) == vm
    begun = [await vms.execute(vm_id, create(1), actor="ann") for vm_id in VMS]
    assert all(decided.envelopes for decided in begun)
    assert len(vms._folds) == len(VMS), "what is at work stays"


async def test_a_fold_that_was_read_while_its_vm_changed_is_not_kept_in_place_of_the_newer_one() -> None:
    log = CountingLog()
    await registered(over(log), VM_ID)
    vms = over(log)
    reading = asyncio.Event()
    go_on = asyncio.Event()
    read = log.read_streams

    async def slow(after: Mapping[StreamId, int]) -> tuple[Envelope, ...]:
        found = await read(after)
        reading.set()
        await go_on.wait()
        return found

    log.read_streams = slow  # type: ignore[method-assign]
    first = asyncio.create_task(vms.load(VM_ID))
    await reading.wait()
    log.read_streams = read  # type: ignore[method-assign]
    newer = (await vms.execute(VM_ID, create(1), actor="ann")).vm
    go_on.set()
    assert await first == newer == await vms.load(VM_ID)


async def test_a_long_stream_is_read_from_its_last_memento_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mementos, "EVERY", 10)
    log = CountingLog()
    vms = over(log)
    await registered(vms, VM_ID)
    for n in range(12):
        report = FakeHost(vm_id=VM_ID, leaf=f"base{n}.vhdx").report()
        await vms.execute(VM_ID, SyncVm(report=report, asked_version=1 << 30, host_id=HOST), actor="ann")
    newest = await vms.load(VM_ID)
    log.read.clear()
    assert await over(log).load(VM_ID) == newest
    (after,) = log.read
    assert newest.version - 10 <= after[vm_stream(VM_ID)] < newest.version
    assert await over(log, shape="another release's").load(VM_ID) == newest
    assert log.read[-1] == {vm_stream(VM_ID): 0}, "a memento of another release is not read"


async def test_vms_are_found_by_host_mark_and_file_without_being_folded() -> None:
    log = CountingLog()
    vms = over(log)
    for vm_id in VMS:
        await registered(vms, vm_id)
    await vms.execute(VMS[0], create(1), actor="ann")
    await vms.execute(VMS[1], UnregisterVm(), actor="ann")
    log.read.clear()
    again = over(log)
    assert list(await again.on_host(HOST)) == [VMS[0], *VMS[2:]]
    assert await again.on_host(HostId("hv02")) == {}
    assert await again.places(VMS[:2]) == {VMS[0]: HOST}
    (leaf,) = (await vms.load(VMS[2])).description.leaf_paths()  # type: ignore[union-attr]
    having = (VMS[0], *VMS[2:])
    assert await again.with_files([leaf, leaf.upper(), "D:\\none.vhdx"]) == {leaf: having, leaf.upper(): having}
    assert log.read == []
    assert await again.marked(ACTIVE) == (VMS[0],)
    assert log.read == []
    assert [vm.vm_id for vm in await again.load_all(VMS[:2])] == VMS[:2]
    assert [vm.vm_id for vm in again.with_work()] == [VMS[0]]


async def test_a_memento_that_cannot_be_read_is_none() -> None:
    log = CountingLog()
    vm = await registered(over(log), VM_ID)
    log.keep(vm_stream(VM_ID), "x", Memento(vm.version, '{"vm_id":'))
    assert await over(log).load(VM_ID) == vm
    log.keep(vm_stream(VM_ID), "x", Memento(vm.version + 1, encode_text(vm)))
    assert await over(log).load(VM_ID) == vm


class CutLog(CountingLog):
    """Appends, and the caller never hears of it."""

    cut = False

    async def append(
        self, stream: StreamId, expected_version: int, events: Sequence[NewEvent], standing: Standing = UNCHANGED
    ) -> tuple[Envelope, ...]:
        """Append."""
        appended = await super().append(stream, expected_version, events, standing)
        if self.cut:
            raise asyncio.CancelledError
        return appended


async def test_what_was_recorded_is_known_though_who_asked_for_it_was_cut_off() -> None:
    log = CutLog()
    vms = over(log)
    await registered(vms, VM_ID)
    log.cut = True
    with pytest.raises(asyncio.CancelledError):
        await vms.execute(VM_ID, create(1), actor="ann")
    assert (await vms.load(VM_ID)).active_operations
    assert [vm.vm_id for vm in vms.with_work()] == [VM_ID]


async def test_a_vm_that_cannot_be_read_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    log = CountingLog()
    vms = over(log)
    for vm_id in VMS[:3]:
        await registered(vms, vm_id)
    await vms.execute(VMS[1], create(1), actor="ann")
    monkeypatch.delitem(KINDS, KindName("CREATE_SNAPSHOT"))
    read, unread = await over(log).load_each(VMS[:3])
    assert [vm.vm_id for vm in read] == [VMS[0], VMS[2]]
    assert [type(error) for error in unread.values()] == [RecordNotReadable]
