"""Compares a host's report with the record. What a step did is taken over; what others did is recorded as drift.

Called only between steps: while a command may be at work, a difference proves nothing. Checkpoints made by others are
shown, never touched, and never become snapshots by themselves.
"""

from __future__ import annotations

from snapshotd.application import drift
from snapshotd.application.draft import Draft
from snapshotd.domain import events as e
from snapshotd.domain.host_report import Journal, JournalState, VmDescription, VmReport
from snapshotd.domain.lifecycle import Power
from snapshotd.domain.operation import Operation
from snapshotd.domain.virtual_machine import VirtualMachine


def describe(
    draft: Draft, report: VmReport, number: int | None = None, *, claimed: frozenset[Power] = frozenset()
) -> VmDescription | None:
    """Record a report's journal, power and description where they differ.

    Args:
        draft: what is being decided.
        report: what the host says.
        number: the operation that looked, if one did.
        claimed: the powers that its step may have brought about. A change to any other is drift.

    Returns the description that was on record before.
    """
    vm = draft.vm
    before = vm.description
    if _counts(vm, report.journal):
        draft.add([e.JournalIdentified(journal_id=report.journal.journal_id)], number)
    if not vm.registered:
        return before  # its record is only read: what an operation about its files has seen of it changes nothing
    if vm.released is not None:
        if report.power is Power.ABSENT:
            return before  # as it is expected to be
        _found_again(draft, report, number, by_step=report.power in claimed)
    elif report.power is not vm.power:
        cause = "step" if report.power in claimed else "drift"
        if cause == "drift":
            draft.add([drift.of_power(vm.power, report.power)], number)
        draft.add([e.VmPowerChanged(from_power=vm.power, to_power=report.power, cause=cause)], number)
    if report.description is not None and report.description != before:
        draft.add([e.VmDescribed(description=report.description)], number)
    return before


def _found_again(draft: Draft, report: VmReport, number: int | None, *, by_step: bool) -> None:
    """Record that a VM that was released is on its host again: a step has imported it, or others have."""
    cause = "step" if by_step else "drift"
    if not by_step:
        draft.add([drift.of_power(Power.ABSENT, report.power)], number)
    draft.add([e.VmReleaseEnded(cause=cause)], number)
    if report.power is not draft.vm.power:
        power = e.VmPowerChanged(from_power=draft.vm.power, to_power=report.power, cause=cause)
        draft.add([power], number)


def _counts(vm: VirtualMachine, journal: Journal) -> bool:
    """Return whether a journal is one to go by that is not on record.

    Where the VM has moved to, there may be one of an earlier stay. Until it has seen a token of this stay, commands of
    the earlier one could still begin there.
    """
    new = journal.state is JournalState.PRESENT and journal.journal_id != vm.journal_id
    of_this_stay = not vm.host_since or journal.highest_token >= vm.token_at(vm.host_since)
    # While the log is older than the journal, which one that was must not be forgotten (rolled_back.disprove).
    return new and of_this_stay and not vm.rolled_back


def reconcile(draft: Draft, before: VmDescription | None) -> None:
    """Record what differs between the tree and the VM's description, which has just been taken over.

    `before` is the description that was on record; None: there was none, so nothing counts as new or changed.
    """
    vm = draft.vm
    assert not vm.step_is_open(), vm.vm_id
    if not vm.registered or vm.description is None or vm.power is Power.ABSENT:
        return
    for snapshot_id in tuple(vm.snapshots):
        draft.add(drift.identified(draft.vm, draft.vm.snapshots[snapshot_id]))
    if before is not None:
        left = drift.as_left(_at_work(draft), before, vm.description)
        draft.add(drift.of_the_vm(before, left, vm.description))
        draft.add(drift.of_volumes(before, left, vm.description))
        draft.add(drift.of_checkpoints(draft.vm, before, left))
    draft.add(drift.temporaries(draft.vm))
    # The report that led to its being given up is no evidence that it is well after all.
    given_up = {event.snapshot_id for event, _ in draft.events if isinstance(event, e.SnapshotGivenUp)}
    for snapshot_id in tuple(vm.snapshots):
        draft.add(drift.gone_or_damaged(draft.vm, draft.vm.snapshots[snapshot_id]))
        if snapshot_id not in given_up:
            draft.add(drift.found(draft.vm, draft.vm.snapshots[snapshot_id]))
    for snapshot_id in tuple(vm.snapshots):
        draft.add(drift.reparented(draft.vm, draft.vm.snapshots[snapshot_id]))
    draft.add(drift.current_moved(draft.vm))


def _at_work(draft: Draft) -> list[Operation]:
    """Return the operations that are active, or have ended with this very decision."""
    ended = {event.number for event, _ in draft.events if isinstance(event, e.OperationEnd)}
    return [o for o in draft.vm.operations.values() if o.active or o.number in ended]
