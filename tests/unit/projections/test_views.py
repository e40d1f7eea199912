"""The views say what the log says, whenever they are looked at, however they were made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from projections.projections import Projections
from projections.rebuild import rebuild
from snapshotd.domain.commands import RegisterVm, UnregisterVm
from snapshotd.domain.events import Envelope, Event, MemoryLost, OperationRequested
from snapshotd.domain.ids import HostId, SnapshotId, VmId
from snapshotd.domain.lifecycle import Power, SnapshotState
from snapshotd.domain.snapshot import Snapshot
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.snapshot_delete import Scope
from snapshotd.ports.views import SNAPSHOT_FIELDS, EventQuery, PageQuery, Views
from snapshotd.server.event_summaries import Names, summary_of
from snapshotd.server.listing import place_in
from snapshotd.steps.vm_stop import StopMode
from tests.asking import delete, start_vm, stop_vm
from tests.fakes import VM_ID
from tests.memory_log import MemoryLog
from tests.unit.application.cases import chain, sid
from tests.unit.projections import whole
from tests.unit.projections.comparing import dump
from tests.unit.projections.histories import RecordedWorld, history, with_hosts
from tests.unit.projections.oracle import compare


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_the_views_say_what_the_log_says_after_every_decision(tmp_path: Path, seed: int) -> None:
    world, log = history(seed, 60), MemoryLog()
    taken: list[Envelope] = []
    projections = Projections(log, tmp_path / "views.db")
    for envelope in world.envelopes:
        log.take([envelope])
        taken.append(envelope)
        if envelope.position in world.folds:
            await projections.catch_up()
            await compare(projections.views, taken)
            await same_as_the_aggregate(projections.views, world.folds[envelope.position])
    projections.close()
    assert len(world.folds) > 100


async def same_as_the_aggregate(views: Views, vm: VirtualMachine) -> None:
    """Check that the views hold the very values that decisions are made by, and what the aggregate has forgotten."""
    shown = {s.snapshot_id: s for s in await whole.snapshots(views, VM_ID)}
    assert {i: shown[i] for i in vm.snapshots} == vm.snapshots
    assert {shown[i].state for i in shown.keys() - vm.snapshots.keys()} <= {SnapshotState.REMOVED}
    for operation in vm.operations.values():
        assert await views.operation(operation.name) == operation
    standing = await views.standing([VM_ID])
    assert {s.snapshot_id: s for s in standing[VM_ID]} == {
        s.snapshot_id: s for s in vm.snapshots.values() if s.state is not SnapshotState.REMOVED
    }
    record = await views.vm(VM_ID)
    assert record is not None
    assert all(getattr(record, name) == getattr(vm, name) for name in record.__struct_fields__)


@pytest.mark.slow
async def test_a_rebuild_gives_what_following_gave(tmp_path: Path) -> None:
    world = history(7, 40)
    with_hosts(world)
    log = MemoryLog()
    projections = Projections(log, tmp_path / "followed.db")
    for start in range(0, len(world.envelopes), 7):
        log.take(world.envelopes[start : start + 7])
        await projections.catch_up()
    projections.close()
    assert await rebuild(log, tmp_path / "rebuilt.db") == log.head_position()
    assert dump(tmp_path / "followed.db") == dump(tmp_path / "rebuilt.db")


async def test_hosts_come_and_go_with_their_vms_counted(tmp_path: Path) -> None:
    world = history(1, 1)
    before = len(world.envelopes)
    with_hosts(world)
    log = MemoryLog(world.envelopes[: before + 2])
    projections = Projections(log, tmp_path / "views.db")
    await projections.catch_up()
    assert [(h.host_id, h.synced_at) for h in await whole.hosts(projections.views)] == [("hv01", None), ("hv02", None)]
    assert await projections.views.vm_counts() == {"hv01": 1}
    assert await projections.views.host(HostId("hv02")) is not None
    log.take(world.envelopes)
    await projections.catch_up()
    assert await projections.views.host(HostId("hv02")) is None
    assert await projections.views.host(HostId("hv01")) is not None
    (host,) = await whole.hosts(projections.views)
    assert (host.host_id, host.synced_at) == ("hv01", world.now)
    assert await projections.views.vm_counts() == {}
    await compare(projections.views, world.envelopes)
    assert await whole.vms(projections.views) == ()
    vm = await projections.views.vm(VM_ID)
    assert vm is not None
    assert not vm.registered
    projections.close()


async def test_a_vm_that_is_registered_again_has_one_row_with_what_was_known(tmp_path: Path) -> None:
    world = history(2, 10)
    world.do(UnregisterVm())
    gone = len(world.envelopes)
    world.now += timedelta(days=1)
    world.do(RegisterVm(host_id=HostId("hv02"), owner="dev", report=world.host.report()))
    log = MemoryLog(world.envelopes[:gone])
    projections = Projections(log, tmp_path / "views.db")
    await projections.catch_up()
    assert await whole.vms(projections.views) == ()
    log.take(world.envelopes)
    await projections.catch_up()
    await compare(projections.views, world.envelopes)
    (row,) = await whole.vms(projections.views)
    assert (row.host_id, row.owner, row.registered_at) == ("hv02", "dev", world.now)
    world.do(start_vm() if row.power is not Power.RUNNING else stop_vm(StopMode.TURN_OFF))
    log.take(world.envelopes)
    await projections.catch_up()
    (operation,) = await whole.active(projections.views)
    assert operation.host_id == "hv02"
    projections.close()


@pytest.mark.slow
async def test_events_are_found_by_what_they_are_about(tmp_path: Path) -> None:
    world = history(3, 30)
    log = MemoryLog(world.envelopes)
    projections = Projections(log, tmp_path / "views.db")
    await projections.catch_up()

    async def found(descending: bool = False, beyond: int = 0, limit: int = 10_000, **query: object) -> list[int]:  # noqa: FBT001, FBT002
        asked = EventQuery(**query)  # type: ignore[arg-type]
        return list(await projections.views.event_positions(asked, beyond, limit, descending=descending))

    everything = [e.position for e in world.envelopes]
    assert await found() == everything
    assert await found(descending=True) == everything[::-1]
    assert await found(limit=3, beyond=everything[4]) == everything[5:8]
    assert await found(descending=True, limit=3, beyond=everything[4]) == everything[3:0:-1]
    assert await found(vm_id=VM_ID) == everything
    for actors in (("bob",), ("bob", "ann"), ("ann", "nobody")):
        assert await found(actors=actors) == [e.position for e in world.envelopes if e.actor in actors]
    for types in (("StepDone",), ("StepDone", "SnapshotCreated")):
        of_types = [e.position for e in world.envelopes if type(e.event).__name__ in types]
        assert await found(event_types=types) == of_types
        assert (
            await found(event_types=types, actors=("ann", "bob"), descending=True, limit=2)
            == [e.position for e in world.envelopes if type(e.event).__name__ in types and e.actor in ("ann", "bob")][
                :-3:-1
            ]
        )
    assert await projections.views.display_names([VM_ID, VmId("x")], [(VM_ID, SnapshotId("x"))]) == (
        {VM_ID: "web01"},
        {},
    )
    own = {(VM_ID, s.snapshot_id): s.name for s in world.vm.snapshots.values()}
    assert (await projections.views.display_names([], own))[1] == own
    third = world.vm.operations[world.vm.last_number]
    assert await found(operation=third.name) == [e.position for e in world.envelopes if e.operation == third.name]
    middle = world.envelopes[len(everything) // 2].time
    assert await found(since=middle) == [e.position for e in world.envelopes if e.time >= middle]
    assert await found(until=middle) == [e.position for e in world.envelopes if e.time < middle]
    for snapshot_id in world.vm.snapshots:
        about = about_snapshot(world.envelopes, snapshot_id)
        assert await found(snapshot_id=snapshot_id) == about
        assert await found(snapshot_id=snapshot_id, descending=True, limit=3, beyond=about[-1]) == about[-2:-5:-1]
        assert await found(snapshot_id=snapshot_id, vm_id=VM_ID) == about
    projections.close()


def of_itself(event: Event) -> SnapshotId | None:
    """Return the snapshot that an event is about by itself; the one that its operation is about is not told again."""
    return None if isinstance(event, OperationRequested | MemoryLost) else getattr(event, "snapshot_id", None)


async def test_who_asked_for_a_deletion_stands_in_the_trail_of_each_snapshot_that_went_with_it(tmp_path: Path) -> None:
    world = RecordedWorld()
    chain(world)
    world.do(delete(sid(1), Scope.WITH_DESCENDANTS), actor="bob")
    world.run()
    projections = Projections(MemoryLog(world.envelopes), tmp_path / "views.db")
    await projections.catch_up()
    for n in (1, 2, 3):
        asked = EventQuery(snapshot_id=sid(n), actors=("bob",))
        found = await projections.views.event_positions(asked, 0, 10, descending=False)
        (envelope,) = (x for x in world.envelopes if x.position in found)
        assert isinstance(envelope.event, OperationRequested)
        assert f"'{sid(n)}'" in summary_of(envelope, Names())
    projections.close()


def about_snapshot(envelopes: Sequence[Envelope], snapshot_id: SnapshotId) -> list[int]:
    """Return the positions of a snapshot's own events, and of those of the operations on it.

    Of operations that touch it among others, what is about the others does not count.
    """
    requested = [x.event for x in envelopes if isinstance(x.event, OperationRequested)]
    operations = {x.name for x in requested if x.snapshot_id == snapshot_id}
    touching = {x.name for x in requested if snapshot_id in [s.snapshot_id for s in x.steps]}
    return [
        envelope.position
        for envelope in envelopes
        if envelope.operation in operations
        or getattr(envelope.event, "snapshot_id", None) == snapshot_id
        or (envelope.operation in touching and of_itself(envelope.event) is None)
    ]


async def test_newest_operations_come_first_and_in_pages(tmp_path: Path) -> None:
    world = history(5, 20)
    projections = Projections(MemoryLog(world.envelopes), tmp_path / "views.db")
    await projections.catch_up()
    whole = await projections.views.operations(None, 1000)
    assert [o.number for o in whole] == sorted((o.number for o in whole), reverse=True)
    pages = await projections.views.operations(None, 3)
    pages += await projections.views.operations((pages[-1].requested_at, pages[-1].name), 1000)
    assert pages == whole
    projections.close()


@pytest.mark.parametrize(
    "order",
    [
        (("create_time", False), ("name", False)),
        (("create_time", True), ("name", True)),
        (("display_name", True), ("create_time", False), ("name", True)),
    ],
)
async def test_pages_of_any_order_put_together_are_the_whole_list(
    tmp_path: Path, order: tuple[tuple[str, bool], ...]
) -> None:
    world = history(5, 60)
    projections = Projections(MemoryLog(world.envelopes), tmp_path / "views.db")
    await projections.catch_up()
    views, place = projections.views, place_in(order, SNAPSHOT_FIELDS)
    seen: list[Snapshot] = []
    while page := await views.snapshots(
        VM_ID, PageQuery(order=order, after=place(seen[-1]) if seen else None, limit=3), removed=True
    ):
        seen += page
    expected = list(await whole.snapshots(views, VM_ID))
    for field, falls in reversed(order):
        expected.sort(key=SNAPSHOT_FIELDS[field], reverse=falls)
    assert len(expected) > 6
    assert seen == expected
    left = await views.snapshots(VM_ID, PageQuery(order=order, limit=100), removed=False)
    assert list(left) == [s for s in expected if s.state is not SnapshotState.REMOVED]
    projections.close()
