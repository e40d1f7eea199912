"""From which power a VM is started and stopped, and when that is done."""

from __future__ import annotations

import re

import pytest

from snapshotd.domain.lifecycle import Power
from snapshotd.domain.state import replace
from snapshotd.ports.versioned import Nothing
from snapshotd.steps import vm_stop
from snapshotd.steps.action import Absent, Action, Done, InProgress, Judgement
from snapshotd.steps.vm_start import VM_START
from snapshotd.steps.vm_stop import VM_STOP, StopMode
from tests.unit.steps.standing import made, operation_of, step_of, with_power

P = Power
WAYS = (
    (VM_START, Nothing(), {P.STOPPED, P.SAVED, P.PAUSED}, P.RUNNING),
    (VM_STOP, vm_stop.Input(StopMode.SHUTDOWN), {P.RUNNING}, P.STOPPED),
    (VM_STOP, vm_stop.Input(StopMode.TURN_OFF), {P.RUNNING, P.PAUSED, P.SAVED, P.UNKNOWN}, P.STOPPED),
    (VM_STOP, vm_stop.Input(StopMode.SAVE), {P.RUNNING, P.PAUSED}, P.SAVED),
    (VM_STOP, vm_stop.Input(StopMode.PAUSE), {P.RUNNING}, P.PAUSED),
)
every_way = pytest.mark.parametrize(
    ("action", "values", "from_", "to"), WAYS, ids=["start", "shut down", "turn off", "save", "pause"]
)
every_power = pytest.mark.parametrize("power", Power)


@every_way
@every_power
def test_a_power_change_needs_a_power_that_hyper_v_allows_it_from(
    action: Action, values: object, from_: set[Power], to: Power, power: Power
) -> None:
    vm = with_power(made().vm, power)
    operation = operation_of(vm, step_of(action, values))
    refusal = action.refusal(vm, operation, operation.step(1))
    wrong = "VM_ABSENT" if power is Power.ABSENT else "WRONG_POWER_STATE"
    assert (refusal.reason if refusal else None) == (None if power in from_ else wrong)
    assert action.satisfied(vm, operation, operation.step(1)) is (power is to)
    if refusal and power is Power.ABSENT:
        assert "host hv01 does not show it to this account. It was deleted or moved" in refusal.message
        assert "ABSENT" not in refusal.message
    elif refusal:
        needed = re.sub(r", (\w+)$", r" or \1", ", ".join(p.name for p in Power if p in from_))
        assert f"its power state is {power.name}. It must be {needed}." in refusal.message


@every_way
@every_power
@pytest.mark.parametrize(
    ("activities", "otherwise"),
    [((), Absent), (("MERGE",), Absent), (("STATE_CHANGE",), InProgress), (("MERGE", "BACKUP"), InProgress)],
)
def test_a_power_change_is_judged_by_the_power_alone_and_no_merge_holds_it_up(
    action: Action,
    values: object,
    from_: set[Power],
    to: Power,
    power: Power,
    activities: tuple[str, ...],
    otherwise: type[Judgement],
) -> None:
    world = made()
    operation = operation_of(world.vm, step_of(action, values))
    report = replace(world.host.report(), power=power, activities=activities)
    judged = action.judge(world.vm, operation, operation.step(1), report)
    assert isinstance(judged, Done if power is to else otherwise)
