"""The steps START and STOP, and how the power that a VM had is brought back. Used by several operations.

Both are judged by the power that is seen and by nothing else. START on a running VM, or STOP on a stopped one, gets a
warning from Hyper-V and has no effect (docs/hyperv.md, section 1, source read), so doing either again harms nobody.
"""

from __future__ import annotations

from snapshotd.domain import events as e
from snapshotd.domain.errors import WrongPower
from snapshotd.domain.host_report import Before, VmReport
from snapshotd.domain.lifecycle import Power, StepState
from snapshotd.domain.operation import (
    Failure,
    Operation,
    OperationKind,
    PlannedStep,
    Step,
    StepAction,
    StepNature,
    StopMode,
)
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import (
    Absent,
    Done,
    InProgress,
    Judgement,
    Kind,
    StepBehaviour,
    Undo,
    move_vm,
    power_refusal,
)

GOAL = {
    StopMode.SHUTDOWN: Power.STOPPED,
    StopMode.TURN_OFF: Power.STOPPED,
    StopMode.SAVE: Power.SAVED,
    StopMode.PAUSE: Power.PAUSED,
}
"""The power that a stop ends in."""

_WAY_BACK = {Power.STOPPED: StopMode.TURN_OFF, Power.SAVED: StopMode.SAVE, Power.PAUSED: StopMode.PAUSE}
"""How a VM that we started is brought back to the power that it had."""

_MODES = {
    StopMode.SHUTDOWN: frozenset({Power.RUNNING}),
    StopMode.TURN_OFF: frozenset({Power.RUNNING, Power.PAUSED, Power.SAVED}),
    StopMode.SAVE: frozenset({Power.RUNNING, Power.PAUSED}),
    StopMode.PAUSE: frozenset({Power.RUNNING}),
}
"""The power from which Hyper-V allows each (docs/hyperv.md, section 1, source read)."""


def stop_mode(step: Step) -> StopMode:
    """Return how a STOP step stops."""
    assert step.plan.stop_mode is not None, step
    return step.plan.stop_mode


def goal(step: Step) -> Power:
    """Return the power that a START or STOP step brings about."""
    return Power.RUNNING if step.plan.action is StepAction.START else GOAL[stop_mode(step)]


def mode_refusal(vm: VirtualMachine, mode: StopMode) -> Failure | None:
    """Return why a VM cannot be stopped in this way in its power; None if it can."""
    if vm.power in _MODES[mode]:
        return None
    return Failure.of(WrongPower(vm.name, vm.power.name, mode_needs(mode), mode_verb(mode)))


def mode_needs(mode: StopMode) -> str:
    """Name the power from which a way of stopping is possible, for people."""
    return " or ".join(p.name for p in Power if p in _MODES[mode])


def mode_verb(mode: StopMode) -> str:
    """Return a way of stopping as a verb: "shut down", "turn off", "save", "pause"."""
    return "shut down" if mode is StopMode.SHUTDOWN else mode.name.lower().replace("_", " ")


class ChangePower(StepBehaviour):
    """START or STOP."""

    def __init__(self, action: StepAction) -> None:
        """Serve one of the two actions."""
        self.action = action

    def before(self, vm: VirtualMachine, step: Step) -> Before:
        """Depend on the power."""
        return Before(power=vm.power)

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Compare the power with the goal. Merging alone does not count as work under way."""
        if report.power is goal(step):
            return Done()
        return InProgress() if report.works_besides_merging() else Absent()

    def needless(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Skip if the power is right already, unless it is what the caller asked for: that is refused instead."""
        asked_for = operation.kind in (OperationKind.START_VM, OperationKind.STOP_VM) and step.plan.undoes is None
        return vm.power is goal(step) and not asked_for

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Refuse in a power from which Hyper-V does not allow it."""
        if self.action is StepAction.START:
            return power_refusal(vm, "start_begins", "start")
        return mode_refusal(vm, stop_mode(step))

    def wait_s(self, policy: Policy) -> float:
        """Allow what the policy says for power changes."""
        return policy.power_wait_s


def bring_power_back(vm: VirtualMachine, operation: Operation) -> tuple[PlannedStep, ...]:
    """Plan what brings the power back to what it was before the operation changed it; nothing where it cannot be.

    What the operation has not touched is somebody else's doing, and stays. A PAUSED or SAVED VM that was turned off
    has lost its memory: nothing brings that back, and the plan said so beforehand.
    """
    touched = next((s for s in operation.steps if _has_changed_power(s, vm.power)), None)
    if touched is None or touched.before is None or touched.before.power is None:
        return ()
    number = len(operation.steps) + 1
    nature = StepNature.FORWARD_ONLY
    then, now = touched.before.power, vm.power
    if then is Power.RUNNING and now in (Power.STOPPED, Power.SAVED, Power.PAUSED):
        return (PlannedStep(number=number, action=StepAction.START, nature=nature, undoes=0),)
    if now is Power.RUNNING and then in _WAY_BACK:
        mode = _WAY_BACK[then]
        return (PlannedStep(number=number, action=StepAction.STOP, nature=nature, stop_mode=mode, undoes=0),)
    return ()


def _has_changed_power(step: Step, now: Power) -> bool:
    """Return whether a step has changed the VM's power. One killed in a restore can leave it saved (inferred)."""
    if step.plan.action is StepAction.RESTORE:
        return step.attempts > 0 and now is Power.SAVED
    return step.plan.action in (StepAction.START, StepAction.STOP) and step.state is StepState.DONE


class PowerOnly(Kind):
    """What starting and stopping have in common: no snapshot takes part, and a cancelled one brings the power back."""

    begins_trigger: str

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Take the VM to STARTING or STOPPING."""
        return (move_vm(vm, self.begins_trigger),)

    def undo(self, vm: VirtualMachine, operation: Operation, failure: Failure | None) -> Undo:
        """Bring the power back."""
        return Undo(steps=bring_power_back(vm, operation))
