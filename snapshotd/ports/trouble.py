"""What keeps a part of the service from its work, for those who run it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from snapshotd.domain.state import replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that is wrong just now. It is gone when it has passed, and is on no record."""

    reason: str
    """UPPER_SNAKE, as in errors."""
    message: str
    """For people: what cannot be done, why, and what to do."""
    since: datetime


def still(known: Trouble | None, now: Trouble) -> Trouble:
    """Return a trouble. It keeps its beginning while the reason stays the same."""
    return replace(now, since=known.since) if known is not None and known.reason == now.reason else now
