"""A reading of a whole file in a thread that ends soon when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Final, TypeVar

C = TypeVar("C", bound=sqlite3.Connection)
T = TypeVar("T")

_INTERRUPT_S: Final = 0.05
"""How long to wait until a reading that was interrupted has ended."""


async def read_through(connection: C, read: Callable[[C], T]) -> T:
    """Return what `read` finds by a connection, in a thread. Cancelled, this returns when the thread has ended."""
    reading = asyncio.create_task(asyncio.to_thread(read, connection))
    try:
        return await asyncio.shield(reading)
    finally:
        while not reading.done():  # again and again: what has not begun yet is not interrupted
            connection.interrupt()
            await asyncio.wait([reading], timeout=_INTERRUPT_S)
        reading.exception()  # it is raised above, or nobody waits for it
