"""Have the host export one disk of a checkpoint, into a folder of its own. What comes of it is waited for (`job_wait`).

The host merges what the checkpoint's disk stands on into one new file (documented), while the VM goes on running. The
other disks are left out, by their places. The export is a job of the host, which outlives the script (inferred); the
script only begins it and tells which one it is. If it dies before it has told that, the job ends by itself, and the
next attempt begins by removing the folder, which nobody else has.
"""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import ActionName, CheckpointId
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.recorded import JsonObject
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports import plain
from snapshotd.ports.versioned import Versioned
from snapshotd.steps.action import Action, Judgement, power_refusal
from snapshotd.steps.host_job import begun, ended_by, judge_beginning
from snapshotd.steps.made_checkpoint import made_checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What to export, and where to."""

    checkpoint_id: CheckpointId | None = None
    """None in the plan: it is the one that the operation makes."""
    location: str
    """The place of the disk: "SCSI:0:1"."""
    directory: str
    """A folder that is not there yet."""


@dataclass(frozen=True, slots=True)
class Before:
    """What the host must find."""

    checkpoint_ids: tuple[CheckpointId, ...]


@dataclass(frozen=True, slots=True)
class Output:
    """What was begun."""

    job_id: str
    """As the host names it; empty: it was done at once."""


class DiskExport(Action):
    """Begin the export of one disk of a checkpoint."""

    name = ActionName("disk_export")
    label = "copy"
    made_up = frozenset({"directory"})
    input: Versioned[Input] = Versioned(Input)
    facts: Versioned[Before] = Versioned(Before)
    output: Versioned[Output] = Versioned(Output)

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done by the journal alone: a folder that is there does not tell which job fills it."""
        return judge_beginning(self, vm, operation, step, report)

    def sent(self, operation: Operation, step: Step) -> JsonObject:
        """Return what to export, with the checkpoint that the operation has made."""
        planned, made = self.input.read(step.plan.input), made_checkpoint(operation)
        which = planned.checkpoint_id or (made.checkpoint_id if made else None)
        return plain.encode(replace(planned, checkpoint_id=which))

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if the VM's power is not known, or its host does not have it."""
        return power_refusal(vm, "delete_begins", "copy a disk of")

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
        return f"Begin to copy disk {self.input.read(plan.input).location}, as the temporary checkpoint has frozen it."


DISK_EXPORT = DiskExport()
