"""The owner of the journals on a host: this installation, none yet, or another one. Two must not use one host."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from snapshotd.dispatch.watch import Wait
from snapshotd.domain.host_errors import HostForeign
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.ids import HostId
from snapshotd.domain.operation import Failure


def explained(answer: HostAnswer, ours: str) -> HostAnswer:
    """Return an answer with both installations named, if the host refused because of another one; else unchanged."""
    if answer.verdict is not Verdict.FOREIGN_INSTALLATION or answer.error_message:
        return answer
    return replace(answer, error_message=_text(answer.installation_id, ours))


def owner_wait(answer: HostAnswer | None, ours: str, now: datetime) -> Wait | None:
    """Return what operations on a host wait for if its last report names another installation; else None."""
    if answer is None or not _foreign(answer, ours):
        return None
    failure = Failure(reason=HostForeign.reason, message=_text(answer.installation_id, ours))
    return Wait(failure=failure, since=answer.host_time or now)


def refuse_foreign(host_id: HostId, answer: HostAnswer, ours: str) -> None:
    """Raise HostForeign if a host's report names another installation."""
    if _foreign(answer, ours):
        raise HostForeign(host_id, _text(answer.installation_id, ours))


def _foreign(answer: HostAnswer, ours: str) -> bool:
    return answer.installation_id not in ("", ours)


def _text(theirs: str, ours: str) -> str:
    owner = f"installation {theirs}" if theirs else "an unknown installation"
    return (
        f"The journals on the host belong to {owner} (see host.json beside them), and this one is {ours}. "
        "Two must not use one host: retire one of them, and go on with the owner, from its storage directory."
    )
