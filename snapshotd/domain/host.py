"""The host aggregate: a Hyper-V host that snapshotd may reach, as a fold of its events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

from snapshotd.domain import events as e
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
    last_request: tuple[str, str, str] = ("", "", "")
    """(actor, request id, digest) of the request that registered or removed it."""


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
                last_request=(at.actor, at.request_id, event.request_digest),
            )
        case e.HostRemoved():
            return replace(host, registered=False, last_request=(at.actor, at.request_id, event.request_digest))
        case e.HostSynced():
            return host
        case _:
            assert_never(event)
