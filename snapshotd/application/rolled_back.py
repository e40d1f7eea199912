"""Notices that the log is older than a VM's journal on its host: it was restored from a backup.

Tokens only grow, and an operation's name never comes again. So a journal with a higher token than any that the log
has issued for the VM, or with an operation that the log does not know, was written for a newer log. Nothing else can
cause that. What the newer log did to the VM is not on record here; so from then on nothing is concluded or issued,
until a person has decided what is true.
"""

from __future__ import annotations

from snapshotd.application.draft import Draft
from snapshotd.domain import events as e
from snapshotd.domain.host_report import VmReport
from snapshotd.domain.ids import parse_operation_name
from snapshotd.domain.virtual_machine import VirtualMachine


def notice(draft: Draft, report: VmReport | None, highest_token: int = 0) -> None:
    """Record that a journal knows more than the log, if that is so and not on record yet.

    Args:
        draft: decided on the VM as it is on record.
        report: of the VM, if there is one.
        highest_token: of the journal, from an answer without a report.
    """
    vm, token = draft.vm, max(highest_token, report.journal.highest_token if report else 0)
    if vm.rolled_back:
        return
    if token > vm.last_token or (report is not None and _unknown(vm, report.journal.operation)):
        draft.add([e.LogFoundRolledBack(journal_token=token)])


def _unknown(vm: VirtualMachine, operation: str) -> bool:
    """Return whether a journal's operation is certainly not on record. Few that ended are remembered."""
    parsed = parse_operation_name(operation)
    if parsed is None or parsed[0] != vm.vm_id:
        return False
    number = parsed[1]
    known = vm.operations.get(number)
    return known.name != operation if known else number > vm.last_number
