"""Who waits for the end of which operation. Whoever waits costs nothing until exactly that operation has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import get_args

from snapshotd.domain.events import Envelope, OperationEnd
from snapshotd.domain.ids import OperationName

_ENDS = frozenset(get_args(OperationEnd))


class Waiting:
    """All who wait."""

    def __init__(self) -> None:
        self._by_name: dict[OperationName, set[asyncio.Event]] = {}

    def note(self, envelopes: Iterable[Envelope]) -> None:
        """Wake those who wait for operations that have ended by these events."""
        for envelope in envelopes:
            if type(envelope.event) in _ENDS and envelope.operation is not None:
                for waiter in self._by_name.get(envelope.operation, ()):
                    waiter.set()

    @contextmanager
    def of(self, name: OperationName) -> Iterator[asyncio.Event]:
        """Wait for an operation: the event is set when it ends from now on."""
        waiter = asyncio.Event()
        self._by_name.setdefault(name, set()).add(waiter)
        try:
            yield waiter
        finally:
            waiters = self._by_name[name]
            waiters.discard(waiter)
            if not waiters:
                del self._by_name[name]
