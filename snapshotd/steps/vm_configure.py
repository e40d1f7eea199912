"""Set a VM's processors, or its memory: one cmdlet, so that a step is done wholly or not at all (inferred).

The VM is off: Hyper-V changes neither while it runs, but for static memory (docs/hyperv.md, section 2, documented). It
is judged by what the host reports. Undone by setting what was there before, unless others have set it anew.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from snapshotd.domain.errors import SnapshotdError, VmAbsent
from snapshotd.domain.host_report import VmDescription, VmReport
from snapshotd.domain.ids import ActionName
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.offering import Offering
from snapshotd.domain.offering_errors import OfferingNeedsStopped
from snapshotd.domain.offering_words import bytes_in_words, processors
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Versioned
from snapshotd.steps.action import Absent, Action, InProgress, Judgement, Trace, Undetermined, trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What to set; None: as it is. Processors and memory take a step each."""

    cpu_count: int | None = None
    memory_bytes: int | None = None
    dynamic_memory: bool | None = None
    minimum_bytes: int | None = None
    maximum_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What the host must find."""

    power: Power
    offering: Offering


def with_change(offering: Offering, change: Input) -> Offering:
    """Return an offering as a change makes it."""
    return replace(offering, **{name: value for name, value in asdict(change).items() if value is not None})


class VmConfigure(Action):
    """Set processors or memory."""

    name = ActionName("vm_configure")
    label = "configure"
    input: Versioned[Input] = Versioned(Input)
    facts: Versioned[Before] = Versioned(Before)

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Look at what the host has set."""
        if report.works_besides_merging():
            return InProgress()
        if report.description is None:
            begun = trace(vm, operation, step, report.journal) is not Trace.UNTOUCHED
            return Undetermined("the host does not have the VM any more") if begun else Absent()
        return self.done() if self._is_set(step, report.description) else Absent()

    def satisfied(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether it is set already."""
        return vm.description is not None and self._is_set(step, vm.description)

    def _is_set(self, step: Step, description: VmDescription) -> bool:
        return with_change(description.offering, self.input.read(step.plan.input)) == description.offering

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal unless the VM is off."""
        forbidden = needs_stopped(vm)
        return Failure.of(forbidden) if forbidden else None

    def leaves(self, step: Step, recorded: VmDescription, observed: VmDescription) -> VmDescription:
        """Return the VM with what it sets."""
        if not step.attempts:
            return recorded
        return replace(recorded, offering=with_change(recorded.offering, self.input.read(step.plan.input)))

    def undo(self, vm: VirtualMachine, step: Step) -> tuple[PlannedStep, ...]:
        """Return the step that sets what was there before; none if others have set something else since."""
        assert step.before is not None, step
        if vm.description is None or not self._is_set(step, vm.description):
            return ()
        was, change = asdict(self.facts.read(step.before).offering), asdict(self.input.read(step.plan.input))
        # A bound that is not known cannot be set. `False` is known.
        back = {n: was[n] for n, value in change.items() if value is not None and (was[n] or n == "dynamic_memory")}
        return (self.planned(Input(**back), nature=StepNature.FORWARD_ONLY),)

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for removals, which fits small changes."""
        return policy.remove_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it sets."""
        return f"Set {in_words(self.input.read(plan.input))}."


def needs_stopped(vm: VirtualMachine) -> SnapshotdError | None:
    """Return why the VM's power does not allow another offering; None if it does."""
    if vm.power is Power.STOPPED:
        return None
    if vm.power is Power.ABSENT:
        return VmAbsent(vm.name, "change processors or memory of", vm.host_id)
    return OfferingNeedsStopped(vm.name, vm.power.name, vm.host_id)


def in_words(change: Input) -> str:
    """Return what a change sets, for people: "4 processors", "memory: 8 GiB, dynamic, at least 2 GiB"."""
    if change.cpu_count is not None:
        return processors(change.cpu_count)
    words = [bytes_in_words(change.memory_bytes)] if change.memory_bytes is not None else []
    if change.dynamic_memory is not None:
        words.append("dynamic" if change.dynamic_memory else "not dynamic")
    if change.minimum_bytes is not None:
        words.append(f"at least {bytes_in_words(change.minimum_bytes)}")
    if change.maximum_bytes is not None:
        words.append(f"at most {bytes_in_words(change.maximum_bytes)}")
    return f"memory: {', '.join(words)}"


VM_CONFIGURE = VmConfigure()
