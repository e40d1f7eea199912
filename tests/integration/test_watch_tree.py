"""WatchSnapshotTree: the tree at once, again after each change of what it shows, and never twice the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from snapshotd.api.v1.snapshot_pb2 import SnapshotTree, WatchSnapshotTreeRequest
from snapshotd.api.v1.snapshot_pb2_grpc import SnapshotServiceStub
from snapshotd.domain.commands import UnregisterVm
from snapshotd.domain.errors import NotFound
from snapshotd.domain.events import Envelope
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.server.request_errors import VmNotThere
from snapshotd.server.resource_messages import tree_message
from tests.fakes import VM_ID
from tests.integration import quiet_server
from tests.integration.quiet_server import CALLER, Running
from tests.integration.test_fuzzed_calls import reason
from tests.integration.whole_server import serve
from tests.integration.writing import write
from tests.unit.application.cases import create
from tests.unit.projections.histories import RecordedWorld, history

REQUEST = WatchSnapshotTreeRequest(name=f"virtualMachines/{VM_ID}")


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    async with quiet_server.run(tmp_path) as running:
        yield running


def watch(server: Running) -> AsyncIterator[SnapshotTree]:
    """Begin a watch."""
    return server.snapshots.WatchSnapshotTree(REQUEST, CALLER)


def decisions(world: RecordedWorld) -> list[tuple[Sequence[Envelope], VirtualMachine]]:
    """Return the events of each decision, with the VM after it."""
    found: list[tuple[Sequence[Envelope], VirtualMachine]] = []
    done = 0
    for n, envelope in enumerate(world.envelopes, 1):
        if (vm := world.folds.get(envelope.position)) is not None:
            found.append((world.envelopes[done:n], vm))
            done = n
    return found


async def recorded(server: Running, envelopes: Sequence[Envelope]) -> None:
    """Write events, and return when they are in the views."""
    await write(server.log, envelopes)
    await server.backend.views.reached(server.log.head_position())


def shown(tree: SnapshotTree) -> SnapshotTree:
    """Return a tree without its version and time, which are those of the last event."""
    tree.ClearField("version")
    tree.ClearField("update_time")
    return tree


@pytest.mark.slow
async def test_each_change_of_what_the_tree_shows_comes_and_nothing_else(server: Running) -> None:
    told: list[SnapshotTree] = []
    watched: AsyncIterator[SnapshotTree] | None = None
    world, equal = history(seed=3, requests=12), 0
    for envelopes, vm in decisions(world):
        await recorded(server, envelopes)
        wanted = shown(tree_message(vm, vm.snapshots.values(), None))
        if told and wanted == told[-1]:
            equal += 1
            continue
        watched = watched or watch(server)
        told.append(shown(await anext(watched)))
        assert told[-1] == wanted
    assert len(told) > 10
    assert equal > 3


async def test_what_changes_while_nobody_takes_it_comes_as_one_tree(server: Running) -> None:
    world = RecordedWorld()
    for n in range(3):
        world.do(create(n))
        world.run()
    (first, _), *rest = decisions(world)
    await recorded(server, first)
    watched = watch(server)
    assert not (await anext(watched)).nodes
    for envelopes, _ in rest:
        await recorded(server, envelopes)
    last = tree_message(world.vm, world.vm.snapshots.values(), None)
    assert len(last.nodes) == 3
    assert await anext(watched) == last


async def test_the_watch_of_a_vm_that_is_unregistered_ends_and_says_so(server: Running) -> None:
    world = RecordedWorld()
    await recorded(server, world.envelopes)
    watched = watch(server)
    await anext(watched)
    before = len(world.envelopes)
    ended = asyncio.ensure_future(anext(watched))
    world.do(UnregisterVm())
    await recorded(server, world.envelopes[before:])
    with pytest.raises(VmNotThere, match=r"it is not registered any more, since .*Z\."):
        await ended


async def test_a_vm_that_was_never_registered_cannot_be_watched(server: Running) -> None:
    with pytest.raises(NotFound, match="it is not on record"):
        await anext(watch(server))


async def test_a_server_that_stops_says_so_to_those_who_watch_a_tree(tmp_path: Path) -> None:
    async with serve(tmp_path) as served:
        await write(served.log, RecordedWorld().envelopes)
        await served.projections.catch_up()
        call = SnapshotServiceStub(served.channel).WatchSnapshotTree(REQUEST)
        assert isinstance(await call.read(), SnapshotTree)
        await served.server.stop(10)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        assert (ended.value.code(), reason(ended.value)) == (grpc.StatusCode.UNAVAILABLE, "STOPPING")
