"""Who gets in, and that nothing unsealed does."""

from __future__ import annotations

import base64
import os
import random
import re
import socket
from pathlib import Path

import pytest
import requests
import spnego
from spnego._ntlm_raw.messages import AvId, Challenge
from winrm.exceptions import InvalidCredentialsError, WinRMTransportError
from winrm.protocol import Protocol

from snapshotd.simulator.ntlm import SEALED, Accounts, SignIn, SignInRefused
from tests.unit.simulator_wire.conftest import PASSWORD, USER, Wire

SOAP = {"Content-Type": "application/soap+xml;charset=UTF-8"}


def envelope(body: str = "") -> bytes:
    """Write a Create request."""
    return (
        '<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope" '
        'xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" '
        'xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"><e:Header><a:MessageID>uuid:1</a:MessageID>'
        "<a:Action>http://schemas.xmlsoap.org/ws/2004/09/transfer/Create</a:Action>"
        "<w:ResourceURI>http://schemas.microsoft.com/wbem/wsman/1/windows/shell/cmd</w:ResourceURI>"
        f"</e:Header><e:Body>{body}</e:Body></e:Envelope>"
    ).encode()


def sign_in(wire: Wire, session: requests.Session, protocol: str) -> spnego.ContextProxy:
    """Sign a plain HTTP session in by SPNEGO or by NTLM's own tokens."""
    options = spnego.NegotiateOptions.use_negotiate if protocol == "negotiate" else spnego.NegotiateOptions.use_ntlm
    context = spnego.client(USER, PASSWORD, hostname="hv01", service="http", protocol=protocol, options=options)
    token = context.step()
    for expected in (401, 200):
        assert token
        header = f"Negotiate {base64.b64encode(token).decode()}"
        answer = session.post(url(wire), headers={"Authorization": header})
        assert answer.status_code == expected
        challenge = answer.headers.get("WWW-Authenticate", "").removeprefix("Negotiate").strip()
        token = context.step(base64.b64decode(challenge)) if challenge else None
    assert context.complete
    return context


def url(wire: Wire) -> str:
    return f"http://{wire.endpoint.address}/wsman"


def seal(context: spnego.ContextProxy, text: bytes) -> bytes:
    wrapped = context.wrap_winrm(text)
    return (
        b"--Encrypted Boundary\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n"
        b"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=%d\r\n--Encrypted Boundary\r\n"
        b"\tContent-Type: application/octet-stream\r\n"
        % len(text)
        + len(wrapped.header).to_bytes(4, "little")
        + wrapped.header
        + wrapped.data
        + b"--Encrypted Boundary--\r\n"
    )


def unseal(context: spnego.ContextProxy, answer: requests.Response) -> bytes:
    assert answer.headers["Content-Type"] == SEALED
    payload = answer.content.split(b"Content-Type: application/octet-stream\r\n", 1)[1]
    payload = payload.removesuffix(b"--Encrypted Boundary--\r\n")
    length = int.from_bytes(payload[:4], "little")
    return context.unwrap_winrm(payload[4 : 4 + length], payload[4 + length :])


@pytest.mark.parametrize("user", [USER, USER.upper(), f"HV01\\{USER}", f".\\{USER}"])
def test_a_local_account_signs_in_with_and_without_its_host(wire: Wire, user: str) -> None:
    wire.client(user).open_shell()
    assert wire.shells.open_shells == 1


@pytest.mark.parametrize(
    ("user", "password"), [(USER, "wrong"), (USER, PASSWORD + " "), ("nobody", PASSWORD), (f"OTHER\\{USER}", PASSWORD)]
)
def test_a_wrong_user_or_password_is_refused(wire: Wire, user: str, password: str) -> None:
    with pytest.raises(InvalidCredentialsError):
        wire.client(user, password).open_shell()
    assert wire.endpoint.requests == 0


@pytest.mark.parametrize("protocol", ["ntlm", "negotiate"])
def test_the_challenge_names_the_host_and_not_the_machine_that_simulates_it(protocol: str) -> None:
    for name in ("hv-east-07", "HV02"):
        accounts = Accounts("a:one", name)
        client = spnego.client("a", "one", protocol=protocol, options=spnego.NegotiateOptions.use_ntlm)
        token = client.step()
        assert token
        header = SignIn(accounts).step(f"Negotiate {base64.b64encode(token).decode()}").header
        answer = base64.b64decode(header.removeprefix("Negotiate "))
        challenge = Challenge.unpack(answer[answer.index(b"NTLMSSP\0") :])
        assert challenge.target_name == name.upper()
        assert challenge.target_info is not None
        assert challenge.target_info[AvId.nb_computer_name] == name.upper()
        assert challenge.target_info[AvId.dns_computer_name] == name
        accounts.close()


def test_two_hosts_in_one_process_keep_their_accounts_apart() -> None:
    first, second = Accounts("a:one", "HV01"), Accounts("b:two", "HV02")
    before = os.environ.get("NTLM_USER_FILE")
    with first.in_use():
        seen_first = os.environ["NTLM_USER_FILE"]
    with second.in_use():
        assert os.environ["NTLM_USER_FILE"] != seen_first
    assert os.environ.get("NTLM_USER_FILE") == before
    first.close()
    second.close()


def test_the_account_is_in_no_directory_and_goes_away() -> None:
    accounts = Accounts("DOM\\a:one", "HV01")
    with accounts.in_use():
        path = Path(os.environ["NTLM_USER_FILE"])
    assert path.read_text(encoding="utf-8") == "DOM:a:one\n"
    assert "memfd" in str(path.readlink())
    accounts.close()
    assert not path.exists()


@pytest.mark.parametrize("credential", ["", "user", "user:", ":password", "user:with:colon", "user:two\nlines"])
def test_a_credential_that_is_none_is_refused(credential: str) -> None:
    with pytest.raises(ValueError, match="username:password"):
        Accounts(credential, "HV01")


@pytest.mark.parametrize("protocol", ["negotiate", "ntlm"])
def test_both_kinds_of_tokens_sign_in_and_seal_replies_and_faults(wire: Wire, protocol: str) -> None:
    with requests.Session() as session:
        context = sign_in(wire, session, protocol)
        headers = {"Content-Type": SEALED}
        answer = session.post(url(wire), data=seal(context, envelope()), headers=headers)
        assert answer.status_code == 200
        assert b"ShellId" in unseal(context, answer)
        answer = session.post(url(wire), data=seal(context, envelope().replace(b"Create", b"Get")), headers=headers)
        assert answer.status_code == 500
        assert b'Code="2150858753"' in unseal(context, answer)


def test_an_unsealed_body_is_refused_also_after_sign_in(wire: Wire) -> None:
    with requests.Session() as session:
        sign_in(wire, session, "ntlm")
        answer = session.post(url(wire), data=envelope(), headers=SOAP)
    assert (answer.status_code, answer.content) == (500, b"")
    assert wire.endpoint.requests == 0


def test_a_client_that_does_not_seal_gets_nothing(wire: Wire) -> None:
    protocol = Protocol(
        url(wire),
        transport="ntlm",
        username=USER,
        password=PASSWORD,
        message_encryption="never",
        proxy=None,
        ca_trust_path=None,  # type: ignore[arg-type]  # documented, and not in its type
    )
    with pytest.raises(WinRMTransportError) as caught:
        protocol.open_shell()
    assert caught.value.code == 500
    protocol.transport.close_session()
    assert wire.endpoint.requests == 0


def test_a_body_sealed_with_another_connections_key_is_refused(wire: Wire) -> None:
    with requests.Session() as first, requests.Session() as second:
        context = sign_in(wire, first, "ntlm")
        sign_in(wire, second, "ntlm")
        answer = second.post(url(wire), data=seal(context, envelope()), headers={"Content-Type": SEALED})
    assert (answer.status_code, answer.content) == (500, b"")
    assert wire.endpoint.requests == 0


def test_a_sealed_body_of_another_type_or_length_than_it_says_is_refused(wire: Wire) -> None:
    for old, new, content_type in ((b"", b"", SOAP["Content-Type"]), (b";Length=", b";Length=1", SEALED)):
        with requests.Session() as session:
            sealed = seal(sign_in(wire, session, "ntlm"), envelope()).replace(old, new, 1)
            answer = session.post(url(wire), data=sealed, headers={"Content-Type": content_type})
        assert (answer.status_code, answer.content) == (500, b"")
    assert wire.endpoint.requests == 0


def test_a_connection_can_sign_in_again_and_seals_with_the_new_key(wire: Wire) -> None:
    with requests.Session() as session:
        old = sign_in(wire, session, "ntlm")
        new = sign_in(wire, session, "negotiate")
        headers = {"Content-Type": SEALED}
        answer = session.post(url(wire), data=seal(new, envelope()), headers=headers)
        assert b"ShellId" in unseal(new, answer)
        assert session.post(url(wire), data=seal(old, envelope()), headers=headers).status_code == 500


def test_a_sealed_body_that_was_changed_on_the_way_is_refused(wire: Wire) -> None:
    with requests.Session() as session:
        sealed = bytearray(seal(sign_in(wire, session, "ntlm"), envelope()))
        sealed[-40] ^= 1
        answer = session.post(url(wire), data=bytes(sealed), headers={"Content-Type": SEALED})
    assert answer.status_code == 500
    assert wire.endpoint.requests == 0


@pytest.mark.parametrize(
    "header", ["", "Basic c3ZjOng=", "Negotiate", "Negotiate !!", "Negotiate AAAA", "Negotiate TlRMTVNTUAADAAAA"]
)
def test_what_is_no_token_is_answered_401_and_offered_negotiate(wire: Wire, header: str) -> None:
    answer = requests.post(url(wire), headers={"Authorization": header} if header else {}, timeout=5)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Negotiate")


@pytest.mark.parametrize("protocol", ["negotiate", "ntlm"])
def test_a_token_that_was_spoilt_is_refused_and_never_an_error_of_ours(protocol: str) -> None:
    chance = random.Random(20)
    accounts = Accounts(f"{USER}:{PASSWORD}", "HV01")
    options = spnego.NegotiateOptions.use_negotiate if protocol == "negotiate" else spnego.NegotiateOptions.use_ntlm
    for _ in range(60):
        client = spnego.client(USER, PASSWORD, protocol=protocol, options=options)
        server = SignIn(accounts)
        challenge = server.step(f"Negotiate {base64.b64encode(client.step() or b'').decode()}")
        token = bytearray(client.step(base64.b64decode(challenge.header.removeprefix("Negotiate "))) or b"")
        # The signed part: what stands before it may be changed without harm.
        start = token.rindex(b"NTLMSSP\0") + 12
        token[start : start + 16] = chance.randbytes(16)
        with pytest.raises(SignInRefused):
            server.step(f"Negotiate {base64.b64encode(bytes(token)).decode()}")
        assert not server.complete
    accounts.close()


def test_every_connection_signs_in_for_itself(wire: Wire) -> None:
    with requests.Session() as first:
        context = sign_in(wire, first, "ntlm")
        with requests.Session() as second:
            answer = second.post(url(wire), data=seal(context, envelope()), headers={"Content-Type": SEALED})
    assert answer.status_code == 401


def test_a_document_with_a_doctype_is_refused(wire: Wire) -> None:
    protocol = wire.client()
    bomb = b'<!DOCTYPE e [<!ENTITY a "aaaa">]>' + envelope("&a;")
    with pytest.raises(WinRMTransportError) as caught:
        protocol.send_message(bomb.decode())
    assert caught.value.code == 400


@pytest.mark.parametrize("text", ["", "<a/>", "<e", envelope().replace(b"MessageID", b"Message").decode()])
def test_what_is_no_envelope_is_a_bad_request(wire: Wire, text: str) -> None:
    with pytest.raises(WinRMTransportError) as caught:
        wire.client().send_message(text or " ")
    assert caught.value.code == 400


def test_another_path_is_not_found_and_a_huge_body_is_not_read(wire: Wire) -> None:
    assert requests.post(f"http://{wire.endpoint.address}/other", timeout=5).status_code == 404
    host, port = wire.endpoint.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"POST /wsman HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        assert re.match(rb"HTTP/1.1 413 ", connection.recv(1000))
