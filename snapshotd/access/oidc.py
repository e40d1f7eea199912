"""Tokens of an identity provider: JWT, signed by a key that it publishes (OIDC discovery and JWKS).

What a token says counts only when its signature has been checked, but for two things: which issuer's keys to take, and
by which algorithm, which is one of those that the settings name or refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from joserfc import jws
from joserfc.errors import JoseError

from snapshotd.access.errors import (
    AlgorithmRefused,
    AudienceWrong,
    IssuerWrong,
    SignatureInvalid,
    TokenExpired,
    TokenMalformed,
    TokenNotYetValid,
    time_text,
)
from snapshotd.access.fetching import Fetch
from snapshotd.access.identity import Identity, is_foreign_name
from snapshotd.access.provider_keys import ProviderKeys

_LEEWAY: Final = timedelta(seconds=30)
"""How far the provider's clock and ours may differ."""
_LARGEST_HEADER: Final = 4096
"""Bytes, in base64."""
_LAST_S: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
"""The last time that can be told, in seconds since 1970."""

_Claims = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """The identity provider, and what is taken from its tokens."""

    issuer: str
    audience: str
    name_claim: str
    groups_claim: str
    algorithms: tuple[str, ...]


class Oidc:
    """Checks tokens of one identity provider.

    Args:
        settings: the provider.
        fetch: gets what is at a URL; called in a thread.
        now: tells the time.
        monotonic: seconds, for the age of the provider's keys.
    """

    def __init__(
        self, settings: OidcSettings, fetch: Fetch, now: Callable[[], datetime], monotonic: Callable[[], float]
    ) -> None:
        assert settings.audience
        assert settings.algorithms
        self._settings = settings
        self._keys = ProviderKeys(settings.issuer, fetch, monotonic)
        self._now = now
        # Headers that are not known mean nothing, unless `crit` names them, which is refused.
        self._registry = jws.JWSRegistry(algorithms=list(settings.algorithms), strict_check_header=False)
        self._registry.max_header_length = _LARGEST_HEADER

    async def verify(self, token: str) -> Identity:
        """Return whom a token was issued for. Raises SignInRefused, or KeysNotFetched."""
        signed, header, claims = self._read(token)
        algorithm, kid, issuer = header.get("alg"), header.get("kid", ""), claims.get("iss")
        allowed = ", ".join(self._settings.algorithms)
        if not isinstance(algorithm, str) or algorithm not in self._settings.algorithms:
            raise AlgorithmRefused(str(algorithm), allowed)
        if issuer != self._settings.issuer:
            raise IssuerWrong(str(issuer), self._settings.issuer)
        if not isinstance(kid, str):
            raise TokenMalformed("its header has a kid that is no text")
        found = await self._keys.find(kid, algorithm)
        if found.algorithm not in ("", algorithm):
            raise AlgorithmRefused(algorithm, f"{found.algorithm}, which its key is for")
        try:
            valid = jws.validate_compact(signed, found.key, registry=self._registry)
        except (JoseError, ValueError):
            valid = False
        if not valid:
            raise SignatureInvalid(kid, self._settings.issuer)
        self._refuse_for_others(claims)
        self._refuse_untimely(claims)
        return self._identity(claims)

    def _read(self, token: str) -> tuple[jws.CompactSignature, _Claims, _Claims]:
        """Return a token, its header and its claims, of which nothing is checked."""
        try:
            signed = jws.extract_compact(token.encode(), registry=self._registry)
            header: object = signed.headers()
            claims: object = json.loads(signed.payload)
        except (JoseError, ValueError, TypeError, AttributeError, RecursionError):
            # Not chained: the error may show parts of the token.
            raise TokenMalformed("it is neither a local token nor a JWT") from None
        if not isinstance(header, dict) or not isinstance(claims, dict):
            raise TokenMalformed("its header or its claims are no JSON object")
        if "crit" in header:
            raise TokenMalformed("its header has a crit, and no extension of JWT is known here")
        return signed, header, claims

    def _refuse_for_others(self, claims: _Claims) -> None:
        audience = claims.get("aud")
        listed = audience if isinstance(audience, list) else [audience]
        if self._settings.audience not in listed:
            shown = ", ".join(repr(name) for name in listed if isinstance(name, str)) or "nobody in particular"
            raise AudienceWrong(shown, self._settings.audience)

    def _refuse_untimely(self, claims: _Claims) -> None:
        now, token = self._now(), f"this token of {self._settings.issuer}"
        expires, starts = _seconds(claims, "exp"), _seconds(claims, "nbf")
        if expires is None:
            raise TokenMalformed("it says not when it expires (exp)")
        if expires <= (now - _LEEWAY).timestamp():
            raise TokenExpired(token, _time_text(expires))
        if starts is not None and starts > (now + _LEEWAY).timestamp():
            raise TokenNotYetValid(token, _time_text(starts), time_text(now))

    def _identity(self, claims: _Claims) -> Identity:
        of_name, of_groups = self._settings.name_claim, self._settings.groups_claim
        name, groups = claims.get(of_name), claims.get(of_groups)
        if not isinstance(name, str) or not is_foreign_name(name):
            raise TokenMalformed(f"its claim {of_name!r}, the caller's name, is missing or cannot be one")
        if of_name == "email" and claims.get("email_verified", True) is not True:
            raise TokenMalformed("the identity provider has not verified its e-mail address, which is the name here")
        listed: object = [] if groups is None else [groups] if isinstance(groups, str) else groups
        if not isinstance(listed, list) or not all(isinstance(group, str) for group in listed):
            raise TokenMalformed(f"its claim {of_groups!r} is no list of groups")
        # A group whose name could be taken for another's gives nobody anything.
        return Identity(f"oidc:{name}", frozenset(f"oidc:{group}" for group in listed if is_foreign_name(group)))


def _seconds(claims: _Claims, name: str) -> float | None:
    """Return a time of a token, in seconds since 1970; None if it has none."""
    value = claims.get(name)
    if value is None:
        return None
    # NaN is below no time and above none, so a token of it would never expire.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise TokenMalformed(f"its claim {name!r} is no time")
    return float(max(0, min(value, _LAST_S)))


def _time_text(seconds: float) -> str:
    return time_text(datetime.fromtimestamp(seconds, UTC))
