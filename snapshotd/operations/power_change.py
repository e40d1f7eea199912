"""What starting, stopping and restarting have in common: they change the power, and no snapshot takes part.

They go past an export, by itself or with a snapshot: it is cancelled for them. Only when it is being completed, so that
little is left to do, they wait for its end, unless the VM is being removed from its host after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from snapshotd.domain import events as e
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations import exporting
from snapshotd.operations.kind import Kind, Undo, move_vm
from snapshotd.operations.vm_export import EXPORT_VIRTUAL_MACHINE
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import vm_stop
from snapshotd.steps.catalogue import ACTIONS
from snapshotd.steps.vm_release import VM_RELEASE
from snapshotd.steps.vm_stop import VM_STOP, StopMode


class PowerChange(Kind):
    """An operation that changes the power."""

    joins = True
    passes = True
    preempts = frozenset({EXPORT_VIRTUAL_MACHINE.name})
    trigger: ClassVar[str]
    """The arrow that the VM takes."""

    def goes_past(self, request: RequestOperation, active: Operation) -> bool:
        """Return whether an export is under way, by itself or with a snapshot."""
        return super().goes_past(request, active) or exporting.begun(active)

    def outwaits(self, request: RequestOperation, active: Operation) -> bool:
        """Return whether an export is being completed, and the VM stays on its host."""
        removing = [s for s in active.steps if s.plan.action == VM_RELEASE.name]
        return exporting.begun(active) and all(s.state in (StepState.DUE, StepState.SKIPPED) for s in removing)

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the VM's move to STARTING or STOPPING."""
        return (move_vm(vm, self.trigger),)

    def skips(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether the step is an undo. A request for the power that the VM has is refused, not skipped."""
        return step.plan.undoes is not None


@dataclass(frozen=True, slots=True)
class StopParams:
    """How to stop."""

    mode: StopMode
    shutdown_timeout_s: float | None = None
    """Of a shutdown: the VM is turned off if it is not off after so long. None: never."""


STOP_PARAMS: Versioned[StopParams] = Versioned(StopParams, 2, {1: lambda old: {**old, "shutdown_timeout_s": None}})
"""The first version had no timeout."""


class Stop(PowerChange):
    """A power change that begins with a stop. A shutdown that is asked to end makes way for a turn-off."""

    params: Versioned[StopParams] = STOP_PARAMS
    trigger = "stop_begins"

    def stop_steps(self, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return the stop; of a shutdown with a timeout also a turn-off, which is skipped if the VM is off by then."""
        asked = self.params.read(request.params)
        if asked.shutdown_timeout_s is None:
            return (VM_STOP.planned(vm_stop.Input(asked.mode), nature=StepNature.UNDOABLE),)
        return (
            VM_STOP.planned(vm_stop.Input(asked.mode), nature=StepNature.BEST_EFFORT),
            VM_STOP.planned(vm_stop.Input(StopMode.TURN_OFF), nature=StepNature.UNDOABLE),
        )

    def time_limit_s(self, operation: Operation, step: Step, policy: Policy) -> float:
        """Return what counts for any step; for a shutdown with a timeout, that."""
        timeout_s = self._timeout_s(operation, step)
        return super().time_limit_s(operation, step, policy) if timeout_s is None else timeout_s

    def deadline(self, operation: Operation, step: Step, now: datetime, policy: Policy) -> datetime:
        """Return what counts for any step; of a shutdown with a timeout, all attempts that were sent share that."""
        # A command that was never sent has left no deadline: its guest was not asked.
        shared = step.deadline if step.attempts and self._timeout_s(operation, step) is not None else None
        return shared or super().deadline(operation, step, now, policy)

    def _timeout_s(self, operation: Operation, step: Step) -> float | None:
        shuts_down = ACTIONS[step.plan.action].waits_for_guest(step.plan)
        return self.params.read(operation.params).shutdown_timeout_s if shuts_down else None

    def undo(self, vm: VirtualMachine, operation: Operation, failure: Failure | None) -> Undo:
        """Return the start of a VM that was running, unless the operation makes way for a turn-off."""
        return Undo() if vm.makes_way(operation) else super().undo(vm, operation, failure)

    def remark(self, operation: Operation) -> str:
        """Return that the VM was turned off, if its guest did not shut down in time."""
        first, *later = (s for s in operation.steps if s.plan.undoes is None and s.plan.action == VM_STOP.name)
        if first.state is StepState.DONE or not any(s.state is StepState.DONE for s in later):
            return ""
        why = f" ({first.failure.reason})" if first.failure else ""
        return f"Its guest did not shut down{why}, so the VM was turned off. What the guest held in memory is lost."

    def warnings(self, request: RequestOperation) -> tuple[str, ...]:
        """Return that the VM may be turned off."""
        timeout_s = self.params.read(request.params).shutdown_timeout_s
        if timeout_s is None:
            return ()
        text = f"If the guest cannot be shut down, or is not off after {timeout_s:g} s, the VM is turned off"
        return (f"{text}. What the guest holds in memory is lost then.",)


def asks_guest(operation: Operation) -> bool:
    """Return whether an operation asks the guest to shut down, and has not gone on to its next step."""
    steps = [s for s in operation.steps if s.plan.undoes is None]
    asks = any(ACTIONS[s.plan.action].waits_for_guest(s.plan) for s in steps[:1])
    return asks and all(s.state in (StepState.DUE, StepState.SKIPPED) for s in steps[1:])
