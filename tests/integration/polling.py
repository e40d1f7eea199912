"""Waiting for what another thread or process does: polled, and never longer than 10 s."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(true: Callable[[], bool]) -> None:
    """Poll until something is true."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110  (what is waited for has no event of this loop)
            await asyncio.sleep(0.005)
