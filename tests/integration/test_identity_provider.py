"""An identity provider over the network: only the address that was asked is believed, and not for ever."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from snapshotd.access import bearers
from snapshotd.access.authority import Authority, create_authority
from snapshotd.access.bearers import Purpose
from snapshotd.access.errors import AccessUnusable
from snapshotd.access.fetching import Fetcher, NotFetched
from snapshotd.access.identity import Identity
from snapshotd.access.oidc import Oidc, OidcSettings
from tests.site import Site, body, status

KEY = ECKey.generate_key("P-256")


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Site]:
    now = datetime.now(UTC)
    create_authority(tmp_path / "ca", "Provider", Purpose.SERVERS, 1, now)
    Authority(tmp_path / "ca", now).issue(bearers.server(["127.0.0.1"]), tmp_path / "p.pem", 1, replace=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "p.pem", tmp_path / "p.key")
    site = Site(context)
    yield site
    site.close()


@pytest.mark.parametrize("over", ["site", "secure"])
async def test_a_token_signs_in_by_keys_that_were_fetched(
    over: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    site: Site = request.getfixturevalue(over)
    issuer = f"{site.url}/ops"
    about = {"issuer": issuer, "jwks_uri": f"{site.url}/keys"}
    site.answers["/ops/.well-known/openid-configuration"] = body(about)
    site.answers["/keys"] = body({"keys": [{**KEY.as_dict(private=False), "kid": "1"}]})
    now = datetime.now(UTC)
    token = jwt.encode(
        {"alg": "ES256", "kid": "1"},
        {"iss": issuer, "aud": "snapshotd", "sub": "ann", "exp": now.timestamp() + 60},
        KEY,
    )
    fetch = Fetcher(tmp_path / "ca" / "ca.pem" if over == "secure" else None)
    settings = OidcSettings(issuer, "snapshotd", "sub", "groups", ("ES256",))
    oidc = Oidc(settings, fetch, lambda: now, lambda: 0.0)
    assert await oidc.verify(token) == Identity("oidc:ann")
    assert len(site.asked) == 2


def test_an_address_whose_certificate_is_not_trusted_is_not_believed(secure: Site) -> None:
    secure.answers["/"] = body({})
    with pytest.raises(NotFetched, match="a certificate that is not trusted"):
        Fetcher(None)(f"{secure.url}/")
    assert secure.asked == []


def test_a_file_of_cas_that_cannot_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    for content in (None, "", "x"):
        if content is not None:
            (tmp_path / "ca.pem").write_text(content, encoding="utf-8")
        with pytest.raises(AccessUnusable, match=r"auth\.oidc_ca = .*ca\.pem"):
            Fetcher(tmp_path / "ca.pem")


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(site: Site, code: int) -> None:
    site.answers["/"] = status(code, Location=f"{site.url}/elsewhere")
    site.answers["/elsewhere"] = body({})
    with pytest.raises(NotFetched, match=f"answered {code}, which is not followed"):
        Fetcher(None)(f"{site.url}/")
    assert [path for path, _ in site.asked] == ["/"]


@pytest.mark.parametrize("code", [401, 404, 500, 503])
def test_an_error_is_no_answer(site: Site, code: int) -> None:
    site.answers["/"] = status(code)
    with pytest.raises(NotFetched, match=f"answered {code}$"):
        Fetcher(None)(f"{site.url}/")


def test_an_answer_of_one_mebibyte_is_read_and_a_larger_one_is_not(site: Site) -> None:
    site.answers["/largest"], site.answers["/larger"] = body(b"x" * 2**20), body(b"x" * (2**20 + 1))
    assert len(Fetcher(None)(f"{site.url}/largest")) == 2**20
    with pytest.raises(NotFetched, match="has more than 1048576 bytes"):
        Fetcher(None)(f"{site.url}/larger")


def test_an_answer_that_trickles_or_never_comes_ends(site: Site) -> None:
    ended = threading.Event()

    def trickle(request: BaseHTTPRequestHandler) -> None:
        status(200)(request)
        while not ended.wait(0.02):
            request.wfile.write(b" ")

    def mute(request: BaseHTTPRequestHandler) -> None:
        assert ended.wait(30)

    site.answers["/trickle"], site.answers["/mute"] = trickle, mute
    try:
        with pytest.raises(NotFetched, match=r"took longer than 0\.1 s"):
            Fetcher(None, 0.1)(f"{site.url}/trickle")
        with pytest.raises(NotFetched, match=r"did not answer within 0\.1 s"):
            Fetcher(None, 0.1)(f"{site.url}/mute")
    finally:
        ended.set()


def test_nobody_there_is_told_in_words(site: Site) -> None:
    site.close()
    with pytest.raises(NotFetched, match=r"/ cannot be reached$"):
        Fetcher(None)(f"{site.url}/")


def test_nothing_of_the_environment_gets_between_us_and_loopback(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password secret\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    site.answers["/"] = body({})
    assert Fetcher(None)(f"{site.url}/") == b"{}"
    assert "authorization" not in site.asked[0][1]


def test_others_are_reached_through_the_proxy_of_the_environment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, site.url)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    site.answers["login.example.com:443"] = status(403)
    with pytest.raises(NotFetched, match="cannot be reached through the proxy"):
        Fetcher(None)("https://login.example.com/")
    assert [path for path, _ in site.asked] == ["login.example.com:443"]
