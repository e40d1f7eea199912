"""Tells the service manager how a program is: systemd's datagrams (sd_notify). Does nothing where there is none.

    READY=1      it serves                      STOPPING=1   it was told to end
    STATUS=text  one line for people            WATCHDOG=1   it was found healthy just now

Nothing here runs by itself: whoever feeds the watchdog has looked first. A thread with a timer would go on feeding it
while the program hangs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

_log = logging.getLogger(__name__)

_LOOKS: Final = 3
"""How often the program is looked at within the time that the watchdog allows."""
_LONGEST: Final = 500
"""Characters of a status."""


@dataclass(frozen=True, slots=True)
class Found:
    """How a program is."""

    status: str
    """In one line, for people."""
    needs_start: bool = False
    """Whether it should be ended and started again: the watchdog gets nothing."""


class ServiceManager:
    """Who has started this process.

    Args:
        environ: the environment: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID count.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        named = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{named[1:]}" if named.startswith("@") else named
        given = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(given) / 1e6 if self._address and ours and given.isdigit() else 0.0
        """After how long without a sign of health this process is ended; 0: never."""
        self._status = ""
        self._failed = False

    def ready(self, status: str) -> None:
        """Tell that the program serves."""
        self._send("READY=1", self._status_line(status))

    def status(self, text: str) -> None:
        """Tell in one line how the program is, if it is not as it was told last."""
        if text != self._status:
            self._send(self._status_line(text))

    def stopping(self, status: str) -> None:
        """Tell that the program was told to end."""
        self._send("STOPPING=1", self._status_line(status))

    async def watch(self, look: Callable[[], Awaitable[Found]] | None = None) -> None:
        """Feed the watchdog for as long as this is not cancelled, each time that a start would help nothing.

        Args:
            look: returns how the program is. None: that its loop turns is enough.
        """
        while True:
            found = await look() if look is not None else None
            if found is not None:
                self.status(found.status)
            if found is None or not found.needs_start:
                self._send("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_s / _LOOKS)

    def _status_line(self, text: str) -> str:
        self._status = text
        return f"STATUS={' '.join(text.split())[:_LONGEST]}"

    def _send(self, *facts: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as told:
                told.sendto("\n".join(facts).encode(), self._address)
        except OSError as error:
            if not self._failed:
                _log.warning("Cannot tell the service manager %s: %s", facts[0], error.strerror or error)
            self._failed = True
        else:
            self._failed = False
