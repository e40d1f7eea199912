"""TakeVolumeSnapshot: one disk, as it is now, as a file of its own.

    off:      convert → wait → place
    running:  checkpoint → export → wait → place → remove → merge

A running VM's disk is frozen by a checkpoint that is there for a while: it bears a marker of its own, stands in no
tree, and is taken away again, whatever becomes of the copy. Each attempt to copy has a folder of its own beside the
file that the copy is to be. When the copy is complete and stands alone, it is moved to that file: with that step there
is no way back. Before it, a cancellation or a failure ends the job and removes the folder and the checkpoint. If the
host has forgotten the job, as after a restart, the disk is copied again, into another folder.

What earlier volume snapshots have left of checkpoints goes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from snapshotd.domain import events as e
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.errors import SnapshotdError, VmCritical
from snapshotd.domain.host_path import join
from snapshotd.domain.host_report import file_key
from snapshotd.domain.ids import ActionName, KindName, VolumeSnapshotId
from snapshotd.domain.lifecycle import VOLUME_SNAPSHOT, OperationState, Power, StepState, VolumeSnapshotState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.volume_snapshot import VolumeSnapshot, moved
from snapshotd.domain.volume_snapshot_errors import DiskNotCopyable, DiskNotFound, VolumeSnapshotsNotSet
from snapshotd.operations.kind import CANCELLED, UNDETERMINED, Kind, Preview, Result, Undo, move_vm, undo_steps
from snapshotd.operations.snapshot_making import check_text, default_name
from snapshotd.operations.volume_snapshots import TheVolumeSnapshot, never_made, removal, temporary_gone
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import checkpoint_create, disk_convert, disk_export, disk_place, job_wait
from snapshotd.steps.action import power_outside, wrong_power
from snapshotd.steps.catalogue import ACTIONS
from snapshotd.steps.checkpoint_create import CHECKPOINT_CREATE
from snapshotd.steps.checkpoint_name import marker_in, temporary_name
from snapshotd.steps.disk_convert import DISK_CONVERT
from snapshotd.steps.disk_export import DISK_EXPORT
from snapshotd.steps.disk_place import DISK_PLACE
from snapshotd.steps.export_end import EXPORT_END
from snapshotd.steps.job_wait import JOB_GONE, JOB_WAIT

ATTEMPTS: Final = 3
"""How often a disk is copied, if the host forgets each time that it does."""
_DISK_FILES: Final = (".vhdx", ".vhd", ".avhdx", ".avhd")
_LONGEST_NAME: Final = 40
"""Characters of a VM's name in that of a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What to copy, and where to."""

    volume_snapshot_id: VolumeSnapshotId
    """Made by the server: the core makes no ids."""
    name: str
    """For people; empty: `default_name`."""
    location: str
    """The place of the disk: "SCSI:0:1"."""
    directory: str
    """The folder for copies on the VM's host; empty: none is set."""
    allow_fallback: bool
    """Copy the disk as a power cut would leave it, if the guest cannot be frozen."""


class TakeVolumeSnapshot(Kind):
    """Copy one disk. A second request makes another copy, so it never joins the first."""

    name = KindName("TAKE_VOLUME_SNAPSHOT")
    params: Versioned[Params] = Versioned(Params)

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError if there is no such disk, or it cannot be copied, or the VM's power forbids it."""
        params = self.params.read(request.params)
        check_text("volume_snapshot.display_name", params.name)
        if not params.directory:
            raise VolumeSnapshotsNotSet(vm.name, vm.host_id)
        if wrong := wrong_power(vm, "volume_snapshot_begins", "copy a disk of"):
            raise wrong
        if refused := _uncopyable(vm, params.location):
            raise refused
        if forbidden := _forbids(vm):
            raise forbidden

    def accepted(self, vm: VirtualMachine, request: RequestOperation, now: datetime) -> tuple[e.VmEvent, ...]:
        """Return the event that puts the volume snapshot on record."""
        params = self.params.read(request.params)
        requested = e.VolumeSnapshotRequested(
            volume_snapshot_id=params.volume_snapshot_id,
            from_state=VolumeSnapshotState.NEW,
            to_state=VOLUME_SNAPSHOT.dest("requested", VolumeSnapshotState.NEW),
            name=params.name or default_name(vm, now),
            location=params.location,
            target=_target(vm, params),
        )
        return (requested,)

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return the steps, after the removal of what earlier operations have left."""
        params = self.params.read(request.params)
        left = [step for which in vm.temporary_checkpoints() for step in removal(which, StepNature.BEST_EFFORT)]
        target = vm.volume_snapshots[params.volume_snapshot_id].target
        if vm.power is Power.STOPPED:
            return (*left, *_conversion(params, target, 1))
        create = checkpoint_create.Input(
            checkpoint_name=temporary_name(f"{vm.name} {params.location}", params.volume_snapshot_id),
            with_memory=False,
            allow_fallback=params.allow_fallback,
        )
        return (*left, CHECKPOINT_CREATE.planned(create, nature=StepNature.UNDOABLE), *_export(params, target, 1))

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal of a checkpoint that was not allowed, or of a copy whose VM was started meanwhile."""
        if step.plan.action == DISK_EXPORT.name and _unallowed(operation, self.params.read(operation.params)):
            text = "The host could only make a checkpoint with memory. Allow that fallback, to accept it."
            return Failure(reason="FALLBACK_REFUSED", message=text)
        converted = operation.output_of(DISK_CONVERT.name) is not None
        if step.plan.action == DISK_PLACE.name and converted:
            good = frozenset({Power.STOPPED, Power.ABSENT})  # as it was left, though its host does not have it any more
            wrong = power_outside(vm, good, "use the copy, which was made while it was off, of")
            return Failure.of(wrong) if wrong else None
        return None

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the move of the VM to SNAPSHOTTING."""
        return move_vm(vm, "volume_snapshot_begins"), *self.continues(vm, operation, step)

    def continues(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the event that a temporary checkpoint is about to be made, unless that is on record."""
        which = self.params.read(operation.params).volume_snapshot_id
        if step.plan.action != CHECKPOINT_CREATE.name or which in vm.temporaries:
            return ()
        marker = marker_in(CHECKPOINT_CREATE.input.read(step.plan.input).checkpoint_name)
        return (e.TemporaryCheckpointExpected(volume_snapshot_id=which, marker=marker),)

    def recognises(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return which checkpoint the temporary one is."""
        if step.plan.action != CHECKPOINT_CREATE.name or step.output is None:
            return ()
        which = self.params.read(operation.params).volume_snapshot_id
        made = CHECKPOINT_CREATE.output.read(step.output)
        return (e.TemporaryCheckpointTaken(volume_snapshot_id=which, checkpoint_id=made.checkpoint_id),)

    def step_done(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return that the copy is complete, or that a temporary checkpoint is gone."""
        if step.plan.action == DISK_PLACE.name and step.output is not None:
            return (_taken(vm, operation, DISK_PLACE.output.read(step.output)),)
        return temporary_gone(vm, operation, step)

    def again(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[PlannedStep, ...]:
        """Return the steps of another attempt, in another folder, if the host has forgotten the job of the last one."""
        forgotten = step.plan.action == JOB_WAIT.name and step.failure is not None and step.failure.reason == JOB_GONE
        if not forgotten or operation.rounds >= ATTEMPTS:
            return ()
        params, target = self.params.read(operation.params), _copy_of(vm, operation).target
        last = next(s for s in reversed(operation.steps) if s.plan.action in _COPIES and s.attempts)
        attempt = operation.rounds + 1
        steps = _export if last.plan.action == DISK_EXPORT.name else _conversion
        return (*ACTIONS[last.plan.action].undo(vm, last), *steps(params, target, attempt))

    def undo(self, vm: VirtualMachine, operation: Operation, failure: Failure | None) -> Undo:
        """Return the end of the copy and the removal of the checkpoint. What was ended already is left out."""
        ended = _ended(operation)
        touched = [
            s for s in reversed(operation.steps) if ACTIONS[s.plan.action].touched(vm, s) and _directory(s) not in ended
        ]
        return Undo(steps=undo_steps(vm, operation, touched))

    def explained(self, vm: VirtualMachine, operation: Operation, failure: Failure) -> Failure:
        """Return the failure with what is there all the same: the copy, or something that was left."""
        copy, told = _copy_of(vm, operation), []
        if copy.state is VolumeSnapshotState.READY:
            told.append(f"The copy is complete all the same ({copy.path}).")
        if _may_be_left(vm, operation):
            told.append("Its temporary checkpoint may be left; the next volume snapshot of the VM removes it.")
        return replace(failure, message=" ".join((failure.message, *told))) if told else failure

    def ends(
        self, vm: VirtualMachine, operation: Operation, outcome: OperationState, failure: Failure | None
    ) -> tuple[e.VmEvent, ...]:
        """Return the events that bring the volume snapshot to rest, and that its checkpoint was never made."""
        copy, why = _copy_of(vm, operation), failure or CANCELLED
        gone = () if _may_be_left(vm, operation) else tuple(never_made(vm, copy.volume_snapshot_id))
        if copy.state is not VolumeSnapshotState.CREATING:
            return gone
        left = _left(operation)
        if why.reason == UNDETERMINED:
            return (*gone, e.VolumeSnapshotGivenUp(**moved(copy, "given_up"), failure=why, left=left))
        if outcome is OperationState.CANCELLED and not left and not _may_be_left(vm, operation):
            return (*gone, e.VolumeSnapshotCancelled(**moved(copy, "taking_cancelled")))
        return (*gone, e.VolumeSnapshotFailed(**moved(copy, "taking_failed"), failure=why, left=left))

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return that nothing changes, and a warning if the copy may be as after a power cut."""
        fallback = vm.power is Power.RUNNING and self.params.read(request.params).allow_fallback
        warning = "If the guest cannot be frozen, its disk is copied as a power cut would leave it."
        return Preview(current=vm.current_id, power=vm.power, warnings=(warning,) if fallback else ())

    def volume_snapshot(self, operation: Operation) -> VolumeSnapshotId:
        """Return the volume snapshot."""
        return self.params.read(operation.params).volume_snapshot_id

    def result(self, operation: Operation) -> Result:
        """Return the volume snapshot."""
        return TheVolumeSnapshot()


_COPIES: Final[Mapping[ActionName, disk_export.DiskExport | disk_convert.DiskConvert]] = {
    DISK_EXPORT.name: DISK_EXPORT,
    DISK_CONVERT.name: DISK_CONVERT,
}
"""The actions that begin to copy, each into a folder of its own."""


def _copy_of(vm: VirtualMachine, operation: Operation) -> VolumeSnapshot:
    """Return the volume snapshot that an operation takes."""
    return vm.volume_snapshots[TAKE_VOLUME_SNAPSHOT.volume_snapshot(operation)]


def _may_be_left(vm: VirtualMachine, operation: Operation) -> bool:
    """Return whether the operation's temporary checkpoint is on the host, or may turn up there."""
    temporary = vm.temporaries.get(TAKE_VOLUME_SNAPSHOT.volume_snapshot(operation))
    if temporary is None or temporary.checkpoint_id is not None:
        return temporary is not None
    made = [s for s in operation.steps if s.plan.action == CHECKPOINT_CREATE.name]
    return bool(operation.settled) or any(s.state is StepState.UNDETERMINED for s in made)


def _target(vm: VirtualMachine, params: Params) -> str:
    """Return the file that a copy is to be: no other one is ever named so."""
    plain = "".join(char if char.isalnum() or char in "-_." else "_" for char in vm.name)[:_LONGEST_NAME].strip(".")
    place = params.location.replace(":", "-")
    return join(params.directory, f"{plain}_{place}_{params.volume_snapshot_id}.vhdx")


def _folder(target: str, attempt: int) -> str:
    """Return the folder of an attempt, beside the file that the copy is to be.

    By the end of its name, `.partial-<number>`, the host's script knows that its root is the folder right above it.
    """
    return f"{target.removesuffix('.vhdx')}.partial-{attempt}"


def _conversion(params: Params, target: str, attempt: int) -> tuple[PlannedStep, ...]:
    folder = _folder(target, attempt)
    convert = disk_convert.Input(location=params.location, directory=folder)
    return (DISK_CONVERT.planned(convert, nature=StepNature.UNDOABLE), *_placing(DISK_CONVERT, folder, target))


def _export(params: Params, target: str, attempt: int) -> tuple[PlannedStep, ...]:
    folder = _folder(target, attempt)
    export = disk_export.Input(location=params.location, directory=folder)
    return (
        DISK_EXPORT.planned(export, nature=StepNature.UNDOABLE),
        *_placing(DISK_EXPORT, folder, target),
        *removal(None, StepNature.FORWARD_ONLY),
    )


def _placing(
    begun_by: disk_export.DiskExport | disk_convert.DiskConvert, folder: str, target: str
) -> tuple[PlannedStep, ...]:
    """Return the wait for a copy that was begun, and its move to its place."""
    place = disk_place.Input(directory=folder, target=target)
    return (
        JOB_WAIT.planned(job_wait.Input(begun_by.name), nature=StepNature.UNDOABLE),
        DISK_PLACE.planned(place, nature=StepNature.PIVOT),
    )


def _uncopyable(vm: VirtualMachine, location: str) -> SnapshotdError | None:
    """Return why the disk at a place cannot be copied; None if it can."""
    assert vm.description is not None
    disk = next((d for d in vm.description.disks if d.location == location), None)
    if disk is None:
        there = ", ".join(d.location for d in vm.description.disks) or "none"
        return DiskNotFound(vm.name, location, there, vm.host_id)
    if not disk.path:
        return DiskNotCopyable(vm.name, location, "it is a pass-through disk, not a file", vm.host_id)
    if not disk.path.lower().endswith(_DISK_FILES):
        return DiskNotCopyable(vm.name, location, f"{disk.path} is no VHDX or VHD file", vm.host_id)
    parents = {file_key(f.path): f for f in vm.description.files}
    at = parents.get(file_key(disk.path))
    while at is not None:
        if at.missing:
            return DiskNotCopyable(vm.name, location, f"it needs the file {at.path}, which is not there", vm.host_id)
        at = parents.get(file_key(at.parent_path)) if at.parent_path else None
    return None


def _forbids(vm: VirtualMachine) -> SnapshotdError | None:
    """Return why the VM's disks cannot be frozen, if they have to be; None if they can."""
    assert vm.description is not None
    if vm.power is Power.STOPPED:
        return VmCritical(vm.name, vm.host_id) if vm.description.critical else None
    return checkpoint_create.forbids(vm, with_memory=False, action="freeze the disks of")


def _unallowed(operation: Operation, params: Params) -> bool:
    """Return whether the guest of a running VM was not frozen, and that was not allowed."""
    made, create = CHECKPOINT_CREATE.made_by(operation), operation.last(CHECKPOINT_CREATE.name)
    if made is None or create is None or create.before is None or params.allow_fallback:
        return False
    return made.has_memory and CHECKPOINT_CREATE.facts.read(create.before).power is Power.RUNNING


def _taken(vm: VirtualMachine, operation: Operation, placed: disk_place.Output) -> e.VolumeSnapshotTaken:
    create = operation.last(CHECKPOINT_CREATE.name)
    convert = operation.last(DISK_CONVERT.name)
    power = Power.STOPPED
    if create is not None and create.before is not None and convert is None:
        power = CHECKPOINT_CREATE.facts.read(create.before).power
    made = CHECKPOINT_CREATE.made_by(operation)
    return e.VolumeSnapshotTaken(
        **moved(_copy_of(vm, operation), "taken"),
        path=placed.path,
        size_bytes=placed.size_bytes,
        identifier=placed.identifier,
        power=power.name,
        has_memory=made is not None and made.has_memory,
        host_id=vm.host_id,
    )


def _directory(step: Step) -> str:
    """Return the folder that a step fills; empty: it fills none."""
    begun_by = _COPIES.get(step.plan.action)
    return begun_by.input.read(step.plan.input).directory if begun_by else ""


def _ended(operation: Operation) -> frozenset[str]:
    """Return the folders that were removed again."""
    ends = (s for s in operation.steps if s.plan.action == EXPORT_END.name and s.state is StepState.DONE)
    return frozenset(EXPORT_END.input.read(s.plan.input).directory for s in ends)


def _left(operation: Operation) -> tuple[str, ...]:
    """Return the folders that may be left on the host."""
    filled = (_directory(s) for s in operation.steps if s.attempts)
    return tuple(folder for folder in dict.fromkeys(filled) if folder and folder not in _ended(operation))


TAKE_VOLUME_SNAPSHOT = TakeVolumeSnapshot()
