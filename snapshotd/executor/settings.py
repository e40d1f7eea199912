"""The settings of an executor. They are frozen, and this module reads no file and no environment."""

from __future__ import annotations

from dataclasses import dataclass, field

from snapshotd.channels import ANSWER_S, PING_S
from snapshotd.tls import ClientFiles


@dataclass(frozen=True)
class ExecutorSettings:
    """Settings of one executor process. The server's Welcome has the last word on heartbeats and the lease."""

    server: str = "127.0.0.1:7443"
    """`host:port` of the server, or `unix:/path`."""
    tls: ClientFiles | None = None
    """The files of TLS; without them, loopback and unix sockets only."""
    secret: str = field(default="", repr=False)
    """Proves to the server that this executor runs in its process; empty in a process of its own."""
    hosts: tuple[str, ...] = ("*",)
    """Ids of the hosts that it reaches; "*" means all."""
    version: str = ""
    """The version of snapshotd. The server shows it to operators."""
    reconnect_first_s: float = 0.2
    """Back-off before the first reconnect. It doubles each time, with jitter."""
    reconnect_longest_s: float = 10.0
    """The longest back-off."""
    welcome_s: float = 10.0
    """How long to wait for the server's Welcome."""
    keepalive_s: float = PING_S
    """Time between pings on a quiet connection. The server must permit it (channels.py)."""
    keepalive_timeout_s: float = ANSWER_S
    """After so long without an answer to a ping, the connection is dead."""
    drain_s: float = 60.0
    """How long running commands may take to end when the executor stops."""
    flush_s: float = 5.0
    """How long the delivery of the last outcomes may take when the executor stops."""
    outbox_capacity: int = 1000
    """Outcomes kept while there is no connection. The oldest are dropped, and the server asks those hosts again."""
    resend_s: float = 30.0
    """Outcomes written within so many seconds before a break are sent again: they may not have arrived."""
    largest_outcome_bytes: int = 4_000_000
    """The largest outcome that the server takes, with room for its frame (gRPC's default is 4 MiB)."""
    unlimited_s: float = 3600.0
    """The time limit of a dispatch that names none."""
