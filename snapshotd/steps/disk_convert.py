"""Have the host copy one disk of a VM that is off, into a folder of its own. It is waited for (`job_wait`).

The host reads the disk with all that it stands on, and writes one new file (documented). That it lets nobody start the
VM meanwhile is inferred: the file is in use. So what the copy holds is what the guest left when it was stopped. As with
`disk_export`, the script only begins the job.
"""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import ActionName
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.recorded import JsonObject
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports import plain
from snapshotd.ports.versioned import Versioned
from snapshotd.steps.action import Action, Judgement, power_outside
from snapshotd.steps.host_job import begun, ended_by, judge_beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What to copy, and where to."""

    path: str = ""
    """The file that the disk is written to; empty in the plan: the one that is there when the step is issued."""
    location: str
    """The place of the disk: "SCSI:0:1"."""
    directory: str
    """A folder that is not there yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What the host must find."""

    power: Power
    leaf_paths: tuple[str, ...]
    path: str
    """Not compared: the disk's file, which is one of these."""


@dataclass(frozen=True, slots=True)
class Output:
    """What was begun."""

    job_id: str
    """As the host names it; empty: it was done at once."""


class DiskConvert(Action):
    """Begin to copy one disk of a VM that is off."""

    name = ActionName("disk_convert")
    label = "copy"
    made_up = frozenset({"directory"})
    input: Versioned[Input] = Versioned(Input)
    facts: Versioned[Before] = Versioned(Before)
    output: Versioned[Output] = Versioned(Output)

    def before(self, vm: VirtualMachine, operation: Operation, step: Step) -> Before:
        """Return the power and the files on record, and which of them the disk is written to."""
        assert vm.description is not None, vm.vm_id
        location = self.input.read(step.plan.input).location
        path = next((d.path for d in vm.description.disks if d.location == location), "")
        return Before(power=vm.power, leaf_paths=vm.description.leaf_paths(), path=path)

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done by the journal alone: a file that is there does not tell which job writes it."""
        return judge_beginning(self, vm, operation, step, report)

    def sent(self, operation: Operation, step: Step) -> JsonObject:
        """Return what to copy, with the file as it was when the step was issued."""
        assert step.before is not None, step
        path = self.facts.read(step.before).path
        return plain.encode(replace(self.input.read(step.plan.input), path=path))

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal unless the VM is off."""
        wrong = power_outside(vm, frozenset({Power.STOPPED}), "copy a disk, which was to be copied while it is off, of")
        return Failure.of(wrong) if wrong else None

    def touched(self, vm: VirtualMachine, step: Step) -> bool:
        """Return whether the folder may be there: also after a failure, if the script died within it."""
        return begun(step)

    def undo(self, vm: VirtualMachine, step: Step) -> tuple[PlannedStep, ...]:
        """Return the end of the job, with its folder."""
        job = self.output.read(step.output).job_id if step.output else None
        return (ended_by(job, self.input.read(step.plan.input).directory),)

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for removals, which fits what only begins something."""
        return policy.remove_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        return f"Begin to copy disk {self.input.read(plan.input).location} of the VM, which is off."


DISK_CONVERT = DiskConvert()
