"""What an executor is told when it starts. Read once, frozen; reads no file and no environment itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExecutorSettings:
    """Settings of one executor process. The server's Welcome has the last word on heartbeats and the lease."""

    server: str = "127.0.0.1:7443"
    """`host:port` of the server, or `unix:/path`; loopback only until there is TLS."""
    hosts: tuple[str, ...] = ("*",)
    """Ids of the hosts that it reaches; "*" stands for all."""
    version: str = ""
    """snapshotd's version, told to the server for operators."""
    reconnect_first_s: float = 0.2
    """Back-off before the first reconnect; doubled each time, with jitter."""
    reconnect_longest_s: float = 10.0
    """Back-off, at most."""
    welcome_s: float = 10.0
    """How long to wait for the server's Welcome."""
    keepalive_s: float = 5.0
    """A ping on a quiet connection; the server must permit it (`grpc.http2.min_recv_ping_interval_without_data_ms`)."""
    keepalive_timeout_s: float = 3.0
    """A connection whose ping is not answered by then is dead."""
    drain_s: float = 60.0
    """On stop, how long running commands may take to end."""
    flush_s: float = 5.0
    """On stop, how long the last outcomes may take to be delivered."""
    outbox_capacity: int = 1000
    """Outcomes kept while there is no connection; the oldest are dropped, and the server observes those hosts."""
    resend_s: float = 30.0
    """Outcomes written so shortly before a connection broke are sent again: nobody knows whether they arrived."""
    largest_outcome_bytes: int = 4_000_000
    """What the server takes in one message, with room for its frame (gRPC's default is 4 MiB)."""
    unlimited_s: float = 3600.0
    """The time limit of a dispatch that names none."""
