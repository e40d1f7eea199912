"""Finds out who makes a call: by what it carries, on the server's machine also by its own word.

    x-snapshotd-executor-secret   the executor in this process, over its own socket
    authorization: Bearer …       a local token, or one of the identity provider
    a certificate                 of the users' CA, or of the executors'
    a socket on this machine      the user at its other end

The first that a call has counts: one that is false is refused, whatever else it has. While a call goes on, it is looked
at again: a token is revoked, a certificate expires.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

from snapshotd.access.authentication import Authentication
from snapshotd.access.bindings import WHOLE, Binding, Bindings, Granted
from snapshotd.access.errors import SignInUnavailable, TokenMalformed
from snapshotd.access.identity import ExecutorIdentity, Identity
from snapshotd.access.roles import Role
from snapshotd.channels import SECRET_METADATA
from snapshotd.domain.errors import InvalidArgument
from snapshotd.server.callers import NOBODY, Caller
from snapshotd.server.gate import BEHALF_METADATA, Context
from snapshotd.server.request_errors import ActorNotAllowed
from snapshotd.server.runtime import ITSELF

ACTOR_METADATA: Final = "x-snapshotd-actor"
"""The name of a caller in trust mode."""
_AUTHORIZATION: Final = "authorization"
_TELLING: Final = frozenset({ACTOR_METADATA, SECRET_METADATA, BEHALF_METADATA, _AUTHORIZATION})
_LONGEST: Final = 100
_LOCAL: Final = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:")
_BEARER: Final = "bearer "
_AGAIN_S: Final = 1.0
"""How often it is found out anew whether a call that goes on may."""
_EXECUTOR: Final = Granted((Binding(role=Role.EXECUTOR, subjects=frozenset(), groups=frozenset()),))


def _metadata(context: Context) -> dict[str, str]:
    """Return what a call carries that tells who makes it. Raises InvalidArgument for what it carries twice."""
    told: dict[str, str] = {}
    for key, value in context.invocation_metadata() or ():
        if key not in _TELLING:
            continue
        if key in told:
            # Whoever stands between may have looked at the other one. The value may be a secret.
            raise InvalidArgument(key, "", "must be sent once; the call has several.")
        told[key] = value if isinstance(value, str) else value.decode(errors="replace")
    return told


async def trusting(context: Context, method: str) -> Caller | None:
    """Return a caller on this machine under the name that it gives. Raises ActorNotAllowed, InvalidArgument."""
    peer = context.peer()
    if not peer.startswith(_LOCAL):
        raise ActorNotAllowed(peer, 'it is not on this machine, and auth.mode is "trust".')
    told = _metadata(context)
    name = told.get(ACTOR_METADATA, NOBODY)
    if not 0 < len(name) <= _LONGEST or not name.isprintable() or name.strip() != name:
        problem = f"must be 1 to {_LONGEST} printable characters, without blanks around them."
        raise InvalidArgument(ACTOR_METADATA, name[:40], problem)
    if "".join(name.split()).casefold() == ITSELF:
        raise InvalidArgument(ACTOR_METADATA, name, "it is the name of the service itself; use another one.")
    return Caller(subject=name, granted=WHOLE, method=method, on_behalf_of=told.get(BEHALF_METADATA, ""))


class Required:
    """Signs callers in by what proves who they are.

    Args:
        authentication: of tokens and certificates.
        bindings: returns the bindings in force.
        secret: of the executor in this process; empty: there is none.
        local_user: returns the user at the other end of a socket on this machine, by the call's peer; None: it is none.
    """

    def __init__(
        self,
        authentication: Authentication,
        bindings: Callable[[], Bindings],
        secret: str,
        local_user: Callable[[str], Identity | None],
    ) -> None:
        self._authentication = authentication
        self._bindings = bindings
        self._secret = secret
        self._local_user = local_user

    async def __call__(self, context: Context, method: str) -> Caller | None:
        """Return the caller; None: it has not said who it is. Raises SignInRefused for what is false."""
        told = _metadata(context)
        if (secret := told.get(SECRET_METADATA)) is not None:
            own = bool(self._secret) and hmac.compare_digest(secret.encode(), self._secret.encode())
            return Caller(subject="executor:in-process", granted=_EXECUTOR, method=method) if own else None
        behalf = told.get(BEHALF_METADATA, "")
        if (header := told.get(_AUTHORIZATION)) is not None:
            if header[: len(_BEARER)].lower() != _BEARER:
                raise TokenMalformed("the metadata authorization must be `Bearer`, a blank and the token")
            by_token = partial(self._authentication.bearer, header[len(_BEARER) :].strip())
            return self._caller(await by_token(), method, behalf, by_token)
        for pem in context.auth_context().get("x509_pem_cert", ()):
            by_certificate = partial(self._certificate, pem)
            named = await by_certificate()
            if isinstance(named, Identity):
                return self._caller(named, method, behalf, by_certificate)
            granted = partial(self._of_executor, named.subject)
            return Caller(
                subject=named.subject,
                granted=granted(),
                method=method,
                hosts=named.hosts,
                granted_now=Again(by_certificate, granted),
            )
        user = self._local_user(context.peer())
        return self._caller(user, method, behalf) if user is not None else None

    async def _certificate(self, pem: bytes) -> Identity | ExecutorIdentity:
        return self._authentication.certificate(pem)

    def _caller(
        self, identity: Identity, method: str, behalf: str, sign_in: Callable[[], Awaitable[object]] | None = None
    ) -> Caller:
        granted = self._bindings().of(identity)
        served = granted.sight({Role.EXECUTOR})
        return Caller(
            subject=identity.subject,
            granted=granted,
            method=method,
            on_behalf_of=behalf,
            hosts=frozenset({"*"}) if served.everything else served.hosts,
            granted_now=Again(sign_in, lambda: self._bindings().of(identity)),
        )

    def _of_executor(self, subject: str) -> Granted:
        return Granted() if subject in self._bindings().barred else _EXECUTOR


class Again:
    """What a caller is granted while its call goes on. What it signed in by is looked at again, once a second at most.

    Args:
        sign_in: does that; None: it has no end.
        granted: returns what is granted by now.
        now_s: tells a monotonic time, in seconds.
    """

    def __init__(
        self,
        sign_in: Callable[[], Awaitable[object]] | None,
        granted: Callable[[], Granted],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sign_in = sign_in
        self._granted = granted
        self._now_s = now_s
        self._looked_s = now_s()

    async def __call__(self) -> Granted:
        """Return what is granted now. Raises SignInRefused if what the caller signed in by counts no more."""
        if self._sign_in is not None and (now_s := self._now_s()) - self._looked_s >= _AGAIN_S:
            self._looked_s = now_s
            with suppress(SignInUnavailable):  # until that can be found out, it counts
                await self._sign_in()
        return self._granted()
