"""The ways to sign in to a host: what each runs over, and which kinds of credentials it takes. Connects to nothing.

| way | signs in | a body is read by nobody else, because |
|---|---|---|
| NTLM_HTTP, KERBEROS_HTTP | the connection | each is sealed with the sign-in's key |
| NTLM_HTTPS, KERBEROS_HTTPS, CREDSSP_HTTPS | the connection | of TLS; the sign-in is bound to the host's certificate |
| CERTIFICATE_HTTPS | the connection, by TLS | of TLS |
| BASIC_HTTPS | each request | of TLS |

No way sends a body unsealed over http, and none takes a certificate unchecked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from snapshotd.api.v1.executor_pb2 import HostConnection
from snapshotd.domain.host_address import WINRM_HTTP_PORT, WINRM_HTTPS_PORT, is_ip
from snapshotd.hyperv.credentials import Credential, Kind
from snapshotd.hyperv.no_answer import CredentialMissing, HostRefused


class Method(Enum):
    """How a user proves who it is."""

    NTLM = "NTLM"
    KERBEROS = "Kerberos"
    CERTIFICATE = "a client certificate"
    BASIC = "Basic"
    CREDSSP = "CredSSP"


@dataclass(frozen=True, slots=True)
class Way:
    """One way to sign in."""

    name: str
    """As in HostConnection.Transport."""
    method: Method
    https: bool

    @property
    def scheme(self) -> str:
        """The scheme of its URLs."""
        return "https" if self.https else "http"

    @property
    def port(self) -> int:
        """Where Windows listens for it."""
        return WINRM_HTTPS_PORT if self.https else WINRM_HTTP_PORT


_METHODS: Final[Mapping[HostConnection.Transport.ValueType, Method]] = {
    HostConnection.TRANSPORT_UNSPECIFIED: Method.NTLM,
    HostConnection.NTLM_HTTP: Method.NTLM,
    HostConnection.NTLM_HTTPS: Method.NTLM,
    HostConnection.KERBEROS_HTTP: Method.KERBEROS,
    HostConnection.KERBEROS_HTTPS: Method.KERBEROS,
    HostConnection.CERTIFICATE_HTTPS: Method.CERTIFICATE,
    HostConnection.BASIC_HTTPS: Method.BASIC,
    HostConnection.CREDSSP_HTTPS: Method.CREDSSP,
}
_TAKEN: Final[Mapping[Method, frozenset[Kind]]] = {
    Method.NTLM: frozenset({Kind.PASSWORD}),
    Method.KERBEROS: frozenset({Kind.PASSWORD, Kind.KEYTAB, Kind.CCACHE}),
    Method.CERTIFICATE: frozenset({Kind.CERTIFICATE}),
    Method.BASIC: frozenset({Kind.PASSWORD}),
    Method.CREDSSP: frozenset({Kind.PASSWORD}),
}


def way_of(connection: HostConnection) -> Way:
    """Return the way to a host. Raises HostRefused for one that this release does not know."""
    method = _METHODS.get(connection.transport)
    if method is None:
        raise HostRefused(
            f"transport {connection.transport} of {connection.host} is not known to this executor. Run server and "
            "executor from one release."
        )
    name = HostConnection.Transport.Name(connection.transport or HostConnection.NTLM_HTTP)
    return Way(name, method, name.endswith("_HTTPS"))


def check_kind(way: Way, connection: HostConnection, credential: Credential) -> None:
    """Raise CredentialMissing if a way cannot sign in with such a credential, HostRefused if not to this host."""
    taken = _TAKEN[way.method]
    if credential.kind not in taken:
        wanted = ", or ".join(kind.value for kind in Kind if kind in taken)
        raise CredentialMissing(
            f"transport {way.name} of {connection.host} needs {wanted}, and the credential {connection.credential!r} "
            f"holds {credential.kind.value}. Write another credential, or run `snapshotctl host update` with another "
            "transport."
        )
    if way.method is Method.KERBEROS and is_ip(connection.address):
        raise HostRefused(
            f"Kerberos knows hosts by their names, and the address of {connection.host} is {connection.address}. Run "
            "`snapshotctl host update` with --address and the name."
        )
    if way.method is Method.KERBEROS and "@" not in credential.username:
        raise CredentialMissing(
            f"Kerberos needs the user with its realm. Write user@REALM into the credential {connection.credential!r}."
        )
