"""The host aggregate: a Hyper-V host that snapshotd may reach, as a fold of its events."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import assert_never

from snapshotd.domain import events as e
from snapshotd.domain.answered_requests import Requests, no_requests, remember
from snapshotd.domain.events import Occasion
from snapshotd.domain.ids import HostId


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host, at one version of its stream."""

    host_id: HostId
    version: int = 0
    registered: bool = False
    address: str = ""
    port: int = 0
    transport: str = ""
    credential: str = ""
    ca_file: str = ""
    journal_directory: str = ""
    registered_at: datetime | None = None
    requests: Requests = field(default_factory=no_requests)


def evolve_host(host: Host, event: e.HostEvent, at: Occasion) -> Host:
    """Apply one event. Never refuses, calls no port."""
    host = replace(host, version=at.version)
    match event:
        case e.HostRegistered():
            return replace(
                host,
                registered=True,
                address=event.address,
                port=event.port,
                transport=event.transport,
                credential=event.credential,
                ca_file=event.ca_file,
                journal_directory=event.journal_directory,
                registered_at=at.time,
                requests=remember(host.requests, event.request_digest, None, at),
            )
        case e.HostRemoved():
            return replace(host, registered=False, requests=remember(host.requests, event.request_digest, None, at))
        case e.HostSynced():
            return host
        case _:
            assert_never(event)
