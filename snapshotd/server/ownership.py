"""The journals on a host: whether they can be written, and whose they are: ours, nobody's, another installation's.

Two installations must not use one host.
"""

from __future__ import annotations

from datetime import datetime

from snapshotd.dispatch.watch import Wait
from snapshotd.domain.host_errors import HostForeign, HostJournalsFailed
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.ids import HostId
from snapshotd.domain.operation import Failure
from snapshotd.domain.state import replace


def explained(answer: HostAnswer, ours: str) -> HostAnswer:
    """Return an answer with both installations named, if the host refused because of another one; else unchanged."""
    if answer.verdict is not Verdict.FOREIGN_INSTALLATION or answer.error_message:
        return answer
    return replace(answer, error_message=_text(answer.installation_id, ours))


def journals_wait(host_id: HostId, answer: HostAnswer | None, ours: str, now: datetime) -> Wait | None:
    """Return what operations on a host wait for if its last report says that its journals are of no use to us."""
    if answer is None:
        return None
    try:
        refuse_unusable(host_id, answer, ours)
    except HostForeign as error:
        failure = Failure(reason=error.reason, message=error.detail)
    except HostJournalsFailed as error:
        failure = Failure.of(error)
    else:
        return None
    return Wait(failure=failure, since=answer.host_time or now)


def refuse_unusable(host_id: HostId, answer: HostAnswer, ours: str) -> None:
    """Refuse a host whose journals are of no use to us.

    Raises HostForeign if its report names another installation, and HostJournalsFailed if no journal can be written.
    """
    if _foreign(answer, ours):
        raise HostForeign(host_id, _text(answer.installation_id, ours))
    if answer.journal_error:
        raise HostJournalsFailed(host_id, answer.journal_error_id, answer.journal_error)


def _foreign(answer: HostAnswer, ours: str) -> bool:
    return answer.installation_id not in ("", ours)


def _text(theirs: str, ours: str) -> str:
    owner = f"installation {theirs}" if theirs else "an unknown installation"
    return (
        f"The journals on the host belong to {owner} (see host.json beside them), and this one is {ours}. "
        "Two must not use one host: retire one of them, and go on with the owner, from its storage directory; or take "
        "the host over (`snapshotctl host take-over`)."
    )
