"""Volume snapshots: what they leave of the VM and its tree, at every version and whatever goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from snapshotd.domain import events as e
from snapshotd.domain.commands import Proceed, RequestOperation, SyncVm, TakePoll, UnregisterVm
from snapshotd.domain.conditions import conditions
from snapshotd.domain.errors import MergePending, OperationActive, SnapshotdError, WrongPower
from snapshotd.domain.host_report import HostJob, JobState
from snapshotd.domain.ids import ActionName, HostId
from snapshotd.domain.lifecycle import OperationState, Power, StepState, VmActivity, VolumeSnapshotState
from snapshotd.domain.operation import Operation, SettledAs
from snapshotd.domain.snapshot_errors import CheckpointNotUsable
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine, evolve
from snapshotd.domain.volume_errors import VmHasTemporaryCheckpoint
from snapshotd.domain.volume_snapshot import VolumeSnapshot
from snapshotd.domain.volume_snapshot_errors import VolumeSnapshotElsewhere
from snapshotd.operations.vm_destroy import DESTROY_VIRTUAL_MACHINE
from snapshotd.server.resource_messages import tree_message, vm_message
from snapshotd.server.volume_snapshot_messages import volume_snapshot_message
from snapshotd.steps.vm_stop import StopMode
from tests.asking import (
    CONVERT,
    CREATE,
    DELETE_FILES,
    END_EXPORT,
    EXPORT,
    JOB,
    MERGE,
    PLACE,
    REMOVE,
    adopt,
    attach,
    delete_all,
    delete_volume_snapshot,
    destroy,
    revert_to,
    start_vm,
    stop_vm,
    take_volume_snapshot,
)
from tests.fakes import START, World
from tests.unit.application.cases import (
    CASES,
    REFUSED,
    Case,
    Refused,
    chain,
    create,
    drift_in,
    lose_command,
    ready,
    settle,
    sid,
    vsid,
)

FINAL = "OperationFailed,Microsoft.HyperV.PowerShell.Commands.X"
TAKEN = next(c for c in CASES if c.name == "volume snapshot")
OFF = next(c for c in CASES if c.name == "volume snapshot of a stopped VM")
both = pytest.mark.parametrize("case", [TAKEN, OFF], ids=lambda c: c.name)


def newest(world: World) -> Operation:
    """Return the operation that was requested last."""
    return world.vm.operations[world.vm.last_number]


def copy_of(world: World) -> VolumeSnapshot:
    """Return the volume snapshot."""
    return world.vm.volume_snapshots[vsid(1)]


def versions(world: World) -> Iterator[VirtualMachine]:
    """Yield the VM as a reader may see it: after each single event."""
    vm = VirtualMachine(vm_id=world.vm.vm_id)
    for event in world.log:
        at = e.Occasion(version=vm.version + 1, time=START, actor="ann", request_id="")
        vm = evolve(vm, event, at)  # type: ignore[arg-type]  # the log of a world has events of one VM
        yield vm


def shown(vm: VirtualMachine) -> tuple[object, ...]:
    """Return what callers see of the VM's tree."""
    tree = tree_message(vm, vm.snapshots.values(), None)
    nodes = [(node.id, node.parent, node.snapshot.state) for node in tree.nodes]
    told = vm_message(vm, vm.snapshots.values(), 10, None)
    counts = (told.snapshot_count, told.foreign_checkpoint_count, told.current_snapshot)
    return nodes, tree.current_node, tree.current_snapshot, counts


def check_tree_untouched(world: World, since: int) -> None:
    """Check that the tree has been the same at every version since then, and that there was no drift."""
    seen = [shown(vm) for vm in versions(world)][since - 1 :]
    assert all(each == seen[0] for each in seen), next(each for each in seen if each != seen[0])
    assert drift_in(world) == []


def until(world: World, action: ActionName, *states: StepState) -> None:
    """Go on until a step of an action is in one of these states."""
    for _ in range(60):
        if any(s.plan.action == action and s.state in states for s in newest(world).steps):
            return
        world.turn()
    raise AssertionError(newest(world).steps)


def asked(case: Case) -> tuple[World, int]:
    """Return a world with the request of a case, and the version before it."""
    world = ready(case)
    before = world.vm.version
    world.do(case.request)
    return world, before


def left_behind() -> World:
    """Return a world in which an operation was given up while its disk was copied."""
    world, _ = asked(TAKEN)
    until(world, JOB, StepState.WAITING)
    settle(world, SettledAs.GIVEN_UP)
    return world


# --- the tree -------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("how", ["well", "lose", "twice"])
def test_no_version_shows_another_tree(case: Case, how: str) -> None:
    world, before = asked(case)
    world.run(**({} if how == "well" else {how: True}))
    check_tree_untouched(world, before)
    assert copy_of(world).state is VolumeSnapshotState.READY
    assert world.vm.temporaries == {}


def test_one_without_a_name_gets_one() -> None:
    world, _ = asked(replace(TAKEN, request=take_volume_snapshot(vsid(1), name="")))
    assert copy_of(world).name == f"web01_VS_{world.vm.updated_at:%Y%m%d%H%M%S}"


@both
def test_a_cancellation_at_any_moment_leaves_the_tree_as_it_was_and_nothing_on_the_host(case: Case) -> None:
    for turns in range(60):
        world, before = asked(case)
        there = world.host.report()
        for _ in range(turns):
            world.turn()
        if not newest(world).active or newest(world).too_late_to_cancel():
            assert turns > 3
            return
        world.cancel(world.vm.last_number)
        assert world.run().state is OperationState.CANCELLED
        check_tree_untouched(world, before)
        assert copy_of(world).state is VolumeSnapshotState.REMOVED
        copies = world.host.copies
        assert (copies.folders, copies.files, world.vm.temporaries) == ({}, {}, {})
        after = world.host.report()
        assert (after.description, after.power) == (there.description, there.power)


@pytest.mark.parametrize("refused", [r for r in REFUSED if r.case in (TAKEN, OFF)], ids=lambda r: r.name)
def test_a_failure_leaves_the_tree_as_it_was(refused: Refused) -> None:
    world, before = asked(refused.case)
    world.host.error_ids = dict.fromkeys(refused.steps, FINAL)
    operation = world.run()
    check_tree_untouched(world, before)
    complete = operation.output_of(PLACE) is not None
    wanted = VolumeSnapshotState.READY if complete else VolumeSnapshotState.ERROR
    assert copy_of(world).state is wanted
    left = refused.plan.action == REMOVE
    assert bool(world.vm.temporaries) is left is bool(conditions(world.vm))
    assert (operation.failure is not None and "next volume snapshot" in operation.failure.message) is left


def test_a_checkpoint_whose_script_died_before_it_was_named_is_never_taken_for_a_foreign_one() -> None:
    world, before = asked(TAKEN)
    world.host.dies_unnamed = True
    assert world.run().state is OperationState.SUCCEEDED
    check_tree_untouched(world, before)


@pytest.mark.parametrize("moment", ["sent", "made"])
def test_what_is_given_up_while_its_checkpoint_is_asked_for_stands_in_no_tree_when_that_turns_up(moment: str) -> None:
    world, before = asked(TAKEN)
    until(world, CREATE, StepState.ISSUED)
    found = world.open_step()
    assert found is not None
    if moment == "sent":
        settle(world, SettledAs.GIVEN_UP)
    world.act(*found)
    if moment == "made":
        settle(world, SettledAs.GIVEN_UP)
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    check_tree_untouched(world, before)
    assert [c.reason for c in conditions(world.vm)] == ["TEMPORARY_CHECKPOINT_LEFT"]
    assert copy_of(world).state is VolumeSnapshotState.ERROR


# --- what is left behind --------------------------------------------------------------------------------------------


def test_what_is_left_behind_is_told_and_stands_in_no_tree() -> None:
    world = left_behind()
    (told,) = conditions(world.vm)
    (checkpoint_id,) = world.vm.temporary_checkpoints()
    assert (told.reason, checkpoint_id in told.message) == ("TEMPORARY_CHECKPOINT_LEFT", True)
    assert copy_of(world).left == (f"{copy_of(world).target.removesuffix('.vhdx')}.partial-1",)
    assert world.vm.current_id == sid(3)
    world.do(create(7))
    assert world.run().state is OperationState.SUCCEEDED
    assert world.vm.snapshots[sid(7)].parent_id == sid(3)
    assert drift_in(world) == []
    with pytest.raises(CheckpointNotUsable, match="for volume snapshot"):
        world.do(adopt(sid(9), checkpoint_id))


def test_a_vm_with_what_is_left_behind_is_destroyed_without_naming_it_and_its_copy_stays_on_record() -> None:
    world = left_behind()
    assert "not ours" not in " ".join(DESTROY_VIRTUAL_MACHINE.preview(world.vm, destroy()).warnings)
    world.do(destroy())
    assert world.run().state is OperationState.SUCCEEDED
    assert (world.host.gone, world.host.checkpoints) == (True, {})
    assert (world.vm.activity, world.vm.temporaries) == (VmActivity.DESTROYED, {})
    assert copy_of(world).state is VolumeSnapshotState.ERROR
    assert [event.cause for event in world.log if isinstance(event, e.TemporaryCheckpointGone)] == ["step"]
    assert conditions(world.vm) == ()
    world.host.gone = False  # somebody has brought one of its id back: the record of this one is only read
    world.do(delete_volume_snapshot(vsid(1)))
    assert world.run().state is OperationState.SUCCEEDED
    assert copy_of(world).state is VolumeSnapshotState.REMOVED
    assert (world.vm.activity, world.vm.power, drift_in(world)) == (VmActivity.DESTROYED, Power.ABSENT, [])


def test_a_vm_that_others_removed_leaves_no_condition_behind_when_it_is_destroyed() -> None:
    world = left_behind()
    world.host.gone = True
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    world.do(destroy())
    assert world.run().state is OperationState.SUCCEEDED
    assert (world.vm.temporaries, conditions(world.vm)) == ({}, ())


def test_no_volume_is_attached_while_something_is_left_behind() -> None:
    world = left_behind()
    world.do(delete_all())
    world.run()
    with pytest.raises(VmHasTemporaryCheckpoint, match=f"volume snapshot {vsid(1)}"):
        world.do(attach("V:\\data.vhdx"))
    world.do(delete_volume_snapshot(vsid(1)))
    world.run()
    world.do(attach("V:\\data.vhdx"))


def test_the_next_volume_snapshot_removes_what_is_left_behind_first() -> None:
    world = left_behind()
    before = world.vm.version
    world.host.copies.finish()
    world.do(take_volume_snapshot(vsid(2)))
    assert [s.plan.action for s in newest(world).steps][:4] == [REMOVE, MERGE, CREATE, EXPORT]
    assert world.run().state is OperationState.SUCCEEDED
    assert (conditions(world.vm), world.vm.temporaries) == ((), {})
    check_tree_untouched(world, before)


def test_the_deletion_of_what_failed_removes_all_that_it_has_left() -> None:
    world = left_behind()
    before = world.vm.version
    world.host.copies.finish()
    world.do(delete_volume_snapshot(vsid(1)))
    assert [s.plan.action for s in newest(world).steps] == [END_EXPORT, REMOVE, MERGE]
    assert world.run().state is OperationState.SUCCEEDED
    assert copy_of(world).state is VolumeSnapshotState.REMOVED
    assert (conditions(world.vm), world.vm.temporaries, world.host.copies.folders) == ((), {}, {})
    check_tree_untouched(world, before)


def test_a_temporary_checkpoint_that_somebody_removes_is_left_no_longer() -> None:
    world = left_behind()
    (checkpoint_id,) = world.vm.temporary_checkpoints()
    world.host.remove(checkpoint_id)
    world.host.merge()
    world.host.copies.finish()
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    assert (conditions(world.vm), world.vm.temporaries, drift_in(world)) == ((), {}, [])
    (gone,) = [x for x in world.log if isinstance(x, e.TemporaryCheckpointGone)]
    assert (gone.cause, e.shown_by_host(gone)) == ("drift", True)


def test_a_failed_copy_that_has_left_nothing_is_deleted_without_the_host() -> None:
    world, _ = asked(OFF)
    world.host.error_ids = {1: FINAL}
    world.run()
    world.do(delete_volume_snapshot(vsid(1)))
    assert (newest(world).state, newest(world).steps) == (OperationState.SUCCEEDED, ())
    assert copy_of(world).state is VolumeSnapshotState.REMOVED


# --- the host's job -------------------------------------------------------------------------------------------------


def poll(world: World, state: JobState, percent: int = 0, error: str = "") -> None:
    """Have a poll show a state of the job."""
    found = world.open_step()
    assert found is not None
    operation, step = found
    (job_id,) = world.host.copies.jobs
    job = HostJob(job_id=job_id, state=state, percent=percent, error=error)
    report = replace(world.host.report(), jobs=(job,))
    number, version = operation.number, world.vm.version
    world.do(TakePoll(number=number, step=step.plan.number, report=report, asked_version=version))


@both
def test_a_job_that_the_host_has_forgotten_is_begun_anew_in_another_folder(case: Case) -> None:
    world, before = asked(case)
    for attempt in (1, 2):
        until(world, JOB, StepState.WAITING)
        world.host.copies.forget()
        poll_gone(world)
        assert newest(world).rounds == attempt + 1
    operation = world.run()
    assert operation.state is OperationState.SUCCEEDED
    assert copy_of(world).state is VolumeSnapshotState.READY
    assert len(world.host.copies.files) == 1
    assert world.host.copies.folders == {}
    action = EXPORT if case is TAKEN else CONVERT
    folders = [s.plan.input.values["directory"] for s in operation.steps if s.plan.action == action]
    assert len(set(folders)) == len(folders) == 3
    assert sum(s.plan.action == CREATE for s in operation.steps) == (case is TAKEN)
    check_tree_untouched(world, before)


@both
def test_a_job_that_is_forgotten_again_and_again_fails_and_is_undone(case: Case) -> None:
    world, before = asked(case)
    there = world.host.report().description
    for _ in range(3):
        until(world, JOB, StepState.WAITING)
        world.host.copies.forget()
        poll_gone(world)
    operation = world.run()
    assert operation.failure is not None
    assert (operation.state, operation.failure.reason) == (OperationState.FAILED, "JOB_GONE")
    assert (world.host.copies.folders, world.host.report().description) == ({}, there)
    assert (copy_of(world).state, copy_of(world).left) == (VolumeSnapshotState.ERROR, ())
    check_tree_untouched(world, before)


def poll_gone(world: World) -> None:
    """Have a poll show that the host does not know the job that is waited for; wait for the next attempt."""
    found = world.open_step()
    assert found is not None
    operation, step = found
    assert step.before is not None
    job = HostJob(job_id=str(step.before.values["job_id"]), state=JobState.GONE)
    report = replace(world.host.report(), jobs=(job,))
    world.do(TakePoll(number=operation.number, step=step.plan.number, report=report, asked_version=world.vm.version))
    world.now += timedelta(seconds=90)
    world.do(Proceed())


@both
def test_a_job_that_fails_is_undone_with_the_hosts_words(case: Case) -> None:
    world, before = asked(case)
    until(world, JOB, StepState.WAITING)
    poll(world, JobState.RUNNING, 40)
    assert newest(world).steps[-1].state is not StepState.FAILED
    poll(world, JobState.FAILED, 40, "There is not enough space on the disk. (0x80070070)")
    operation = world.run()
    assert operation.failure is not None
    assert operation.failure.reason == "JOB_FAILED"
    assert "not enough space" in operation.failure.message
    assert world.host.copies.folders == {}
    check_tree_untouched(world, before)


def test_a_copy_whose_vm_was_started_meanwhile_is_not_used() -> None:
    world, _ = asked(OFF)
    until(world, JOB, StepState.WAITING)
    world.host.power = Power.RUNNING
    operation = world.run()
    assert operation.failure is not None
    assert (operation.state, operation.failure.reason) == (OperationState.FAILED, "WRONG_POWER_STATE")
    assert (world.host.copies.folders, world.host.copies.files) == ({}, {})


# --- what is frozen -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [False, True])
def test_a_guest_that_cannot_be_frozen_is_copied_only_if_that_is_allowed(*, allowed: bool) -> None:
    world = World()
    world.host.vss = False
    world.do(take_volume_snapshot(vsid(1), allow_fallback=allowed))
    operation = world.run()
    assert operation.state is (OperationState.SUCCEEDED if allowed else OperationState.FAILED)
    assert (operation.failure.reason if operation.failure else "") == ("" if allowed else "FALLBACK_REFUSED")
    assert copy_of(world).state is (VolumeSnapshotState.READY if allowed else VolumeSnapshotState.ERROR)
    assert world.host.checkpoints == {}


@pytest.mark.parametrize(
    ("power", "vss", "told"),
    [
        (Power.RUNNING, True, "APPLICATION"),
        (Power.RUNNING, False, "CRASH"),
        (Power.STOPPED, True, "OFF"),
    ],
)
def test_a_copy_tells_what_its_guest_knew_of_it(power: Power, told: str, *, vss: bool) -> None:
    world = World(power=power)
    world.host.vss = vss
    world.do(take_volume_snapshot(vsid(1), allow_fallback=True))
    assert world.run().state is OperationState.SUCCEEDED
    message = volume_snapshot_message(copy_of(world))
    assert type(message).Consistency.Name(message.consistency) == told


# --- what goes with it, and what does not ---------------------------------------------------------------------------


def test_a_volume_snapshot_and_the_vms_snapshots_keep_each_other_off() -> None:
    world, _ = asked(TAKEN)
    for other in (create(7), revert_to(sid(1)), stop_vm(StopMode.TURN_OFF), take_volume_snapshot(vsid(2))):
        with pytest.raises(OperationActive, match="TAKE_VOLUME_SNAPSHOT"):
            world.do(other)
    until(world, JOB, StepState.WAITING)
    assert world.vm.activity is VmActivity.SNAPSHOTTING
    with pytest.raises(OperationActive, match="TAKE_VOLUME_SNAPSHOT"):
        world.do(create(7))
    world.run()
    world.do(create(7))
    with pytest.raises(OperationActive, match="CREATE_SNAPSHOT"):
        world.do(take_volume_snapshot(vsid(2)))


def test_the_vm_is_free_while_only_the_merge_is_waited_for() -> None:
    world, _ = asked(TAKEN)
    until(world, MERGE, StepState.WAITING)
    assert (world.vm.activity, copy_of(world).state) == (VmActivity.IDLE, VolumeSnapshotState.READY)
    for other in (
        create(7),
        revert_to(sid(1)),
        take_volume_snapshot(vsid(2)),
        attach("D:\\x.vhdx", size_bytes=4 << 30),
    ):
        with pytest.raises(MergePending):
            world.do(other)
    world.do(stop_vm(StopMode.TURN_OFF))
    for _ in range(4):
        world.do(Proceed())
        world.turn()
    assert world.run().state is OperationState.SUCCEEDED
    assert world.host.power is Power.STOPPED


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (take_volume_snapshot(vsid(1), "SCSI:0:9"), "DISK_NOT_FOUND"),
        (take_volume_snapshot(vsid(1), name=" x"), "INVALID_ARGUMENT"),
    ],
)
def test_what_cannot_be_copied_is_refused(request_: RequestOperation, reason: str) -> None:
    world = World()
    with pytest.raises(SnapshotdError) as refused:
        world.do(request_)
    assert refused.value.reason == reason


def test_what_is_no_disk_file_is_refused() -> None:
    world = World()
    world.host.leaf = "base.iso"
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    with pytest.raises(SnapshotdError, match="no VHDX or VHD file"):
        world.do(take_volume_snapshot(vsid(1)))
    world.host.leaf = ""
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    with pytest.raises(SnapshotdError, match="pass-through"):
        world.do(take_volume_snapshot(vsid(1)))


@pytest.mark.parametrize(("power", "transition"), [(Power.RUNNING, "Stopping"), (Power.PAUSED, ""), (Power.SAVED, "")])
def test_a_vm_that_is_neither_running_nor_off_is_not_copied(power: Power, transition: str) -> None:
    world = World(power)
    world.host.transition = transition
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    with pytest.raises(WrongPower):
        world.do(take_volume_snapshot(vsid(1)))


# --- deletion -------------------------------------------------------------------------------------------------------


def copied() -> World:
    """Return a world with a copy of its disk."""
    world = World()
    chain(world)
    world.do(take_volume_snapshot(vsid(1)))
    world.run()
    world.host.effects.clear()
    return world


def test_a_copy_outlives_the_registration_of_its_vm_and_can_be_deleted_then() -> None:
    world = copied()
    world.do(UnregisterVm())
    world.do(delete_volume_snapshot(vsid(1)))
    assert world.run().state is OperationState.SUCCEEDED
    assert [action for action, _, _ in world.host.effects] == [DELETE_FILES]
    assert (copy_of(world).state, world.host.copies.files) == (VolumeSnapshotState.REMOVED, {})
    assert world.vm.activity is VmActivity.UNREGISTERED


def test_a_file_that_is_not_deleted_leaves_the_copy_ready_with_the_reason() -> None:
    world = copied()
    world.host.error_ids = {1: "AnotherDisk,snapshotd"}
    world.do(delete_volume_snapshot(vsid(1)))
    assert world.run().state is OperationState.FAILED
    copy = copy_of(world)
    assert (copy.state, copy.failure is not None) == (VolumeSnapshotState.READY, True)
    world.host.error_ids = {}
    world.do(delete_volume_snapshot(vsid(1)))
    assert world.run().state is OperationState.SUCCEEDED


@pytest.mark.parametrize("path", ["D:\\Copies\\c.vhdx", "\\\\server\\share\\c.vhdx", "c:/ClusterStorage/V1/c.vhdx"])
def test_a_file_on_a_host_that_the_vm_has_left_is_not_taken_for_gone(path: str) -> None:
    world = copied()
    world.vm = replace(
        world.vm,
        host_id=HostId("hv02"),
        volume_snapshots={vsid(1): replace(copy_of(world), path=path)},
    )
    if path.startswith("D:"):
        with pytest.raises(VolumeSnapshotElsewhere, match="on host hv01, and VM web01 is on host hv02"):
            world.do(delete_volume_snapshot(vsid(1)))
        return
    world.do(delete_volume_snapshot(vsid(1)))
    assert world.run().state is OperationState.SUCCEEDED


def test_a_deletion_whose_vm_moves_before_it_is_sent_is_refused_if_its_file_does_not_move_along() -> None:
    world = copied()
    world.vm = replace(world.vm, volume_snapshots={vsid(1): replace(copy_of(world), path="D:\\c.vhdx")})
    world.do(delete_volume_snapshot(vsid(1)))
    world.vm = replace(world.vm, host_id=HostId("hv02"))
    operation = world.run()
    assert operation.failure is not None
    assert (operation.state, operation.failure.reason) == (OperationState.FAILED, "VOLUME_SNAPSHOT_ELSEWHERE")
    assert (copy_of(world).state, world.host.effects) == (VolumeSnapshotState.READY, [])


def test_a_second_deletion_is_answered_with_the_first_and_a_third_is_refused() -> None:
    world = copied()
    world.do(delete_volume_snapshot(vsid(1)))
    number = world.vm.last_number
    world.do(delete_volume_snapshot(vsid(1)))
    assert world.vm.last_number == number
    world.run()
    with pytest.raises(SnapshotdError, match="REMOVED"):
        world.do(delete_volume_snapshot(vsid(1)))
    with pytest.raises(SnapshotdError, match="not on record"):
        world.do(delete_volume_snapshot(vsid(7)))


def test_a_lost_command_of_a_copy_is_found_out_at_the_host() -> None:
    for action in (CREATE, EXPORT, PLACE, REMOVE):
        world, before = asked(TAKEN)
        until(world, action, StepState.ISSUED)
        lose_command(world)
        assert world.run().state is OperationState.SUCCEEDED
        check_tree_untouched(world, before)
        assert [done for done, _, _ in world.host.effects] == list(TAKEN.effects)


def test_a_stopped_vm_whose_copy_is_under_way_is_not_started() -> None:
    world, _ = asked(OFF)
    until(world, JOB, StepState.WAITING)
    with pytest.raises(OperationActive):
        world.do(start_vm())
