"""What undoes a step, by the power that its VM had before it and that it has now."""

from __future__ import annotations

from itertools import product

import pytest

from snapshotd.domain.ids import CheckpointId
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import PlannedStep, StepNature
from snapshotd.steps import checkpoint_restore, vm_stop
from snapshotd.steps.checkpoint_restore import CHECKPOINT_RESTORE
from snapshotd.steps.power import Before
from snapshotd.steps.vm_start import VM_START
from snapshotd.steps.vm_stop import VM_STOP, StopMode
from tests.fakes import World
from tests.unit.steps.standing import step_of, with_power

P = Power
START = VM_START.planned(nature=StepNature.FORWARD_ONLY)
OF_START = {(P.STOPPED, P.RUNNING): StopMode.TURN_OFF, (P.SAVED, P.RUNNING): StopMode.SAVE}
OF_START |= {(P.PAUSED, P.RUNNING): StopMode.PAUSE}
OF_STOP = {(P.RUNNING, now) for now in (P.STOPPED, P.SAVED, P.PAUSED, P.UNKNOWN)}

every_power = pytest.mark.parametrize(
    ("before", "now"), tuple(product(Power, Power)), ids=lambda power: power.name.lower()
)


def stop(mode: StopMode) -> PlannedStep:
    """Return a stop as an undo plans it."""
    return VM_STOP.planned(vm_stop.Input(mode), nature=StepNature.FORWARD_ONLY)


@every_power
def test_a_start_is_undone_by_the_stop_that_leads_back_if_the_vm_runs(before: Power, now: Power) -> None:
    mode = OF_START.get((before, now))
    undo = VM_START.undo(with_power(World().vm, now), step_of(VM_START, before=Before(before)))
    assert undo == ((stop(mode),) if mode else ())


@every_power
def test_a_stop_is_undone_by_a_start_only_if_the_vm_was_running_and_is_not_now(before: Power, now: Power) -> None:
    done = step_of(VM_STOP, vm_stop.Input(StopMode.SHUTDOWN), before=Before(before))
    assert VM_STOP.undo(with_power(World().vm, now), done) == ((START,) if (before, now) in OF_STOP else ())


@pytest.mark.parametrize("attempts", [0, 1, 2])
@pytest.mark.parametrize("now", Power)
def test_a_restore_that_was_tried_has_left_something_to_undo_only_if_the_vm_is_saved(now: Power, attempts: int) -> None:
    tried = step_of(CHECKPOINT_RESTORE, checkpoint_restore.Input(CheckpointId("c")), attempts=attempts)
    touched = CHECKPOINT_RESTORE.touched(with_power(World().vm, now), tried)
    assert touched is (attempts > 0 and now is Power.SAVED)


@pytest.mark.parametrize("before", Power)
def test_a_restore_that_has_left_the_vm_saved_is_undone_by_a_start_only_if_the_vm_was_running(before: Power) -> None:
    facts = checkpoint_restore.Before(power=before, checkpoint_ids=(), current_checkpoint_id=None, leaf_paths=())
    tried = step_of(CHECKPOINT_RESTORE, checkpoint_restore.Input(CheckpointId("c")), before=facts)
    undo = CHECKPOINT_RESTORE.undo(with_power(World().vm, Power.SAVED), tried)
    assert undo == ((START,) if before is Power.RUNNING else ())
