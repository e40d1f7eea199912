"""Records calls that were refused because of who made them: the first of a kind at once, and then once a minute.

    refused ──► counted by caller, method and reason ──► CallRefused in the log, with how many there were

However many there are, the log grows by a few events a minute.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from snapshotd.domain.errors import SnapshotdError
from snapshotd.domain.events import CallRefused, NewEvent
from snapshotd.domain.ids import StreamId
from snapshotd.domain.storage_errors import LogUnavailable, StreamChanged
from snapshotd.logs import about
from snapshotd.ports.clock import Clock
from snapshotd.ports.event_log import EventLog
from snapshotd.ports.ids import Ids

_log = logging.getLogger(__name__)

STREAM: Final = StreamId("access/refusals")
_AGAIN_S: Final = 60.0
"""How long refusals of one kind are only counted after one was recorded."""
_KINDS: Final = 500
"""Kinds that are told apart. Of further ones, only the reason counts."""
_AT_ONCE: Final = 20
"""Events that are recorded at a time, at most once a second."""
_EACH_MINUTE: Final = 60
"""The most events in a minute."""
_LOOK_S: Final = 1.0
_OTHERS: Final = "(others)"
_LONGEST: Final = 300
"""Characters of what the caller was told, and of where it is."""


@dataclass(slots=True)
class _Kind:
    """Refusals of one kind."""

    times: int
    detail: str
    peer: str
    due_s: float
    """When they may be recorded next."""


class Refusals:
    """The refusals that are not recorded yet.

    Args:
        log: where they are recorded.
        clock: the time of events.
        ids: the ids of events.
        now_s: returns seconds of a monotonic clock.
        told: is called for each, with its reason.
    """

    def __init__(
        self,
        log: EventLog,
        clock: Clock,
        ids: Ids,
        now_s: Callable[[], float] = time.monotonic,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._log = log
        self._clock = clock
        self._ids = ids
        self._now_s = now_s
        self._told = told
        self._kinds: dict[tuple[str, str, str], _Kind] = {}
        self._version: int | None = None
        self._recorded_s: list[float] = []

    def refused(self, subject: str, method: str, error: SnapshotdError, peer: str) -> None:
        """Count a refusal."""
        self._told(error.reason)
        key = (subject, method, error.reason)
        if key not in self._kinds and len(self._kinds) >= _KINDS:
            key = (_OTHERS, _OTHERS, error.reason)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = _Kind(0, str(error)[:_LONGEST], peer[:_LONGEST], self._now_s())
            _log.warning("call refused: %s", kind.detail, extra=about(actor=subject, reason=error.reason))
        kind.times += 1

    async def run(self) -> NoReturn:
        """Record what is due, once a second, until cancelled."""
        while True:
            await self.record()
            await asyncio.sleep(_LOOK_S)

    async def record(self) -> None:
        """Record what is due now. What cannot be recorded stays for the next time."""
        now_s = self._now_s()
        self._recorded_s = [at for at in self._recorded_s if at > now_s - _AGAIN_S]
        room = min(_AT_ONCE, _EACH_MINUTE - len(self._recorded_s))
        due = [(key, kind) for key, kind in self._kinds.items() if kind.due_s <= now_s]
        for key, kind in due:
            if not kind.times:
                del self._kinds[key]  # nothing more of it came for a while
        chosen = [(key, kind, kind.times) for key, kind in due if kind.times][: max(room, 0)]
        if not chosen:
            return
        try:
            await self._append([self._event(key, kind) for key, kind, _ in chosen])
        except (LogUnavailable, StreamChanged) as error:
            self._version = None
            _log.warning("%d refused calls are not recorded yet: %s", len(chosen), error)
            return
        for _, kind, times in chosen:
            kind.times -= times  # others may have come meanwhile
            kind.due_s = now_s + _AGAIN_S
            self._recorded_s.append(now_s)

    def _event(self, key: tuple[str, str, str], kind: _Kind) -> NewEvent:
        subject, method, reason = key
        return NewEvent(
            event_id=self._ids.fresh(),
            time=self._clock.now(),
            actor=subject or "anonymous",
            request_id="",
            operation=None,
            event=CallRefused(
                method=method.removeprefix("/"),
                refusal=reason,
                detail=kind.detail,
                peer=kind.peer,
                times=kind.times,
            ),
        )

    async def _append(self, events: list[NewEvent]) -> None:
        if self._version is None:
            rows = await self._log.rows([STREAM])
            self._version = rows[0].version if rows else 0
        await self._log.append(STREAM, self._version, events)
        self._version += len(events)
