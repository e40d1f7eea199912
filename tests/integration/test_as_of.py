"""A VM and its tree as they were, at every version and time of a random history, against the core's own folds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from snapshotd.api.v1.snapshot_pb2 import GetSnapshotTreeRequest, SnapshotTree
from snapshotd.api.v1.virtual_machine_pb2 import GetVirtualMachineRequest, ListVirtualMachinesRequest, VirtualMachine
from snapshotd.domain.errors import InvalidArgument, NotFound
from snapshotd.domain.events import Envelope
from snapshotd.domain.ids import VmId, vm_stream
from snapshotd.domain.state import replace
from snapshotd.server.request_errors import VmNotThere
from snapshotd.server.resource_messages import tree_message, vm_message
from snapshotd.server.wire_values import timestamp
from tests.fakes import VM_ID
from tests.integration import quiet_server
from tests.integration.quiet_server import CALLER, Running
from tests.integration.writing import write
from tests.unit.projections.histories import RecordedWorld, history, with_hosts

NAME = f"virtualMachines/{VM_ID}"


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    async with quiet_server.run(tmp_path) as running:
        yield running


async def recorded(server: Running, envelopes: Sequence[Envelope]) -> None:
    """Write events, and return when they are in the views."""
    await write(server.log, envelopes)
    await server.backend.views.reached(server.log.head_position())


def told(world: RecordedWorld, position: int) -> tuple[VirtualMachine, SnapshotTree]:
    """Return the messages of the core's own fold after the decision that ends at a position."""
    vm = world.folds[position]
    return vm_message(vm, vm.snapshots.values(), 50, None), tree_message(vm, vm.snapshots.values(), None)


async def at_version(server: Running, version: int) -> tuple[VirtualMachine, SnapshotTree]:
    """Ask for both as of a version."""
    return (
        await server.vms.GetVirtualMachine(GetVirtualMachineRequest(name=NAME, as_of_version=version), CALLER),
        await server.snapshots.GetSnapshotTree(GetSnapshotTreeRequest(name=NAME, as_of_version=version), CALLER),
    )


async def at_time(server: Running, time: datetime) -> tuple[VirtualMachine, SnapshotTree]:
    """Ask for both as of a time."""
    stamp = timestamp(time)
    return (
        await server.vms.GetVirtualMachine(GetVirtualMachineRequest(name=NAME, as_of_time=stamp), CALLER),
        await server.snapshots.GetSnapshotTree(GetSnapshotTreeRequest(name=NAME, as_of_time=stamp), CALLER),
    )


@pytest.mark.slow
async def test_every_version_and_time_shows_what_the_core_knew_then(server: Running) -> None:
    world = history(seed=3, requests=12)
    await recorded(server, world.envelopes)
    by_position = {envelope.position: envelope for envelope in world.envelopes}
    last_at = {by_position[position].time: position for position in sorted(world.folds)}
    limit = server.backend.policy.max_per_vm
    for position in world.folds:
        vm, tree = told(world, position)
        vm.snapshot_limit = limit
        assert await at_version(server, by_position[position].version) == (vm, tree)
    for time, position in last_at.items():
        vm, tree = told(world, position)
        vm.snapshot_limit = limit
        assert await at_time(server, time) == (vm, tree)
        assert (await at_time(server, time + timedelta(microseconds=1)))[0].version == vm.version
    assert len(last_at) > 5
    now = await server.snapshots.GetSnapshotTree(GetSnapshotTreeRequest(name=NAME), CALLER)
    assert now.nodes == (await at_version(server, world.vm.version))[1].nodes


async def test_after_the_clock_was_set_back_the_last_event_counts_and_not_the_latest(server: Running) -> None:
    world = history(seed=3, requests=2)
    early = world.envelopes[0].time - timedelta(hours=1)
    world.envelopes[-1] = replace(world.envelopes[-1], time=early)
    await recorded(server, world.envelopes)
    assert (await at_time(server, early))[0].version == world.envelopes[-1].version


async def refusal(call: Awaitable[object]) -> str:
    """Return what a call is refused with."""
    with pytest.raises((InvalidArgument, NotFound, VmNotThere)) as refused:
        await call
    return f"{refused.value.reason}: {refused.value}"


async def test_what_has_not_come_yet_is_refused_with_the_newest_version(server: Running) -> None:
    world = RecordedWorld()
    await recorded(server, world.envelopes)
    version, time = world.vm.version, world.envelopes[-1].time
    newest = f"the newest version is {version}, of {time:%Y-%m-%dT%H:%M:%S}"
    assert f": it has not come yet: {newest}" in await refusal(at_version(server, version + 1))
    ahead = server.backend.clock.now() + timedelta(hours=1)
    assert newest in await refusal(at_time(server, ahead))
    for wrong in (0, -1):
        assert "must be 1 or more" in await refusal(at_version(server, wrong))


async def test_a_vm_that_was_not_registered_then_is_not_found_and_says_when_it_was(server: Running) -> None:
    world = RecordedWorld()
    with_hosts(world)
    ours = [envelope for envelope in world.envelopes if envelope.stream == vm_stream(VM_ID)]
    await recorded(server, ours)
    first, last = ours[0], ours[-1]
    assert (await at_version(server, last.version - 1))[0].display_name == "web01"
    gone = await refusal(at_version(server, last.version))
    assert gone.startswith(f"VIRTUAL_MACHINE_NOT_FOUND: Cannot show virtual machine '{VM_ID}': it was not registered")
    assert f"unregistered at {last.time:%Y-%m-%dT%H:%M:%S}" in gone
    before = await refusal(at_time(server, first.time - timedelta(seconds=1)))
    assert f"It was first registered at {first.time:%Y-%m-%dT%H:%M:%S}" in before
    listing = await server.vms.ListVirtualMachines(ListVirtualMachinesRequest(show_unregistered=True), CALLER)
    (listed,) = listing.virtual_machines
    assert (listed.display_name, listed.unregister_time) == ("web01", timestamp(last.time))
    assert not (await server.vms.ListVirtualMachines(ListVirtualMachinesRequest(), CALLER)).virtual_machines
    other = f"virtualMachines/{VmId('22222222-2222-4222-8222-222222222222')}"
    unknown = server.vms.GetVirtualMachine(GetVirtualMachineRequest(name=other, as_of_version=1), CALLER)
    assert "it is not on record" in await refusal(unknown)
