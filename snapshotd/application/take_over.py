"""Take-over of a VM: a person decides that this log goes on from what the VM's journal and its host say.

The journal was written for a log that is lost, or for that of another installation. So what this log believes under way
ends as undetermined, the journal is put on record with all that it knows, and tokens lie above its highest from then
on. Power, tree and current are the host's. The first step of the next operation begins with a look at the VM, which
fences off whatever was sent for the other log and is still on its way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from snapshotd.application.draft import Draft
from snapshotd.application.progress import end_undetermined
from snapshotd.application.reconcile import describe, reconcile
from snapshotd.application.rolled_back import knows_more
from snapshotd.domain import events as e
from snapshotd.domain.answered_requests import answered_before
from snapshotd.domain.commands import AwaitTakeOver, TakeOverVm
from snapshotd.domain.destroy_errors import refuse_destroyed
from snapshotd.domain.errors import NotFound, VmChanging
from snapshotd.domain.foreign_checkpoints import foreign_checkpoints
from snapshotd.domain.host_errors import NotTakenOver
from snapshotd.domain.host_report import Checkpoint, Journal, VmReport
from snapshotd.domain.ids import OperationName
from snapshotd.domain.operation import Failure
from snapshotd.domain.virtual_machine import VirtualMachine
from snapshotd.operations.kind import UNDETERMINED
from snapshotd.steps.checkpoint_name import is_marked

_HIGHEST: Final = 2**52
"""The highest token that a journal is taken over with: those above it must be exact in JSON, for ever (wire_limits)."""
_WHY: Final = (
    "Cannot tell what came of the operation: the VM was taken over, and what its host has done is not on record."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """What taking over one VM means."""

    vm: VirtualMachine
    """As it is afterwards."""
    journal_token: int
    ended: tuple[OperationName, ...]
    """Operations that were under way by this log."""
    marked: tuple[Checkpoint, ...]
    """Checkpoints that bear our marker and are no snapshot on record."""


def take_over(draft: Draft, command: AwaitTakeOver | TakeOverVm) -> None:
    """Record a take-over, or that one comes next.

    Raises NotFound, RequestIdReused, VmChanging, NotTakenOver.
    """
    if isinstance(command, TakeOverVm):
        _take(draft, command)
    else:
        _block(draft)


def _take(draft: Draft, command: TakeOverVm) -> None:
    """Record a take-over; nothing if the VM needs none.

    Raises NotFound, RequestIdReused, VmChanging, NotTakenOver.
    """
    vm, context = draft.vm, draft.context
    if answered_before(vm.requests, context.actor, context.request_id, context.digest) is not None:
        return
    refuse_destroyed(vm)
    if not vm.registered:
        raise NotFound("virtual machine", vm.vm_id, "Register it first (`snapshotctl vm register`).")
    if not needs_taking_over(vm, command.report, foreign=command.foreign):
        return
    if vm.last_step_version > command.asked_version:
        raise VmChanging(vm.name)
    _refuse(vm, command.report)
    ended = tuple(operation.name for operation in vm.active_operations)
    for operation in vm.active_operations:
        end_undetermined(draft, operation, Failure(reason=UNDETERMINED, message=_WHY))
    draft.add([_taken_over(command.reason, command.report.journal, ended, context.digest)])
    before = describe(draft, command.report)
    reconcile(draft, before)


def _block(draft: Draft) -> None:
    """Record that nothing is concluded or issued until the VM is taken over, whatever its journal shows.

    Otherwise what this log has under way would go on as soon as the host is ours: by a journal in which another
    installation's work has taken the place of what was done for us.
    """
    vm = draft.vm
    if vm.registered and not (vm.rolled_back and vm.foreign_journal):
        token = max(vm.rolled_back, vm.last_token, 1)
        draft.add([e.LogFoundRolledBack(journal_token=token, foreign=True)])


def inherit(draft: Draft, report: VmReport) -> None:
    """Take a VM over that is registered on a host which was taken over, if this log has never worked on it."""
    vm = draft.vm
    if not vm.rolled_back and not vm.last_token and knows_more(vm, report.journal):
        _refuse(vm, report)
        draft.add([_taken_over("Its host was taken over.", report.journal, (), "")])


def needs_taking_over(vm: VirtualMachine, report: VmReport, *, foreign: bool) -> bool:
    """Return whether a VM has to be taken over before anything can be done on it.

    On a host of another installation each has to: that installation may have done what the journal shows no more.
    """
    return foreign or bool(vm.rolled_back) or knows_more(vm, report.journal)


def taken_over(draft: Draft) -> TakenOver | None:
    """Return what a decided take-over means; of a repeated one what it meant; None: the VM needed none."""
    event = next((event for event, _ in draft.events if isinstance(event, e.VmTakenOver)), None)
    context = draft.context
    if event is None and answered_before(draft.vm.requests, context.actor, context.request_id, context.digest):
        event = draft.vm.taken_over
    if event is None:
        return None
    marked = unrecorded(draft.vm)
    return TakenOver(vm=draft.vm, journal_token=event.journal_token, ended=event.ended, marked=marked)


def unrecorded(vm: VirtualMachine) -> tuple[Checkpoint, ...]:
    """Return the checkpoints that bear our marker and are no snapshot on record."""
    return tuple(c for c in foreign_checkpoints(vm) if is_marked(c.name))


def _taken_over(reason: str, journal: Journal, ended: tuple[OperationName, ...], digest: str) -> e.VmTakenOver:
    return e.VmTakenOver(
        reason=reason,
        journal_id=journal.journal_id,
        journal_token=journal.highest_token,
        journal_operation=journal.operation,
        ended=ended,
        request_digest=digest,
    )


def _refuse(vm: VirtualMachine, report: VmReport) -> None:
    """Refuse a take-over that cannot be made now. Raises NotTakenOver."""
    if report.works_besides_merging():
        text = f"its host is at work on it ({', '.join(report.activities)}). Repeat this when that has ended."
        raise NotTakenOver(vm.name, text)
    if report.journal.highest_token > _HIGHEST:
        text = (
            f"its journal knows token {report.journal.highest_token}, which no snapshotd has issued. Somebody else has "
        )
        text += "written it: remove the journal's file on the host, and repeat this."
        raise NotTakenOver(vm.name, text)
