"""What kinds that export a VM have in common: the steps, what is left to remove, and what is recorded.

    vm_export ─► job_wait ─► export_complete ─► export_end of what it supersedes
        └─────────────┴── failed, or its job is gone: export_end, and all of it anew, in a new folder

An older export is removed only when the newer one is complete, by our own record of its folder, and unless the VM uses
it. Copies are never verified by their content: the host says whether a file is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from snapshotd.domain import events as e
from snapshotd.domain import host_path
from snapshotd.domain.export import Export, ExportPolicy
from snapshotd.domain.host_report import file_key
from snapshotd.domain.lifecycle import StepState
from snapshotd.domain.operation import Failure, Operation, PlannedStep, Step, StepNature
from snapshotd.domain.policy import Policy
from snapshotd.domain.state import replace
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.domain.vm_record import VmRecord
from snapshotd.steps import export_complete, export_end, job_wait, vm_export
from snapshotd.steps.action import numbered
from snapshotd.steps.export_complete import EXPORT_COMPLETE
from snapshotd.steps.export_end import EXPORT_END
from snapshotd.steps.export_folder import final_folder
from snapshotd.steps.job_wait import JOB_WAIT
from snapshotd.steps.vm_export import VM_EXPORT

_IN_VAIN: Final = ("0x80070070", "0x80070027", "0x80070005", "0x80070013")
"""What no repetition gets past: a full disk, no right to write, a disk that must not be written (documented)."""
_REFUSED: Final = "HOST_ERROR"
"""The reason of what the host has refused for good."""
_INCOMPLETE: Final = "ExportIncomplete,snapshotd"
"""What the host's script says of an export of which something is missing."""


def policy_of(vm: VmRecord, policy: Policy) -> ExportPolicy:
    """Return when a VM is exported by itself: by its own policy, or by the server's."""
    return policy.export_policy if vm.export_policy is ExportPolicy.AS_SERVER else vm.export_policy


def attempt(root: str, natures: tuple[StepNature, StepNature]) -> tuple[PlannedStep, ...]:
    """Return the steps of one attempt. `natures`: of its beginning, and of its completion."""
    begins, completes = natures
    wait = job_wait.Input(begun_by=VM_EXPORT.name)
    return (
        VM_EXPORT.planned(vm_export.Input(root), nature=begins),
        JOB_WAIT.planned(wait, nature=begins),
        EXPORT_COMPLETE.planned(export_complete.Input(), nature=completes),
    )


def superseded(vm: VmRecord) -> tuple[Export, ...]:
    """Return the complete exports that nobody needs when there is a newer one, as far as the VM's host reaches them.

    One that the VM was imported from is no copy, and stays.
    """
    reached = (x for x in vm.exports if x.host_id == vm.host_id or host_path.shared(x.directory))
    return tuple(x for x in reached if not x.in_use and not _holds_files(x.directory, vm))


def _holds_files(directory: str, vm: VmRecord) -> bool:
    """Return whether the VM, as it was last reported, uses a file in a folder: others may have imported it there."""
    files = vm.description.chain_files() if vm.description else ()
    within = file_key(directory.replace("\\", "/").rstrip("/") + "/")
    return any(file_key(path.replace("\\", "/")).startswith(within) for path in files)


def removals(vm: VmRecord) -> tuple[PlannedStep, ...]:
    """Return the removal of each export that a newer one supersedes."""
    gone = (export_end.Input(job_id="", directory=x.directory) for x in superseded(vm))
    return tuple(EXPORT_END.planned(asked, nature=StepNature.BEST_EFFORT) for asked in gone)


def beside(root: str, vm: VirtualMachine) -> tuple[PlannedStep, ...]:
    """Return an export that an operation makes besides what it is for: what becomes of it fails nothing."""
    nature = StepNature.BEST_EFFORT
    own = EXPORT_END.planned(export_end.Input(), nature=nature)
    return (*attempt(root, (nature, nature)), own, *removals(vm))


def begun(operation: Operation) -> bool:
    """Return whether an operation has come to its export."""
    return any(s.plan.action == VM_EXPORT.name and s.attempts for s in operation.steps)


def ended_without(operation: Operation) -> Failure | None:
    """Return why an export besides has not become complete; None: it has, or none was wanted."""
    steps = [s for s in operation.steps if s.plan.action in (VM_EXPORT.name, JOB_WAIT.name, EXPORT_COMPLETE.name)]
    return next((s.failure for s in steps if s.state is not StepState.DONE and s.failure is not None), None)


def spared(vm: VirtualMachine, operation: Operation, step: Step) -> Failure | None:
    """Return why a step about exports is left out: what it builds on is not there, or must stay; None: it is not."""
    if step.plan.nature is not StepNature.BEST_EFFORT:
        return None
    done = {s.plan.action for s in operation.steps if s.state is StepState.DONE}
    if step.plan.action == EXPORT_COMPLETE.name and (lost := _lost(operation)) is not None:
        return lost
    if step.plan.action != EXPORT_END.name or not (directory := EXPORT_END.input.read(step.plan.input).directory):
        return None
    if EXPORT_COMPLETE.name not in done:
        return Failure(reason="EXPORT_KEPT", message=f"{directory} stays: there is no newer export that is complete.")
    if directory in {x.directory for x in superseded(vm)}:
        return None
    text = f"{directory} stays: the VM uses it, its host does not reach it, or it is not on record any more."
    return Failure(reason="EXPORT_IN_USE", message=text)


def _lost(operation: Operation) -> Failure | None:
    """Return why there is nothing to complete; None: there is."""
    steps = [s for s in operation.steps if s.plan.action in (VM_EXPORT.name, JOB_WAIT.name)]
    if steps[0].state is StepState.DONE and steps[1].state is not StepState.FAILED:
        return None
    why = next((s.failure for s in steps if s.failure is not None), None)
    return why or Failure(reason="EXPORT_NOT_BEGUN", message="The export was not begun.")


def ends(operation: Operation, nature: StepNature) -> tuple[PlannedStep, ...]:
    """Return the end of each attempt that was begun, was not completed, and was not ended yet; the last one first."""
    return tuple(EXPORT_END.planned(asked, nature=nature) for _, asked in _left(operation))


def undo(operation: Operation) -> tuple[PlannedStep, ...]:
    """Return these ends as the undo of an operation, numbered after its plan."""
    undone = (
        replace(EXPORT_END.planned(asked, nature=StepNature.FORWARD_ONLY), undoes=step.plan.number)
        for step, asked in _left(operation)
    )
    return numbered(undone, len(operation.steps) + 1)


def _left(operation: Operation) -> Iterator[tuple[Step, export_end.Input]]:
    done = [s for s in operation.steps if s.state is StepState.DONE]
    # One whose outcome nobody could tell may have begun all the same.
    tried = [s for s in operation.steps if s in done or (s.attempts and s.failure and s.failure.reason != _REFUSED)]
    ended = {EXPORT_END.sent(operation, s)["directory"] for s in done if s.plan.action == EXPORT_END.name}
    completed = [s.plan.number for s in done if s.plan.action == EXPORT_COMPLETE.name]
    for step in reversed(tried):
        if step.plan.action != VM_EXPORT.name or any(number > step.plan.number for number in completed):
            continue
        left = VM_EXPORT.left(operation, step)
        if left.directory in ended:
            continue
        # A script that was to complete it may have given it its final name already.
        if _naming(operation, step):
            yield step, replace(left, job_id="", directory=final_folder(left.directory))
        yield step, left


def _naming(operation: Operation, begun: Step) -> bool:
    """Return whether the completion of an attempt was sent, and may have had an effect."""
    later = [s for s in operation.steps if s.plan.number > begun.plan.number and s.attempts]
    first = next((s for s in later if s.plan.action in (VM_EXPORT.name, EXPORT_COMPLETE.name)), None)
    return first is not None and first.plan.action == EXPORT_COMPLETE.name


def in_vain(failure: Failure) -> bool:
    """Return whether a repetition gets past no failure of this kind."""
    if any(number in failure.message for number in _IN_VAIN):
        return True
    return failure.reason == _REFUSED and failure.error_id != _INCOMPLETE


def completed(vm: VirtualMachine, operation: Operation, step: Step) -> tuple[e.VmEvent, ...]:
    """Return what a step that is done means for the VM's exports."""
    if step.state is not StepState.DONE:
        return ()
    if step.plan.action == EXPORT_COMPLETE.name:
        assert step.output is not None, step
        made, begun = EXPORT_COMPLETE.output.read(step.output), operation.last(VM_EXPORT.name)
        assert begun is not None, operation
        exported = e.VmExported(
            directory=EXPORT_COMPLETE.target(operation),
            configuration_path=made.configuration_path,
            size_bytes=made.size_bytes,
            of_version=begun.issued_token - vm.token_base,
        )
        return (exported,)
    if step.plan.action == EXPORT_END.name:
        directory = EXPORT_END.input.read(step.plan.input).directory
        return (e.ExportRemoved(directory=directory),) if directory in {x.directory for x in vm.exports} else ()
    return ()
