"""Move the disk that a job has made out of its folder, to the name that it is to bear, and remove the folder.

Before, the host looks whether there is just one disk, and whether it stands alone. A script that dies meanwhile may
have moved it: the next attempt finds it in its place, and tells what it is. A copy is good though its VM is gone.
"""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain import host_path
from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import ActionName
from snapshotd.domain.operation import Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Versioned
from snapshotd.steps.action import Action, Judgement
from snapshotd.steps.host_job import judge_beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What to move, and where to."""

    directory: str
    """The job's folder."""
    target: str
    """The file that the disk is to be, beside the folder; it gets the disk's own extension."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What is there now."""

    path: str
    size_bytes: int
    """Of the file."""
    identifier: str
    """The disk's identity."""


class DiskPlace(Action):
    """Move a finished copy to its place."""

    name = ActionName("disk_place")
    label = "place copy"
    needs_vm = False
    made_up = frozenset({"directory", "target"})
    input: Versioned[Input] = Versioned(Input)
    output: Versioned[Output] = Versioned(Output)

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done by the journal alone, which has the disk's identity."""
        return judge_beginning(self, vm, operation, step, report)

    def placed_by(self, operation: Operation) -> Output | None:
        """Return the file that an operation has put in its place; None: none yet."""
        recorded = operation.output_of(self.name)
        return self.output.read(recorded) if recorded else None

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for removals, which fits a move within one folder."""
        return policy.remove_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it does, without the file's name, which each call makes up."""
        target = self.input.read(plan.input).target
        folder = target.removesuffix(host_path.name_in(target))[:-1]
        return f"Check the copy, and move it to folder {folder}."


DISK_PLACE = DiskPlace()
