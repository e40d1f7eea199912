"""The hosts of the log: which are registered, and the decisions on them. The only way anything is recorded of a host.

A host has few events, so all hosts are kept folded in memory from the replay on.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace

from snapshotd.domain.answered_requests import answered_before
from snapshotd.domain.errors import AlreadyExists, InvalidArgument, NotFound
from snapshotd.domain.events import (
    Envelope,
    HostEvent,
    HostRegistered,
    HostRemoved,
    HostSynced,
    NewEvent,
    Occasion,
    occasion_of,
)
from snapshotd.domain.host import Host, evolve_host
from snapshotd.domain.host_errors import HostInUse
from snapshotd.domain.ids import HostId, VmId, host_stream, is_host_id
from snapshotd.ports.event_log import EventLog
from snapshotd.ports.ids import Clock, Ids

TRANSPORTS = {"NTLM_HTTP": 5985}
"""What an executor can speak by now, with the port that Windows listens on."""
_ADDRESS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_CREDENTIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_PORTS = 65535


class Hosts:
    """Loads, decides and appends."""

    def __init__(self, log: EventLog, clock: Clock, ids: Ids) -> None:
        """Work on a log. `replay` comes before anything else."""
        self._log = log
        self._clock = clock
        self._ids = ids
        self._hosts: dict[HostId, Host] = {}

    def take(self, envelope: Envelope) -> None:
        """Fold an envelope of a host's stream, while the log is replayed."""
        assert isinstance(envelope.event, HostEvent), envelope
        host_id = HostId(envelope.stream.partition("/")[2])
        host = self._hosts.get(host_id) or Host(host_id=host_id)
        if envelope.version > host.version:
            self._hosts[host_id] = evolve_host(host, envelope.event, occasion_of(envelope))

    def registered(self) -> tuple[Host, ...]:
        """Return the registered hosts."""
        return tuple(h for h in self._hosts.values() if h.registered)

    def get(self, host_id: HostId) -> Host:
        """Return a registered host. Raises NotFound."""
        host = self._hosts.get(host_id)
        if host is None or not host.registered:
            raise NotFound("host", host_id, "Register it first, or list the hosts.")
        return host

    async def register(
        self, wanted: Host, *, actor: str, request_id: str, digest: str
    ) -> tuple[Host, tuple[Envelope, ...]]:
        """Make a host known. Raises InvalidArgument, AlreadyExists, RequestIdReused, LogUnavailable."""
        host = self._hosts.get(wanted.host_id) or Host(host_id=wanted.host_id)
        if answered_before(host.requests, actor, request_id, digest):
            return host, ()
        wanted = checked(wanted)
        if host.registered:
            raise AlreadyExists("host", wanted.host_id, f"It is at {host.address}. Remove it first, to change it.")
        event = HostRegistered(
            address=wanted.address,
            port=wanted.port,
            transport=wanted.transport,
            credential=wanted.credential,
            ca_file=wanted.ca_file,
            journal_directory=wanted.journal_directory,
            request_digest=digest,
        )
        return await self._append(host, event, actor, request_id)

    async def remove(
        self, host_id: HostId, vms: int, *, actor: str, request_id: str, digest: str
    ) -> tuple[Envelope, ...]:
        """Forget a host that has no registered VMs (`vms`: how many it has).

        Raises NotFound, HostInUse, RequestIdReused, LogUnavailable.
        """
        known = self._hosts.get(host_id)
        if known is not None and answered_before(known.requests, actor, request_id, digest):
            return ()
        host = self.get(host_id)
        if vms:
            raise HostInUse(host_id, vms)
        _, envelopes = await self._append(host, HostRemoved(request_digest=digest), actor, request_id)
        return envelopes

    async def synced(
        self, host_id: HostId, vms: int, drifts: int, skipped: tuple[VmId, ...], *, actor: str, request_id: str
    ) -> tuple[Envelope, ...]:
        """Note that a host's VMs were compared with the record. Raises NotFound."""
        event = HostSynced(vms=vms, drifts=drifts, skipped=skipped)
        _, envelopes = await self._append(self.get(host_id), event, actor, request_id)
        return envelopes

    async def _append(
        self, host: Host, event: HostEvent, actor: str, request_id: str
    ) -> tuple[Host, tuple[Envelope, ...]]:
        new = NewEvent(
            event_id=self._ids.fresh(),
            time=self._clock.now(),
            actor=actor,
            request_id=request_id,
            operation=None,
            event=event,
        )
        envelopes = await self._log.append(host_stream(host.host_id), host.version, [new])
        at = Occasion(version=host.version + 1, time=new.time, actor=actor, request_id=request_id)
        self._hosts[host.host_id] = evolve_host(host, event, at)
        return self._hosts[host.host_id], envelopes


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def checked(wanted: Host) -> Host:
    """Check what a host is to be registered with, and fill in what follows. Raises InvalidArgument."""
    if not is_host_id(wanted.host_id):
        raise InvalidArgument(
            "host_id", wanted.host_id, "use 1 to 63 of a-z, 0-9 and -, a letter first, not ending with -."
        )
    if not _ADDRESS.fullmatch(wanted.address) and not _is_ip(wanted.address):
        raise InvalidArgument("host.address", wanted.address, "must be a DNS name or an IP address.")
    if not 0 <= wanted.port <= _PORTS:
        raise InvalidArgument("host.port", str(wanted.port), "must be 1 to 65535, or 0 for the transport's own.")
    if wanted.transport not in TRANSPORTS:
        raise InvalidArgument(
            "host.transport", wanted.transport, f"this release speaks {', '.join(TRANSPORTS)} only; use that."
        )
    if not _CREDENTIAL.fullmatch(wanted.credential):
        raise InvalidArgument(
            "host.credential",
            wanted.credential,
            "must name a credential on the executor's machine: 1 to 63 letters, digits and . _ -, a letter or digit "
            "first. Never the secret itself.",
        )
    if wanted.ca_file:
        raise InvalidArgument("host.ca_file", wanted.ca_file, "is for https, which this release does not speak yet.")
    if any(not c.isprintable() for c in wanted.journal_directory):
        raise InvalidArgument("host.journal_directory", wanted.journal_directory, "must be a path on the host.")
    return replace(wanted, port=wanted.port or TRANSPORTS[wanted.transport])
