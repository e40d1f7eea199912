"""Remove one checkpoint, never its children. Its disks are merged afterwards, by the host alone (`disks_merge`)."""

from __future__ import annotations

from dataclasses import dataclass

from snapshotd.domain.chains import not_passed_through, superfluous
from snapshotd.domain.host_report import VmDescription, VmReport
from snapshotd.domain.ids import ActionName, CheckpointId
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.recorded import JsonObject
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports import plain
from snapshotd.ports.versioned import Versioned
from snapshotd.steps.action import (
    Absent,
    Action,
    InProgress,
    Judgement,
    Trace,
    Undetermined,
    power_refusal,
    trace,
)
from snapshotd.steps.made_checkpoint import made_checkpoint


@dataclass(frozen=True, slots=True)
class Input:
    """What to remove."""

    checkpoint_id: CheckpointId | None = None
    """None in the plan: it is the one that the operation makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What the host must find, and what the removal will leave to merge."""

    checkpoint_ids: tuple[CheckpointId, ...]
    chain_files: tuple[str, ...]
    superfluous: tuple[str, ...]
    """Not compared: the files that are superfluous without the checkpoint."""
    watched: tuple[str, ...]
    """Not compared: the files that must not be left on the disk outside of the chains."""


class CheckpointRemove(Action):
    """Remove one checkpoint."""

    name = ActionName("checkpoint_remove")
    label = "remove"
    input: Versioned[Input] = Versioned(Input)
    facts: Versioned[Before] = Versioned(Before)

    def before(self, vm: VirtualMachine, operation: Operation, step: Step) -> Before:
        """Return the checkpoints and files on record, and which files will have to go."""
        assert vm.description is not None, vm.vm_id
        return Before(
            checkpoint_ids=vm.description.checkpoint_ids(),
            chain_files=vm.description.chain_files(),
            superfluous=superfluous(vm.description, self.target(operation, step)),
            watched=not_passed_through(vm.description),
        )

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done if the id is gone. A merge that goes on does not matter here."""
        if report.works_besides_merging():
            return InProgress()
        if report.description is None:
            begun = trace(vm, operation, step, report.journal) is not Trace.UNTOUCHED
            return Undetermined("the host does not have the VM any more") if begun else Absent()
        there = report.description.checkpoint(self.target(operation, step)) is not None
        return Absent() if there else self.done()

    def satisfied(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether the host does not list the checkpoint. A step that was issued is observed instead."""
        if vm.description is None or step.attempts:
            return False
        return vm.description.checkpoint(self.target(operation, step)) is None

    def sent(self, operation: Operation, step: Step) -> JsonObject:
        """Return the checkpoint, also where it is the one that the operation has made."""
        return plain.encode(Input(self.target(operation, step)))

    def target(self, operation: Operation, step: Step) -> CheckpointId:
        """Return the checkpoint that a step removes."""
        planned = self.input.read(step.plan.input).checkpoint_id
        if planned is not None:
            return planned
        made = made_checkpoint(operation)
        assert made is not None, operation
        return made.checkpoint_id

    def made(self, step: Step) -> frozenset[CheckpointId]:
        """Return the checkpoint, once it is gone: that is no drift either."""
        planned = self.input.read(step.plan.input).checkpoint_id
        return frozenset({planned} if planned is not None and step.state is StepState.DONE else ())

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if the VM's power is not known, or its host does not have it."""
        return power_refusal(vm, "delete_begins", "delete a snapshot of")

    def leaves(self, step: Step, recorded: VmDescription, observed: VmDescription) -> VmDescription:
        """Return the VM without the checkpoint."""
        gone = self.input.read(step.plan.input).checkpoint_id
        if not step.attempts:
            return recorded
        return replace(recorded, checkpoints=tuple(c for c in recorded.checkpoints if c.checkpoint_id != gone))

    def time_limit_s(self, policy: Policy) -> float:
        """Return the policy's limit for removals."""
        return policy.remove_wait_s

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        if plan.snapshot_id is not None:
            return "Remove the snapshot's checkpoint; its children stay."
        which = self.input.read(plan.input).checkpoint_id
        return f"Remove {f'checkpoint {which}' if which else 'the temporary checkpoint'}; what stands on it stays."


CHECKPOINT_REMOVE = CheckpointRemove()
