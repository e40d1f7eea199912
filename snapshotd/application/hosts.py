"""The hosts of the log, and the decisions on them. Every event of a host is recorded here.

There are few hosts, so all of them stay in memory from the start on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from snapshotd.application.mementos import Mementos
from snapshotd.domain.actors import behalf_of
from snapshotd.domain.answered_requests import answered_before
from snapshotd.domain.errors import HIDDEN, AlreadyExists, InvalidArgument, NotFound
from snapshotd.domain.events import (
    Envelope,
    HostEvent,
    HostRegistered,
    HostRemoved,
    HostSynced,
    HostTakenOver,
    HostUpdated,
    NewEvent,
)
from snapshotd.domain.host import Host, evolve_host
from snapshotd.domain.host_address import (
    LARGEST_PORT,
    WINRM_HTTP_PORT,
    WINRM_HTTPS_PORT,
    is_address,
    is_credential_name,
    is_ip,
    trust_problem,
    without_user,
)
from snapshotd.domain.host_errors import HostInUse
from snapshotd.domain.host_path import journal_folder_problem
from snapshotd.domain.ids import HostId, VmId, host_stream, is_host_id
from snapshotd.domain.state import replace
from snapshotd.domain.storage_errors import LogIncomplete, StreamChanged
from snapshotd.ports.clock import Clock
from snapshotd.ports.event_log import EventLog
from snapshotd.ports.ids import Ids

TRANSPORTS = {
    "NTLM_HTTP": WINRM_HTTP_PORT,
    "NTLM_HTTPS": WINRM_HTTPS_PORT,
    "KERBEROS_HTTP": WINRM_HTTP_PORT,
    "KERBEROS_HTTPS": WINRM_HTTPS_PORT,
    "CERTIFICATE_HTTPS": WINRM_HTTPS_PORT,
    "BASIC_HTTPS": WINRM_HTTPS_PORT,
    "CREDSSP_HTTPS": WINRM_HTTPS_PORT,
}
"""The transports that executors speak, each with the port that Windows listens on."""
_TOGETHER = 200
"""Streams that are read at a time."""
_ATTEMPTS = 5
"""How often one decision is appended. Each retry follows a StreamChanged."""


class Hosts:
    """Decides what is asked of hosts, and appends the events."""

    def __init__(self, log: EventLog, clock: Clock, ids: Ids, memento_shape: str = "") -> None:
        """Keep no host yet: `start` reads them. `memento_shape`: as of VirtualMachines."""
        self._log = log
        self._clock = clock
        self._ids = ids
        self._mementos = Mementos(log, Host, memento_shape)
        self._hosts: dict[HostId, Host] = {}

    async def start(self) -> None:
        """Read all hosts. Raises LogUnavailable, LogIncomplete, UnreadableEvent."""
        after = None
        while rows := await self._log.rows_from("host/", after, _TOGETHER):
            after = rows[-1].stream
            folds = {row.stream: Host(host_id=HostId(row.stream.removeprefix("host/"))) for row in rows}
            folds |= await self._mementos.of(folds.keys())
            for envelope in await self._log.read_streams({stream: host.version for stream, host in folds.items()}):
                folds[envelope.stream] = _fold(folds[envelope.stream], [envelope])
            for host in folds.values():
                self._keep(host)

    def registered(self) -> tuple[Host, ...]:
        """Return the registered hosts."""
        return tuple(h for h in self._hosts.values() if h.registered)

    def get(self, host_id: HostId) -> Host:
        """Return a registered host. Raises NotFound."""
        return _registered(self._known(host_id))

    async def register(
        self, wanted: Host, *, actor: str, request_id: str, digest: str
    ) -> tuple[Host, tuple[Envelope, ...]]:
        """Register a host.

        Raises InvalidArgument, AlreadyExists, RequestIdReused, LogUnavailable, AppendUncertain.
        """

        def decide(host: Host) -> HostEvent | None:
            if answered_before(host.requests, actor, request_id, digest):
                return None
            new = checked(wanted)
            if host.registered:
                raise AlreadyExists(
                    "host",
                    host.host_id,
                    f"It is at {host.address}. To change that, run `snapshotctl host update {host.host_id}`.",
                )
            return HostRegistered(
                address=new.address,
                port=new.port,
                transport=new.transport,
                credential=new.credential,
                ca_file=new.ca_file,
                journal_directory=new.journal_directory,
                request_digest=digest,
            )

        return await self._execute(wanted.host_id, decide, actor, request_id)

    async def update(
        self, host_id: HostId, way: Mapping[str, str | int], *, actor: str, request_id: str, digest: str
    ) -> tuple[Envelope, ...]:
        """Change the way to a host. What is already so is not recorded.

        Args:
            host_id: the host.
            way: the values to change, by their names in Host.
            actor: who asks for it.
            request_id: of the request.
            digest: of the request.

        Raises NotFound, InvalidArgument, RequestIdReused, LogUnavailable, AppendUncertain.
        """

        def decide(host: Host) -> HostEvent | None:
            if answered_before(host.requests, actor, request_id, digest):
                return None
            wanted = replace(_registered(host), **way)  # type: ignore[arg-type]  # each has its field's type
            if "port" not in way and host.port == TRANSPORTS.get(host.transport):
                # The default of the transport before becomes the default of the one from now on.
                wanted = replace(wanted, port=0)
            new = checked(wanted)
            if new == host:
                return None
            return HostUpdated(
                from_address=host.address,
                to_address=new.address,
                from_port=host.port,
                to_port=new.port,
                from_transport=host.transport,
                to_transport=new.transport,
                from_credential=host.credential,
                to_credential=new.credential,
                from_ca_file=host.ca_file,
                to_ca_file=new.ca_file,
                request_digest=digest,
            )

        return (await self._execute(host_id, decide, actor, request_id))[1]

    def answered(self, host_id: HostId, *, actor: str, request_id: str, digest: str) -> bool:
        """Return whether a request to a host was answered before. Raises RequestIdReused."""
        return answered_before(self._known(host_id).requests, actor, request_id, digest) is not None

    async def remove(
        self, host_id: HostId, vms: int, *, actor: str, request_id: str, digest: str
    ) -> tuple[Envelope, ...]:
        """Forget a host that has no registered VMs (`vms`: how many it has).

        Raises NotFound, HostInUse, RequestIdReused, LogUnavailable, AppendUncertain.
        """

        def decide(host: Host) -> HostEvent | None:
            if answered_before(host.requests, actor, request_id, digest):
                return None
            _registered(host)
            if vms:
                raise HostInUse(host_id, vms)
            return HostRemoved(request_digest=digest)

        return (await self._execute(host_id, decide, actor, request_id))[1]

    async def taken_over(
        self, host_id: HostId, former: str, reason: str, *, actor: str, request_id: str, digest: str
    ) -> tuple[Host, tuple[Envelope, ...]]:
        """Record that a host's journals were taken over from another installation. Raises NotFound, RequestIdReused."""

        def decide(host: Host) -> HostEvent | None:
            if answered_before(host.requests, actor, request_id, digest):
                return None
            _registered(host)
            return HostTakenOver(former_installation_id=former, reason=reason, request_digest=digest)

        return await self._execute(host_id, decide, actor, request_id)

    async def synced(
        self, host_id: HostId, vms: int, drifts: int, skipped: tuple[VmId, ...], *, actor: str, request_id: str
    ) -> tuple[Envelope, ...]:
        """Record that a host's VMs were compared with the record. Raises NotFound."""

        def decide(host: Host) -> HostEvent | None:
            _registered(host)
            return HostSynced(vms=vms, drifts=drifts, skipped=skipped)

        return (await self._execute(host_id, decide, actor, request_id))[1]

    async def _execute(
        self, host_id: HostId, decide: Callable[[Host], HostEvent | None], actor: str, request_id: str
    ) -> tuple[Host, tuple[Envelope, ...]]:
        """Decide and append. If another append came first, read it and decide again."""
        host = self._known(host_id)
        for attempt in range(1, _ATTEMPTS + 1):
            event = decide(host)
            if event is None:
                return host, ()
            new = NewEvent(
                event_id=self._ids.fresh(),
                time=self._clock.now(),
                actor=str(actor),
                on_behalf_of=behalf_of(actor),
                request_id=request_id,
                operation=None,
                event=event,
            )
            try:
                envelopes = await self._log.append(host_stream(host_id), host.version, [new])
            except StreamChanged:
                if attempt == _ATTEMPTS:
                    raise
                host = self._keep(_fold(host, await self._log.read_stream(host_stream(host_id), host.version)))
            else:
                return self._keep(_fold(host, envelopes)), envelopes
        raise AssertionError(host_id)

    def _known(self, host_id: HostId) -> Host:
        return self._hosts.get(host_id) or Host(host_id=host_id)

    def _keep(self, host: Host) -> Host:
        """Keep the newer of two folds: tasks may finish in any order."""
        if host.version > self._known(host.host_id).version:
            self._hosts[host.host_id] = host
            self._mementos.keep(host_stream(host.host_id), host)
        return self._known(host.host_id)


def _fold(host: Host, envelopes: Iterable[Envelope]) -> Host:
    """Return a host with the envelopes that it has not seen. Calls no port. Raises LogIncomplete."""
    for envelope in envelopes:
        assert isinstance(envelope.event, HostEvent), envelope
        if envelope.version > host.version + 1:
            raise LogIncomplete(envelope.stream, host.version + 1, envelope.position)
        if envelope.version > host.version:
            host = evolve_host(host, envelope.event, envelope)
    return host


def _registered(host: Host) -> Host:
    """Return a host that is registered. Raises NotFound."""
    if not host.registered:
        raise NotFound(
            "host", host.host_id, "Register it first (`snapshotctl host add`), or see `snapshotctl host list`."
        )
    return host


def checked(wanted: Host) -> Host:
    """Return a host with its default port filled in. Raises InvalidArgument for a field that is wrong."""
    if not is_host_id(wanted.host_id):
        problem = "must be 1 to 63 of a-z, 0-9 and -. It must begin with a letter, and not end with -."
        raise InvalidArgument("host_id", wanted.host_id, problem)
    if not is_address(wanted.address):
        shown = without_user(wanted.address)
        raise InvalidArgument("host.address", shown, "must be a DNS name, or an IP address without a zone.")
    if not 0 <= wanted.port <= LARGEST_PORT:
        problem = f"must be 1 to {LARGEST_PORT}, or 0 for the transport's default."
        raise InvalidArgument("host.port", str(wanted.port), problem)
    if wanted.transport not in TRANSPORTS:
        problem = f"must be {', '.join(TRANSPORTS)}: this release speaks no other."
        raise InvalidArgument("host.transport", wanted.transport, problem)
    if not is_credential_name(wanted.credential):
        problem = (
            "must name a credential on the executor's machine: 1 to 63 letters, digits and . _ -, beginning with a "
        )
        problem += "letter or digit. Never give the secret itself."
        raise InvalidArgument("host.credential", HIDDEN, problem)  # it may well be the secret
    _check_trust(wanted)
    if problem := journal_folder_problem(wanted.journal_directory):
        raise InvalidArgument("host.journal_directory", wanted.journal_directory, problem)
    return replace(wanted, port=wanted.port or TRANSPORTS[wanted.transport])


def _check_trust(wanted: Host) -> None:
    """Raise InvalidArgument for a way on which a host could not prove who it is."""
    if wanted.ca_file and not wanted.transport.endswith("_HTTPS"):
        problem = "must be empty with a transport over http: it checks no certificate. Choose one over https."
        raise InvalidArgument("host.ca_file", wanted.ca_file, problem)
    if problem := trust_problem(wanted.ca_file):
        raise InvalidArgument("host.ca_file", wanted.ca_file, problem)
    if wanted.transport.startswith("KERBEROS") and is_ip(wanted.address):
        problem = f"must be a DNS name for {wanted.transport}: Kerberos knows hosts by their names."
        raise InvalidArgument("host.address", wanted.address, problem)
