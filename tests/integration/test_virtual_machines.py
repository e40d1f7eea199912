"""The core on the real log: what was decided is what is read back, and one stream takes one decision at a time."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from snapshotd.application.hosts import Hosts
from snapshotd.application.replay import replay
from snapshotd.application.virtual_machines import VirtualMachines
from snapshotd.application.volumes import Volumes
from snapshotd.domain.commands import RegisterVm
from snapshotd.domain.errors import NotFound, OperationActive, RequestIdReused, SnapshotdError
from snapshotd.domain.ids import HostId, VmId
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.policy import Policy
from snapshotd.domain.storage_errors import RecordNotReadable
from snapshotd.operations import snapshot_create
from snapshotd.operations.catalogue import KINDS
from snapshotd.operations.kind import Kind
from snapshotd.operations.snapshot_create import CREATE_SNAPSHOT
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import checkpoint_create, made_checkpoint
from snapshotd.steps.action import Action
from snapshotd.steps.catalogue import ACTIONS
from snapshotd.steps.checkpoint_create import CHECKPOINT_CREATE
from snapshotd.steps.vm_stop import StopMode
from snapshotd.store.sqlite_log import SqliteEventLog
from tests.asking import CREATE, start_vm, stop_vm
from tests.doubles import Clock, Ids
from tests.fakes import VM_ID, FakeHost
from tests.integration.writing import write
from tests.unit.application.cases import create
from tests.unit.projections.histories import RecordedWorld


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteEventLog]:
    with SqliteEventLog(tmp_path / "events.db") as opened:
        yield opened


def over(log: SqliteEventLog) -> VirtualMachines:
    """Return the VMs of a log, with nothing in memory."""
    return VirtualMachines(log, Clock(), Ids(), Policy())


async def replay_of(log: SqliteEventLog) -> None:
    """Replay a log, with nothing in memory before."""
    vms = over(log)
    await replay(log, vms, Hosts(log, Clock(), Ids()), Volumes(log, Clock(), Ids(), vms))


async def registered(log: SqliteEventLog) -> VirtualMachines:
    """Return the VMs of a log that has one."""
    vms = over(log)
    await vms.execute(VM_ID, RegisterVm(host_id=HostId("hv01"), owner="ops", report=FakeHost().report()), actor="ann")
    return vms


async def test_a_replay_gives_the_state_that_was_decided(log: SqliteEventLog) -> None:
    vms = await registered(log)
    decided = await vms.execute(VM_ID, create(1), actor="ann", request_id="r1", digest="d1")
    head = log.head_position()
    again = over(log)
    await replay(log, again, Hosts(log, Clock(), Ids()), Volumes(log, Clock(), Ids(), again))
    (replayed,) = again.with_work()
    assert replayed == decided.vm == await over(log).load(VM_ID)
    assert log.head_position() == head


@pytest.mark.parametrize(
    ("catalogue", "name", "said"),
    [
        (KINDS, CREATE_SNAPSHOT.name, "there is no kind CREATE_SNAPSHOT"),
        (ACTIONS, CREATE, "there is no action checkpoint_create"),
    ],
)
async def test_a_log_with_a_kind_or_an_action_that_is_not_known_is_refused_when_it_is_replayed(
    log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch, catalogue: dict[str, object], name: str, said: str
) -> None:
    vms = await registered(log)
    await vms.execute(VM_ID, create(1), actor="ann", request_id="r1", digest="d1")
    monkeypatch.delitem(catalogue, name)
    said = f"Cannot read position {log.head_position()} of the log: {said}. Run the release that wrote it"
    with pytest.raises(RecordNotReadable, match=said):
        await replay_of(log)


@pytest.mark.parametrize(
    ("owner", "part", "cls"),
    [
        (CREATE_SNAPSHOT, "params", snapshot_create.Params),
        (CHECKPOINT_CREATE, "input", checkpoint_create.Input),
        (CHECKPOINT_CREATE, "facts", checkpoint_create.Before),
        (CHECKPOINT_CREATE, "output", made_checkpoint.Output),
    ],
)
async def test_a_log_in_which_an_active_operation_was_left_by_a_newer_release_is_refused_when_it_is_replayed(
    log: SqliteEventLog, monkeypatch: pytest.MonkeyPatch, owner: Kind | Action, part: str, cls: type[object]
) -> None:
    newer = getattr(owner, part).version + 1
    monkeypatch.setattr(owner, part, Versioned(cls, newer))
    world = RecordedWorld()
    world.do(create(1))
    if part in ("facts", "output"):
        world.host.dies_unnamed = True  # so that the step that names the checkpoint is still to come
        while world.vm.operations[1].step(1).state is not (StepState.DONE if part == "output" else StepState.ISSUED):
            world.turn(lose=part == "output")
    await write(log, world.envelopes)
    monkeypatch.undo()
    with pytest.raises(
        RecordNotReadable, match=rf"{cls.__name__} of operations/\S+\.1-[0-9a-f]{{8}}: it has version {newer}"
    ):
        await replay_of(log)


async def test_nothing_is_kept_of_vms_that_are_not_on_record(log: SqliteEventLog) -> None:
    vms = await registered(log)
    for _ in range(3):
        unknown = VmId(str(uuid4()))
        assert (await vms.load(unknown)).version == 0
        with pytest.raises(NotFound):
            await vms.execute(unknown, start_vm(), actor="ann")
    assert len(vms._folds) == 1


async def test_a_request_that_comes_again_is_answered_with_the_first_operation(log: SqliteEventLog) -> None:
    vms = await registered(log)
    first = await vms.execute(VM_ID, create(1), actor="ann", request_id="r1", digest="d1")
    again = await over(log).execute(VM_ID, create(2), actor="ann", request_id="r1", digest="d1")
    assert again.envelopes == ()
    assert again.vm.last_number == first.vm.last_number
    with pytest.raises(RequestIdReused):
        await vms.execute(VM_ID, create(2), actor="ann", request_id="r1", digest="other")
    with pytest.raises(OperationActive, match=r"operations/.*\.1"):
        await vms.execute(VM_ID, create(2), actor="bob", request_id="r1", digest="other")


async def test_of_many_callers_at_once_one_gets_the_vm_and_the_others_are_told_who(log: SqliteEventLog) -> None:
    vms = await registered(log)

    async def ask(n: int) -> SnapshotdError | None:
        try:
            await vms.execute(VM_ID, create(n), actor=f"caller {n}")
        except SnapshotdError as refused:
            return refused
        return None

    refusals = await asyncio.gather(*(ask(n) for n in range(20)))
    assert sum(r is None for r in refusals) == 1
    assert all(isinstance(r, OperationActive) for r in refusals if r)


async def test_what_is_refused_records_nothing(log: SqliteEventLog) -> None:
    vms = await registered(log)
    head = log.head_position()
    with pytest.raises(SnapshotdError, match="RUNNING"):
        await vms.execute(VM_ID, start_vm(), actor="ann")
    assert log.head_position() == head


async def test_two_owners_of_a_fold_do_not_overwrite_each_other(log: SqliteEventLog) -> None:
    vms = await registered(log)
    stale = over(log)
    await stale.load(VM_ID)
    await vms.execute(VM_ID, create(1), actor="ann")
    with pytest.raises(OperationActive):
        await stale.execute(VM_ID, stop_vm(StopMode.TURN_OFF), actor="bob")
