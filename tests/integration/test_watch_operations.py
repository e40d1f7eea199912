"""WatchOperations: what meets the filter at once, then each operation again when it has changed, and only then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from google.longrunning.operations_pb2 import ListOperationsRequest

from snapshotd.api.v1.operation_pb2 import OperationMetadata, WatchOperationsRequest, WatchOperationsResponse
from snapshotd.api.v1.operation_pb2_grpc import OperationServiceStub
from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.events import Envelope
from snapshotd.ports.trouble import Trouble
from snapshotd.server.operation_reader import OperationReader
from snapshotd.server.operation_service import OperationService
from snapshotd.server.request_errors import FilterInvalid
from snapshotd.steps.vm_stop import StopMode
from tests.asking import start_vm, stop_vm
from tests.integration import quiet_server
from tests.integration.quiet_server import CALLER, Running
from tests.integration.test_fuzzed_calls import reason
from tests.integration.whole_server import serve
from tests.integration.writing import write
from tests.unit.application.cases import create
from tests.unit.projections.histories import RecordedWorld, history

Seen = tuple[str, str, str]
"""Number, state and current step of an operation."""


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    async with quiet_server.run(tmp_path) as running:
        yield running


def watch(server: Running, condition: str = "", heartbeat_s: float = 60.0) -> AsyncIterator[WatchOperationsResponse]:
    """Begin a watch."""
    service = OperationService(server.backend, OperationReader(server.backend), heartbeat_s)
    return service.WatchOperations(WatchOperationsRequest(filter=condition), CALLER)


async def recorded(server: Running, envelopes: Sequence[Envelope]) -> None:
    """Write events, and return when they are in the views."""
    await write(server.log, envelopes)
    await server.backend.views.reached(server.log.head_position())


def seen(answer: WatchOperationsResponse) -> Seen:
    """Return what an answer tells of an operation."""
    metadata = OperationMetadata()
    assert answer.operation.metadata.Unpack(metadata)
    number = answer.operation.name.rpartition(".")[2].partition("-")[0]
    return number, OperationMetadata.State.Name(metadata.state), metadata.current_step


async def present(watched: AsyncIterator[WatchOperationsResponse]) -> list[WatchOperationsResponse]:
    """Return what is sent until all that is there has been."""
    found = []
    while not (answer := await anext(watched)).complete:
        found.append(answer)
    assert answer == WatchOperationsResponse(complete=True)
    return found


@pytest.mark.slow
async def test_at_first_all_that_match_come_as_they_are_listed(server: Running) -> None:
    world = history(seed=5, requests=30)
    await recorded(server, world.envelopes)
    for condition in ("", 'state = "SUCCEEDED"', 'actor = "bob" AND done = "true"'):
        listed = await server.operations.ListOperations(ListOperationsRequest(filter=condition, page_size=1000), CALLER)
        there = await present(watch(server, condition))
        assert [answer.operation for answer in there] == list(listed.operations)
        assert there


async def test_each_step_of_an_operation_comes_once_and_its_end_too(server: Running) -> None:
    world = RecordedWorld()
    await recorded(server, world.envelopes)
    watched = watch(server)
    assert await present(watched) == []
    told: list[WatchOperationsResponse] = []
    done = len(world.envelopes)
    world.do(stop_vm(StopMode.TURN_OFF))
    while True:
        await recorded(server, world.envelopes[done:])
        done = len(world.envelopes)
        answer = await anext(watched)
        assert answer.complete
        assert answer not in told
        told.append(answer)
        if not world.vm.active_operations:
            break
        while len(world.envelopes) == done:
            world.turn()
    states = [seen(answer) for answer in told]
    assert list(dict.fromkeys(states)) == [("1", "PENDING", "stop"), ("1", "RUNNING", "stop"), ("1", "SUCCEEDED", "")]


async def test_one_that_meets_the_filter_no_longer_is_sent_once_more(server: Running) -> None:
    world = RecordedWorld()
    world.do(create(0))
    await recorded(server, world.envelopes)
    watched = watch(server, 'done = "false"')
    assert [seen(answer)[:2] for answer in await present(watched)] == [("1", "PENDING")]
    done = len(world.envelopes)
    world.run()
    world.do(start_vm() if world.vm.power.name == "STOPPED" else stop_vm(StopMode.TURN_OFF))
    await recorded(server, world.envelopes[done:])
    assert [seen(await anext(watched))[:2] for _ in range(2)] == [("1", "SUCCEEDED"), ("2", "PENDING")]
    done = len(world.envelopes)
    world.run()
    await recorded(server, world.envelopes[done:])
    assert seen(await anext(watched))[:2] == ("2", "SUCCEEDED")


async def test_what_an_operation_waits_for_is_news_though_it_is_on_no_record(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = RecordedWorld()
    world.do(create(0))
    await recorded(server, world.envelopes)
    watched = watch(server, 'done = "false"')
    (before,) = await present(watched)
    trouble = Trouble(reason="DISK_FULL", message="There is no room.", since=datetime(2026, 1, 1, tzinfo=UTC))
    monkeypatch.setattr(server.log, "trouble", lambda: trouble)
    metadata = OperationMetadata()
    (await anext(watched)).operation.metadata.Unpack(metadata)
    assert metadata.wait.reason == "DISK_FULL"
    monkeypatch.undo()
    assert (await anext(watched)).operation == before.operation


async def test_heartbeats_come_while_nothing_changes(server: Running) -> None:
    world = RecordedWorld()
    world.do(create(0))
    await recorded(server, world.envelopes)
    watched = watch(server, heartbeat_s=0.01)
    await present(watched)
    assert [await anext(watched) for _ in range(3)] == [WatchOperationsResponse(complete=True)] * 3


async def test_a_filter_that_cannot_be_read_is_refused(server: Running) -> None:
    with pytest.raises(FilterInvalid):
        await anext(watch(server, "nonsense"))


async def test_a_server_that_stops_says_so_to_those_who_watch_operations(tmp_path: Path) -> None:
    async with serve(tmp_path) as served:
        call = OperationServiceStub(served.channel).WatchOperations(WatchOperationsRequest())
        assert await call.read() == WatchOperationsResponse(complete=True)
        await served.server.stop(10)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        assert (ended.value.code(), reason(ended.value)) == (grpc.StatusCode.UNAVAILABLE, "STOPPING")


@pytest.mark.slow
async def test_a_watch_that_is_behind_gets_every_operation_as_it_is_now(server: Running) -> None:
    world = RecordedWorld()
    await recorded(server, world.envelopes)
    watched = watch(server)
    await present(watched)
    done = len(world.envelopes)
    for n in range(300):
        with suppress(SnapshotdError):
            world.do(create(n))
        if world.vm.active_operations:
            world.cancel(world.vm.active_operations[0].number)
    assert world.vm.last_number > 200
    await recorded(server, world.envelopes[done:])
    answers = [seen(await anext(watched)) for _ in range(world.vm.last_number)]
    assert [int(number) for number, _, _ in answers] == list(range(1, world.vm.last_number + 1))
    assert {state for _, state, _ in answers} == {"CANCELLED"}
