"""DestroyVirtualMachine: the VM is turned off, its checkpoints go one after another, then the VM, then its disks.

    stop → remove → merge → … → remove VM (the pivot) → [delete files]

Its disks are deleted only if that is asked for: its own files, as its host reported them when the VM was removed. What
others stand on or lay claim to is left, and so is a base image, since VMs that nobody here knows of may stand on it.
Checkpoints that others made go only if each was named. Until the pivot the VM can stay; what was deleted is gone then.

A VM that its host does not have any more is only recorded as destroyed, after the other hosts were given time to say
that they have it. Its disks are deleted only where a virtual disk's own id proves that a file is still the one on
record.

The record of the VM stays, with its history, and is only read from then on.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from snapshotd.domain import events as e
from snapshotd.domain.attached import attached
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.destroy_errors import CheckpointsLeft, VmThereAgain
from snapshotd.domain.errors import VmAbsent
from snapshotd.domain.foreign_checkpoints import foreign_checkpoints
from snapshotd.domain.ids import KindName
from snapshotd.domain.lifecycle import SNAPSHOT, OperationState, Power, SnapshotState, StepState, VmActivity
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.own_files import Disposal, UsedFile, disposal
from snapshotd.domain.policy import Policy
from snapshotd.domain.snapshot import Snapshot, moved
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.discarding import Discarding, check_discarded
from snapshotd.operations.doomed_checkpoints import check_named, leaves_first_by_host
from snapshotd.operations.kind import Preview, move_current, move_vm
from snapshotd.operations.snapshots import alive
from snapshotd.operations.volume_snapshots import temporary_gone
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import checkpoint_remove, disks_merge, files_delete, vm_stop
from snapshotd.steps.action import wrong_power
from snapshotd.steps.checkpoint_remove import CHECKPOINT_REMOVE
from snapshotd.steps.disks_merge import DISKS_MERGE
from snapshotd.steps.files_delete import FILES_DELETE
from snapshotd.steps.power import IN_MEMORY
from snapshotd.steps.vm_remove import VM_REMOVE
from snapshotd.steps.vm_stop import VM_STOP, StopMode

NOT_PROVEN = "the VM was removed by others, and nothing proves that the file is still its disk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What may be lost with the VM."""

    delete_disks: bool = False
    foreign_checkpoints: tuple[str, ...] = ()
    """Names or ids of checkpoints that others made, as they were given."""
    used: tuple[UsedFile, ...] = ()
    """Those of its files that others use, when it was asked for."""


class DestroyVirtualMachine(Discarding):
    """Remove a VM from its host, with all that stands on it."""

    name = KindName("DESTROY_VIRTUAL_MACHINE")
    params: Versioned[Params] = Versioned(Params)

    def does(self, request: RequestOperation, active: Operation) -> bool:
        """Return whether an active operation destroys the VM, and may lose just what a request allows."""
        if request.kind != active.kind:
            return False
        asked, begun = self.params.read(request.params), self.params.read(active.params)
        return replace(asked, used=()) == replace(begun, used=())

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError if the power is not known, a snapshot is held, or a foreign checkpoint not named."""
        if wrong := wrong_power(vm, "destroy_begins", "destroy"):
            raise wrong
        check_discarded(vm, self.targets(vm, request))
        if vm.power is not Power.ABSENT:
            check_named(vm, self.params.read(request.params).foreign_checkpoints)

    def targets(self, vm: VirtualMachine, request: RequestOperation) -> tuple[Snapshot, ...]:
        """Return all snapshots, each before its parent."""
        return tuple(s for s in leaves_first_by_host(vm) if isinstance(s, Snapshot))

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return the stop, the deletions, the removal, and what is deleted of the disks."""
        steps = [VM_STOP.planned(vm_stop.Input(StopMode.TURN_OFF), nature=StepNature.UNDOABLE)]
        forward = StepNature.FORWARD_ONLY
        for doomed in leaves_first_by_host(vm):
            if isinstance(doomed, Snapshot):
                steps += self.discards([doomed])
                continue
            which = doomed.checkpoint_id
            steps.append(CHECKPOINT_REMOVE.planned(checkpoint_remove.Input(which), nature=forward))
            steps.append(DISKS_MERGE.planned(disks_merge.Input(which), nature=forward))
        steps.append(VM_REMOVE.planned(nature=StepNature.PIVOT))
        return (*steps, *_deletions(vm, self.params.read(request.params)))

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if a snapshot is held, or was taken meanwhile, or if it is not certain that the VM is gone.

        The last one concerns the files only.
        """
        if step.plan.action == VM_REMOVE.name:
            return _checkpoints_left(vm)
        if step.plan.action != FILES_DELETE.name:
            return super().refusal(vm, operation, step)
        if vm.power is not Power.ABSENT:
            return Failure.of(VmThereAgain(vm.name, vm.host_id, vm.power.name))
        if _removed(operation) or not FILES_DELETE.input.read(step.plan.input).only_own:
            return None
        return Failure(reason="DISKS_NOT_PROVEN", message=f"The disks of VM {vm.name} were left: {NOT_PROVEN}.")

    def spares(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return that the host does not have the VM any more: then there is nothing to do but to record that."""
        needs = step.plan.action != FILES_DELETE.name
        return Failure.of(VmAbsent(vm.name, "destroy", vm.host_id)) if needs and vm.power is Power.ABSENT else None

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the VM's move to DESTROYING, and what a deletion means for the first snapshot."""
        return move_vm(vm, "destroy_begins"), *self.continues(vm, operation, step)

    def step_done(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return what becomes of a snapshot, a temporary checkpoint, and the export whose files were its disks."""
        deleted = step.plan.action == FILES_DELETE.name and step.state is StepState.DONE
        used = (e.ExportRemoved(directory=export.directory) for export in vm.exports if export.in_use and deleted)
        return *super().step_done(vm, operation, step), *temporary_gone(vm, operation, step), *used

    def ends(
        self, vm: VirtualMachine, operation: Operation, outcome: OperationState, failure: Failure | None
    ) -> tuple[e.VmEvent, ...]:
        """Return, for a VM that is gone, its end and that of each snapshot; for another one, what becomes of them."""
        gone = vm.power is Power.ABSENT and (_removed(operation) or _found_gone(operation))
        return tuple(_gone(vm)) if gone else super().ends(vm, operation, outcome, failure)

    def explained(self, vm: VirtualMachine, operation: Operation, failure: Failure) -> Failure:
        """Return also what is so by then: the VM is gone, or stays, turned off."""
        failure = super().explained(vm, operation, failure)
        if _removed(operation):
            return replace(failure, message=f"VM {vm.name} was removed from its host. {failure.message}")
        stopped = any(s.plan.action == VM_STOP.name and s.state is StepState.DONE for s in operation.steps)
        if not stopped or operation.undoing or vm.power is not Power.STOPPED:
            return failure
        text = f"VM {vm.name} stays on its host, and is off. {failure.message}"
        return replace(failure, message=f"{text} To start it, run `snapshotctl vm start {shlex.quote(vm.name)}`.")

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return that all is gone, and what becomes of the disks."""
        seen, asked = super().preview(vm, request), self.params.read(request.params)
        return replace(
            seen,
            moved=(),
            current=None,
            power=Power.ABSENT,
            memory_lost=vm.power in IN_MEMORY,
            warnings=tuple(_told_beforehand(vm, asked)),
        )

    def remark(self, operation: Operation) -> str:
        """Return what became of the disks, of a VM that was removed."""
        if not (_removed(operation) or _found_gone(operation)):
            return ""
        asked = self.params.read(operation.params)
        deleting = [s for s in operation.steps if s.plan.action == FILES_DELETE.name]
        deleted = [
            p for s in deleting if s.state is StepState.DONE for p in FILES_DELETE.input.read(s.plan.input).paths
        ]
        kept = [f"{used.path} ({used.by} uses it)" for used in asked.used] if asked.delete_disks else []
        said = [f"Deleted, as far as they were still its files: {', '.join(deleted)}."] if deleted else []
        said += [f"Left: {', '.join(kept)}."] if kept else []
        return " ".join(said) if asked.delete_disks else "Its disks were left as they are."


def _deletions(vm: VirtualMachine, asked: Params) -> Iterator[PlannedStep]:
    """Yield the steps that delete the VM's own files, if that is asked for."""
    if not asked.delete_disks or vm.description is None:
        return
    forward, deleted = StepNature.FORWARD_ONLY, _disposal(vm, asked).deleted
    if vm.power is not Power.ABSENT:
        if deleted:
            yield FILES_DELETE.planned(files_delete.Input(deleted, only_own=True), nature=forward)
        return
    for path in deleted:
        file = vm.description.file(path)
        assert file is not None, path
        yield FILES_DELETE.planned(files_delete.Input((path,), file.identifier), nature=forward)


def _disposal(vm: VirtualMachine, asked: Params) -> Disposal:
    """Return what is to become of the VM's files. Of one that is gone, only what a disk's own id proves is deleted."""
    assert vm.description is not None, vm.vm_id
    found = disposal(vm.description, asked.used)
    if vm.power is not Power.ABSENT:
        return found
    proven = {f.path for f in vm.description.files if f.identifier}
    unproven = tuple((path, NOT_PROVEN) for path in found.deleted if path not in proven)
    return Disposal(tuple(path for path in found.deleted if path in proven), (*found.left, *unproven))


def _told_beforehand(vm: VirtualMachine, asked: Params) -> Iterator[str]:
    if foreign := foreign_checkpoints(vm):
        yield f"Checkpoints that are not ours are lost: {', '.join(repr(c.name) for c in foreign)}."
    if copies := [export.directory for export in vm.exports if not export.in_use]:
        yield f"Its exports stay: {', '.join(copies)}."
    if vm.description is None:
        return
    if not asked.delete_disks:
        names = ", ".join(volume.path for volume in attached(vm.description).values() if volume.path)
        merged = " What its checkpoints hold is merged into them." if vm.description.checkpoints else ""
        yield f"Its disks stay as they are: {names}.{merged}" if names else "It has no disks that could be left."
        return
    found = _disposal(vm, asked)
    if found.deleted:
        merged = " Those that the merges leave are meant." if vm.description.checkpoints else ""
        yield f"These files are deleted, and cannot be brought back: {', '.join(found.deleted)}.{merged}"
    for path, why in found.left:
        yield f"{path} is left: {why}."


def _checkpoints_left(vm: VirtualMachine) -> Failure | None:
    """Return which checkpoints a VM still has that its host has; None: none."""
    if vm.power is Power.ABSENT or vm.description is None or not vm.description.checkpoints:
        return None
    names = ", ".join(repr(checkpoint.name) for checkpoint in vm.description.checkpoints)
    return Failure.of(CheckpointsLeft(vm.name, names))


def _removed(operation: Operation) -> bool:
    """Return whether the operation has removed the VM."""
    return any(s.plan.action == VM_REMOVE.name and s.state is StepState.DONE for s in operation.steps)


def _found_gone(operation: Operation) -> bool:
    """Return whether the operation has left the removal out, since the VM was gone."""
    steps = (s for s in operation.steps if s.plan.action == VM_REMOVE.name and s.state is StepState.SKIPPED)
    return any(s.failure is not None and s.failure.reason == VmAbsent.reason for s in steps)


def _gone(vm: VirtualMachine) -> Iterator[e.VmEvent]:
    """Yield the events of a VM that is gone: its snapshots are REMOVED, and it is DESTROYED."""
    for snapshot in alive(vm):
        if SNAPSHOT.allows("expunge_starts", snapshot.state):
            yield e.SnapshotExpungeStarted(**moved(snapshot, "expunge_starts"))
        yield e.SnapshotRemoved(**moved(replace(snapshot, state=SnapshotState.EXPUNGING), "removed"))
    for which, temporary in vm.temporaries.items():
        yield e.TemporaryCheckpointGone(volume_snapshot_id=which, checkpoint_id=temporary.checkpoint_id, cause="step")
    yield from move_current(vm, None)
    if vm.activity is VmActivity.IDLE:
        yield move_vm(vm, "destroy_begins")
        vm = replace(vm, activity=VmActivity.DESTROYING)
    yield move_vm(vm, "gone_from_host")


DESTROY_VIRTUAL_MACHINE = DestroyVirtualMachine()
