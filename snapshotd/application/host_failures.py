"""What a host's answer other than "done" means to a caller: one reason and one sentence for each verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.operation import Failure

_MEANING: Final[Mapping[Verdict, tuple[str, str]]] = {
    Verdict.NO_EFFECT: ("HOST_ERROR", "The host refused the command and gave no reason."),
    Verdict.FAILED: ("HOST_SCRIPT_FAILED", "The script failed on the host and gave no reason."),
    Verdict.NOT_BEGUN: ("HOST_SCRIPT_FAILED", "The script failed on the host before it began, and gave no reason."),
    Verdict.CHANGED: ("VM_CHANGED", "The VM had changed since the command was issued, so nothing was done."),
    Verdict.DONE: ("MALFORMED_ANSWER", "The host reported success without the result."),
    Verdict.STALE: ("COMMAND_LATE", "The host had already received a later command, so nothing was done."),
    Verdict.WRONG_JOURNAL: ("JOURNAL_CHANGED", "The VM's journal on the host was replaced, so nothing was done."),
    Verdict.BUSY: ("HOST_BUSY", "Another script of snapshotd is working on the VM."),
    Verdict.IN_PROGRESS: ("HOST_WORKING", "Hyper-V is working on the VM."),
    Verdict.FOREIGN_INSTALLATION: (
        "FOREIGN_INSTALLATION",
        "The journals on the host belong to another snapshotd installation. Retire that one first.",
    ),
}


def failure_of(answer: HostAnswer) -> Failure:
    """Return the failure that an answer means, with the host's own text and error id.

    For NO_ANSWER the reason is why none came, e.g. CONNECTION_LOST.
    """
    reason, text = _MEANING.get(answer.verdict, (answer.error_id or answer.verdict.value, "The host gave no answer."))
    error_id = "" if answer.verdict is Verdict.NO_ANSWER else answer.error_id
    return Failure(reason=reason, message=answer.error_message or text, error_id=error_id)
