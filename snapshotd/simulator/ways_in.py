"""How one connection may sign in to the simulated host: by what is offered, as its first Authorization says.

| offered | over | by |
|---|---|---|
| negotiate | both | NTLM (ntlm.py) |
| kerberos | both | Kerberos, in Negotiate, with the keytab that the environment names |
| basic | https | the password, with each request |
| certificate | https | the client certificate of TLS |
| credssp | https | CredSSP, with NTLM in it |

Over http a body must be sealed. Over https it may be.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import Final

import spnego
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from spnego.channel_bindings import GssChannelBindings

from snapshotd.simulator.certificates import HostCertificates
from snapshotd.simulator.ntlm import SEALED, Accounts, Challenge, SignIn, SignInRefused
from snapshotd.simulator.settings import OFFERS

PLAIN: Final = "application/soap+xml;charset=UTF-8"
_MUTUAL: Final = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
_HEADERS: Final = {
    "negotiate": "Negotiate",
    "kerberos": "Negotiate",
    "basic": 'Basic realm="WSMAN"',
    "credssp": "CredSSP",
}
_OVER_HTTP: Final = frozenset({"negotiate", "kerberos"})


@dataclass
class WaysIn:
    """What a host offers, and the certificates of its https listener."""

    offered: frozenset[str] = frozenset({"negotiate"})
    certificates: HostCertificates | None = None
    https: str = ""
    """Where https is served: "host:port"; empty: nowhere."""

    def __post_init__(self) -> None:
        self.offer(self.offered)

    def offer(self, ways: frozenset[str]) -> None:
        """Offer these from now on. Raises ValueError for one that is none."""
        if unknown := sorted(ways - set(OFFERS)):
            raise ValueError(f"no way to sign in {', '.join(unknown)}: use {', '.join(OFFERS)}")
        self.offered = ways


class ConnectionSignIn:
    """How far one connection has signed in.

    Args:
        accounts: who may.
        ways: what is offered.
        secure: the connection has TLS.
        server_certificate: of this side, in DER; empty over http.
        shown: whether the other side has shown a client certificate that is trusted.
    """

    def __init__(
        self, accounts: Accounts, ways: WaysIn, *, secure: bool, server_certificate: bytes = b"", shown: bool = False
    ) -> None:
        self._accounts = accounts
        self._ways = ways
        self._secure = secure
        self._shown = shown
        bindings = _bindings(server_certificate) if server_certificate else None
        self._negotiate = SignIn(accounts, kerberos="kerberos" in ways.offered, bindings=bindings)
        self._credssp: spnego.ContextProxy | None = None

    @property
    def complete(self) -> bool:
        """True when the connection needs no Authorization any more."""
        return self._negotiate.complete or (self._credssp is not None and self._credssp.complete)

    def offer(self) -> str:
        """Return the value of WWW-Authenticate that says what is offered."""
        ways = [way for way in OFFERS if way in self._ways.offered and (self._secure or way in _OVER_HTTP)]
        return ", ".join(dict.fromkeys(_HEADERS[way] for way in ways if way in _HEADERS))

    def step(self, authorization: str) -> Challenge:
        """Take the next Authorization. Raises SignInRefused; the connection is as new then."""
        scheme, _, value = authorization.partition(" ")
        offered = self._ways.offered
        match scheme.lower():
            case "negotiate" if offered & _OVER_HTTP:
                return self._negotiate.step(authorization)
            case "basic" if self._secure and "basic" in offered:
                return self._basic(value)
            case "credssp" if self._secure and "credssp" in offered:
                return self._step_credssp(value)
            case _ if scheme == _MUTUAL and self._secure and "certificate" in offered:
                if not self._shown:
                    raise SignInRefused("no client certificate that is mapped to an account")
                return Challenge("", signed_in=True)
        raise SignInRefused(f"sign-in by {scheme[:20]!r}, which is not offered here")

    def _basic(self, value: str) -> Challenge:
        try:
            given = base64.b64decode(value.strip(), validate=True)
        except binascii.Error:
            raise SignInRefused("Basic without a user and a password") from None
        lockout = self._accounts.lockout
        if not any(hmac.compare_digest(given, known) for known in self._accounts.basic()):
            lockout.refuse()
            raise SignInRefused("Basic with a wrong user or password")
        if not lockout.accept():
            raise SignInRefused("the account is locked")
        return Challenge("", signed_in=True)

    def _step_credssp(self, value: str) -> Challenge:
        if self._credssp is None or self._credssp.complete:
            self._credssp = spnego.server(protocol="credssp")
        try:
            with self._accounts.in_use():
                answer = self._credssp.step(base64.b64decode(value.strip(), validate=True)) or b""
        except Exception as error:
            # As with NTLM's tokens: whatever one makes the library trip over.
            self._refuse_credssp()
            raise SignInRefused(f"{type(error).__name__}: {error}") from error
        if self._credssp.complete and not self._accounts.lockout.accept():
            self._credssp = None
            raise SignInRefused("the account is locked")
        if not self._credssp.complete and not answer:
            self._refuse_credssp()
            raise SignInRefused("CredSSP came to nothing")
        header = f"CredSSP {base64.b64encode(answer).decode()}" if answer else ""
        if self._credssp.get_extra_info("auth_stage") == "Authentication failure":
            # The token says so to the other side.
            self._refuse_credssp()
            return Challenge(header, signed_in=False)
        return Challenge(header, self._credssp.complete)

    def _refuse_credssp(self) -> None:
        self._credssp = None
        self._accounts.lockout.refuse()

    def unseal(self, content_type: str, body: bytes) -> bytes:
        """Return the text of a body. Raises NotSealed over http for one that is not sealed."""
        if self._secure and not content_type.lower().startswith("multipart/"):
            return body
        return self._negotiate.unseal(content_type, body)

    def seal(self, content_type: str, text: bytes) -> tuple[str, bytes]:
        """Return the type and the body of a reply: sealed, if the request was."""
        if self._secure and not content_type.lower().startswith("multipart/"):
            return PLAIN, text
        return SEALED, self._negotiate.seal(text)


def _bindings(certificate: bytes) -> GssChannelBindings:
    digest = x509.load_der_x509_certificate(certificate).fingerprint(hashes.SHA256())
    return GssChannelBindings(application_data=b"tls-server-end-point:" + digest)
