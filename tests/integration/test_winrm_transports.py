"""Each way to sign in to a host does what every other does, and each way in which it can be refused is told apart."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from datetime import timedelta

import pytest

from demo.programs import PASSWORD, USERNAME
from snapshotd.api.v1.executor_pb2 import NoAnswer
from snapshotd.simulator.certificates import LittleCa
from tests.host_script.host_commands import look
from tests.integration.tls_host import ALL, SETTINGS, Relay, TlsHost, tls_host

OVER_HTTPS = ("NTLM_HTTPS", "BASIC_HTTPS", "CREDSSP_HTTPS", "CERTIFICATE_HTTPS")
CREDENTIAL = {"CERTIFICATE_HTTPS": "certificate"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsHost]:
    with tls_host(tmp_path_factory.mktemp("host")) as host:
        yield host


@pytest.fixture
def host(shared: TlsHost) -> Iterator[TlsHost]:
    yield shared
    shared.certificates.issue("valid")
    shared.running.act("offer", ways=sorted(ALL))
    shared.running.act("account", lock_after=0, locked=False)


@pytest.mark.parametrize("transport", ["NTLM_HTTP", *OVER_HTTPS])
async def test_a_snapshot_is_taken_gone_back_to_and_deleted_over_each_transport(host: TlsHost, transport: str) -> None:
    pool = host.pools().open(host.way(transport, CREDENTIAL.get(transport, "password")))
    assert await host.create_revert_delete(pool) == ["DONE", "DONE", "DONE"]
    await pool.close(5)


async def test_a_kept_connection_that_was_cut_costs_nothing_over_tls_either(host: TlsHost) -> None:
    pool = host.pools().open(host.way("NTLM_HTTPS"))
    assert await host.create_revert_delete(pool) == ["DONE"] * 3
    host.running.act("network", up=False)
    host.running.act("network", up=True)
    assert await host.create_revert_delete(pool) == ["DONE"] * 3
    await pool.close(5)


@pytest.mark.parametrize("transport", OVER_HTTPS)
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("expired", "certificate has expired: subject CN=localhost, issued by CN=simulated host CA, valid from"),
        ("not_yet_valid", "is not valid yet: subject CN=localhost"),
        ("foreign", "is issued by a CA that is not trusted"),
        ("other_name", "is not for localhost but for other.example.com: subject CN=other.example.com"),
    ],
)
async def test_a_certificate_that_is_not_trusted_is_told_and_nothing_is_sent(
    host: TlsHost, transport: str, kind: str, words: str
) -> None:
    sha256 = host.certificates.issue(kind)["sha256"]
    requests, refused = host.running.act("wire")["requests"], host.running.act("account")["refused"]
    pools = host.pools()
    for _ in range(2):  # A certificate is no refused credential: nothing pauses for it.
        reason, said = await host.ask(host.way(transport, CREDENTIAL.get(transport, "password")), pools)
        assert (reason, words in said, f"sha256:{sha256}" in said) == ("HOST_REFUSED", True, True), said
        assert "nothing was sent" in said
    assert (host.running.act("wire")["requests"], host.running.act("account")["refused"]) == (requests, refused)
    host.certificates.issue("valid")
    assert await host.ask(host.way(transport, CREDENTIAL.get(transport, "password")), pools) == ("", "")


async def test_a_pinned_certificate_counts_alone_whatever_its_issuer_and_its_name(host: TlsHost) -> None:
    pin = ""
    for kind in ("foreign", "other_name"):
        pin = f"sha256:{host.certificates.issue(kind)['sha256']}"
        assert await host.ask(host.way("NTLM_HTTPS", ca_file=pin)) == ("", "")
    reason, said = await host.ask(host.way("NTLM_HTTPS", ca_file="sha256:" + "ab" * 32))
    assert (reason, "is another one than was pinned" in said, pin in said) == ("HOST_REFUSED", True, True), said
    expired = f"sha256:{host.certificates.issue('expired')['sha256']}"
    reason, said = await host.ask(host.way("NTLM_HTTPS", ca_file=expired))
    assert (reason, "has expired" in said) == ("HOST_REFUSED", True), said


async def test_a_certificate_that_is_renewed_while_sessions_run_is_taken(host: TlsHost) -> None:
    pool = host.pools().open(host.way("NTLM_HTTPS"))
    assert await host.create_revert_delete(pool) == ["DONE"] * 3
    host.certificates.issue("valid")
    assert await host.create_revert_delete(pool) == ["DONE"] * 3
    await pool.close(5)
    assert await host.ask(host.way("NTLM_HTTPS")) == ("", "")


@pytest.mark.parametrize("ca_file", ["", "{}/clients.pem", "{}/none.pem", "{}/inventory.json"])
async def test_a_ca_that_did_not_issue_it_and_a_file_that_holds_none_are_told(host: TlsHost, ca_file: str) -> None:
    way = host.way("NTLM_HTTPS", ca_file=ca_file.format(host.credentials.parent))
    reason, said = await host.ask(way)
    assert reason == "HOST_REFUSED"
    if "none" in ca_file or "inventory" in ca_file:
        assert "the CA file" in said
    else:
        assert "a CA that is not trusted" in said


@pytest.mark.parametrize(
    ("transport", "offered", "words"),
    [
        ("NTLM_HTTPS", "basic", "sign in by Negotiate; it offers Basic. To allow it, run on the host: Set-Item"),
        ("NTLM_HTTP", "basic", "sign in by Negotiate; it offers nothing."),
        ("BASIC_HTTPS", "negotiate", "sign in by Basic; it offers Negotiate. To allow it, run on the host: Set-Item"),
        ("CREDSSP_HTTPS", "negotiate", "sign in by CredSSP; it offers Negotiate. To allow it, run on the host: Enable"),
        ("CERTIFICATE_HTTPS", "negotiate", "the host refused the client certificate: subject CN=snapshotd"),
    ],
)
async def test_a_way_that_the_host_does_not_offer_is_told_with_what_enables_it(
    host: TlsHost, transport: str, offered: str, words: str
) -> None:
    host.running.act("offer", ways=[offered])
    reason, said = await host.ask(host.way(transport, CREDENTIAL.get(transport, "password")))
    assert words in said
    assert reason == ("AUTHENTICATION_FAILED" if transport == "CERTIFICATE_HTTPS" else "HOST_REFUSED")


@pytest.mark.parametrize("transport", ["NTLM_HTTP", "NTLM_HTTPS", "BASIC_HTTPS", "CREDSSP_HTTPS"])
async def test_a_wrong_password_is_one_attempt_on_each_transport(host: TlsHost, transport: str) -> None:
    host.write("wrong", f"{USERNAME}:wrong-one")
    before = int(str(host.running.act("account")["refused"]))
    pools = host.pools()
    for _ in range(3):
        reason, said = await host.ask(host.way(transport, "wrong"), pools)
        assert (reason, "nothing signs in again before" in said) == ("AUTHENTICATION_FAILED", True), said
        assert "wrong-one" not in said
    assert host.running.act("account")["refused"] == before + 1


async def test_client_certificates_that_are_refused_are_told_each_and_pause_nothing(host: TlsHost) -> None:
    pools = host.pools()
    for issued in (LittleCa("foreign").issue("mallory"), host.clients.issue("old", shift=timedelta(days=-2))):
        host.write("refused", issued.pem.decode())
        reason, said = await host.ask(host.way("CERTIFICATE_HTTPS", "refused"), pools)
        assert (reason, "refused the client certificate: subject CN=" in said) == ("AUTHENTICATION_FAILED", True), said
        assert "nothing signs in again" not in said
    host.write("refused", host.clients.issue("new").pem.decode())
    assert await host.ask(host.way("CERTIFICATE_HTTPS", "refused"), pools) == ("", "")
    pem = LittleCa("x").issue("x").pem.decode()
    host.write("refused", pem[: pem.index("-----BEGIN PRIVATE")] + host.clients.issue("y").pem.decode())
    reason, said = await host.ask(host.way("CERTIFICATE_HTTPS", "refused"), pools)
    assert (reason, "the client certificate of the credential cannot be used" in said) == ("CREDENTIAL_MISSING", True)


@pytest.mark.parametrize("transport", ["BASIC_HTTPS", "CERTIFICATE_HTTPS"])
async def test_who_is_refused_in_the_middle_of_a_session_may_have_sent_something(host: TlsHost, transport: str) -> None:
    pool = host.pools().open(host.way(transport, CREDENTIAL.get(transport, "password")))
    assert await host.create_revert_delete(pool) == ["DONE"] * 3
    host.running.act("offer", ways=[])
    answer = await pool.run(look(), 20)
    await pool.close(5)
    assert isinstance(answer, NoAnswer)
    assert (answer.reason, "while the command was sent" in answer.detail) == (NoAnswer.CONNECTION_LOST, True)


async def test_http_and_https_that_are_mistaken_for_each_other_are_told(host: TlsHost) -> None:
    plain, secure = (int(address.rpartition(":")[2]) for address in (host.running.listening, host.running.https))
    reason, said = await host.ask(host.way("NTLM_HTTPS", port=plain))
    assert (reason, "what answers there speaks no TLS" in said) == ("HOST_UNREACHABLE", True), said
    reason, said = await host.ask(host.way("NTLM_HTTP", port=secure))
    assert (reason, "what answers there speaks TLS" in said) == ("HOST_UNREACHABLE", True), said


async def test_a_sign_in_is_bound_to_the_certificate_so_that_nobody_passes_it_on(host: TlsHost) -> None:
    """Somebody between with a certificate that the executor trusts gets an NTLM sign-in that the host does not take."""
    between = LittleCa("between")
    with Relay(host, between) as port:
        (host.credentials.parent / "between.pem").write_bytes(between.pem)
        way = host.way("NTLM_HTTPS", port=port, ca_file=str(host.credentials.parent / "between.pem"))
        reason, _ = await host.ask(way)
    assert reason == "AUTHENTICATION_FAILED"


async def test_no_secret_is_in_any_log_or_answer(host: TlsHost, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "snapshotd")
    pem = host.clients.issue("snapshotd").pem.decode()
    host.write("certificate2", pem)
    said: list[str] = []
    for transport in ("NTLM_HTTP", *OVER_HTTPS):
        credential = "certificate2" if transport == "CERTIFICATE_HTTPS" else "password"
        said += await host.ask(host.way(transport, credential))
        host.running.act("offer", ways=[])
        said += await host.ask(host.way(transport, credential))
        host.running.act("offer", ways=sorted(ALL))
    text = " ".join([*said, caplog.text])
    key = pem[pem.index("PRIVATE KEY") :].splitlines()[1]
    assert [secret for secret in (PASSWORD, key) if secret in text] == []


async def test_a_handshake_that_the_other_side_does_not_go_on_with_can_be_cut(host: TlsHost) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        pool = host.pools().open(host.way("NTLM_HTTPS", port=mute.getsockname()[1]))
        asking = asyncio.create_task(pool.run(look(), 60))
        accepted, _ = await asyncio.to_thread(mute.accept)
        with accepted:
            await asyncio.to_thread(accepted.recv, 1)  # The handshake has begun.
            async with asyncio.timeout(SETTINGS.limits.connect_s - 1):
                await pool.close(0)
                answer = await asking
    assert isinstance(answer, NoAnswer)
    assert answer.reason == NoAnswer.CONNECTION_LOST
