"""The network between a client and the simulated host: connections that can be cut, answers that can be lost.

Never looks at what is right or wrong for Hyper-V: it reads of a HostCommand only its kind and action.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from snapshotd.api.v1.executor_pb2 import HostCommand

_ACTIONS: Final = frozenset(field.name for field in HostCommand.DESCRIPTOR.oneofs_by_name["action"].fields)


class Drop(Enum):
    """When the connection of a command is lost."""

    BEFORE = "before"
    """Before the script sees the command."""
    AFTER = "after"
    """After the effect, and before the answer reaches the client."""


class ConnectionDropped(Exception):
    """The connection is to be cut here, without a reply."""


@dataclass
class _DropRule:
    when: Drop
    kinds: frozenset[str]
    """Empty: any kind."""
    left: int


class Network:
    """All connections of one endpoint, and what is to go wrong with them.

    Args:
        rtt_s: seconds that every request takes on its way.
    """

    def __init__(self, rtt_s: float = 0.0) -> None:
        self.rtt_s = rtt_s
        self._up = True
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._rules: deque[_DropRule] = deque()

    def admit(self, connection: socket.socket) -> bool:
        """Count a new connection and return whether it may stay: not if the network is down."""
        with self._lock:
            if self._up:
                self._connections.add(connection)
            return self._up

    def forget(self, connection: socket.socket) -> None:
        """Count a connection as closed."""
        with self._lock:
            self._connections.discard(connection)

    def is_open(self, connection: socket.socket) -> bool:
        """Return whether a connection was neither cut nor closed, by us or by its client."""
        with self._lock:
            if connection not in self._connections:
                return False
        try:
            # A client that waits for its reply sends nothing, so what can be read here is only its end.
            # Below TLS, if there is some: its socket cannot peek.
            return socket.socket.recv(connection, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    @property
    def is_up(self) -> bool:
        """True unless it was brought down."""
        return self._up

    @property
    def open_connections(self) -> int:
        """How many connections there are."""
        with self._lock:
            return len(self._connections)

    def travel(self) -> None:
        """Wait for as long as a request is on its way."""
        if self.rtt_s:
            time.sleep(self.rtt_s)

    def set_up(self, *, up: bool) -> None:
        """Bring the network up, or down: cut all connections, and close new ones at once."""
        with self._lock:
            self._up = up
        if not up:
            self.cut_all()

    def cut_all(self) -> None:
        """Cut every connection there is, whoever waits on it."""
        with self._lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            # Closed by the other side in this moment: cut all the same.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def plan_drop(self, when: str, kinds: Iterable[str], count: int) -> int:
        """Plan that the next commands of some kinds lose their connection.

        Args:
            when: "before" or "after".
            kinds: names of HostCommand.Kind, or of actions: then effects only; empty: any.
            count: how many commands; 0 takes back all that was planned for this moment and these kinds.

        Returns how many were planned for them before, and had not come. Raises ValueError for what is none of these.
        """
        wanted = frozenset(kinds)
        unknown = wanted - set(HostCommand.Kind.keys()) - _ACTIONS
        if unknown:
            raise ValueError(f"no kind and no action of HostCommand: {', '.join(sorted(unknown))}")
        if count < 0:
            raise ValueError(f"count must not be negative: {count}")
        drop = Drop(when)
        with self._lock:
            planned = [rule for rule in self._rules if (rule.when, rule.kinds) == (drop, wanted)]
            if count == 0:
                self._rules = deque(rule for rule in self._rules if rule not in planned)
            else:
                self._rules.append(_DropRule(drop, wanted, count))
            return sum(rule.left for rule in planned)

    def judge(self, lines: Iterable[bytes]) -> Drop | None:
        """Return what happens to the connection that brings these lines of stdin; use up one of what was planned."""
        with self._lock:
            if not self._rules:
                return None
            for kinds in filter(None, map(_kinds_of, lines)):
                for rule in self._rules:
                    if not rule.kinds or kinds & rule.kinds:
                        rule.left -= 1
                        if rule.left == 0:
                            self._rules.remove(rule)
                        return rule.when
        return None


def _kinds_of(line: bytes) -> frozenset[str]:
    """Return the kind of the HostCommand in a line, and an effect's action; empty for a line that carries none."""
    try:
        document = json.loads(base64.b64decode(line.strip(), validate=True))
    except (binascii.Error, ValueError):
        return frozenset()
    kind = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(kind, str):
        return frozenset()
    return frozenset({kind, *(_ACTIONS & document.keys() if kind == "EFFECT" else ())})


class LineSplitter:
    """Cuts a stream of bytes into the lines that are whole."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take more of the stream; return the lines that it completes."""
        self._rest += data
        if b"\n" not in data:
            return []
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        return lines
