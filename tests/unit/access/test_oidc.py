"""Tokens of an identity provider: one that it has issued for this service and for now signs in, and no other does."""

from __future__ import annotations

import base64
import hmac
import json
import math
from dataclasses import replace
from datetime import timedelta

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from snapshotd.access.errors import (
    AlgorithmRefused,
    AudienceWrong,
    IssuerWrong,
    KeyUnknown,
    SignatureInvalid,
    SignInRefused,
    TokenExpired,
    TokenMalformed,
    TokenNotYetValid,
)
from snapshotd.access.identity import Identity
from snapshotd.access.oidc import Oidc, OidcSettings
from tests.unit.access.identity_provider import (
    EC,
    ISSUER,
    NOW,
    RSA,
    SETTINGS,
    Provider,
    Seconds,
    claims,
    public,
    signed,
)

TIME = NOW.timestamp()


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def oidc(provider: Provider) -> Oidc:
    return made(provider)


def made(provider: Provider, settings: OidcSettings = SETTINGS, late: timedelta = timedelta()) -> Oidc:
    return Oidc(settings, provider, lambda: NOW + late, Seconds())


async def test_a_token_signs_in_as_its_subject_by_either_type_of_key(oidc: Oidc) -> None:
    assert await oidc.verify(signed(claims())) == Identity("oidc:ann")
    assert await oidc.verify(signed(claims(), EC, {"alg": "ES256"}, "e1")) == Identity("oidc:ann")
    assert await oidc.verify(signed(claims(), header={"typ": "at+jwt", "nonce": "x", "x5t": "y" * 400})) is not None


async def test_groups_and_the_name_come_from_the_claims_that_the_settings_name(provider: Provider) -> None:
    oidc = made(provider, replace(SETTINGS, name_claim="email", groups_claim="roles"))
    token = signed(claims(email="ann@example.com", roles=["ops", "db admins", "o\u200bps", ""], groups=["root"]))
    assert await oidc.verify(token) == Identity("oidc:ann@example.com", frozenset({"oidc:ops", "oidc:db admins"}))
    assert (await oidc.verify(signed(claims(email="x", roles="ops")))).groups == {"oidc:ops"}
    assert (await oidc.verify(signed(claims(email="x", email_verified=True)))).groups == frozenset()
    for odd in (False, "true", None):
        token = signed({**claims(email="x"), "email_verified": odd})
        with pytest.raises(TokenMalformed, match="has not verified its e-mail address"):
            await oidc.verify(token)


@pytest.mark.parametrize("groups", [{"ops": True}, [1], 7, [["ops"]]])
async def test_groups_that_are_no_list_of_texts_are_refused(oidc: Oidc, groups: object) -> None:
    with pytest.raises(TokenMalformed, match="'groups' is no list"):
        await oidc.verify(signed(claims(groups=groups)))


@pytest.mark.parametrize("name", [None, "", 7, ["ann"], " ann", "ann\n", "a\u202enn", "x" * 201])
async def test_a_token_without_a_name_that_people_can_tell_is_refused(oidc: Oidc, name: object) -> None:
    with pytest.raises(TokenMalformed, match="the caller's name"):
        await oidc.verify(signed(claims(sub=name)))


@pytest.mark.parametrize("issuer", [None, ISSUER + "/", "https://evil.example.com", [ISSUER], ISSUER.upper()])
async def test_another_issuers_token_is_refused_without_asking_anybody(
    oidc: Oidc, provider: Provider, issuer: object
) -> None:
    with pytest.raises(IssuerWrong) as refused:
        await oidc.verify(signed(claims(iss=issuer)))
    assert refused.value.expected == ISSUER
    assert provider.fetched == []


@pytest.mark.parametrize("audience", [None, "other", "", [], ["other", "snapshotd2"], {"snapshotd": 1}, "SNAPSHOTD"])
async def test_a_token_for_another_service_is_refused(oidc: Oidc, audience: object) -> None:
    with pytest.raises(AudienceWrong) as refused:
        await oidc.verify(signed(claims(aud=audience)))
    assert refused.value.expected == "snapshotd"


async def test_a_token_for_several_services_is_for_this_one_too(oidc: Oidc) -> None:
    assert await oidc.verify(signed(claims(aud=["other", "snapshotd"]))) == Identity("oidc:ann")


async def test_a_token_counts_from_nbf_until_exp_with_half_a_minute_for_clocks_that_differ(provider: Provider) -> None:
    token = signed(claims(nbf=TIME, exp=TIME + 60))
    for late in (-30, 0, 60, 89):
        assert await made(provider, late=timedelta(seconds=late)).verify(token) == Identity("oidc:ann")
    with pytest.raises(TokenExpired, match="expired at 2026-03-01T12:01:00Z"):
        await made(provider, late=timedelta(seconds=90)).verify(token)
    with pytest.raises(TokenNotYetValid, match=r"from 2026-03-01T12:00:00Z on, .* it is 2026-03-01T11:59:29Z"):
        await made(provider, late=timedelta(seconds=-31)).verify(token)
    assert await made(provider).verify(signed(claims(nbf=None))) == Identity("oidc:ann")


@pytest.mark.parametrize("value", ["now", [], True, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["exp", "nbf"])
async def test_a_time_that_is_none_is_refused(oidc: Oidc, name: str, value: object) -> None:
    with pytest.raises(TokenMalformed, match=f"{name!r} is no time"):
        await oidc.verify(signed(claims(**{name: value})))


async def test_a_token_that_never_expires_is_refused_and_so_are_times_out_of_all_bounds(oidc: Oidc) -> None:
    with pytest.raises(TokenMalformed, match="says not when it expires"):
        await oidc.verify(signed(claims(exp=None)))
    for long_ago in (0, -1, -(10**400), -1e300):
        with pytest.raises(TokenExpired, match="1970-01-01"):
            await oidc.verify(signed(claims(exp=long_ago)))
    with pytest.raises(TokenNotYetValid, match="9999-12-31"):
        await oidc.verify(signed(claims(nbf=10**400)))


async def test_what_another_key_has_signed_is_refused_whatever_it_says(oidc: Oidc) -> None:
    forger, curve = RSAKey.generate_key(2048), ECKey.generate_key("P-256")
    with pytest.raises(SignatureInvalid, match="not that of key 'r1'"):
        await oidc.verify(signed(claims(), forger))
    with pytest.raises(SignatureInvalid):
        await oidc.verify(signed(claims(), curve, {"alg": "ES256"}, "e1"))
    with pytest.raises(SignatureInvalid):
        await oidc.verify(signed(claims(), forger, {"jwk": public(forger, "r1")}))


async def test_a_token_that_was_changed_is_refused(oidc: Oidc) -> None:
    head, body, signature = signed(claims()).split(".")
    other = base64.urlsafe_b64encode(json.dumps(claims(sub="root")).encode()).decode().rstrip("=")
    for changed in (f"{head}.{other}.{signature}", f"{head}.{body}.{signature[:-8]}AAAAAAAA", f"{head}.{body}."):
        with pytest.raises(SignatureInvalid):
            await oidc.verify(changed)


async def test_no_algorithm_but_those_of_the_settings_is_taken(oidc: Oidc, provider: Provider) -> None:
    head = signed(claims(), OctKey.import_key("x" * 32), {"alg": "HS256"}).rpartition(".")[0]
    digest = hmac.digest(RSA.as_pem(private=False), head.encode(), "sha256")
    with pytest.raises(AlgorithmRefused, match="'HS256', and accepted here is RS256, ES256"):
        await oidc.verify(f"{head}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}")
    with pytest.raises(AlgorithmRefused, match="'PS256'"):
        await oidc.verify(signed(claims(), header={"alg": "PS256"}))
    body = signed(claims()).split(".")[1]
    for name in ("none", "None", "NONE", "", None, 7, ["RS256"]):
        head = base64.urlsafe_b64encode(json.dumps({"alg": name, "kid": "r1"}).encode()).decode().rstrip("=")
        with pytest.raises(AlgorithmRefused):
            await oidc.verify(f"{head}.{body}.")
    assert provider.fetched == []


async def test_a_key_that_is_for_one_algorithm_is_not_used_for_another(provider: Provider) -> None:
    provider.keys = [public(RSA, "r1", alg="RS512")]
    with pytest.raises(AlgorithmRefused, match="RS512, which its key is for"):
        await made(provider).verify(signed(claims()))
    provider.keys = [public(ECKey.generate_key("P-384"), "e1")]
    with pytest.raises(SignatureInvalid):
        await made(provider).verify(signed(claims(), EC, {"alg": "ES256"}, "e1"))
    provider.keys = [public(RSA, "e1")]
    with pytest.raises(KeyUnknown):
        await made(provider).verify(signed(claims(), EC, {"alg": "ES256"}, "e1"))


async def test_a_header_that_asks_for_more_than_is_known_is_refused(oidc: Oidc) -> None:
    _, good, signature = signed(claims()).split(".")
    # With b64 = false, a body is no base64 [RFC 7797].
    for name, value, body in (("b64", False, "{}"), ("exp", 1, good)):
        asked = {"alg": "RS256", "kid": "r1", name: value, "crit": [name]}
        head = base64.urlsafe_b64encode(json.dumps(asked).encode()).decode().rstrip("=")
        with pytest.raises(TokenMalformed, match="its header has a crit"):
            await oidc.verify(f"{head}.{body}.{signature}")


ODD = [
    "",
    "x",
    "..",
    "a.b.c",
    "a.b.c.d.e",
    "é.é.é",
    "\ud800.a.b",
    signed(b"[]"),
    signed(b"7"),
    signed(b"\xff"),
    signed(b"[" * 50_000),
    signed(claims(), header={"kid": "k" * 5000}),
    "WyJhbGciXQ.e30.AA",
    "ImFsZyI.e30.AA",
    "e30.e30.AA",
    signed({**claims(), "pad": "x" * 200_000}),
]


@pytest.mark.parametrize("token", ODD, ids=range(len(ODD)))
async def test_what_is_no_token_is_refused_without_being_shown(oidc: Oidc, provider: Provider, token: str) -> None:
    with pytest.raises(TokenMalformed) as refused:
        await oidc.verify(token)
    assert len(token) < 5 or token not in f"{refused.value} {refused.value!r} {refused.value.__cause__}"
    assert len(str(refused.value)) < 300
    assert provider.fetched == []


async def test_no_refusal_shows_a_token_or_its_signature(oidc: Oidc, provider: Provider) -> None:
    tokens = [signed(claims(), kid="other"), signed(claims(), RSAKey.generate_key(2048))]
    tokens += [signed(claims(**{name: "x"})) for name in ("iss", "aud", "exp")]
    for token in tokens:
        with pytest.raises(SignInRefused) as refused:
            await oidc.verify(token)
        told = f"{refused.value} {refused.value!r} {refused.value.metadata()}"
        assert not any(part in told for part in token.split("."))
