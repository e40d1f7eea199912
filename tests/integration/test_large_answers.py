"""Whatever is on record can be read by a client that takes 4 MiB a message, or is refused with words that lead on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import grpc
import pytest
import pytest_asyncio

from snapshotd.api.v1 import audit_pb2, snapshot_pb2
from snapshotd.api.v1.audit_pb2_grpc import AuditServiceStub
from snapshotd.api.v1.snapshot_pb2_grpc import SnapshotServiceStub
from snapshotd.client.calls import Server
from snapshotd.client.pages import pages
from snapshotd.domain import events as e
from snapshotd.domain.ids import vm_stream
from snapshotd.domain.lifecycle import SnapshotState
from snapshotd.domain.offering import Offering
from snapshotd.domain.operation import Failure
from snapshotd.domain.state import replace
from tests.fakes import VM_ID
from tests.integration.large_history import large_description, snapshot_id
from tests.integration.test_fuzzed_calls import reason
from tests.integration.whole_server import Served, serve
from tests.integration.writing import write
from tests.unit.projections.histories import RecordedWorld

SNAPSHOTS: Final = 1100
DESCRIBED: Final = 20
VM: Final = f"virtualMachines/{VM_ID}"


def large() -> RecordedWorld:
    """Return a world with one VM that has much of everything: 5 MiB of snapshots, 7 MiB of events, and one of 6 MiB."""
    world, states = RecordedWorld(), SnapshotState
    described = world.host.report().description
    for n in range(DESCRIBED):
        keep(
            world,
            e.VmDescribed(
                description=replace(large_description(described), offering=Offering(cpu_count=n, memory_bytes=1 << 30))
            ),
        )
    for n in range(SNAPSHOTS):
        own = snapshot_id(n)
        keep(
            world,
            e.SnapshotRequested(
                snapshot_id=own,
                from_state=states.NEW,
                to_state=states.ALLOCATED,
                name=f"s{n}",
                description="d" * 4000,
                with_memory=False,
            ),
        )
        failure = Failure(reason="HOST_ERROR", message="m" * 50_000 if n == 0 else "It failed.")
        creating = e.SnapshotCreationStarted(
            snapshot_id=own, from_state=states.ALLOCATED, to_state=states.CREATING, parent_id=None
        )
        keep(world, creating)
        keep(
            world,
            e.SnapshotCreationFailed(
                snapshot_id=own, from_state=states.CREATING, to_state=states.ERROR, failure=failure
            ),
        )
    keep(world, e.VmDescribed(description=large_description(described, checkpoints=700)))
    keep(world, e.VmDescribed(description=described))  # type: ignore[arg-type]  # the fake host has described it
    return world


def keep(world: RecordedWorld, event: e.VmEvent) -> None:
    """Append an event."""
    world.keep(vm_stream(VM_ID), world.envelopes[-1].version + 1, event, "ann")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serve(tmp_path_factory.mktemp("large")) as running:
        await write(running.log, large().envelopes)
        await running.projections.catch_up()
        yield running


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_all_events_are_read_in_pages_that_any_client_takes(served: Served) -> None:
    request = audit_pb2.ListEventsRequest()
    with Server(served.server.address, "ann", timeout_s=60) as client:
        found = await asyncio.to_thread(lambda: list(pages(client, client.audit.ListEvents, request)))
    events = [event for page in found for event in page.events]
    assert [event.version for event in events] == list(range(1, served.log.head_position() + 1))
    assert max(page.ByteSize() for page in found) <= 4 * 1024 * 1024
    described = [event for event in events if event.type == "VmDescribed"]
    left_out = [event.omitted_data_bytes > 4 * 1024 * 1024 for event in described]
    assert left_out == [False] * (DESCRIBED + 1) + [True, False]
    assert [event.HasField("data") for event in described] == [not left for left in left_out]


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_all_snapshots_are_read_in_pages_and_a_tree_that_is_too_large_is_refused_with_what_to_do(
    served: Served,
) -> None:
    stub = SnapshotServiceStub(served.channel)
    with pytest.raises(
        grpc.aio.AioRpcError, match="`snapshotctl snapshot list VM` has the snapshots of a tree"
    ) as refused:
        await stub.GetSnapshotTree(snapshot_pb2.GetSnapshotTreeRequest(name=VM))
    assert (refused.value.code(), reason(refused.value)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "ANSWER_TOO_LARGE")
    request = snapshot_pb2.ListSnapshotsRequest(parent=VM, page_size=1000)
    names: list[str] = []
    while request.page_token or not names:
        page = await stub.ListSnapshots(request)
        names += [s.display_name for s in page.snapshots]
        request.page_token = page.next_page_token
    assert sorted(names) == sorted(f"s{n}" for n in range(SNAPSHOTS))


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_a_hosts_long_words_are_cut_in_a_message_and_whole_in_the_log(served: Served) -> None:
    name = f"{VM}/snapshots/{snapshot_id(0)}"
    snapshot = await SnapshotServiceStub(served.channel).GetSnapshot(snapshot_pb2.GetSnapshotRequest(name=name))
    assert snapshot.failure.message == "m" * 3999 + "…"
    request = audit_pb2.ListEventsRequest(snapshot=name, type="SnapshotCreationFailed")
    (event,) = (await AuditServiceStub(served.channel).ListEvents(request)).events
    assert "m" * 50_000 in str(event.data)
