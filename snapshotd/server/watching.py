"""What calls that have no end share: how often they give a sign of life, and that they end when the server does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from snapshotd.server.request_errors import Stopping

HEARTBEAT_S: Final = 5.0
"""While nothing changes, a watch sends a heartbeat so often: its reader learns that both ends are alive."""


class Ending:
    """The end of the server, for calls that have none of their own."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()

    def begin(self) -> None:
        """End them."""
        self._begun.set()

    async def unless(self, method: str, waiting: Coroutine[Any, Any, None]) -> None:
        """Wait for something. Raises Stopping as soon as the server stops.

        Args:
            method: the name of the call, for the error.
            waiting: what is waited for; cancelled if the server stops first, or the caller goes away.
        """
        waited, begun = asyncio.ensure_future(waiting), asyncio.ensure_future(self._begun.wait())
        try:
            await asyncio.wait([waited, begun], return_when=asyncio.FIRST_COMPLETED)
            if self._begun.is_set():
                raise Stopping(method)
            waited.result()
        finally:
            waited.cancel()
            begun.cancel()
