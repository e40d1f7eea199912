"""Kerberos against a real KDC: each kind of credential over both transports, and what can be wrong with a ticket."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.programs import PASSWORD, USERNAME
from tests.integration.kdc import DEAD_REALM, REALM, Kdc, kdc
from tests.integration.tls_host import ALL, TlsHost, tls_host

pytestmark = pytest.mark.kerberos

USER = f"{USERNAME}@{REALM}"
KINDS = ("by_password", "by_keytab", "by_cache")


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kdc]:
    with kdc(tmp_path_factory.mktemp("kdc")) as made, pytest.MonkeyPatch.context() as patched:
        for name, value in made.environ.items():
            patched.setenv(name, value)
        yield made


@pytest.fixture(scope="module")
def host(realm: Kdc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsHost]:
    service = realm.add("HTTP/localhost")
    keytab = realm.add(USERNAME, PASSWORD)
    with tls_host(tmp_path_factory.mktemp("host"), ALL | {"kerberos"}) as made:
        made.write("by_password", f"{USER}:{PASSWORD}")
        made.write("by_keytab", f"{USER}:keytab:{keytab}")
        made.write("by_cache", f"{USER}:ccache:{realm.tickets(USER, keytab)}")
        made.write("expired", f"{USER}:ccache:{realm.tickets(USER, keytab, expired=True)}")
        made.write("wrong_password", f"{USER}:wrong-one")
        made.write("unknown", f"nobody@{REALM}:wrong-one")
        made.write("no_key", f"{USER}:keytab:{service}")
        made.write("of_another", f"other@{REALM}:ccache:{realm.tickets(USER, keytab)}")
        made.write("no_kdc", f"{USERNAME}@{DEAD_REALM}:{PASSWORD}")
        yield made


@pytest.mark.parametrize("transport", ["KERBEROS_HTTP", "KERBEROS_HTTPS"])
@pytest.mark.parametrize("credential", KINDS)
async def test_a_snapshot_is_taken_gone_back_to_and_deleted_with_each_kind_of_credential(
    host: TlsHost, transport: str, credential: str
) -> None:
    pool = host.pools().open(host.way(transport, credential))
    assert await host.create_revert_delete(pool) == ["DONE", "DONE", "DONE"]
    await pool.close(5)


@pytest.mark.parametrize(
    ("credential", "reason", "words"),
    [
        ("wrong_password", "AUTHENTICATION_FAILED", f"the KDC of {REALM} refused the password or the keytab's key"),
        ("unknown", "AUTHENTICATION_FAILED", f"the KDC of {REALM} knows no such user: nobody@{REALM}"),
        ("no_key", "CREDENTIAL_MISSING", f"the keytab holds no key of {USER}"),
        ("expired", "CREDENTIAL_MISSING", f"the tickets of {USER} in the cache have expired. Renew them"),
        ("of_another", "CREDENTIAL_MISSING", f"the ticket cache holds no ticket of other@{REALM}"),
        ("no_kdc", "HOST_UNREACHABLE", f"the KDC of {DEAD_REALM} cannot be reached"),
    ],
)
async def test_what_is_wrong_with_a_ticket_is_told(host: TlsHost, credential: str, reason: str, words: str) -> None:
    told, said = await host.ask(host.way("KERBEROS_HTTP", credential))
    assert (told, words in said) == (reason, True), said
    assert "wrong-one" not in said


async def test_a_host_whose_name_no_service_has_is_told_with_what_adds_it(host: TlsHost, realm: Kdc) -> None:
    realm.remove("HTTP/localhost")
    told, said = await host.ask(host.way("KERBEROS_HTTP", "by_keytab"))
    realm.add("HTTP/localhost")
    assert (told, "knows no service HTTP/localhost" in said, "setspn -S" in said) == ("HOST_REFUSED", True, True), said


async def test_a_host_that_takes_no_kerberos_is_told(host: TlsHost) -> None:
    host.running.act("offer", ways=["basic"])
    told, said = await host.ask(host.way("KERBEROS_HTTPS", "by_keytab"))
    host.running.act("offer", ways=sorted(ALL | {"kerberos"}))
    assert (told, "does not offer to sign in by Negotiate" in said) == ("HOST_REFUSED", True)


async def test_a_wrong_password_is_one_attempt_at_the_kdc_too(host: TlsHost) -> None:
    pools = host.pools()
    for _ in range(2):
        _, said = await host.ask(host.way("KERBEROS_HTTPS", "wrong_password"), pools)
        assert "nothing signs in again before" in said


async def test_no_ticket_key_or_password_is_in_any_log_or_answer(
    host: TlsHost, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "snapshotd")
    said: list[str] = []
    for credential in (*KINDS, "expired", "no_kdc", "wrong_password"):
        said += await host.ask(host.way("KERBEROS_HTTPS", credential))
    text = " ".join([*said, caplog.text])
    files = [Path((host.credentials / name).read_text().rpartition(":")[2]) for name in ("by_keytab", "by_cache")]
    secrets = [PASSWORD, "wrong-one", *(file.read_bytes()[-24:].hex() for file in files)]
    assert [secret for secret in secrets if secret in text] == []
