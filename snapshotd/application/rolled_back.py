"""Notices that the log is older than a VM's journal on its host: it was restored from a backup.

Tokens only grow, and an operation's name never comes again. So a journal with a higher token than any that the log
has issued for the VM, or with an operation that the log does not know, was written for another log: a newer one, or
that of another installation. What that did to the VM is not on record here; so from then on nothing is concluded or
issued, until a person takes the VM over (take_over.py), or until it turns out that the journal does not say so: what
one answer has said, another executor's, say, may not be true.
"""

from __future__ import annotations

from snapshotd.application.draft import Draft
from snapshotd.domain import events as e
from snapshotd.domain.host_report import Journal, JournalState, VmReport
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
    if not vm.rolled_back and (token > vm.last_token or (report is not None and knows_more(vm, report.journal))):
        draft.add([e.LogFoundRolledBack(journal_token=token)])


def disprove(draft: Draft, report: VmReport, asked_version: int) -> None:
    """Record that a journal knows no more than the log, if that was on record and the journal shows otherwise.

    The highest token of a journal only grows. So what is seen of the very same journal later than what was noticed
    shows that this was not true. A journal with another id shows nothing: the one that was noticed may be lost.

    Args:
        draft: decided on the VM as it is on record.
        report: of the VM.
        asked_version: the stream's version when the report was asked for.
    """
    vm, journal = draft.vm, report.journal
    same = journal.state is JournalState.PRESENT and journal.journal_id == vm.journal_id != ""
    if (
        vm.rolled_back
        and not vm.foreign_journal
        and asked_version == vm.version
        and same
        and not knows_more(vm, journal)
    ):
        draft.add([e.LogRollbackDisproved(shown_token=journal.highest_token)])


def knows_more(vm: VirtualMachine, journal: Journal) -> bool:
    """Return whether a journal was certainly written for another log than this one, and not taken over since."""
    return journal.highest_token > vm.last_token or _unknown(vm, journal.operation)


def _unknown(vm: VirtualMachine, operation: str) -> bool:
    """Return whether a journal's operation is certainly not on record. Few that ended are remembered."""
    parsed = parse_operation_name(operation)
    if parsed is None or parsed[0] != vm.vm_id:
        return False
    if vm.taken_over is not None and vm.taken_over.journal_operation == operation:
        return False
    number = parsed[1]
    known = vm.operations.get(number)
    return known.name != operation if known else number > vm.last_number
