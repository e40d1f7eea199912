"""What a step says before it is done, and after: what it does, what it may lose, what no undo brings back."""

from __future__ import annotations

import pytest

from snapshotd.domain.ids import CheckpointId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import StepNature
from snapshotd.domain.state import replace
from snapshotd.operations.snapshot_revert import REVERT_TO_SNAPSHOT
from snapshotd.ports.versioned import Nothing
from snapshotd.steps import (
    attachment,
    checkpoint_create,
    checkpoint_remove,
    checkpoint_rename,
    checkpoint_restore,
    disk_convert,
    disk_create,
    disk_export,
    disk_place,
    export_complete,
    export_end,
    files_delete,
    job_wait,
    vm_export,
    vm_import,
    vm_release,
    vm_stop,
    volume_resize,
)
from snapshotd.steps.action import Action
from snapshotd.steps.catalogue import ACTIONS
from snapshotd.steps.checkpoint_restore import CHECKPOINT_RESTORE
from snapshotd.steps.power import Before
from snapshotd.steps.vm_start import VM_START
from snapshotd.steps.vm_stop import VM_STOP, StopMode
from tests.asking import (
    ATTACH,
    COMPLETE,
    CONVERT,
    CREATE,
    DELETE_FILES,
    DETACH,
    END_EXPORT,
    EXPORT,
    EXPORT_VM,
    IMPORT,
    JOB,
    MAKE_DISK,
    PLACE,
    RELEASE,
    REMOVE,
    RENAME,
    RESIZE,
    RESTORE,
    STOP,
    revert_to,
)
from tests.fakes import World
from tests.unit.application.cases import create, sid
from tests.unit.steps.standing import step_of, with_power

LAST, UNDO = (StepNature.FORWARD_ONLY, None), (StepNature.FORWARD_ONLY, 1)
FIRST = (StepNature.UNDOABLE, None)
OF = CheckpointId("c")
INPUTS: dict[str, object] = {
    STOP: vm_stop.Input(StopMode.TURN_OFF),
    CREATE: checkpoint_create.Input(checkpoint_name="n #1", with_memory=False, allow_fallback=False),
    RENAME: checkpoint_rename.Input(checkpoint_name="n #1"),
    RESTORE: checkpoint_restore.Input(OF),
    REMOVE: checkpoint_remove.Input(OF),
    MAKE_DISK: disk_create.Input("d.vhdx", 1),
    ATTACH: attachment.Input("SCSI:0:1", "d.vhdx"),
    DETACH: attachment.Input("SCSI:0:1", "d.vhdx"),
    RESIZE: volume_resize.Input("SCSI:0:1", "d.vhdx", 1),
    DELETE_FILES: files_delete.Input(("d.vhdx",)),
    EXPORT: disk_export.Input(location="SCSI:0:0", directory="D:\\Copies\\one"),
    CONVERT: disk_convert.Input(location="SCSI:0:0", directory="D:\\Copies\\one"),
    JOB: job_wait.Input(EXPORT),
    PLACE: disk_place.Input(directory="D:\\Copies\\one", target="D:\\Copies\\one.vhdx"),
    EXPORT_VM: vm_export.Input("/exports"),
    END_EXPORT: export_end.Input(),
    COMPLETE: export_complete.Input(),
    IMPORT: vm_import.Input("/exports/vm.vmcx"),
    RELEASE: vm_release.Input(),
}
HAVE_MEMORY = (Power.RUNNING, Power.PAUSED, Power.SAVED)


@pytest.mark.parametrize("power", Power)
@pytest.mark.parametrize("nature", StepNature)
@pytest.mark.parametrize("action", ACTIONS.values(), ids=lambda action: action.name)
def test_a_plan_says_what_each_step_may_lose(action: Action, nature: StepNature, power: Power) -> None:
    plan = action.planned(INPUTS.get(action.name), nature=nature)
    loses = ""
    if action is CHECKPOINT_RESTORE:
        loses = "what was written to the disks since the current snapshot"
    elif action is VM_STOP and nature is not StepNature.FORWARD_ONLY and power in HAVE_MEMORY:
        loses = "guest memory"
    elif action.name == DETACH and power is Power.RUNNING:
        loses = "what the guest has not yet written to the volume"
    assert action.may_lose(with_power(World().vm, power), plan) == loses


@pytest.mark.parametrize("power", Power)
@pytest.mark.parametrize("memory", [False, True])
def test_a_revert_names_the_guests_memory_once_whoever_loses_it(power: Power, *, memory: bool) -> None:
    world = World()
    world.do(create(1, memory=memory))
    world.run()
    vm = with_power(world.vm, power)
    plan = REVERT_TO_SNAPSHOT.plan(vm, revert_to(sid(1)))
    losses = " and ".join(filter(None, (ACTIONS[step.action].may_lose(vm, step) for step in plan)))
    assert losses.count("guest memory") == (power in HAVE_MEMORY)
    assert losses.count("what was written to the disks") == 1
    assert REVERT_TO_SNAPSHOT.preview(vm, revert_to(sid(1))).memory_lost is (power in HAVE_MEMORY)


@pytest.mark.parametrize("mode", StopMode)
@pytest.mark.parametrize("power", Power)
def test_only_what_was_turned_off_with_memory_has_lost_it_for_good(mode: StopMode, power: Power) -> None:
    step = replace(
        step_of(VM_STOP, vm_stop.Input(mode), nature=StepNature.UNDOABLE),
        before=VM_STOP.facts.write(Before(power)),
    )
    had_memory = power in (*HAVE_MEMORY, Power.UNKNOWN)
    assert VM_STOP.lost_memory(step) is (mode is StopMode.TURN_OFF and had_memory)


@pytest.mark.parametrize(
    ("action", "values", "where", "said"),
    [
        (VM_START, Nothing(), FIRST, "Start the VM, or resume it."),
        (VM_START, Nothing(), UNDO, "Start the VM, or resume it."),
        (VM_START, Nothing(), LAST, "Start the VM, if it is not running by then."),
        (VM_STOP, vm_stop.Input(StopMode.TURN_OFF), FIRST, "Turn the VM off, as by pulling the plug."),
        (VM_STOP, vm_stop.Input(StopMode.TURN_OFF), UNDO, "Turn the VM off, as by pulling the plug."),
        (VM_STOP, vm_stop.Input(StopMode.TURN_OFF), LAST, "Turn the VM off, if it is on by then."),
        (VM_STOP, vm_stop.Input(StopMode.SAVE), UNDO, "Save the VM's memory and stop it."),
        (VM_STOP, vm_stop.Input(StopMode.PAUSE), UNDO, "Pause the VM."),
        (VM_STOP, vm_stop.Input(StopMode.SHUTDOWN), FIRST, "Ask the guest to shut down."),
    ],
)
def test_an_undo_and_the_last_step_of_a_revert_are_told_apart(
    action: Action, values: object, where: tuple[StepNature, int | None], said: str
) -> None:
    nature, undoes = where
    plan = replace(step_of(action, values, nature=nature).plan, undoes=undoes)
    assert action.description(plan) == said
