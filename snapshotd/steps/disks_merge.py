"""Wait until the host has merged the disks of a removed checkpoint. Sends no command, and leaves the VM to others.

It does not rely on which file is merged into which: the chains are read again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from snapshotd.domain.host_report import VmDescription, VmReport, file_key, file_keys
from snapshotd.domain.ids import ActionName, CheckpointId
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step
from snapshotd.domain.policy import Policy
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.ports.versioned import Versioned
from snapshotd.steps.action import Action, InProgress, Judgement
from snapshotd.steps.checkpoint_remove import CHECKPOINT_REMOVE


@dataclass(frozen=True, slots=True)
class Before:
    """The files in the chains before the removal: none of them may be left outside of the chains."""

    chain_files: tuple[str, ...]


class DisksMerge(Action):
    """Poll until the host has merged the disks."""

    name = ActionName("disks_merge")
    label = "merge"
    polls = True
    holds_vm = False
    waits_for = Failure(reason="MERGE_IN_PROGRESS", message="The host is merging disks.")
    facts: Versioned[Before] = Versioned(Before)

    def before(self, vm: VirtualMachine, operation: Operation, step: Step) -> Before:
        """Return the files as the removal found them; without a removal, as they are on record."""
        remove = operation.last(CHECKPOINT_REMOVE.name)
        if remove is not None and remove.before is not None:
            return Before(CHECKPOINT_REMOVE.facts.read(remove.before).chain_files)
        return Before(vm.description.chain_files() if vm.description else ())

    def judge(self, vm: VirtualMachine, operation: Operation, step: Step, report: VmReport) -> Judgement:
        """Return Done if nothing is left to merge (`merged`)."""
        if report.description is None or {"DELETE", "MERGE"} & set(report.activities):
            return InProgress()
        assert step.plan.snapshot_id is not None, step
        gone = vm.snapshots[step.plan.snapshot_id].checkpoint_id
        return self.done() if merged(report.description, gone, report.existing_files) else InProgress()

    def watched_files(self, step: Step) -> tuple[str, ...]:
        """Return the files that were in the chains before."""
        assert step.before is not None, step
        return self.facts.read(step.before).chain_files

    def time_limit_s(self, policy: Policy) -> float:
        """Return `snapshots.merge_stall`. With progress, the wait has no limit."""
        return policy.merge_stall_s

    def stalled(self, policy: Policy) -> Failure:
        """Return the failure of a merge in which nothing happens."""
        idle = f"the host has done nothing for {policy.merge_stall_s:.0f} s"
        text = f"Files are left to merge, and {idle}. Look at the host, then delete the snapshot again."
        return Failure(reason="MERGE_STALLED", message=text)

    def description(self, plan: PlannedStep) -> str:
        """Return what it does."""
        return "Wait until the host has merged the disks."


def merged(description: VmDescription, gone: CheckpointId | None, existing_files: Iterable[str]) -> bool:
    """Return whether a checkpoint is removed and its disks are merged.

    It is if every file in the chains of the VM and of its remaining checkpoints is a leaf, a checkpoint's disk, a base,
    or a branch point with two children or more, and if no watched file is left on the disk outside of the chains.
    """
    if description.checkpoint(gone) is not None:
        return False
    disks = [*description.disks, *(d for c in description.checkpoints for d in c.disks)]
    chains = [[file_key(path) for path in d.chain] for d in disks if d.chain]
    children: dict[str, set[str]] = {}
    for chain in chains:
        for child, parent in pairwise(chain):
            children.setdefault(parent, set()).add(child)
    kept = {chain[0] for chain in chains} | {chain[-1] for chain in chains}
    files = {path for chain in chains for path in chain}
    leftover = {path for path in files - kept if len(children.get(path, ())) < 2}
    return not leftover and not file_keys(existing_files) - files


DISKS_MERGE = DisksMerge()
