"""Exports: what ends an attempt and what begins the next, and who goes first."""

import pytest

from snapshotd.domain import events as e
from snapshotd.domain.commands import RequestOperation, SyncVm, UpdateVm
from snapshotd.domain.errors import OperationActive, WrongPower
from snapshotd.domain.export import ExportPolicy
from snapshotd.domain.export_errors import ExportDirectoryMissing
from snapshotd.domain.host_report import HostJob, JobState
from snapshotd.domain.lifecycle import OperationState, Power, SnapshotState, StepState, VmActivity
from snapshotd.domain.operation import Failure, Operation
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.operations import exporting as exporting_steps
from snapshotd.operations.snapshot_create import CREATE_SNAPSHOT
from snapshotd.operations.vm_stop import STOP_VIRTUAL_MACHINE
from snapshotd.steps.export_end import EXPORT_END
from snapshotd.steps.vm_stop import StopMode
from tests.asking import COMPLETE, END_EXPORT, EXPORT_VM, RELEASE, delete, export_vm, restart_vm, start_vm, stop_vm
from tests.fakes import START, World
from tests.unit.application.administrator import compare_hosts
from tests.unit.application.cases import create, sid
from tests.unit.application.exporting import FULL, ON_STOP, asked, exporting, step_of, stopped, until, waits


def test_the_vm_reads_exporting_and_stopped_while_it_is_exported() -> None:
    world = exporting()
    assert (world.vm.activity, world.vm.power) == (VmActivity.EXPORTING, Power.STOPPED)
    world.run()
    (export,) = world.vm.exports
    assert world.host.exports == {export.directory: True}
    assert (export.size_bytes, export.host_id, export.in_use) == (7 << 30, "hv01", False)
    assert export.of_version < world.vm.version


def test_a_start_ends_an_export_and_begins_when_nothing_of_it_is_left() -> None:
    world = exporting()
    world.do(start_vm())
    assert world.run().state is OperationState.SUCCEEDED
    assert world.vm.operations[world.vm.last_number - 1].state is OperationState.CANCELLED
    assert asked(world) == [EXPORT_VM, END_EXPORT, "vm_start"]
    assert world.host.exports == {}
    assert world.vm.exports == ()


def test_a_start_waits_for_an_export_that_is_being_completed_and_the_vm_is_not_released() -> None:
    world = exporting(release=True)
    until(world, lambda: step_of(world, COMPLETE) is StepState.ISSUED)
    world.do(start_vm())
    assert world.run().state is OperationState.SUCCEEDED
    export = world.vm.operations[world.vm.last_number - 1]
    assert export.state is OperationState.SUCCEEDED
    assert asked(world) == [EXPORT_VM, COMPLETE, "vm_start"]
    assert len(world.vm.exports) == 1
    assert world.vm.released is None


def test_a_start_keeps_the_vm_on_its_host_also_when_its_export_was_begun_anew() -> None:
    world = exporting(release=True)
    world.host.restart()
    until(world, lambda: step_of(world, COMPLETE) is StepState.ISSUED)
    assert world.vm.active_operations[0].rounds == 2
    world.do(start_vm())
    assert world.run().state is OperationState.SUCCEEDED
    assert (world.vm.power, world.vm.released) == (Power.RUNNING, None)


@pytest.mark.parametrize("request_", [stop_vm(StopMode.SHUTDOWN), stop_vm(StopMode.TURN_OFF), restart_vm()])
def test_a_stop_and_a_restart_go_past_the_export_of_a_vm_that_runs(request_: RequestOperation) -> None:
    world = stopped()
    world.do(start_vm())
    world.run()
    for export in (create(9, export="/exports"), export_vm()):
        world.do(export)
        until(world, waits(world))
        world.do(request_)
        assert world.run().state is OperationState.SUCCEEDED
        assert world.vm.operations[world.vm.last_number - 1].state is OperationState.CANCELLED
        assert world.host.exports == {}
        if world.vm.power is Power.STOPPED:
            world.do(start_vm())
            world.run()


def test_a_plan_of_a_stop_tells_the_export_and_the_release_that_follow() -> None:
    world = stopped(replace(ON_STOP, export_release=True))
    world.do(start_vm())
    world.run()
    said = STOP_VIRTUAL_MACHINE.warns(world.vm, stop_vm(StopMode.SHUTDOWN), world.policy, START)
    assert [text for text in said if "exported to /exports" in text or "removed from host hv01" in text] == list(said)
    assert len(said) == 2
    assert STOP_VIRTUAL_MACHINE.warns(world.vm, stop_vm(StopMode.SAVE), world.policy, START) == ()
    assert STOP_VIRTUAL_MACHINE.warns(world.vm, stop_vm(StopMode.SHUTDOWN), Policy(), START) == ()


def test_a_start_is_refused_while_the_vm_is_being_removed() -> None:
    world = exporting(release=True)
    until(world, lambda: step_of(world, RELEASE) is StepState.ISSUED)
    with pytest.raises(OperationActive):
        world.do(start_vm())


def test_nothing_else_goes_beside_an_export() -> None:
    world = exporting()
    for request in (create(2), delete(sid(1)), export_vm(release=True)):
        with pytest.raises(OperationActive):
            world.do(request)
    with pytest.raises(WrongPower):
        world.do(stop_vm(StopMode.TURN_OFF))
    assert not world.vm.active_operations[0].cancel_requested


def test_a_second_request_joins_the_export() -> None:
    world = exporting()
    world.do(export_vm(), request_id="r", digest="d")
    assert world.vm.last_number == world.vm.active_operations[0].number


def test_a_host_that_was_restarted_exports_again_in_a_new_folder() -> None:
    world = exporting()
    (first,) = world.host.exports
    world.host.restart()
    operation = world.run()
    assert operation.state is OperationState.SUCCEEDED
    assert asked(world) == [EXPORT_VM, END_EXPORT, EXPORT_VM, COMPLETE]
    (export,) = world.vm.exports
    assert export.directory.endswith("-2")
    assert first.endswith("-1.partial")
    assert world.host.exports == {export.directory: True}


def test_an_export_whose_storage_is_away_goes_on_when_that_is_back() -> None:
    world = exporting(attempts=100)
    world.host.storage_away = True
    until(world, lambda: world.vm.active_operations[0].rounds == 5)
    world.host.storage_away = False
    assert world.run().state is OperationState.SUCCEEDED
    assert list(world.host.exports.values()) == [True]


def test_an_export_that_fails_too_often_tells_what_to_do_and_leaves_nothing() -> None:
    world = exporting(attempts=3)
    world.host.storage_away = True
    operation = world.run()
    assert operation.state is OperationState.FAILED
    assert operation.failure is not None
    assert "It was begun 3 times." in operation.failure.message
    assert "snapshotctl vm export web01" in operation.failure.message
    assert world.host.exports == {}
    assert asked(world).count(EXPORT_VM) == 3


def test_a_full_disk_is_not_tried_again() -> None:
    world = exporting()
    (job,) = world.host.jobs.values()
    world.host.jobs = {job.job_id: replace(job, state=JobState.FAILED, error=FULL)}
    operation = world.run()
    assert operation.state is OperationState.FAILED
    assert operation.failure is not None
    assert FULL in operation.failure.message
    assert asked(world) == [EXPORT_VM, END_EXPORT]


def test_an_export_is_not_begun_anew_when_others_have_started_the_vm() -> None:
    world = exporting()
    world.host.restart()
    world.host.power = Power.RUNNING
    operation = world.run()
    assert operation.state is OperationState.FAILED
    assert world.host.exports == {}
    assert asked(world) == [EXPORT_VM, END_EXPORT]


def test_a_job_that_nobody_knows_is_ended_and_the_export_begun_anew() -> None:
    world = stopped()
    world.host.dies_untold = True
    world.do(export_vm())
    until(world, lambda: step_of(world, EXPORT_VM) is StepState.OUTCOME_UNKNOWN)
    operation = world.run()
    assert operation.state is OperationState.SUCCEEDED
    assert asked(world) == [EXPORT_VM, END_EXPORT, EXPORT_VM, COMPLETE]
    assert [job.state for job in world.host.jobs.values()] == [JobState.FAILED, JobState.DONE]
    assert list(world.host.exports.values()) == [True]


def test_an_answer_that_was_lost_costs_no_second_export() -> None:
    world = stopped()
    world.do(export_vm())
    world.run(lose=True)
    assert asked(world) == [EXPORT_VM, COMPLETE]


def test_an_older_export_is_removed_only_when_the_newer_one_is_complete() -> None:
    world = stopped()
    world.do(export_vm())
    world.run()
    (old,) = world.vm.exports
    world.do(export_vm())
    until(world, lambda: step_of(world, COMPLETE) is StepState.ISSUED)
    assert old.directory in world.host.exports
    world.run()
    (new,) = world.vm.exports
    assert world.host.exports == {new.directory: True}
    assert new.directory != old.directory


def test_an_older_export_on_a_disk_of_another_host_stays_on_record() -> None:
    world = stopped()
    world.do(export_vm())
    world.run()
    (old,) = world.vm.exports
    compare_hosts(world, world.host, own=replace(world.host.report(), power=Power.ABSENT, description=None))
    assert world.vm.host_id == "hv02"
    for directory in ("D:\\exports", "C:\\ClusterStorage\\Volume1\\exports"):
        world.do(export_vm(directory=directory))
        assert world.run().state is OperationState.SUCCEEDED
    assert old in world.vm.exports
    assert [export.host_id for export in world.vm.exports] == ["hv01", "hv02"]


def test_an_export_whose_beginning_nobody_could_tell_of_is_ended_all_the_same() -> None:
    world = stopped()
    world.do(export_vm())
    until(world, lambda: step_of(world, EXPORT_VM) is StepState.ISSUED)
    operation, step = world.vm.active_operations[0], world.open_step()
    assert step is not None
    world.act(*step)
    (folder,) = world.host.exports
    lost = Failure(reason="TIMED_OUT", message="It cannot be told.")
    begun = replace(operation.steps[0], state=StepState.FAILED, failure=lost)
    operation = replace(operation, steps=(begun, *operation.steps[1:]))
    assert [EXPORT_END.input.read(p.input).directory for p in exporting_steps.undo(operation)] == [folder]


def test_an_export_that_the_vm_uses_is_never_removed() -> None:
    world = stopped()
    world.do(export_vm())
    world.run()
    (old,) = world.vm.exports
    world.host.leaf = f"{old.directory}/Virtual Hard Disks/d.avhdx"
    world.do(SyncVm(report=world.host.report(), asked_version=world.vm.version))
    world.do(export_vm())
    assert world.run().state is OperationState.SUCCEEDED
    assert old.directory in world.host.exports
    assert END_EXPORT not in asked(world)


def test_an_export_needs_a_folder() -> None:
    with pytest.raises(ExportDirectoryMissing):
        stopped().do(export_vm(""))


@pytest.mark.parametrize(
    ("server", "own", "follows"),
    [
        (ExportPolicy.ON_STOP, ExportPolicy.AS_SERVER, True),
        (ExportPolicy.NEVER, ExportPolicy.ON_STOP, True),
        (ExportPolicy.ON_STOP, ExportPolicy.NEVER, False),
        (ExportPolicy.ON_SNAPSHOT, ExportPolicy.AS_SERVER, False),
    ],
)
def test_a_stop_is_followed_by_an_export_if_the_policy_says_so(
    server: ExportPolicy, own: ExportPolicy, *, follows: bool
) -> None:
    world = World(policy=Policy(export_policy=server, export_directory="/exports"))
    world.do(create(1))
    world.run()
    world.do(UpdateVm(owner=None, labels=None, export_policy=own))
    world.do(stop_vm(StopMode.SHUTDOWN))
    stop = world.vm.last_number
    world.run()
    assert world.vm.operations[stop].state is OperationState.SUCCEEDED
    assert (world.vm.last_number > stop) is follows
    assert bool(world.vm.exports) is follows


@pytest.mark.parametrize("mode", [StopMode.SAVE, StopMode.PAUSE])
def test_only_a_stop_that_leaves_the_vm_off_is_followed_by_an_export(mode: StopMode) -> None:
    world = World(policy=ON_STOP)
    world.do(create(1))
    world.run()
    world.do(stop_vm(mode))
    world.run()
    assert world.vm.exports == ()


def test_a_vm_without_snapshots_is_not_exported_by_itself() -> None:
    world = World(policy=ON_STOP)
    world.do(stop_vm(StopMode.SHUTDOWN))
    world.run()
    assert world.vm.last_number == 1


def test_an_export_that_cannot_follow_is_told() -> None:
    world = World(policy=Policy(export_policy=ExportPolicy.ON_STOP))
    world.do(create(1))
    world.run()
    world.do(stop_vm(StopMode.SHUTDOWN))
    world.run()
    (refused,) = [event for event in world.log if isinstance(event, e.FollowUpRefused)]
    assert refused.failure.reason == "EXPORT_DIRECTORY_MISSING"


# --- with a snapshot ----------------------------------------------------------------------------------------------


def taking(world: World) -> Operation:
    """Ask for a snapshot with an export, and go on until the job is waited for."""
    world.do(create(9, export="/exports"))
    until(world, waits(world))
    return world.vm.active_operations[0]


def test_a_snapshot_is_ready_before_its_export_begins() -> None:
    world = stopped()
    taking(world)
    assert world.vm.snapshots[sid(9)].state is SnapshotState.READY
    assert world.vm.activity is VmActivity.EXPORTING
    assert world.run().state is OperationState.SUCCEEDED
    assert len(world.vm.exports) == 1


def full(world: World) -> None:
    """Have the job fail for want of room, which does not pass by itself."""
    world.host.jobs = {j: replace(job, state=JobState.FAILED, error=FULL) for j, job in world.host.jobs.items()}


def test_an_export_that_fails_does_not_fail_the_snapshot() -> None:
    world = stopped()
    taking(world)
    full(world)
    operation = world.run()
    assert (operation.kind, operation.state) == ("CREATE_SNAPSHOT", OperationState.SUCCEEDED)
    assert world.vm.snapshots[sid(9)].state is SnapshotState.READY
    assert world.vm.exports == ()
    assert world.host.exports == {}


def test_an_export_with_a_snapshot_that_an_outage_ends_is_made_up_for() -> None:
    world = stopped()
    create_ = taking(world)
    world.host.restart()
    operation = world.run()
    assert (operation.kind, operation.state, operation.follows) == (
        "EXPORT_VIRTUAL_MACHINE",
        OperationState.SUCCEEDED,
        create_.name,
    )
    assert world.vm.operations[create_.number].state is OperationState.SUCCEEDED
    assert len(world.vm.exports) == 1


def test_what_is_said_of_a_create_that_is_cancelled_when_its_export_is_complete() -> None:
    world = stopped()
    world.do(export_vm())
    world.run()
    taking(world)
    until(world, lambda: step_of(world, COMPLETE) is StepState.DONE)
    world.do(start_vm())
    world.run()
    create_ = world.vm.operations[world.vm.last_number - 1]
    assert CREATE_SNAPSHOT.kept(create_) == "The snapshot was taken, and is kept. Its export is complete."


def test_an_export_that_fails_with_a_snapshot_removes_no_older_one() -> None:
    world = stopped()
    world.do(export_vm())
    world.run()
    (old,) = world.vm.exports
    taking(world)
    full(world)
    world.run()
    assert world.vm.exports == (old,)
    assert world.host.exports == {old.directory: True}


def test_a_start_ends_the_export_of_a_snapshot_and_the_snapshot_stays() -> None:
    world = stopped()
    taking(world)
    world.do(start_vm())
    assert world.run().state is OperationState.SUCCEEDED
    create_ = world.vm.operations[world.vm.last_number - 1]
    assert create_.state is OperationState.CANCELLED
    assert world.vm.snapshots[sid(9)].state is SnapshotState.READY
    assert world.host.exports == {}
    assert sid(9) == world.vm.current_id


def test_a_job_of_others_is_not_waited_for() -> None:
    world = exporting()
    world.host.jobs["theirs"] = HostJob(job_id="theirs", state=JobState.DONE)
    assert world.run().state is OperationState.SUCCEEDED
