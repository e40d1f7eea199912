"""Requests that a resource has answered, by caller and request id, so that a repetition gets the first answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import field

from snapshotd.domain.errors import RequestIdReused
from snapshotd.domain.events import Occasion
from snapshotd.domain.ids import OperationName
from snapshotd.domain.state import State

REMEMBERED_REQUESTS = 1000
"""Request ids that are remembered per resource and caller, at least."""
REMEMBERED_FOR = timedelta(days=7)
"""How long a request id is remembered, at least."""
_FEW = 16
"""Requests that are kept apart before they join the others."""


class AnsweredRequest(State, frozen=True, kw_only=True):
    """A request id that was seen, and what it was answered with."""

    digest: str
    at: datetime
    operation: OperationName | None
    """None: the request needed no operation."""


class AnsweredRequests(State, frozen=True, kw_only=True):
    """The last requests of each caller, by a key of both, the oldest first.

    The many older ones are shared between one state of the resource and the next; only the few recent ones are copied.
    When their number reaches the root of the others', they join them, and what is too old or too many is dropped.
    """

    older: Mapping[str, AnsweredRequest] = field(default_factory=dict)
    recent: Mapping[str, AnsweredRequest] = field(default_factory=dict)

    def find(self, actor: str, request_id: str) -> AnsweredRequest | None:
        """Return what a caller's request was answered with; None: it was not seen, or has been forgotten."""
        key = _key(actor, request_id)
        return self.recent.get(key) or self.older.get(key)


def remember(
    requests: AnsweredRequests, digest: str, operation: OperationName | None, at: Occasion
) -> AnsweredRequests:
    """Return the requests with this event's one added."""
    if not at.request_id:
        return requests
    answered = AnsweredRequest(digest=digest, at=at.time, operation=operation)
    recent = {**requests.recent, _key(at.actor, at.request_id): answered}
    if len(recent) < _FEW or len(recent) ** 2 < len(requests.older):
        return AnsweredRequests(older=requests.older, recent=recent)
    older = {key: seen for key, seen in requests.older.items() if key not in recent}
    return AnsweredRequests(older=_kept(older | recent, at.time))


def answered_before(requests: AnsweredRequests, actor: str, request_id: str, digest: str) -> AnsweredRequest | None:
    """Return what this request was answered with, if it was seen before.

    Raises RequestIdReused if the id was seen with another payload.
    """
    seen = requests.find(actor, request_id) if request_id else None
    if seen is not None and seen.digest != digest:
        raise RequestIdReused(request_id)
    return seen


def _key(actor: str, request_id: str) -> str:
    # A request id is a UUID: no space is in it, so no two pairs have one key.
    return f"{request_id} {actor}"


def _kept(requests: dict[str, AnsweredRequest], now: datetime) -> dict[str, AnsweredRequest]:
    """Return the requests without those that are too old, and those of each caller that are too many."""
    of_caller = Counter[str]()
    kept = []
    for key, seen in reversed(requests.items()):
        caller = key.partition(" ")[2]
        if now - seen.at < REMEMBERED_FOR and of_caller[caller] < REMEMBERED_REQUESTS:
            of_caller[caller] += 1
            kept.append((key, seen))
    return dict(reversed(kept))
