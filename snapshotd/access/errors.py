"""Why a sign-in was refused: one error for each reason, none of which holds a token, a secret or a key.

What a message quotes of a token or certificate is what its bearer may know: a name, an id, an issuer, a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from snapshotd.domain.errors import SnapshotdError
from snapshotd.unusable import Unusable


class AccessUnusable(Unusable):
    """A file, or a command about tokens or certificates, that cannot be used. The text says why, and what to do."""


class SignInRefused(SnapshotdError):
    """The root of all refusals of a caller that has not proved who it is."""


class SignInUnavailable(SnapshotdError):
    """The root of all failures to find out who a caller is. They are not the caller's fault."""


@dataclass(eq=False)
class TokenMalformed(SignInRefused):
    """A text that is no token, or a token that lacks what names its bearer."""

    reason: ClassVar[str] = "TOKEN_MALFORMED"
    text: ClassVar[str] = (
        "Cannot sign in with this token: {problem}. Send a whole token: one that `snapshotd token issue` has printed, "
        "or one that the identity provider has issued for this service."
    )
    problem: str


@dataclass(eq=False)
class TokenUnknown(SignInRefused):
    """A local token that was never issued, or has the id of one and another secret."""

    reason: ClassVar[str] = "TOKEN_UNKNOWN"
    text: ClassVar[str] = (
        "Cannot sign in with local token {token!r}: no such token is in force here. See that it was copied whole and "
        "is for this server, or have another one issued (`snapshotd token issue NAME`)."
    )
    token: str
    """The id."""


@dataclass(eq=False)
class TokenRevoked(SignInRefused):
    """A local token that somebody has revoked."""

    reason: ClassVar[str] = "TOKEN_REVOKED"
    text: ClassVar[str] = (
        "Cannot sign in with local token {token!r} of {name}: it was revoked at {revoked}. Have another one issued "
        "(`snapshotd token issue {name}`)."
    )
    token: str
    name: str
    revoked: str


@dataclass(eq=False)
class TokenExpired(SignInRefused):
    """A token whose time is over."""

    reason: ClassVar[str] = "TOKEN_EXPIRED"
    text: ClassVar[str] = "Cannot sign in with {token}: it expired at {expired}. Get a new one."
    token: str
    """What token it is, and whose."""
    expired: str


@dataclass(eq=False)
class TokenNotYetValid(SignInRefused):
    """A token whose time has not come."""

    reason: ClassVar[str] = "TOKEN_NOT_YET_VALID"
    text: ClassVar[str] = (
        "Cannot sign in with {token}: it is valid from {valid_from} on, and by the server's clock it is {now}. Wait, "
        "or set the clock that is wrong."
    )
    token: str
    valid_from: str
    now: str


@dataclass(eq=False)
class IssuerWrong(SignInRefused):
    """A token of another identity provider."""

    reason: ClassVar[str] = "ISSUER_WRONG"
    text: ClassVar[str] = (
        "Cannot sign in with this token: it was issued by {issuer!r}, and this server accepts those of {expected!r}. "
        "Sign in there."
    )
    issuer: str
    expected: str


@dataclass(eq=False)
class AudienceWrong(SignInRefused):
    """A token that was issued for another service."""

    reason: ClassVar[str] = "AUDIENCE_WRONG"
    text: ClassVar[str] = (
        "Cannot sign in with this token: it was issued for {audience}, and not for {expected!r}. Ask the identity "
        "provider for one with that audience."
    )
    audience: str
    expected: str


@dataclass(eq=False)
class SignatureInvalid(SignInRefused):
    """A token whose signature is not that of the key that it names."""

    reason: ClassVar[str] = "SIGNATURE_INVALID"
    text: ClassVar[str] = (
        "Cannot sign in with this token: its signature is not that of key {key!r} of {issuer!r}. It was changed on the "
        "way, or forged. Get a new one."
    )
    key: str
    issuer: str


@dataclass(eq=False)
class AlgorithmRefused(SignInRefused):
    """A token that is signed in a way that this server does not accept."""

    reason: ClassVar[str] = "ALGORITHM_REFUSED"
    text: ClassVar[str] = (
        "Cannot sign in with this token: it says that it is signed by {algorithm!r}, and accepted here is {allowed}. "
        "Let the identity provider sign in one of these ways; the server's auth.oidc_algorithms says which."
    )
    algorithm: str
    allowed: str


@dataclass(eq=False)
class KeyUnknown(SignInRefused):
    """A token that names a key which the identity provider does not have."""

    reason: ClassVar[str] = "KEY_UNKNOWN"
    text: ClassVar[str] = (
        "Cannot sign in with this token: {issuer!r} has no key {key!r} to check it with. Get a new one; if the "
        "provider has changed its keys just now, try again in a few seconds."
    )
    key: str
    issuer: str


@dataclass(eq=False)
class KeysNotFetched(SignInUnavailable):
    """The identity provider's keys could not be got, so no token of it can be checked."""

    reason: ClassVar[str] = "KEYS_NOT_FETCHED"
    text: ClassVar[str] = (
        "Cannot check this token: the keys of {issuer!r} could not be fetched ({problem}). Try again; if that goes on, "
        "see whether the server can reach the identity provider."
    )
    issuer: str
    problem: str


@dataclass(eq=False)
class TokensUnreadable(SignInUnavailable):
    """The server's file of local tokens cannot be read, so none of them can be checked."""

    reason: ClassVar[str] = "TOKENS_UNREADABLE"
    text: ClassVar[str] = (
        "Cannot check local token {token!r}: the server cannot read its file of tokens. The daemon's log says why."
    )
    token: str


@dataclass(eq=False)
class CertificateForeign(SignInRefused):
    """A client certificate that none of the fitting CAs has issued."""

    reason: ClassVar[str] = "CERTIFICATE_FOREIGN"
    text: ClassVar[str] = (
        "Cannot sign in with certificate {certificate!r}: it was issued by {issuer!r}, which is not a CA of {callers} "
        "here{hint}. Use one that the server's CA of {callers} has issued directly."
    )
    certificate: str
    issuer: str
    callers: str
    """`users` or `executors`."""
    hint: str = ""


@dataclass(eq=False)
class CertificateExpired(SignInRefused):
    """A client certificate, or its CA's, whose time is over."""

    reason: ClassVar[str] = "CERTIFICATE_EXPIRED"
    text: ClassVar[str] = (
        "Cannot sign in with certificate {certificate!r}: {whose} expired at {expired}. Have it renewed "
        "(`snapshotd certificate renew`)."
    )
    certificate: str
    whose: str
    """`it`, or its CA."""
    expired: str


@dataclass(eq=False)
class CertificateNotYetValid(SignInRefused):
    """A client certificate, or its CA's, whose time has not come."""

    reason: ClassVar[str] = "CERTIFICATE_NOT_YET_VALID"
    text: ClassVar[str] = (
        "Cannot sign in with certificate {certificate!r}: {whose} is valid from {valid_from} on, and by the server's "
        "clock it is {now}. Wait, or set the clock that is wrong."
    )
    certificate: str
    whose: str
    valid_from: str
    now: str


@dataclass(eq=False)
class CertificateUnfit(SignInRefused):
    """A certificate that is not one for clients."""

    reason: ClassVar[str] = "CERTIFICATE_UNFIT"
    text: ClassVar[str] = (
        "Cannot sign in with certificate {certificate!r}: {problem}. Use one that was issued for a client "
        "(`snapshotd certificate issue`)."
    )
    certificate: str
    problem: str


@dataclass(eq=False)
class CertificateNameless(SignInRefused):
    """A client certificate of the right CA that does not say, clearly, whose it is."""

    reason: ClassVar[str] = "CERTIFICATE_NAMELESS"
    text: ClassVar[str] = (
        "Cannot sign in with certificate {certificate!r}: {problem}. Have one issued that names its bearer "
        "(`snapshotd certificate issue`)."
    )
    certificate: str
    problem: str


def time_text(when: datetime) -> str:
    """Return a time for people, in UTC and to the second."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
