"""WatchEvents: every event after a position once, in order, to readers fast, slow and many, until the server ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import pytest_asyncio

from snapshotd.api.v1.admin_pb2 import GetStatusRequest
from snapshotd.api.v1.admin_pb2_grpc import AdminServiceStub
from snapshotd.api.v1.audit_pb2 import Event, ListEventsRequest, WatchEventsRequest
from snapshotd.api.v1.audit_pb2_grpc import AuditServiceStub
from snapshotd.domain.errors import InvalidArgument
from snapshotd.domain.events import VmDescribed
from snapshotd.domain.ids import SnapshotId, VmId, vm_stream
from snapshotd.domain.state import replace
from snapshotd.domain.storage_errors import ViewsUnreadable
from snapshotd.ports.views import EventQuery, Views
from snapshotd.server.audit_service import AuditService
from snapshotd.server.request_errors import PositionUnknown
from tests.fakes import VM_ID
from tests.integration import quiet_server
from tests.integration.large_history import large_description
from tests.integration.quiet_server import CALLER, Running
from tests.integration.test_fuzzed_calls import reason
from tests.integration.whole_server import serve
from tests.integration.writing import write
from tests.unit.application.cases import create
from tests.unit.projections.histories import RecordedWorld, history

VM: Final = f"virtualMachines/{VM_ID}"
OTHER: Final = VmId("22222222-2222-4222-8222-222222222222")
QUICK_S: Final = 0.01


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    async with quiet_server.run(tmp_path) as running:
        yield running


def watch(server: Running, heartbeat_s: float = 60.0, **conditions: Any) -> AsyncIterator[Event]:  # noqa: ANN401
    """Begin a watch."""
    service = AuditService(server.backend, heartbeat_s)  # type: ignore[abstract]  # what is not built
    return service.WatchEvents(WatchEventsRequest(**conditions), CALLER)


async def listed(server: Running, **conditions: Any) -> list[Event]:  # noqa: ANN401
    """Return the events that meet conditions, by the list."""
    await server.backend.views.reached(server.log.head_position())
    request = ListEventsRequest(page_size=1000, **conditions)
    return list((await server.audit.ListEvents(request, CALLER)).events)


async def taken(watched: AsyncIterator[Event], count: int) -> list[Event]:
    """Take so many events, past heartbeats."""
    found: list[Event] = []
    while len(found) < count:
        event = await anext(watched)
        found += [event] if event.type else []
    return found


def bare(events: Sequence[Event]) -> list[Event]:
    """Return events without their sentences, which tell names as far as they are known by then."""
    for event in events:
        event.ClearField("summary")
    return list(events)


@pytest.mark.slow
@pytest.mark.parametrize(
    "conditions",
    [
        {},
        {"virtual_machine": VM},
        {"types": ["StepDone", "SnapshotCreated"]},
        {"actors": ["bob"]},
        {"virtual_machine": VM, "types": ["OperationRequested"], "actors": ["ann", "bob"]},
    ],
    ids=str,
)
async def test_all_that_matches_comes_once_and_in_order_whatever_is_written_meanwhile(
    server: Running, conditions: dict[str, Any]
) -> None:
    world = history(seed=5, requests=12)
    elsewhere = [replace(envelope, stream=vm_stream(OTHER)) for envelope in world.envelopes]
    half = len(world.envelopes) // 2
    await write(server.log, world.envelopes[:half])
    watches = [watch(server, after_position=position, **conditions) for position in (0, 0, 7, half)]
    begun = [asyncio.create_task(taken(one, 1)) for one in watches]
    for ours, theirs in zip(world.envelopes[half:], elsewhere, strict=False):
        await write(server.log, [ours])
        await write(server.log, [theirs])
    everything = await listed(server, **conditions)
    assert len(everything) > 3
    for one, first, position in zip(watches, begun, (0, 0, 7, half), strict=True):
        wanted = [event for event in everything if event.position > position]
        assert bare(await first + await taken(one, len(wanted) - 1)) == bare(wanted)


async def test_what_is_written_next_comes_next(server: Running) -> None:
    world = RecordedWorld()
    await write(server.log, world.envelopes[:1])
    watched = watch(server, after_position=server.log.head_position() - 1)
    (first,) = await taken(watched, 1)
    assert await anext(watched) == Event(position=first.position)
    for envelope in world.envelopes[1:]:
        await write(server.log, [envelope])
        (event,) = await taken(watched, 1)
        assert (event.version, event.stream) == (envelope.version, envelope.stream)


async def test_a_heartbeat_tells_the_position_up_to_which_nothing_more_matches(server: Running) -> None:
    world = history(seed=5, requests=2)
    await write(server.log, world.envelopes)
    head = server.log.head_position()
    async with aclosing(watch(server, QUICK_S, actors=["nobody"])) as watched:  # type: ignore[type-var]  # a generator
        assert [await anext(watched) for _ in range(3)] == [Event(position=head)] * 3
        await write(server.log, [replace(world.envelopes[0], stream=vm_stream(OTHER))])
        while (beat := await anext(watched)).position == head:
            assert beat == Event(position=head)
        assert beat == Event(position=server.log.head_position())


@dataclass
class Counted:
    """Views that count how often events are looked for."""

    views: Views
    reads: int = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  (whatever the views have)
        """Return what is not counted."""
        return getattr(self.views, name)

    async def event_positions(self, query: EventQuery, beyond: int, limit: int, *, descending: bool) -> Sequence[int]:
        """Look for events."""
        self.reads += 1
        return await self.views.event_positions(query, beyond, limit, descending=descending)


async def test_a_hundred_watches_of_an_idle_log_read_nothing(server: Running) -> None:
    counted: Any = Counted(server.backend.views)
    service = AuditService(replace(server.backend, views=counted), QUICK_S)  # type: ignore[abstract]  # as above
    head = server.log.head_position()
    requests = [WatchEventsRequest(after_position=head) for _ in range(100)]
    watches = [service.WatchEvents(request, CALLER) for request in requests]
    for _ in range(5):
        assert {beat.position for beat in await asyncio.gather(*map(anext, watches))} == {head}
    assert counted.reads == 0


async def test_each_event_says_in_a_sentence_what_happened_by_the_names_of_its_subjects(server: Running) -> None:
    world = RecordedWorld()
    world.do(create(0))
    world.run()
    await write(server.log, world.envelopes)
    events = await listed(server, virtual_machine=VM)
    assert all(event.summary for event in events)
    names = {s.snapshot_id: s.name for s in world.vm.snapshots.values()}
    created = [event for event in events if event.type == "SnapshotCreated"]
    assert created
    for event in created:
        name = names[SnapshotId(event.subject.rpartition("/")[2])]
        assert event.summary.startswith(f"Snapshot '{name}' of VM web01 was taken (disks")
    issued = [event.summary for event in events if event.type == "StepIssued"]
    assert any("(checkpoint) of operation" in text and "(create snapshot 's" in text for text in issued)


async def test_without_the_views_of_names_the_ids_stand_in_the_sentence(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = history(seed=5, requests=2)
    await write(server.log, world.envelopes)
    await server.backend.views.reached(server.log.head_position())

    async def unreadable(*_: object) -> None:
        raise ViewsUnreadable("the disk failed")

    monkeypatch.setattr(server.backend.views, "display_names", unreadable)
    events = await listed(server, types=["VmPowerChanged", "VmActivityChanged"])
    assert events
    assert all(f"VM {VM_ID}" in event.summary for event in events)


async def refusal(server: Running, **conditions: Any) -> str:  # noqa: ANN401
    """Return what a watch is refused with."""
    with pytest.raises((PositionUnknown, InvalidArgument)) as refused:
        await anext(watch(server, **conditions))
    return f"{refused.value.reason}: {refused.value}"


async def test_a_position_of_another_log_is_refused_with_a_reason_of_its_own(server: Running) -> None:
    head = server.log.head_position()
    beyond = await refusal(server, after_position=head + 1)
    assert beyond.startswith(
        f"POSITION_UNKNOWN: Cannot go on after position {head + 1}: this log, whose newest position"
    )
    assert "POSITION_UNKNOWN" in await refusal(server, after_position=head, after_event_id="of another log")
    (event,) = await listed(server)
    known = watch(server, after_position=head, after_event_id=event.event_id)
    assert await anext(known) == Event(position=head)
    assert "must not be negative" in await refusal(server, after_position=-1)


async def test_a_type_that_does_not_exist_is_refused_with_those_that_do(server: Running) -> None:
    said = await refusal(server, types=["SnapshotCreated", "SnapshotMade"])
    assert "'SnapshotMade'" in said
    assert "SnapshotCreated, SnapshotCreationCancelled" in said
    assert "at most 100" in await refusal(server, actors=[str(n) for n in range(101)])


@pytest.mark.slow
async def test_a_slow_reader_makes_the_server_read_no_further_than_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(tmp_path) as served:
        world = RecordedWorld()
        described = large_description(world.host.report().description)
        for n in range(100):  # 350 KB each
            world.keep(vm_stream(VM_ID), world.vm.version + 1 + n, VmDescribed(description=described), "ann")
        await write(served.log, world.envelopes)
        await served.projections.catch_up()
        read: list[int] = []
        read_at = served.log.read_at

        async def counted(positions: Sequence[int]) -> Any:  # noqa: ANN401
            read.extend(positions)
            return await read_at(positions)

        monkeypatch.setattr(served.log, "read_at", counted)
        slow = AuditServiceStub(served.channel).WatchEvents(WatchEventsRequest())
        first = await slow.read()
        assert isinstance(first, Event)
        for _ in range(50):  # each one a round trip, in which the server could go on
            await AdminServiceStub(served.channel).GetStatus(GetStatusRequest())
        assert len(read) <= 60  # what gRPC holds in its windows, and a slice
        rest = 1
        while rest < served.log.head_position():
            event = await slow.read()
            assert isinstance(event, Event)
            rest += bool(event.type)
        assert len(read) == rest
        slow.cancel()


async def test_a_server_that_stops_says_so_to_those_who_watch(tmp_path: Path) -> None:
    async with serve(tmp_path) as served:
        call = AuditServiceStub(served.channel).WatchEvents(WatchEventsRequest())
        assert await call.read() == Event()
        served.server.refuse_changes()
        later = AuditServiceStub(served.channel).WatchEvents(WatchEventsRequest())
        assert await later.read() == Event()
        await served.server.stop(10)
        for watched in (call, later):
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await watched.read()
            assert (ended.value.code(), reason(ended.value)) == (grpc.StatusCode.UNAVAILABLE, "STOPPING")
