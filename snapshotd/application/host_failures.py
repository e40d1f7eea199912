"""What a host's answer other than "done" means to a caller: one reason and one sentence for each verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.operation import Failure

_MEANING: Final[Mapping[Verdict, tuple[str, str]]] = {
    Verdict.NO_EFFECT: ("HOST_ERROR", "The host refused, and gave no reason."),
    Verdict.FAILED: ("HOST_SCRIPT_FAILED", "The script failed on the host, and gave no reason."),
    Verdict.CHANGED: ("VM_CHANGED", "The VM was not as it was when the command was given, so nothing was done."),
    Verdict.DONE: ("MALFORMED_ANSWER", "The host says that it is done, and not what came of it."),
    Verdict.STALE: ("COMMAND_LATE", "The host had been given a later command, so nothing was done."),
    Verdict.WRONG_JOURNAL: ("JOURNAL_CHANGED", "The VM's journal on the host is not the one that was there before."),
    Verdict.BUSY: ("HOST_BUSY", "Another script is at work on the VM on its host."),
    Verdict.IN_PROGRESS: ("HOST_WORKING", "The hypervisor is at work on the VM."),
    Verdict.FOREIGN_INSTALLATION: (
        "FOREIGN_INSTALLATION",
        "The journals on the host belong to another snapshotd installation, which has to be retired first.",
    ),
}


def failure_of(answer: HostAnswer) -> Failure:
    """Return why an answer is not what was hoped for. The host's own text and error id are kept.

    For NO_ANSWER the reason is why none came, e.g. CONNECTION_LOST.
    """
    reason, text = _MEANING.get(answer.verdict, (answer.error_id or answer.verdict.value, "The host gave no answer."))
    error_id = "" if answer.verdict is Verdict.NO_ANSWER else answer.error_id
    return Failure(reason=reason, message=answer.error_message or text, error_id=error_id)
