"""Sign-in by NTLM or Kerberos and sealed messages, one SignIn for each TCP connection. Lets no unsealed message count.

    POST (empty) ──► 401 Negotiate ──► POST + token ──► 401 + challenge ──► POST + token ──► signed in
                                                                               └─ wrong ──► 401

The token is NTLM's own or SPNEGO's around it; both are met [run: pywinrm sends the first, pypsrp the second].
"""

from __future__ import annotations

import base64
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Final

import spnego
from spnego import _ntlm
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

_USER_FILE: Final = "NTLM_USER_FILE"
_environment = threading.Lock()
"""The library finds its users by an environment variable, which a process has only one of."""

_host = threading.local()
"""The name of the host that this thread signs somebody in to."""


def _host_name() -> str:
    return getattr(_host, "name", None) or socket.gethostname()


# A challenge names the host, and the library takes the name of the machine that it runs on; it has no argument for it.
# That name is all that its module takes from `socket`.
vars(_ntlm)["socket"] = SimpleNamespace(gethostname=_host_name)

_PROTOCOL: Final = "application/HTTP-SPNEGO-session-encrypted"
SEALED: Final = f'multipart/encrypted;protocol="{_PROTOCOL}";boundary="Encrypted Boundary"'
"""Content-Type of a sealed reply."""
_KERBEROS: Final = bytes.fromhex("06092a864886f712010202")
"""How a token names Kerberos as its mechanism; not one of SPNEGO's, which are not taken here with Kerberos in them."""
_MECHANISM: Final = 32
"""Bytes of a token that its mechanism is in."""
_BOUNDARY: Final = b"--Encrypted Boundary"
_SEALED_BODY: Final = re.compile(
    rb"--Encrypted Boundary\r\n.*?OriginalContent:[^\r\n]*;Length=(?P<length>\d+)\r\n"
    rb"--Encrypted Boundary\r\n\s*Content-Type: application/octet-stream\r\n"
    rb"(?P<payload>.*)--Encrypted Boundary--(?:\r\n)?",
    re.DOTALL | re.IGNORECASE,
)


class SignInRefused(Exception):
    """The token proves nothing: wrong user or password, or no NTLM token at all."""


class NotSealed(Exception):
    """The body is not sealed, or not with this connection's key."""


@dataclass(frozen=True)
class Challenge:
    """The answer to a token."""

    header: str
    """Value of WWW-Authenticate; empty: none."""
    signed_in: bool


class Lockout:
    """How often sign-ins were refused, and whether the account is locked for it: a domain's policy, in short.

    Only tokens that answer a challenge count: they are what carries a user and a proof of the password.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limit = 0
        self._in_a_row = 0
        self.refused = 0
        """Since the start, also while it was locked."""
        self.locked = False

    def set_limit(self, refused_in_a_row: int) -> None:
        """Lock the account after so many refused sign-ins in a row from now on; 0: never."""
        with self._lock:
            self._limit, self._in_a_row = refused_in_a_row, 0

    def set_locked(self, *, locked: bool) -> None:
        """Lock the account, or unlock it."""
        with self._lock:
            self.locked, self._in_a_row = locked, 0

    def refuse(self) -> None:
        """Count a refused sign-in."""
        with self._lock:
            self.refused += 1
            self._in_a_row += 1
            if self._in_a_row == self._limit:
                self.locked = True

    def accept(self) -> bool:
        """Return whether a sign-in with the right password is let in."""
        with self._lock:
            if not self.locked:
                self._in_a_row = 0
            return not self.locked


class Accounts:
    r"""The one account that may sign in, as the library wants it: in a file.

    Args:
        credential: "username:password"; the user as "name", "DOMAIN\name" or "name@domain".
        host_name: a name without a domain is the host's own, and signs in also as HOST\name and .\name.

    Raises ValueError for a credential that is none.
    """

    def __init__(self, credential: str, host_name: str) -> None:
        username, separator, password = credential.strip("\r\n").partition(":")
        if not separator or not username or not password or ":" in password or not password.isprintable():
            raise ValueError("the credential must be one line, username:password, and the password without a colon")
        domain, _, name = username.rpartition("\\")
        domains = [domain] if domain or "@" in username else ["", host_name, "."]
        self.lockout = Lockout()
        self._name, self._password = name, password
        self._users = [f"{domain}\\{name}" if domain else name for domain in domains]
        self._host_name = host_name
        # In memory, so that a host that is killed leaves no password behind.
        self._file = os.memfd_create("accounts")
        os.write(self._file, "".join(f"{domain}:{name}:{password}\n" for domain in domains).encode())
        self._path = f"/proc/self/fd/{self._file}"

    def close(self) -> None:
        """Forget the account."""
        os.close(self._file)

    def basic(self) -> list[bytes]:
        """Return what Basic may bring: user and password, with each domain."""
        return [f"{user}:{self._password}".encode() for user in self._users]

    def is_principal(self, principal: str) -> bool:
        """Return whether a principal of Kerberos, of whatever realm, stands for the account."""
        return principal.partition("@")[0].lower() == self._name.partition("@")[0].lower()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Show the library these accounts, and no other thread's, and their host's name."""
        with _environment:
            before = os.environ.get(_USER_FILE)
            os.environ[_USER_FILE] = self._path
            _host.name = self._host_name
            try:
                yield
            finally:
                _host.name = None
                if before is None:
                    del os.environ[_USER_FILE]
                else:
                    os.environ[_USER_FILE] = before


class SignIn:
    """How far one connection has signed in.

    Args:
        accounts: who may.
        kerberos: tokens of Kerberos are taken too.
        bindings: over https, what the tokens must be bound to, if they are bound to anything.
    """

    def __init__(
        self, accounts: Accounts, *, kerberos: bool = False, bindings: GssChannelBindings | None = None
    ) -> None:
        self._accounts = accounts
        self._kerberos = kerberos
        self._bindings = bindings
        self._context: spnego.ContextProxy | None = None

    @property
    def complete(self) -> bool:
        """True when messages can be sealed."""
        return self._context is not None and self._context.complete

    def step(self, authorization: str) -> Challenge:
        """Take the next token.

        Args:
            authorization: the header's value, "Negotiate <base64>".

        Raises SignInRefused; the connection is as new then.
        """
        answers_challenge = self._context is not None and not self._context.complete
        try:
            return self._step(authorization)
        except SignInRefused:
            self._context = None
            if answers_challenge:
                self._accounts.lockout.refuse()
            raise

    def _step(self, authorization: str) -> Challenge:
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "negotiate" or not encoded.strip():
            raise SignInRefused(f"sign-in by {scheme[:20]!r} without a token of Negotiate's")
        try:
            answer = self._next(base64.b64decode(encoded.strip(), validate=True))
        except Exception as error:
            # The library lets through whatever a token makes it trip over (KeyError, IndexError, StopIteration, ...),
            # and a token is not ours: each of them means that it proves nothing.
            raise SignInRefused(f"{type(error).__name__}: {error}") from error
        header = f"Negotiate {base64.b64encode(answer).decode()}" if answer else ""
        if not self.complete and not answer:
            raise SignInRefused("the exchange came to nothing")
        if self.complete and not self._accounts.lockout.accept():
            raise SignInRefused("the account is locked")
        return Challenge(header, self.complete)

    def _next(self, token: bytes) -> bytes:
        kerberos = _KERBEROS in token[:_MECHANISM]
        if kerberos and not self._kerberos:
            raise SignInRefused("a token of Kerberos, which is not offered here")
        with self._accounts.in_use():
            if self._context is None or self._context.complete:
                raw = token.startswith(b"NTLMSSP\0")
                self._context = spnego.server(
                    protocol="ntlm" if raw else "kerberos" if kerberos else "negotiate",
                    options=spnego.NegotiateOptions.use_ntlm if raw else spnego.NegotiateOptions.use_negotiate,
                    channel_bindings=self._bindings,
                )
            answer = self._context.step(token) or b""
            principal = self._context.client_principal or ""
            if kerberos and not self._accounts.is_principal(principal):
                raise SignInRefused(f"{principal!r} of Kerberos stands for no account")
            return answer

    def unseal(self, content_type: str, body: bytes) -> bytes:
        """Return the text of a sealed body. Raises NotSealed if it is not sealed, torn, or sealed by another key."""
        if not self.complete or _PROTOCOL.lower() not in content_type.lower():
            raise NotSealed(f"a body of type {content_type[:80]!r}")
        match = _SEALED_BODY.fullmatch(body)
        if match is None:
            raise NotSealed("a multipart body without its parts")
        payload = match["payload"]
        try:
            (length,) = struct.unpack_from("<i", payload)
            assert self._context is not None
            text: bytes = self._context.unwrap_winrm(payload[4 : 4 + length], payload[4 + length :])
        except (SpnegoError, ValueError, struct.error) as error:
            raise NotSealed(f"a body sealed by another key: {type(error).__name__}") from error
        if len(text) != int(match["length"]):
            raise NotSealed("a body of another length than it says")
        return text

    def seal(self, text: bytes) -> bytes:
        """Return a reply's body, sealed. Its Content-Type is SEALED."""
        assert self._context is not None, "only a connection that is signed in gets sealed replies"
        wrapped = self._context.wrap_winrm(text)
        return b"".join(
            [
                _BOUNDARY,
                f"\r\n\tContent-Type: {_PROTOCOL}\r\n".encode(),
                f"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={len(text)}\r\n".encode(),
                _BOUNDARY,
                b"\r\n\tContent-Type: application/octet-stream\r\n",
                struct.pack("<i", len(wrapped.header)),
                wrapped.header,
                wrapped.data,
                _BOUNDARY,
                b"--\r\n",
            ]
        )
