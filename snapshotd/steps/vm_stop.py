"""Stop a VM: by shutdown, turn-off, save or pause. Undone by `vm_start`.

A shutdown asks the guest, and fails if the guest cannot: it never turns into a power cut by itself
(docs/hyperv.md, section 1). A VM that was paused or saved and is turned off has lost its memory: nothing brings that
back, and the plan said so beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.host_report import STATE_CHANGE, VmReport
from snapshotd.domain.ids import ActionName
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Nothing, Versioned
from snapshotd.steps.action import Absent, InProgress, Judgement, Trace, power_outside, trace
from snapshotd.steps.power import IN_MEMORY, START, PowerAction


class StopMode(Enum):
    """How a VM is stopped."""

    SHUTDOWN = "SHUTDOWN"
    TURN_OFF = "TURN_OFF"
    SAVE = "SAVE"
    PAUSE = "PAUSE"


GOAL = {
    StopMode.SHUTDOWN: Power.STOPPED,
    StopMode.TURN_OFF: Power.STOPPED,
    StopMode.SAVE: Power.SAVED,
    StopMode.PAUSE: Power.PAUSED,
}
"""The power that a stop ends in."""

MODE_TO = {Power.STOPPED: StopMode.TURN_OFF, Power.SAVED: StopMode.SAVE, Power.PAUSED: StopMode.PAUSE}
"""How a VM that we started is brought back to the power that it had."""

_FROM = {
    StopMode.SHUTDOWN: frozenset({Power.RUNNING}),
    StopMode.TURN_OFF: frozenset({Power.RUNNING, Power.PAUSED, Power.SAVED, Power.UNKNOWN}),
    StopMode.SAVE: frozenset({Power.RUNNING, Power.PAUSED}),
    StopMode.PAUSE: frozenset({Power.RUNNING}),
}
"""The power from which Hyper-V allows each (docs/hyperv.md, section 1, source read).

A VM that hangs in Stopping, or is in a state that is not understood, can be turned off: nothing else gets it out.
"""

_SHUTTING_DOWN = frozenset({"Stopping", "ForceShutdown"})
"""Hyper-V's words for a shutdown under way, which the host script lets a turn-off pass (docs/host-protocol.md)."""

_VERBS = {
    StopMode.SHUTDOWN: "shut down",
    StopMode.TURN_OFF: "turn off",
    StopMode.SAVE: "save",
    StopMode.PAUSE: "pause",
}
_DESCRIPTIONS = {
    StopMode.SHUTDOWN: "Ask the guest to shut down.",
    StopMode.TURN_OFF: "Turn the VM off, as by pulling the plug.",
    StopMode.SAVE: "Save the VM's memory and stop it.",
    StopMode.PAUSE: "Pause the VM.",
}


@dataclass(frozen=True, slots=True)
class Input:
    """How to stop."""

    mode: StopMode


def forbids(vm: VirtualMachine, mode: StopMode) -> SnapshotdError | None:
    """Return why a VM cannot be stopped in this way in its power; None if it can."""
    return power_outside(vm, _FROM[mode], _VERBS[mode])


class VmStop(PowerAction):
    """Shut a VM down, turn it off, save or pause it."""

    name = ActionName("vm_stop")
    label = "stop"
    input: Versioned[Input] = Versioned(Input)

    def goal(self, plan: PlannedStep) -> Power:
        """Return the power that the mode ends in."""
        return GOAL[self.input.read(plan.input).mode]

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return what the power says. A turn-off that was not begun need not wait for the end of a shutdown."""
        judged = super().judge(vm, operation, step, report)
        state = report.host_state.removesuffix("Critical")
        turns_off = self.input.read(step.plan.input).mode is StopMode.TURN_OFF and state in _SHUTTING_DOWN
        passes = turns_off and set(report.activities) <= {"MERGE", STATE_CHANGE}
        begun = trace(vm, operation, step, report.journal) is Trace.BEGUN
        return Absent() if isinstance(judged, InProgress) and passes and not begun else judged

    def waits_for_guest(self, plan: PlannedStep) -> bool:
        """Return whether the guest is asked to shut down."""
        return self.input.read(plan.input).mode is StopMode.SHUTDOWN

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if Hyper-V does not allow it in the VM's power."""
        forbidden = forbids(vm, self.input.read(step.plan.input).mode)
        return Failure.of(forbidden) if forbidden else None

    def undo(self, vm: VirtualMachine, step: Step) -> tuple[PlannedStep, ...]:
        """Return a start if the VM was running. It waits for a power that is not known, and may find it right."""
        assert step.before is not None, step
        was_running = self.facts.read(step.before).power is Power.RUNNING
        if vm.power in (Power.RUNNING, Power.ABSENT) or not was_running:
            return ()
        nothing = Versioned(Nothing).write(Nothing())
        return (PlannedStep(number=0, action=START, input=nothing, nature=StepNature.FORWARD_ONLY),)

    def description(self, plan: PlannedStep) -> str:
        """Return how it stops. The last step of a revert mostly finds the power right."""
        if plan.undoes is None and plan.nature is StepNature.FORWARD_ONLY:
            return "Turn the VM off, if it is on by then."
        return _DESCRIPTIONS[self.input.read(plan.input).mode]

    def may_lose(self, vm: VirtualMachine, plan: PlannedStep) -> str:
        """Return the guest's memory, if it turns the VM off.

        Nothing for the last step of a revert: by then the memory is the snapshot's.
        """
        last = plan.nature is StepNature.FORWARD_ONLY
        turns_off = self.input.read(plan.input).mode is StopMode.TURN_OFF and not last
        return "guest memory" if turns_off and vm.power in IN_MEMORY else ""

    def lost_memory(self, step: Step) -> bool:
        """Return whether a VM was turned off that had memory to lose."""
        assert step.before is not None, step
        turned_off = self.input.read(step.plan.input).mode is StopMode.TURN_OFF
        return turned_off and self.facts.read(step.before).power in (*IN_MEMORY, Power.UNKNOWN)


VM_STOP = VmStop()
