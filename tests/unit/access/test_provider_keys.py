"""The provider's keys: fetched when needed, one fetch at a time and not in a rush, and kept while it is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from joserfc.jwk import ECKey, RSAKey

from snapshotd.access.errors import KeysNotFetched, KeyUnknown
from snapshotd.access.provider_keys import ProviderKeys
from tests.unit.access.identity_provider import DISCOVERY, EC, ISSUER, JWKS, RSA, Provider, Seconds, public

NEW = RSAKey.generate_key(2048)
BOTH = [DISCOVERY, JWKS]


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    yield provider
    provider.open.set()


@pytest.fixture
def keys(provider: Provider, seconds: Seconds) -> ProviderKeys:
    return ProviderKeys(ISSUER, provider, seconds)


async def settled(keys: ProviderKeys) -> None:
    """Wait for what is fetched in the background."""
    if keys._fetching is not None:
        await keys._fetching


async def test_keys_are_fetched_once_for_all_who_need_them(keys: ProviderKeys, provider: Provider) -> None:
    found = await asyncio.gather(*(keys.find("r1", "RS256") for _ in range(50)), keys.find("e1", "ES256"))
    assert {type(one.key) for one in found} == {RSAKey, ECKey}
    assert found[-1].algorithm == "ES256"
    await keys.find("r1", "RS256")
    assert provider.fetched == BOTH


async def test_a_flood_of_made_up_ids_is_one_fetch_in_some_seconds(
    keys: ProviderKeys, provider: Provider, seconds: Seconds
) -> None:
    await keys.find("r1", "RS256")
    for _ in range(3):
        seconds.time += 5
        found = await asyncio.gather(*(keys.find(f"made up {i}", "RS256") for i in range(100)), return_exceptions=True)
        assert {type(one) for one in found} == {KeyUnknown}
    assert provider.fetched == BOTH * 4
    seconds.time += 4.9
    early = [asyncio.create_task(keys.find(f"made up {i}", "RS256")) for i in range(100)]
    await asyncio.sleep(0)
    with pytest.raises(KeyUnknown, match="has no key 'one too many'"):
        await keys.find("one too many", "RS256")
    assert provider.fetched == BOTH * 4
    found = await asyncio.gather(*early, return_exceptions=True)
    assert {type(one) for one in found} == {KeyUnknown}
    assert provider.fetched == BOTH * 5


async def test_a_key_that_is_new_just_after_a_fetch_is_found_by_the_next_one(
    keys: ProviderKeys, provider: Provider, seconds: Seconds
) -> None:
    await keys.find("r1", "RS256")
    provider.keys = [*provider.keys, public(NEW, "r2")]
    seconds.time += 4.95
    found = await asyncio.gather(*(keys.find(kid, "RS256") for kid in ("r2", "r1", "r2")))
    assert found[0] is found[2]
    assert provider.fetched == BOTH * 2


async def test_a_key_that_is_new_at_the_provider_is_found(
    keys: ProviderKeys, provider: Provider, seconds: Seconds
) -> None:
    await keys.find("r1", "RS256")
    provider.keys = [public(NEW, "r2")]
    seconds.time += 5
    found = await keys.find("r2", "RS256")
    assert found.key.as_dict(private=False)["n"] == NEW.as_dict(private=False)["n"]
    seconds.time += 5
    with pytest.raises(KeyUnknown):
        await keys.find("r1", "RS256")


async def test_keys_stay_in_use_while_the_provider_is_away_which_is_logged_once(
    keys: ProviderKeys, provider: Provider, seconds: Seconds, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await keys.find("r1", "RS256")
    provider.away = True
    for _ in range(3):
        seconds.time += 100_000
        await keys.find("r1", "RS256")
        await settled(keys)
        with pytest.raises(KeysNotFetched, match="cannot be reached"):
            await keys.find("r2", "RS256")
    assert len(caplog.records) == 1
    assert "the keys of before stay in use" in caplog.text
    provider.away = False
    provider.keys = [public(NEW, "r2")]
    seconds.time += 5
    assert await keys.find("r2", "RS256") is not None


async def test_without_any_keys_the_provider_is_asked_again_and_nobody_is_told_that_the_token_is_wrong(
    keys: ProviderKeys, provider: Provider, seconds: Seconds
) -> None:
    provider.away = True
    for _ in range(3):
        with pytest.raises(KeysNotFetched):
            await keys.find("r1", "RS256")
    assert provider.fetched == [DISCOVERY]
    provider.away = False
    seconds.time += 5
    assert await keys.find("r1", "RS256") is not None


async def test_old_keys_are_fetched_anew_beside_their_use_so_that_withdrawn_ones_end(
    keys: ProviderKeys, provider: Provider, seconds: Seconds
) -> None:
    await keys.find("r1", "RS256")
    provider.keys = [public(NEW, "r2")]
    seconds.time += 600
    await keys.find("r1", "RS256")
    assert provider.fetched == BOTH
    provider.open.clear()
    seconds.time += 1
    await keys.find("r1", "RS256")
    await keys.find("r1", "RS256")
    provider.open.set()
    await settled(keys)
    assert provider.fetched == BOTH * 2
    seconds.time += 5
    with pytest.raises(KeyUnknown):
        await keys.find("r1", "RS256")


async def test_a_caller_that_goes_away_takes_no_keys_from_the_others(keys: ProviderKeys, provider: Provider) -> None:
    provider.open.clear()
    first = asyncio.create_task(keys.find("r1", "RS256"))
    second = asyncio.create_task(keys.find("r1", "RS256"))
    await asyncio.to_thread(provider.begun.wait, 30)
    first.cancel()
    await asyncio.wait([first])
    provider.open.set()
    assert await second is not None
    assert provider.fetched == BOTH


@pytest.mark.parametrize(
    ("documents", "words"),
    [
        ({DISCOVERY: b"<html>"}, "is not JSON"),
        ({DISCOVERY: b"[" * 100_000}, "is not JSON"),
        ({DISCOVERY: []}, "is not a JSON object"),
        ({DISCOVERY: {"issuer": ISSUER + "/", "jwks_uri": JWKS}}, "calls itself"),
        ({DISCOVERY: {"jwks_uri": JWKS}}, "calls itself None"),
        ({DISCOVERY: {"issuer": ISSUER}}, "jwks_uri None is no https address"),
        ({DISCOVERY: {"issuer": ISSUER, "jwks_uri": "http://keys.example.com"}}, "no https address"),
        ({DISCOVERY: {"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"}}, "no https address"),
        ({DISCOVERY: {"issuer": ISSUER, "jwks_uri": "http://127.0.0.1/"}}, "is not https, as its issuer is"),
        ({JWKS: {}}, "has no list of keys"),
        ({JWKS: {"keys": []}}, "has no key that can be used"),
        ({JWKS: {"keys": [None, 7, {"kty": "oct", "kid": "r1", "k": "AAAA"}]}}, "has no key that can be used"),
    ],
)
async def test_an_answer_that_is_not_the_providers_own_is_not_believed(
    keys: ProviderKeys, provider: Provider, documents: dict[str, object], words: str
) -> None:
    provider.documents |= documents
    with pytest.raises(KeysNotFetched) as refused:
        await keys.find("r1", "RS256")
    assert words in refused.value.problem


async def test_keys_that_cannot_be_used_are_left_out(
    keys: ProviderKeys, provider: Provider, seconds: Seconds, recwarn: pytest.WarningsRecorder
) -> None:
    odd: list[dict[str, object]] = [
        public(RSA, "for encryption", use="enc"),
        public(RSA, "n is no number", n="é"),
        public(RSA, "e is missing", e=None),
        public(RSA, "too short", n=public(RSA, None)["n"][:300]),  # type: ignore[index]  # it is text
        public(RSA, "too long", n="_" * 20_000),
        public(EC, "not on the curve", x="AA"),
        public(EC, "another curve", crv="P-999"),
        public(RSA, "an algorithm of another kind", alg=7),
    ]
    provider.keys = [*odd, {**public(RSA, None), "kid": 7}, public(EC, "good")]
    assert await keys.find("good", "ES256") is not None
    for one in odd:
        seconds.time += 5
        with pytest.raises(KeyUnknown):
            await keys.find(str(one["kid"]), "ES256" if one["kty"] == "EC" else "RS256")


async def test_a_token_without_a_kid_has_the_only_key(keys: ProviderKeys, provider: Provider, seconds: Seconds) -> None:
    with pytest.raises(KeyUnknown):
        await keys.find("", "RS256")
    provider.keys = [public(RSA, None)]
    seconds.time += 5
    assert await keys.find("", "RS256") is not None
    seconds.time += 5
    with pytest.raises(KeyUnknown):
        await keys.find("", "ES256")
