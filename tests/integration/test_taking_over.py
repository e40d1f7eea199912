"""TakeOverHost and TakeOverVirtualMachine over the whole server, with a host that the test speaks for."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from google.longrunning.operations_pb2 import Operation

from snapshotd.api.v1 import host_pb2, snapshot_pb2
from snapshotd.api.v1 import virtual_machine_pb2 as vm_pb2
from snapshotd.dispatch.orders import Order, OrderKind
from snapshotd.domain.errors import InvalidArgument, NotFound, RequestIdReused, VmChanging
from snapshotd.domain.events import Envelope, HostTakenOver, LogFoundRolledBack, VmTakenOver
from snapshotd.domain.host_errors import HostAnswerLost, HostForeign, HostJournalsFailed, NotTakenOver
from snapshotd.domain.host_report import HostAnswer, JournalState, Unread, Verdict
from snapshotd.domain.ids import VmId
from snapshotd.domain.state import replace
from tests.fakes import FakeHost
from tests.integration.quiet_server import CALLER, HV01, Running, run
from tests.integration.writing import registered

OURS: Final = "i"
OTHER: Final = "another-installation"
IDS: Final = [VmId(f"33333333-3333-4333-8333-33333333330{n}") for n in range(3)]


@dataclass
class Place:
    """A host: who owns its journals, and its VMs. It answers whatever it is asked for."""

    running: Running
    vms: dict[VmId, FakeHost]
    owner: str = ""
    former: tuple[str, ...] = ()
    unreadable: set[VmId] = field(default_factory=set)
    journal_error: str = ""
    loses_answer: bool = False
    """The next answer to TAKE_OVER."""
    faster: str = ""
    """Another installation, which takes the host over just before us."""
    asked: list[OrderKind] = field(default_factory=list)
    worked: asyncio.Event = field(default_factory=asyncio.Event)
    """An effect was carried out."""

    async def serve(self) -> None:
        """Answer, until cancelled."""
        while True:
            dispatch_id = await self.running.asked.orders.get()
            order = self.running.asked.seen[len(self.asked)]
            self.asked.append(order.kind)
            told = {"installation_id": self.owner, "former_installation_ids": self.former}
            self.running.service.runtime.outcome("executor", dispatch_id, replace(self._answer(order), **told))  # type: ignore[arg-type]

    def _answer(self, order: Order) -> HostAnswer:
        match order.kind:
            case OrderKind.REPORT:
                wanted = [order.vm_id] if order.vm_id else sorted(self.vms)
                reports = [self.vms[vm_id].report() for vm_id in wanted]
                told = [
                    replace(r, unread=Unread("x", "E", "torn")) if r.vm_id in self.unreadable else r for r in reports
                ]
                return HostAnswer(verdict=Verdict.REPORTED, vms=tuple(told), journal_error=self.journal_error)
            case OrderKind.TAKE_OVER:
                return self._taken_over(order)
            case _ if self.owner != OURS:
                return HostAnswer(verdict=Verdict.FOREIGN_INSTALLATION)
            case OrderKind.OBSERVE:
                assert order.vm_id is not None
                return self.vms[order.vm_id].observe(order.token)
            case _:
                assert order.vm_id is not None
                self.worked.set()
                return self.vms[order.vm_id].effect(order)

    def _taken_over(self, order: Order) -> HostAnswer:
        self.owner = self.faster or self.owner
        if order.former_installation_id != self.owner:
            return HostAnswer(verdict=Verdict.FOREIGN_INSTALLATION, error_message=f"It is {self.owner}'s.")
        self.owner, self.former = OURS, (self.owner, *self.former)
        if self.loses_answer:
            self.loses_answer = False
            return HostAnswer(verdict=Verdict.NO_ANSWER, error_id="CONNECTION_LOST", error_message="gone")
        return HostAnswer(verdict=Verdict.DONE)

    async def take_over(self, **fields: object) -> host_pb2.TakeOverHostResponse:
        """Take the host over."""
        request = host_pb2.TakeOverHostRequest(name=f"hosts/{HV01}", **fields)  # type: ignore[arg-type]
        return await self.running.hosts.TakeOverHost(request, CALLER)

    async def take_vm_over(self, vm_id: VmId, **fields: object) -> vm_pb2.TakenOver:
        """Take a VM over."""
        name = f"virtualMachines/{vm_id}"
        request = vm_pb2.TakeOverVirtualMachineRequest(name=name, **fields)  # type: ignore[arg-type]
        return (await self.running.vms.TakeOverVirtualMachine(request, CALLER)).taken_over

    async def register(self, vm_id: VmId) -> vm_pb2.VirtualMachine:
        """Register a VM."""
        request = vm_pb2.RegisterVirtualMachineRequest(host=f"hosts/{HV01}", vm_id=vm_id)
        return await self.running.vms.RegisterVirtualMachine(request, CALLER)

    async def create(self, vm_id: VmId) -> Operation:
        """Ask for a snapshot."""
        parent = f"virtualMachines/{vm_id}"
        snapshot = snapshot_pb2.Snapshot(kind=snapshot_pb2.Snapshot.DISK)
        return await self.running.snapshots.CreateSnapshot(
            snapshot_pb2.CreateSnapshotRequest(parent=parent, snapshot=snapshot), CALLER
        )

    async def events(self, of: str) -> list[Envelope]:
        """Return the events of a stream."""
        return list(await self.running.log.read_stream(of, 0))  # type: ignore[arg-type]

    async def recorded(self) -> int:
        """Return how many events a take-over has left."""
        streams = [await self.events(of) for of in (f"host/{HV01}", *(f"vm/{vm_id}" for vm_id in self.vms))]
        kinds = (HostTakenOver, VmTakenOver, LogFoundRolledBack)
        return sum(isinstance(envelope.event, kinds) for events in streams for envelope in events)

    def work_of_another_log(self, vm_id: VmId, token: int) -> None:
        """Let another log have worked on a VM."""
        host = self.vms[vm_id]
        operation = f"operations/{vm_id}.9-0f0f0f0f"
        host.journal = replace(
            host.journal,
            state=JournalState.PRESENT,
            journal_id="journal-x",
            highest_token=token,
            operation=operation,
            step=1,
            done=True,
        )


@asynccontextmanager
async def place(storage: Path, owner: str, registered: int) -> AsyncIterator[Place]:
    """Run a server and a host with three VMs, the first of which are registered."""
    async with run(storage) as running:
        there = Place(running, {vm_id: FakeHost(vm_id=vm_id) for vm_id in IDS})
        serving = asyncio.create_task(there.serve())
        for vm_id in IDS[:registered]:
            await there.register(vm_id)
        there.owner = owner
        yield there
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


def of_type(events: list[Envelope], cls: type) -> list[Envelope]:
    return [envelope for envelope in events if isinstance(envelope.event, cls)]


async def test_a_host_of_another_installation_is_taken_over_with_its_vms(tmp_path: Path) -> None:
    async with place(tmp_path, OTHER, 2) as there:
        there.work_of_another_log(IDS[0], 77)
        operation = await there.create(IDS[1])
        said = await there.take_over(reason="hv02 is gone")
        assert (said.former_installation_id, said.changes_hands, said.unregistered_count) == (OTHER, True, 1)
        assert not said.host.HasField("wait")
        first, second = said.virtual_machines
        assert (first.virtual_machine, first.journal_token, list(first.operations_ended)) == (
            f"virtualMachines/{IDS[0]}",
            77,
            [],
        )
        assert list(second.operations_ended) == [operation.name]
        (taken,) = of_type(await there.events(f"host/{HV01}"), HostTakenOver)
        assert isinstance(taken.event, HostTakenOver)
        assert (taken.event.former_installation_id, taken.event.reason, taken.actor) == (
            OTHER,
            "hv02 is gone",
            "anonymous",
        )
        assert there.owner == OURS
        events = await there.events(f"vm/{IDS[1]}")
        assert (
            of_type(events, LogFoundRolledBack)[0].position < taken.position < of_type(events, VmTakenOver)[0].position
        )


async def test_a_plan_tells_the_same_and_changes_nothing(tmp_path: Path) -> None:
    async with place(tmp_path, OTHER, 2) as there:
        there.work_of_another_log(IDS[0], 77)
        await there.create(IDS[1])
        head = await there.recorded()
        plan = await there.take_over(validate_only=True)
        while any(vm.failure.reason == VmChanging.reason for vm in plan.virtual_machines):
            # Just then an attempt of the operation was under way, which a take-over itself would have stopped first.
            plan = await there.take_over(validate_only=True)
        assert await there.recorded() == head
        assert OrderKind.TAKE_OVER not in there.asked
        said = await there.take_over()
        for each in (plan, said):
            each.ClearField("host")
        assert plan == said


async def test_a_request_that_is_repeated_gets_its_first_answer(tmp_path: Path) -> None:
    async with place(tmp_path, OTHER, 2) as there:
        await there.create(IDS[1])
        request_id = str(uuid.uuid4())
        first = await there.take_over(request_id=request_id)
        head = await there.recorded()
        again = await there.take_over(request_id=request_id)
        for each in (first, again):
            each.ClearField("host")
        assert again == first
        assert await there.recorded() == head
        with pytest.raises(RequestIdReused):
            await there.take_over(request_id=request_id, reason="another")


async def test_a_host_that_is_ours_already_leaves_nothing_to_do(tmp_path: Path) -> None:
    async with place(tmp_path, OURS, 2) as there:
        head = await there.recorded()
        said = await there.take_over()
        assert (said.changes_hands, list(said.virtual_machines)) == (False, [])
        assert await there.recorded() == head
        nothing = await there.take_vm_over(IDS[0])
        assert (nothing.nothing_to_do, nothing.HasField("failure")) == (True, False)


async def test_when_the_answer_is_lost_a_repetition_completes_it(tmp_path: Path) -> None:
    async with place(tmp_path, OTHER, 2) as there:
        there.loses_answer = True
        with pytest.raises(HostAnswerLost):
            await there.take_over()
        assert of_type(await there.events(f"host/{HV01}"), HostTakenOver) == []
        # Until then nothing goes on, though the host is ours already and the journals show nothing.
        blocked = await registered(there.running.backend.log)
        assert all(vm.rolled_back for vm in blocked)
        await there.running.hosts.SyncHost(host_pb2.SyncHostRequest(name=f"hosts/{HV01}"), CALLER)
        assert all(vm.rolled_back for vm in await registered(there.running.backend.log))
        said = await there.take_over(reason="again")
        assert len(said.virtual_machines) == 2
        (taken,) = of_type(await there.events(f"host/{HV01}"), HostTakenOver)
        assert isinstance(taken.event, HostTakenOver)
        assert taken.event.former_installation_id == OTHER
        assert not any(vm.rolled_back for vm in await registered(there.running.backend.log))


async def test_a_third_installation_that_was_faster_has_the_host(tmp_path: Path) -> None:
    async with place(tmp_path, OTHER, 1) as there:
        there.faster = "third"
        with pytest.raises(HostForeign, match="third"):
            await there.take_over()
        assert there.owner == "third"
        assert of_type(await there.events(f"host/{HV01}"), HostTakenOver) == []


async def test_a_vm_that_cannot_be_read_holds_up_no_other_and_is_taken_over_later(tmp_path: Path) -> None:
    async with place(tmp_path, OTHER, 2) as there:
        there.unreadable = {IDS[0]}
        said = await there.take_over()
        failed, taken = said.virtual_machines
        assert (failed.failure.reason, failed.failure.message) == ("UNREADABLE", "torn")
        assert not taken.HasField("failure")
        assert [bool(vm.rolled_back) for vm in await registered(there.running.backend.log)] == [True, False]
        there.unreadable = set()
        (later,) = (await there.take_over()).virtual_machines
        assert (later.virtual_machine, later.HasField("failure")) == (f"virtualMachines/{IDS[0]}", False)


async def test_a_vm_that_is_registered_afterwards_goes_on_from_its_journal(tmp_path: Path) -> None:
    async with place(tmp_path, OTHER, 0) as there:
        there.work_of_another_log(IDS[0], 77)
        await there.take_over()
        registered = await there.register(IDS[0])
        assert not registered.conditions
        await there.create(IDS[0])
        await there.worked.wait()
        assert there.vms[IDS[0]].effects
        assert there.vms[IDS[0]].journal.highest_token > 77


async def test_on_a_host_that_was_always_ours_a_newer_journal_is_for_a_person(tmp_path: Path) -> None:
    async with place(tmp_path, OURS, 0) as there:
        there.work_of_another_log(IDS[0], 77)
        (told,) = (await there.register(IDS[0])).conditions
        assert told.reason == "LOG_ROLLED_BACK"
        taken = await there.take_vm_over(IDS[0], reason="restored")
        assert (taken.journal_token, taken.nothing_to_do) == (77, False)
        name = f"virtualMachines/{IDS[0]}"
        shown = await there.running.vms.GetVirtualMachine(vm_pb2.GetVirtualMachineRequest(name=name), CALLER)
        assert not shown.conditions


async def test_a_vm_is_not_taken_over_while_its_host_is_anothers_or_at_work_on_it(tmp_path: Path) -> None:
    async with place(tmp_path, OTHER, 1) as there:
        there.work_of_another_log(IDS[0], 77)
        with pytest.raises(HostForeign, match="host take-over"):
            await there.take_vm_over(IDS[0])
        there.owner = OURS
        there.vms[IDS[0]].transition = "Saving"
        with pytest.raises(NotTakenOver):
            await there.take_vm_over(IDS[0])


async def test_what_cannot_be_taken_over_is_refused(tmp_path: Path) -> None:
    async with place(tmp_path, OTHER, 1) as there:
        for reason in ("x" * 1001, "bell \a"):
            with pytest.raises(InvalidArgument):
                await there.take_over(reason=reason)
        with pytest.raises(NotFound):
            await there.take_vm_over(IDS[1])
        with pytest.raises(NotFound):
            await there.running.hosts.TakeOverHost(host_pb2.TakeOverHostRequest(name="hosts/none"), CALLER)
        there.journal_error = "The disk is full."
        with pytest.raises(HostJournalsFailed):
            await there.take_over()
        assert there.owner == OTHER
