"""End an export: terminate its job if it is at work, and remove its folder.

A complete export that a newer one supersedes is removed likewise. It may be done again and again. The host removes no
folder of which a VM uses a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import ActionName
from snapshotd.domain.operation import Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.recorded import JsonObject
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports import plain
from snapshotd.ports.versioned import Nothing, Versioned
from snapshotd.steps.action import Absent, Action, Judgement
from snapshotd.steps.export_folder import partial_folder

EXPORT: Final = ActionName("vm_export")
COMPLETE: Final = ActionName("export_complete")
"""Named here, since an export is ended by this."""
ANY_JOB: Final = "unknown"
"""Stands for a job that nobody knows: whichever export of this VM is under way, if the folder is there."""


@dataclass(frozen=True, slots=True)
class Input:
    """What to end."""

    job_id: str = ""
    """Its job; empty: none is at work; ANY_JOB: not known."""
    directory: str = ""
    """Empty in the plan: it is the operation's own attempt, if that was not completed."""


class ExportEnd(Action):
    """End an export, and remove its folder."""

    name = ActionName("export_end")
    label = "end export"
    needs_vm = False
    input: Versioned[Input] = Versioned(Input)

    def before(self, vm: VirtualMachine, operation: Operation, step: Step) -> Nothing:
        """Return nothing: whatever the VM is like, what is named is ended."""
        return Nothing()

    def sent(self, operation: Operation, step: Step) -> JsonObject:
        """Return what to end: as planned, or the operation's own attempt."""
        planned = self.input.read(step.plan.input)
        own = _own_attempt(operation) if not planned.directory else None
        return plain.encode(own or planned)

    def satisfied(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether the operation's own attempt, if that is meant, has left nothing to end."""
        return not self.input.read(step.plan.input).directory and _own_attempt(operation) is None

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Have it done again, unless the journal says that it is done: that harms nobody."""
        return Absent()

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for removals."""
        return policy.remove_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        asked = self.input.read(plan.input)
        if not asked.directory:
            return "Remove what there is of the export, if it was not completed."
        return f"{'End the export, and remove' if asked.job_id else 'Remove'} {asked.directory}."


def _own_attempt(operation: Operation) -> Input | None:
    """Return the last attempt that an operation has begun and not completed; None: there is none."""
    begun = next((s for s in reversed(operation.steps) if s.plan.action == EXPORT and s.output is not None), None)
    if begun is None or any(s.plan.action == COMPLETE and s.output is not None for s in operation.steps):
        return None
    assert begun.output is not None
    root = str(begun.plan.input.values["directory"])
    return Input(str(begun.output.values["job_id"]), partial_folder(root, operation, begun))


EXPORT_END = ExportEnd()
