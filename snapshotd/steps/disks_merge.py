"""Wait until the host has merged the disks of a removed checkpoint. Sends no command, and leaves the VM to others.

It does not rely on which file is merged into which: the chains are read again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from ntpath import basename
from typing import Final

from snapshotd.domain.chains import disk_of, passed_through
from snapshotd.domain.host_report import VmReport, file_key, file_keys
from snapshotd.domain.ids import ActionName, CheckpointId
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Versioned
from snapshotd.steps.action import Action, InProgress, Judgement
from snapshotd.steps.checkpoint_remove import CHECKPOINT_REMOVE

_MOST_NAMED: Final = 10
"""How many files a message names."""


@dataclass(frozen=True, slots=True)
class Input:
    """Which checkpoint is removed, if it is no snapshot's."""

    checkpoint_id: CheckpointId | None = None


@dataclass(frozen=True, slots=True)
class Before:
    """What the removed checkpoint leaves to merge."""

    superfluous: tuple[str, ...]
    """The files that nothing stands on any more without it."""
    watched: tuple[str, ...]
    """The files that must not be left on the disk outside of the chains."""


class DisksMerge(Action):
    """Poll until the host has merged the disks."""

    name = ActionName("disks_merge")
    label = "merge"
    polls = True
    holds_vm = False
    waits_for = Failure(reason="MERGE_IN_PROGRESS", message="The host is merging disks.")
    input: Versioned[Input] = Versioned(Input, 2, {1: lambda _: {"checkpoint_id": None}})
    facts: Versioned[Before] = Versioned(Before)

    def before(self, vm: VirtualMachine, operation: Operation, step: Step) -> Before:
        """Return the files as the removal found them; without a removal, what an earlier one has left unmerged."""
        issued = [s.before for s in self._removals(operation, step) if s.before is not None]
        if issued:
            found = CHECKPOINT_REMOVE.facts.read(issued[-1])
            return Before(found.superfluous, found.watched)
        left = vm.snapshots[step.plan.snapshot_id].unmerged if step.plan.snapshot_id else ()
        return Before(left, left)

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done if the checkpoint is gone, nothing is at work on the disks, and no file is left to merge."""
        if report.description is None or {"DELETE", "MERGE"} & set(report.activities):
            return InProgress()
        there = report.description.checkpoint(self._gone(vm, operation, step)) is not None
        return InProgress() if there or self.left(step, report) else self.done()

    def satisfied(self, vm: VirtualMachine, operation: Operation, step: Step) -> bool:
        """Return whether the checkpoint was not removed, so that there is nothing to merge."""
        removal = next(iter(self._removals(operation, step)), None)
        if removal is None or removal.state is StepState.DONE:
            return False
        gone = CHECKPOINT_REMOVE.satisfied(vm, operation, removal)
        return removal.state is not StepState.SKIPPED or not gone

    def _removals(self, operation: Operation, step: Step) -> list[Step]:
        """Return the steps that remove the checkpoint. If it is nobody's, and not named: the nearest one before."""
        about, named = step.plan.snapshot_id, self.input.read(step.plan.input).checkpoint_id
        removals = [
            s for s in operation.steps if s.plan.action == CHECKPOINT_REMOVE.name and s.plan.snapshot_id == about
        ]
        if named is not None:
            return [s for s in removals if CHECKPOINT_REMOVE.input.read(s.plan.input).checkpoint_id == named]
        return removals if about is not None else [s for s in removals if s.plan.number < step.plan.number][-1:]

    def _gone(self, vm: VirtualMachine, operation: Operation, step: Step) -> CheckpointId | None:
        about, named = step.plan.snapshot_id, self.input.read(step.plan.input).checkpoint_id
        if about is not None or named is not None:
            return vm.snapshots[about].checkpoint_id if about is not None else named
        (removal,) = self._removals(operation, step)
        return CHECKPOINT_REMOVE.target(operation, removal)

    def left(self, step: Step, report: VmReport) -> tuple[str, ...]:
        """Return the files that are still to be merged, or of which nobody can tell, sorted."""
        assert step.before is not None, step
        assert report.description is not None, report
        before, in_chains = self.facts.read(step.before), file_keys(report.description.chain_files())
        strays = passed_through(report.description)
        unmerged = {path for path in before.superfluous if file_key(path) in strays}
        outside = {p for p in (*report.existing_files, *report.unknown_files) if file_key(p) not in in_chains}
        return tuple(sorted(unmerged | outside))

    def watched_files(self, step: Step) -> tuple[str, ...]:
        """Return the files that something stood on before."""
        assert step.before is not None, step
        return self.facts.read(step.before).watched

    def time_limit_s(self, policy: Policy) -> float:
        """Return `snapshots.merge_stall`. With progress, the wait has no limit."""
        return policy.merge_stall_s

    def progress(self, step: Step, report: VmReport) -> int:
        """Return how much of the files is merged; of the one that the host is at, as it says."""
        assert step.before is not None, step
        files = self.facts.read(step.before).superfluous
        if report.description is None or not files:
            return report.percent
        left = set(self.left(step, report)) & set(files)
        return (100 * (len(files) - len(left)) + (report.percent if left else 0)) // len(files)

    def awaits(self, step: Step, report: VmReport) -> Failure:
        """Return that the host merges and how far it is, or which files are left while it does not."""
        if report.description is None:
            text = "The host does not have the VM any more, so nobody can tell whether its disks were merged."
            return Failure(reason="VM_MISSING", message=text)
        left = self.left(step, report)
        merging = {"DELETE", "MERGE"} & set(report.activities)
        if not left or (merging and len(report.activities) == len(merging)):
            percent = f" ({self.progress(step, report)} %)" if left else ""
            return replace(self.waits_for, message=f"The host is merging disks{percent}.{_told(report, left)}")
        if report.activities:
            others = ", ".join(sorted(set(report.activities) - merging))
            text = f"The host is at work on the VM ({others}), and disks are left to merge.{_told(report, left)}"
            return Failure(reason="HOST_WORKING", message=text)
        text = f"The host is not merging.{_told(report, left, str)}"
        return Failure(reason="MERGE_NOT_BEGUN", message=text)

    def stalled(self, policy: Policy, awaited: Failure) -> Failure:
        """Return the failure of a merge in which nothing happens."""
        text = f"Nothing has happened for {policy.merge_stall_s:.0f} s. {awaited.message}"
        text += " Look at the host (a backup may hold the files), then delete the snapshot again."
        return Failure(reason="MERGE_STALLED", message=text)

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        return "Wait until the host has merged the disks."


def _told(report: VmReport, left: tuple[str, ...], name: Callable[[str], str] = basename) -> str:
    """Return how many files are left of each disk, and which, in a sentence for people; empty if none is.

    Args:
        report: of the host.
        left: their paths.
        name: makes of a path what is said of it.
    """
    assert report.description is not None, report
    if not left:
        return ""
    disks = disk_of(report.description)
    by_disk: dict[str, list[str]] = defaultdict(list)
    for path in left:
        by_disk[disks.get(file_key(path), "outside of the chains")].append(path)
    counts = ", ".join(f"{disk}: {len(paths)} file{'s' * (len(paths) > 1)}" for disk, paths in sorted(by_disk.items()))
    names = [name(path) for _, paths in sorted(by_disk.items()) for path in paths]
    more = ", ..." if len(names) > _MOST_NAMED else ""
    return f" Left: {counts} ({', '.join(names[:_MOST_NAMED])}{more})."


DISKS_MERGE = DisksMerge()
