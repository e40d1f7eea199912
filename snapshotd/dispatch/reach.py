"""Which hosts can be reached, and when one that cannot is tried again.

    reachable ──an order could not be sent──► away ──a probe is answered──► on trial ──an order is answered──► reachable
                                               ▲                                │
                                               └────an order could not be sent──┘

While a host is away, it gets one probe at a time, each time later, and nothing else by itself. On trial it gets one
order at a time: that a probe got through proves little where it is a quota that the host refuses by.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from snapshotd.application.host_failures import failure_of
from snapshotd.dispatch.outputs import Moment
from snapshotd.dispatch.watch import Wait, still
from snapshotd.domain.host_report import HostAnswer, Verdict
from snapshotd.domain.ids import HostId
from snapshotd.domain.policy import Policy

_NO_SIGN_IN: Final = frozenset({"AUTHENTICATION_FAILED", "CREDENTIAL_MISSING"})
"""Only people mend these, and attempts in quick succession lock accounts: so the longest delay holds at once."""
NEVER_SENT: Final = frozenset({"HOST_UNREACHABLE", "HOST_REFUSED"}) | _NO_SIGN_IN
"""Reasons of NO_ANSWER by which it is certain that nothing was sent to the host's script (executor.proto)."""


def never_sent(answer: HostAnswer) -> bool:
    """Return whether an order certainly did not leave its executor."""
    return answer.verdict is Verdict.NO_ANSWER and answer.error_id in NEVER_SENT


@dataclass(slots=True)
class _Away:
    """A host that cannot be reached."""

    failures: int = 0
    next_s: float = 0.0
    """When it is probed next."""
    trial: bool = False


class Reach:
    """What is known of the way to each host."""

    def __init__(self, policy: Policy) -> None:
        """Begin without knowledge: a host that nobody has tried to reach may be sent to."""
        self._policy = policy
        self._away: dict[HostId, _Away] = {}
        self.contact: dict[HostId, Wait | None] = {}
        """Why a host does not answer; None: it does. A host that nobody has tried to reach is not in here."""
        self.answered_at: dict[HostId, datetime] = {}
        """When a host answered last."""

    def answers(self, host_id: HostId) -> bool:
        """Return whether a host has answered, the last time that it was tried."""
        return host_id in self.contact and self.contact[host_id] is None

    def open(self, host_id: HostId) -> bool:
        """Return whether orders may be sent to a host; on trial: one at a time."""
        away = self._away.get(host_id)
        return away is None or away.trial

    def on_trial(self, host_id: HostId) -> bool:
        """Return whether a host has answered a probe, and no order yet."""
        away = self._away.get(host_id)
        return away is not None and away.trial

    def due(self, now_s: float) -> tuple[HostId, ...]:
        """Return the hosts that are to be probed now."""
        return tuple(host for host, away in self._away.items() if not away.trial and now_s >= away.next_s)

    def at_once(self) -> None:
        """Let every host that is away be probed now: there may be another way to it."""
        for away in self._away.values():
            away.next_s = 0.0

    def forget(self, host_id: HostId) -> None:
        """Forget a host."""
        self._away.pop(host_id, None)
        self.contact.pop(host_id, None)
        self.answered_at.pop(host_id, None)

    def answered(self, host_id: HostId, answer: HostAnswer, moment: Moment, *, report: bool) -> None:
        """Note what came of an order.

        Args:
            host_id: the host.
            answer: what came.
            moment: now.
            report: the order was a question or a probe, not one of an operation.
        """
        away = self._away.get(host_id)
        if answer.verdict is not Verdict.NO_ANSWER:
            self.contact[host_id] = None
            self.answered_at[host_id] = moment.utc
            if away is not None and report:
                away.trial = True
            elif away is not None:
                del self._away[host_id]
            return
        wait = still(self.contact.get(host_id), failure_of(answer), moment.utc)
        self.contact[host_id] = wait
        if away is None and never_sent(answer):
            away = self._away[host_id] = _Away(trial=True)
        # Of several orders that were under way at once, only the first puts off the next probe.
        if away is not None and (away.trial or report):
            away.trial = False
            away.failures += 1
            longest = wait.failure.reason in _NO_SIGN_IN
            delay_s = self._policy.backoff_max_s if longest else self._policy.backoff_s(away.failures)
            away.next_s = moment.monotonic_s + delay_s
