"""The host aggregate: a Hyper-V host that snapshotd may reach, as a fold of its events."""

from __future__ import annotations

from typing import TypeVar, assert_never

from snapshotd.domain import events as e
from snapshotd.domain.answered_requests import AnsweredRequests, remember
from snapshotd.domain.events import Occasion
from snapshotd.domain.ids import HostId
from snapshotd.domain.recorded import Time
from snapshotd.domain.state import State, replace


class HostRecord(State, frozen=True, kw_only=True):
    """What is on record of a host."""

    host_id: HostId
    version: int = 0
    registered: bool = False
    address: str = ""
    port: int = 0
    transport: str = ""
    credential: str = ""
    ca_file: str = ""
    journal_directory: str = ""
    registered_at: Time | None = None
    synced_at: Time | None = None
    """When its VMs were last compared with the record, as far as that was recorded."""


class Host(HostRecord, frozen=True, kw_only=True):
    """The aggregate: a host with the requests it has answered, at one version of its stream."""

    requests: AnsweredRequests = AnsweredRequests()
    former_installation_id: str = ""
    """The one that it was last taken over from."""


HostT = TypeVar("HostT", bound=HostRecord)


def evolve_record(host: HostT, event: e.HostEvent, at: Occasion) -> HostT:
    """Return the record with one event applied. Never refuses, calls no port."""
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
                synced_at=None,
            )
        case e.HostUpdated():
            return replace(
                host,
                address=event.to_address,
                port=event.to_port,
                transport=event.to_transport,
                credential=event.to_credential,
                ca_file=event.to_ca_file,
            )
        case e.HostRemoved():
            return replace(host, registered=False)
        case e.HostTakenOver():
            return host
        case e.HostSynced():
            return replace(host, synced_at=at.time)
        case _:
            assert_never(event)


def evolve_host(host: Host, event: e.HostEvent, at: Occasion) -> Host:
    """Return the aggregate with one event applied. Never refuses, calls no port."""
    host = evolve_record(host, event, at)
    if isinstance(event, e.HostTakenOver):
        host = replace(host, former_installation_id=event.former_installation_id)
    if isinstance(event, e.HostRegistered | e.HostUpdated | e.HostRemoved | e.HostTakenOver):
        return replace(host, requests=remember(host.requests, event.request_digest, None, at))
    return host
