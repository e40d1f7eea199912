"""An identity provider in memory: its documents by URL, and tokens that it signs."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime

from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey

from snapshotd.access.fetching import NotFetched
from snapshotd.access.oidc import OidcSettings

ISSUER = "https://login.example.com/realms/ops"
DISCOVERY = f"{ISSUER}/.well-known/openid-configuration"
JWKS = "https://keys.example.com/jwks?realm=ops"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RSA = RSAKey.generate_key(2048)
EC = ECKey.generate_key("P-256")
SETTINGS = OidcSettings(ISSUER, "snapshotd", "sub", "groups", ("RS256", "ES256"))


def public(key: RSAKey | ECKey, kid: str | None, **more: object) -> dict[str, object]:
    """Return a key as the provider publishes it."""
    return {**key.as_dict(private=False), **({} if kid is None else {"kid": kid}), **more}


def claims(**others: object) -> dict[str, object]:
    """Return the claims of a good token, with others in place of some; None leaves one out."""
    now = NOW.timestamp()
    good = {"iss": ISSUER, "aud": "snapshotd", "sub": "ann", "exp": now + 300, "nbf": now, "iat": now}
    return {name: value for name, value in {**good, **others}.items() if value is not None}


def signed(
    what: object, key: RSAKey | ECKey | OctKey = RSA, header: Mapping[str, object] | None = None, kid: str = "r1"
) -> str:
    """Return a token with these claims."""
    head = {"alg": "RS256", "kid": kid, **(header or {})}
    payload = what if isinstance(what, bytes) else json.dumps(what).encode()
    registry = jws.JWSRegistry(algorithms=[str(head["alg"])], strict_check_header=False)
    return jws.serialize_compact(head, payload, key, registry=registry)


class Provider:
    """What is at its URLs; None: it is away. Notes what is fetched."""

    def __init__(self) -> None:
        self.documents: dict[str, object] = {DISCOVERY: {"issuer": ISSUER, "jwks_uri": JWKS}}
        self.keys: list[object] = [public(RSA, "r1"), public(EC, "e1", use="sig", alg="ES256")]
        self.away = False
        self.fetched: list[str] = []
        self.begun = threading.Event()
        self.open = threading.Event()
        """A fetch waits until it is set."""
        self.open.set()

    def __call__(self, url: str) -> bytes:
        self.fetched.append(url)
        self.begun.set()
        assert self.open.wait(30)
        if self.away:
            raise NotFetched(f"{url} cannot be reached")
        document = self.documents.get(url, {"keys": self.keys})
        return document if isinstance(document, bytes) else json.dumps(document).encode()


class Seconds:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time
