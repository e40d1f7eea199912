"""ExportVirtualMachine: on request, or after a stop. The VM with its checkpoints is copied into a folder of its own.

A start wins: the export is cancelled, its job ended, its folder removed, and only then the start begins. From the
moment that the copy is being completed there is little left to do, and the start waits for that.

Whatever ends an attempt (its host was restarted, the storage was away, its script was killed), the next one begins by
itself in a new folder, as long as the VM is as it was. A release comes last: only of what is complete, and unchanged.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime

from snapshotd.domain import events as e
from snapshotd.domain import host_path
from snapshotd.domain.commands import RequestOperation
from snapshotd.domain.errors import InvalidArgument
from snapshotd.domain.export import ExportPolicy
from snapshotd.domain.export_errors import ExportDirectoryMissing
from snapshotd.domain.ids import KindName
from snapshotd.domain.lifecycle import Power, SnapshotState, StepState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.vm_record import VmRecord
from snapshotd.operations import exporting
from snapshotd.operations.kind import Kind, Preview, Result, Undo, move_vm
from snapshotd.ports.versioned import Versioned
from snapshotd.steps import vm_release
from snapshotd.steps.action import power_outside, wrong_power
from snapshotd.steps.export_complete import EXPORT_COMPLETE
from snapshotd.steps.vm_export import VM_EXPORT
from snapshotd.steps.vm_release import VM_RELEASE

_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What export is wanted."""

    directory: str
    """The folder of all exports, as the host sees it."""
    attempts: int
    """How often it is begun, at most."""
    release: bool = False
    """Remove the VM from its host afterwards."""
    only_off: bool = False
    """Only while the VM is off."""


@dataclass(frozen=True, slots=True)
class TheExport(Result):
    """The response of an operation is the export that it has made."""

    directory: str
    size_bytes: int


class ExportVirtualMachine(Kind):
    """Export a VM with its checkpoints."""

    name = KindName("EXPORT_VIRTUAL_MACHINE")
    params: Versioned[Params] = Versioned(Params)
    joins = True

    def does(self, request: RequestOperation, active: Operation) -> bool:
        """Return whether an active operation exports the VM to the folder that a request names, and as it asks."""
        if request.kind != active.kind:
            return False
        asked, begun = self.params.read(request.params), self.params.read(active.params)
        return (asked.directory, asked.release) == (begun.directory, begun.release)

    def check(self, vm: VirtualMachine, request: RequestOperation, policy: Policy, now: datetime) -> None:
        """Raise a SnapshotdError unless there is a folder, and the VM is off or running."""
        params = self.params.read(request.params)
        if not params.directory:
            raise ExportDirectoryMissing(vm.name)
        if problem := host_path.folder_problem(params.directory):
            raise InvalidArgument("directory", params.directory[:200], problem)
        wrong = wrong_power(vm, "export_begins", "export")
        if params.only_off:
            wrong = power_outside(vm, frozenset({Power.STOPPED}), "export")
        if wrong:
            raise wrong

    def resolved(self, vm: VirtualMachine, request: RequestOperation, now: datetime) -> RequestOperation:
        """Return the request with what the VM's power means for it: what is off is exported only as long as it is."""
        params = self.params.read(request.params)
        only_off = params.only_off or vm.power is Power.STOPPED
        return replace(request, params=self.params.write(replace(params, only_off=only_off)))

    def plan(self, vm: VirtualMachine, request: RequestOperation) -> tuple[PlannedStep, ...]:
        """Return one attempt, the removal of what it supersedes, and the release."""
        return self._steps(vm, self.params.read(request.params))

    def _steps(self, vm: VirtualMachine, params: Params) -> tuple[PlannedStep, ...]:
        released = (VM_RELEASE.planned(vm_release.Input(), nature=StepNature.BEST_EFFORT),) if params.release else ()
        natures = (StepNature.UNDOABLE, StepNature.PIVOT)
        return (*exporting.attempt(params.directory, natures), *exporting.removals(vm), *released)

    def begins(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return the VM's move to EXPORTING."""
        return (move_vm(vm, "export_begins"),)

    def refusal(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return a refusal if a VM that was off is not off any more, as long as its export is not complete."""
        completes = step.plan.nature in (StepNature.UNDOABLE, StepNature.PIVOT)
        if not completes or not self.params.read(operation.params).only_off or vm.power is Power.ABSENT:
            return None  # one that its host does not have may be on its way to another, off as it was
        wrong = power_outside(vm, frozenset({Power.STOPPED}), "go on with the export of")
        return Failure.of(wrong) if wrong else None

    def spares(self, vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
        """Return why the VM must not be released, or an older export not be removed."""
        if step.plan.action != VM_RELEASE.name:
            return exporting.spared(vm, operation, step)
        exported = operation.last(VM_EXPORT.name)
        assert exported is not None, operation
        if vm.makes_way(operation):
            return Failure(reason="START_REQUESTED", message="The VM stays on its host: it is to be started.")
        if not VM_EXPORT.unchanged(vm, exported):
            text = (
                f"VM {vm.name} stays on its host: it has changed since it was exported. Its next stop exports it again."
            )
            return Failure(reason="EXPORT_OUTDATED", message=text)
        return None

    def step_done(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
        """Return what becomes of the VM's exports, and that it was released."""
        if step.plan.action != VM_RELEASE.name or step.state is not StepState.DONE:
            return exporting.completed(vm, operation, step)
        made = operation.output_of(EXPORT_COMPLETE.name)
        assert made is not None, operation
        released = e.VmReleased(
            directory=EXPORT_COMPLETE.target(operation),
            configuration_path=EXPORT_COMPLETE.output.read(made).configuration_path,
        )
        if vm.power is Power.STOPPED:
            return (released,)
        return released, e.VmPowerChanged(from_power=vm.power, to_power=Power.STOPPED, cause="step")

    def again(self, vm: VirtualMachine, operation: Operation, step: Step) -> tuple[PlannedStep, ...]:
        """Return another attempt in a new folder, with the end of the one that failed, unless that is in vain."""
        params = self.params.read(operation.params)
        assert step.failure is not None, step
        changed = params.only_off and vm.power not in (Power.STOPPED, Power.ABSENT, Power.UNKNOWN)
        if changed or operation.rounds >= params.attempts or exporting.in_vain(step.failure):
            return ()
        return (*exporting.ends(operation, StepNature.UNDOABLE), *self._steps(vm, params))

    def undo(self, vm: VirtualMachine, operation: Operation, failure: Failure | None) -> Undo:
        """Return the end of what was begun."""
        return Undo(steps=exporting.undo(operation))

    def explained(self, vm: VirtualMachine, operation: Operation, failure: Failure) -> Failure:
        """Return why it fails, with how often it was tried, and what to do."""
        if operation.output_of(EXPORT_COMPLETE.name) is not None:
            text = f"{failure.message} The export is complete: it is in {EXPORT_COMPLETE.target(operation)}."
            return replace(failure, message=text)
        often = f" It was begun {operation.rounds} times." if operation.rounds > 1 else ""
        told = f"{failure.message}{often} The VM has no new export. See to the storage and the host, then run"
        return replace(failure, message=f"{told} `snapshotctl vm export {shlex.quote(vm.name)}`.")

    def preview(self, vm: VirtualMachine, request: RequestOperation) -> Preview:
        """Return that nothing about the VM changes, how much is copied, and what is removed."""
        params, files = self.params.read(request.params), vm.description.files if vm.description else ()
        size = sum(file.file_bytes for file in files) / _GIB
        told = [f"About {size:.1f} GiB are copied. Start ends the export; nothing else is done to the VM meanwhile."]
        told += [f"Once it is complete, the older export {x.directory} is removed." for x in exporting.superseded(vm)]
        if params.release:
            told.append(f"Then the VM is removed from host {vm.host_id}; its files there are left to you.")
        return Preview(current=vm.current_id, power=vm.power, warnings=tuple(told))

    def result(self, operation: Operation) -> Result:
        """Return the export."""
        made = operation.output_of(EXPORT_COMPLETE.name)
        assert made is not None, operation
        complete = EXPORT_COMPLETE.output.read(made)
        return TheExport(EXPORT_COMPLETE.target(operation), complete.size_bytes)

    def remark(self, operation: Operation) -> str:
        """Return what came of a release that was wanted."""
        release = next((s for s in operation.steps if s.plan.action == VM_RELEASE.name and s.failure), None)
        return release.failure.message if release is not None and release.failure else ""


EXPORT_VIRTUAL_MACHINE = ExportVirtualMachine()


def announced(vm: VmRecord, request: RequestOperation) -> tuple[str, ...]:
    """Return what a request that follows another one will do, for people."""
    params = EXPORT_VIRTUAL_MACHINE.params.read(request.params)
    said = f"Afterwards the VM is exported to {params.directory or 'nowhere: export.directory is not set'}."
    released = f"Then it is removed from host {vm.host_id}, and is on none until it is started."
    return (said, released) if params.release and params.directory else (said,)


def after_stop(vm: VirtualMachine, policy: Policy) -> RequestOperation | None:
    """Return the export that follows a stop: of a VM that is off and has snapshots, if its policy says so."""
    has_snapshots = any(s.checkpoint_id and s.state is not SnapshotState.REMOVED for s in vm.snapshots.values())
    if vm.power is not Power.STOPPED or not has_snapshots:
        return None
    if exporting.policy_of(vm, policy) is not ExportPolicy.ON_STOP:
        return None
    params = Params(
        directory=policy.export_directory,
        attempts=policy.export_attempts,
        release=policy.export_release,
        only_off=True,
    )
    return EXPORT_VIRTUAL_MACHINE.request(params)
