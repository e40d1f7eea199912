"""The identity provider's keys: fetched when they are needed, kept while it is away, and never fetched in a rush.

    <issuer>/.well-known/openid-configuration  ->  its jwks_uri  ->  the keys, by their ids (kid)

A key that is not known is looked for at the provider, which may have changed its keys. But anybody can make up ids. So
one fetch runs at a time, whoever waits for it, and the next begins some seconds later at the earliest. Callers wait for
that one, too: a provider may sign with a key as soon as it has published it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.util import base64_to_int

from snapshotd.access.errors import KeysNotFetched, KeyUnknown
from snapshotd.access.fetching import Fetch, NotFetched
from snapshotd.auth_settings import url_problem

_PAUSE_S: Final = 5.0
"""How long after a fetch has begun the next one may."""
_FRESH_S: Final = 600.0
"""The age of keys from which they are fetched anew, beside their use: what the provider has withdrawn ends then."""
_LONGEST_WAIT_S: Final = 30.0
"""How long a caller waits for a fetch: longer than two requests of it may take."""
_MOST_EARLY: Final = 100
"""Callers that wait until the next fetch may begin. A flood of made-up ids must not pile up."""
_RSA_BITS: Final = range(2048, 8193)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A public key of the provider."""

    key: RSAKey | ECKey
    algorithm: str
    """The only one that it is for; empty: any of its type."""


_Keys = Mapping[tuple[str, str], ProviderKey]
"""By id and type (RSA, EC)."""


class ProviderKeys:
    """Finds keys by their ids.

    Args:
        issuer: the provider's address.
        fetch: gets what is at a URL; called in a thread.
        monotonic: seconds, for the age of keys.
    """

    def __init__(self, issuer: str, fetch: Fetch, monotonic: Callable[[], float]) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._monotonic = monotonic
        self._keys: _Keys = {}
        self._fetched_s: float | None = None
        self._begun_s: float | None = None
        self._problem = ""
        """Why the last fetch failed; empty: it did not."""
        self._fetching: asyncio.Task[None] | None = None
        self._early = 0
        """Callers that wait until the next fetch may begin."""

    async def find(self, kid: str, algorithm: str) -> ProviderKey:
        """Return the key of an id for an algorithm. Raises KeyUnknown or KeysNotFetched."""
        kind = "EC" if algorithm.startswith("ES") else "RSA"
        if (found := self._known(kid, kind)) is not None:
            if self._is_old() and not self._pause_s():
                self._begin()
            return found
        if self._fetching is None and self._pause_s():
            await self._begin_when_it_is_time()
        elif self._fetching is None:
            self._begin()
        if (fetching := self._fetching) is not None:
            # Not cancelled with the caller: others may wait for it, and what it gets is for all.
            done, _ = await asyncio.wait([fetching], timeout=_LONGEST_WAIT_S)
            for ended in done:
                ended.result()
        if (found := self._known(kid, kind)) is not None:
            return found
        if self._fetched_s is None or self._problem:
            raise KeysNotFetched(self._issuer, self._problem or "it has not answered yet")
        raise KeyUnknown(kid, self._issuer)

    def _known(self, kid: str, kind: str) -> ProviderKey | None:
        if kid:
            return self._keys.get((kid, kind))
        # A token need not name its key if the provider has one only [RFC 7517, 4.5; OIDC Core, 10.1].
        return next(iter(self._keys.values())) if len(self._keys) == 1 and (*self._keys,)[0][1] == kind else None

    def _is_old(self) -> bool:
        return self._fetched_s is not None and self._monotonic() - self._fetched_s > _FRESH_S

    def _pause_s(self) -> float:
        """Return how long it is until the next fetch may begin."""
        return 0.0 if self._begun_s is None else max(0.0, self._begun_s + _PAUSE_S - self._monotonic())

    async def _begin_when_it_is_time(self) -> None:
        """Wait until the next fetch may begin, and begin it unless somebody else has.

        After one that failed nobody waits: those callers are told to try again.
        """
        if self._problem or self._early >= _MOST_EARLY:
            return
        former_s = self._begun_s
        self._early += 1
        try:
            await asyncio.sleep(self._pause_s())
        finally:
            self._early -= 1
        if self._begun_s == former_s:
            self._begin()

    def _begin(self) -> None:
        """Begin a fetch, unless one is under way."""
        if self._fetching is None:
            self._begun_s = self._monotonic()
            self._fetching = asyncio.create_task(self._refresh())

    async def _refresh(self) -> None:
        try:
            self._keys = await asyncio.to_thread(self._load)
        except NotFetched as error:
            if str(error) != self._problem:
                kept = "the keys of before stay in use" if self._keys else "no token of it is accepted"
                cause = f" ({error.__cause__})" if error.__cause__ else ""
                _log.warning("Cannot fetch the keys of %s: %s%s. Until then %s.", self._issuer, error, cause, kept)
            self._problem = str(error)
        else:
            self._fetched_s = self._monotonic()
            self._problem = ""
        finally:
            self._fetching = None

    def _load(self) -> _Keys:
        """Fetch the keys. Raises NotFetched."""
        about = self._document(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if (named := about.get("issuer")) != self._issuer:
            raise NotFetched(f"it calls itself {named!r}: auth.oidc_issuer must be exactly that")
        url = about.get("jwks_uri")
        if not isinstance(url, str) or url_problem(url.partition("?")[0]):
            raise NotFetched(f"its jwks_uri {url!r} is no https address")
        if self._issuer.startswith("https:") and not url.startswith("https:"):
            raise NotFetched(f"its jwks_uri {url!r} is not https, as its issuer is")
        listed = self._document(url).get("keys")
        if not isinstance(listed, list):
            raise NotFetched(f"{url} has no list of keys")
        keys = {(kid, kind): key for kid, kind, key in map(_read_key, listed) if key is not None}
        if not keys:
            raise NotFetched(f"{url} has no key that can be used")
        return keys

    def _document(self, url: str) -> Mapping[str, object]:
        try:
            document = json.loads(self._fetch(url))
        except (ValueError, RecursionError):
            raise NotFetched(f"{url} is not JSON") from None
        if not isinstance(document, dict):
            raise NotFetched(f"{url} is not a JSON object")
        return document


def _read_key(listed: object) -> tuple[str, str, ProviderKey | None]:
    """Return a key's id, its type and the key; None if it is not for signatures, too weak, or of another type."""
    if not isinstance(listed, dict):
        return "", "", None
    kid, kind, algorithm = (listed.get(name, "") for name in ("kid", "kty", "alg"))
    texts = {name: value for name, value in listed.items() if isinstance(value, str)}
    if listed.get("use", "sig") != "sig" or not isinstance(kid, str) or not isinstance(algorithm, str):
        return "", "", None
    try:
        if kind == "RSA":
            numbers = RSAPublicNumbers(base64_to_int(texts["e"]), base64_to_int(texts["n"]))
            if numbers.n.bit_length() in _RSA_BITS:
                return kid, kind, ProviderKey(RSAKey.import_key(numbers.public_key()), algorithm)
        if kind == "EC":
            point: dict[str, str | list[str]] = {name: texts[name] for name in ("kty", "crv", "x", "y")}
            return kid, kind, ProviderKey(ECKey.import_key(point), algorithm)
    except (KeyError, ValueError, TypeError, JoseError, UnsupportedAlgorithm):
        _log.warning("The identity provider has a key %r that cannot be read; it is left out.", kid)
    return "", "", None
