"""Complete an export whose job is over: verify that nothing of it is missing, and give its folder the final name.

The host's script may do it again: it finds the folder under its final name then.
"""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain.host_report import VmReport
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.recorded import JsonObject
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Nothing, Versioned
from snapshotd.steps.action import Absent, Action, InProgress, Judgement
from snapshotd.steps.export_end import COMPLETE
from snapshotd.steps.export_folder import final_folder
from snapshotd.steps.vm_export import VM_EXPORT


@dataclass(frozen=True, slots=True)
class Input:
    """What to complete: empty in the plan, it is the attempt that comes before."""

    directory: str = ""
    target: str = ""
    """Its final name."""


@dataclass(frozen=True, slots=True)
class Output:
    """The complete export."""

    configuration_path: str
    """The file that it is imported by."""
    size_bytes: int


class ExportComplete(Action):
    """Verify and name an export."""

    name = COMPLETE
    label = "verify export"
    needs_vm = False
    input: Versioned[Input] = Versioned(Input)
    output: Versioned[Output] = Versioned(Output)

    def before(self, vm: VirtualMachine, operation: Operation, step: Step) -> Nothing:
        """Return nothing: the folder is ours alone, and the script looks for itself how far it has come."""
        return Nothing()

    def sent(self, operation: Operation, step: Step) -> JsonObject:
        """Return the folder of the attempt, and its final name."""
        directory = _folder(operation)
        return {"directory": directory, "target": final_folder(directory)}

    def target(self, operation: Operation) -> str:
        """Return the final name of the last attempt's folder."""
        return final_folder(_folder(operation))

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Have it done again, unless the journal says that it is done: what there is to tell, only the script can."""
        return InProgress() if "EXPORT" in report.activities else Absent()

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for checkpoints: many files may have to be looked at."""
        return policy.create_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        return "Verify that nothing of the export is missing, and give its folder the final name."


def _folder(operation: Operation) -> str:
    begun = [s for s in operation.steps if s.plan.action == VM_EXPORT.name and s.state is StepState.DONE]
    return VM_EXPORT.folder(operation, begun[-1])


EXPORT_COMPLETE = ExportComplete()
