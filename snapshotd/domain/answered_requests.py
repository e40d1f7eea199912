"""Requests that a resource has answered, by caller and request id, so that a repetition gets the first answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from snapshotd.domain.errors import RequestIdReused
from snapshotd.domain.events import Occasion
from snapshotd.domain.ids import OperationName
from snapshotd.domain.state import State

REMEMBERED_REQUESTS = 1000
"""Request ids that are remembered per resource."""
REMEMBERED_FOR = timedelta(days=7)
"""How long a request id is remembered."""


class AnsweredRequest(State, frozen=True, kw_only=True):
    """A request id that was seen, and what it was answered with."""

    digest: str
    at: datetime
    operation: OperationName | None
    """None: the request needed no operation."""


Requests = Mapping[tuple[str, str], AnsweredRequest]
"""By caller and request id."""


def no_requests() -> Requests:
    """Return what a new resource has answered: nothing."""
    return MappingProxyType({})


def remember(requests: Requests, digest: str, operation: OperationName | None, at: Occasion) -> Requests:
    """Return the requests with this event's one added, and those dropped that are too old or too many."""
    if not at.request_id:
        return requests
    kept = {k: r for k, r in requests.items() if at.time - r.at < REMEMBERED_FOR}
    for key in list(kept)[: max(0, len(kept) - REMEMBERED_REQUESTS + 1)]:
        del kept[key]
    kept[at.actor, at.request_id] = AnsweredRequest(digest=digest, at=at.time, operation=operation)
    return MappingProxyType(kept)


def answered_before(requests: Requests, actor: str, request_id: str, digest: str) -> AnsweredRequest | None:
    """Return what this request was answered with, if it was seen before.

    Raises RequestIdReused if the id was seen with another payload.
    """
    seen = requests.get((actor, request_id)) if request_id else None
    if seen is not None and seen.digest != digest:
        raise RequestIdReused(request_id)
    return seen
