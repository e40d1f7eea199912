"""The small CA: TLS takes what it issues for what it was issued for, and no key is lost or open to others."""

from __future__ import annotations

import shutil
import socket
import ssl
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from snapshotd.__main__ import main
from snapshotd.access import bearers
from snapshotd.access.authority import Authority, create_authority
from snapshotd.access.bearers import Purpose
from snapshotd.access.certificate_names import issued_by
from snapshotd.access.errors import AccessUnusable

NOW = datetime.now(UTC).replace(microsecond=0)
"""The real time, since a TLS library takes no other."""


def made(directory: Path, purpose: Purpose) -> Authority:
    create_authority(directory, "Ops", purpose, 30, NOW)
    return Authority(directory, NOW)


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Make a CA for servers and one for users, and a certificate of each."""
    made(tmp_path / "servers", Purpose.SERVERS).issue(
        bearers.server(["sd.example.com", "127.0.0.1"]), tmp_path / "server.pem", 7, replace=False
    )
    made(tmp_path / "users", Purpose.USERS).issue(bearers.user("ann"), tmp_path / "ann.pem", 7, replace=False)
    return tmp_path


def handshake(site: Path, name: str, client: str, users: str = "users", servers: str = "servers") -> object:
    """Shake hands over TLS in both directions. Return what the server sees of the client's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(site / "server.pem", site / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(site / users / "ca.pem")
    ours = ssl.create_default_context(cafile=site / servers / "ca.pem")
    ours.verify_flags |= ssl.VERIFY_X509_STRICT
    ours.load_cert_chain(site / f"{client}.pem", site / f"{client}.key")
    one, other = socket.socketpair()
    with one, other, ThreadPoolExecutor(1) as pool:
        for end in (one, other):
            end.settimeout(10)

        def serve() -> object:
            with one, context.wrap_socket(one, server_side=True) as served:
                served.sendall(b"x")
                return served.getpeercert()

        seen = pool.submit(serve)
        with other, ours.wrap_socket(other, server_hostname=name) as called:
            assert called.recv(1) == b"x"
        return seen.result(10)


@pytest.mark.parametrize("name", ["sd.example.com", "127.0.0.1"])
def test_server_and_user_trust_one_another_over_tls(site: Path, name: str) -> None:
    seen = handshake(site, name, "ann")
    assert isinstance(seen, dict)
    assert seen["subjectAltName"] == (("URI", "snapshotd://user/ann"),)


def test_another_name_another_ca_and_another_purpose_fail_the_handshake(site: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(site, "other.example.com", "ann")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(site, "127.0.0.1", "ann", servers="users")
    with pytest.raises(ssl.SSLError):
        handshake(site, "127.0.0.1", "ann", users="servers")
    with pytest.raises(ssl.SSLError):
        handshake(site, "127.0.0.1", "server", users="servers")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
@pytest.mark.parametrize(("purpose", "ca", "file"), [("sslserver", "servers", "server"), ("sslclient", "users", "ann")])
def test_openssl_agrees(site: Path, purpose: str, ca: str, file: str) -> None:
    def verifies(purpose: str, ca: str) -> bool:
        call = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", f"{site}/{ca}/ca.pem"]
        return subprocess.run([*call, f"{site}/{file}.pem"], capture_output=True, check=False).returncode == 0

    assert verifies(purpose, ca)
    assert not verifies({"sslserver": "sslclient", "sslclient": "sslserver"}[purpose], ca)
    assert not verifies(purpose, {"servers": "users", "users": "servers"}[ca])


def test_a_certificate_says_what_it_is_for_and_no_more(site: Path) -> None:
    leaf, ca = read(site / "ann.pem"), read(site / "users" / "ca.pem")
    found = {type(e.value): (e.value, e.critical) for e in leaf.extensions}
    assert found[x509.BasicConstraints] == (x509.BasicConstraints(ca=False, path_length=None), True)
    assert found[x509.ExtendedKeyUsage][0] == x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    usage, critical = found[x509.KeyUsage]
    assert isinstance(usage, x509.KeyUsage)
    assert (usage.digital_signature, usage.key_cert_sign, usage.crl_sign, critical) == (True, False, False, True)
    assert leaf.subject.rfc4514_string() == "CN=ann"
    assert leaf.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert leaf.not_valid_after_utc == NOW + timedelta(days=7)
    of_ca = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (of_ca.value, of_ca.critical) == (x509.BasicConstraints(ca=True, path_length=0), True)
    assert issued_by(leaf, ca)
    assert not issued_by(leaf, read(site / "servers" / "ca.pem"))


def test_no_certificate_outlives_its_ca(tmp_path: Path) -> None:
    issued = made(tmp_path / "ca", Purpose.USERS).issue(bearers.user("ann"), tmp_path / "ann.pem", 365, replace=False)
    assert issued.expires == NOW + timedelta(days=30) == read(tmp_path / "ann.pem").not_valid_after_utc


def test_only_the_owner_reads_keys_and_none_is_overwritten_without_being_asked(site: Path) -> None:
    keys = [site / "ann.key", site / "server.key", site / "users" / "ca.key"]
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert stat.S_IMODE((site / "users").stat().st_mode) == 0o700
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    authority = Authority(site / "users", NOW)
    with pytest.raises(AccessUnusable, match="is there already"):
        authority.issue(bearers.user("ann"), site / "ann.pem", 7, replace=False)
    with pytest.raises(AccessUnusable, match="is there already"):
        create_authority(site / "users", "Ops", Purpose.USERS, 30, NOW)
    with pytest.raises(AccessUnusable, match="that is the name of its key"):
        authority.issue(bearers.user("ann"), site / "bob.key", 7, replace=True)
    for name in ("users/ca.pem", "users/ca.crt", "users", ".", "/"):
        with pytest.raises(AccessUnusable, match=r"the name of a CA's key|it is a directory"):
            authority.issue(bearers.user("ann"), site / name, 7, replace=True)
    assert {path: path.read_bytes() for path in site.rglob("*") if path.is_file()} == before
    authority.issue(bearers.user("bob"), site / "ann.pem", 7, replace=True)
    assert read(site / "ann.pem").subject.rfc4514_string() == "CN=bob"


def test_a_renewed_certificate_has_a_new_key_and_the_same_names_purpose_and_span(site: Path) -> None:
    old, old_key = read(site / "server.pem"), (site / "server.key").read_bytes()
    later = NOW + timedelta(days=3)
    issued = Authority(site / "servers", later).renew(site / "server.pem", None)
    new = read(site / "server.pem")
    assert issued.expires == new.not_valid_after_utc == later + timedelta(days=7)
    for kind in (x509.SubjectAlternativeName, x509.ExtendedKeyUsage, x509.KeyUsage, x509.BasicConstraints):
        assert new.extensions.get_extension_for_class(kind) == old.extensions.get_extension_for_class(kind)
    assert new.subject == old.subject
    assert new.serial_number != old.serial_number
    key = load_pem_private_key((site / "server.key").read_bytes(), None)
    assert key.public_key() == new.public_key() != old.public_key()
    assert (site / "server.key").read_bytes() != old_key
    assert stat.S_IMODE((site / "server.key").stat().st_mode) == 0o600
    assert {path.name for path in site.iterdir()} == {
        "ann.key", "ann.pem", "server.key", "server.pem", "servers", "users",
    }  # fmt: skip


def test_what_another_ca_has_issued_is_not_renewed(site: Path) -> None:
    before = (site / "server.pem").read_bytes()
    for file in (site / "server.pem", site / "users" / "ca.pem"):
        with pytest.raises(AccessUnusable, match="this CA has not issued it"):
            Authority(site / "users", NOW).renew(file, None)
    assert (site / "server.pem").read_bytes() == before
    (site / "ann.key").rename(site / "elsewhere.key")
    with pytest.raises(AccessUnusable, match="is not beside it"):
        Authority(site / "users", NOW).renew(site / "ann.pem", None)


def test_a_ca_for_users_makes_no_executor_and_no_server(site: Path) -> None:
    for bearer in (bearers.executor("ex1", ["*"]), bearers.server(["sd.example.com"])):
        with pytest.raises(AccessUnusable, match="the CA is one for users"):
            Authority(site / "users", NOW).issue(bearer, site / "x.pem", 7, replace=False)
    assert not (site / "x.pem").exists()


def test_a_ca_that_cannot_be_used_says_why(site: Path) -> None:
    for now in (NOW + timedelta(days=30), NOW - timedelta(minutes=6)):
        with pytest.raises(AccessUnusable, match="it is valid from"):
            Authority(site / "users", now)
    key = site / "users" / "ca.key"
    key.chmod(0o604)
    with pytest.raises(AccessUnusable, match="open to everybody"):
        Authority(site / "users", NOW)
    key.chmod(0o600)
    key.write_bytes((site / "servers" / "ca.key").read_bytes())
    with pytest.raises(AccessUnusable, match=r"ca\.key is not the key of a CA in ca\.pem"):
        Authority(site / "users", NOW)
    key.write_text("x", encoding="utf-8")
    with pytest.raises(AccessUnusable, match="no key in PEM"):
        Authority(site / "users", NOW)
    key.unlink()
    with pytest.raises(AccessUnusable, match="No such file"):
        Authority(site / "users", NOW)
    (site / "users" / "ca.pem").write_text("x", encoding="utf-8")
    with pytest.raises(AccessUnusable, match="no certificate in PEM"):
        Authority(site / "users", NOW)


def test_names_that_nobody_could_check_are_refused(tmp_path: Path) -> None:
    for wrong in ("", "a b", "ann/../bob", "*"):
        with pytest.raises(AccessUnusable, match="a name is 1 to 63"):
            bearers.user(wrong)
        with pytest.raises(AccessUnusable, match="a name is 1 to 63"):
            bearers.executor(wrong, ["hv01"])
        with pytest.raises(AccessUnusable, match="must be a DNS name or an IP address"):
            bearers.server([wrong])
    with pytest.raises(AccessUnusable, match="give the host's id"):
        bearers.executor("ex1", ["HV01"])
    with pytest.raises(AccessUnusable, match="give the host's id"):
        bearers.executor("ex1", ["hv01", ""])
    for wrong in ("", " x", "x" * 65, "a\nb"):
        with pytest.raises(AccessUnusable, match="Cannot make a CA named"):
            create_authority(tmp_path / "ca", wrong, Purpose.USERS, 30, NOW)


def test_a_server_with_a_long_name_only_is_found_by_that_name(tmp_path: Path) -> None:
    name = ".".join(["a" * 40] * 3)
    made(tmp_path / "ca", Purpose.SERVERS).issue(bearers.server([name]), tmp_path / "x.pem", 7, replace=False)
    names = read(tmp_path / "x.pem").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [name]


def run(*arguments: object) -> int:
    return main(["certificate", *map(str, arguments)])


def test_the_commands_make_a_ca_and_issue_and_renew_what_it_has_issued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ca, file = tmp_path / "ca", tmp_path / "ex1.pem"
    assert run("authority", ca, "--name", "Ops executors", "--for", "executors") == 0
    assert run("issue", ca, "--executor", "ex1", "--host", "hv01", "--host", "hv02", "--out", file, "--days", 2) == 0
    assert f"{file} and {file.with_suffix('.key')}, valid until" in capsys.readouterr().out
    old = read(file)
    names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        "snapshotd://executor/ex1", "snapshotd://host/hv01", "snapshotd://host/hv02",
    ]  # fmt: skip
    assert run("renew", ca, file) == 0
    assert read(file).serial_number != old.serial_number
    assert run("issue", ca, "--executor", "ex1", "--host", "*", "--out", file) == 2
    assert "is there already" in capsys.readouterr().err
    assert run("issue", ca, "--executor", "ex1", "--host", "*", "--out", file, "--replace") == 0
    assert read(file).not_valid_after_utc - datetime.now(UTC) > timedelta(days=364)
    assert read(ca / "ca.pem").not_valid_after_utc - datetime.now(UTC) > timedelta(days=3649)


def test_the_commands_refuse_what_makes_no_sense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("issue", tmp_path, "--user", "ann", "--host", "hv01", "--out", tmp_path / "x.pem") == 2
    assert run("issue", tmp_path, "--executor", "ex1", "--out", tmp_path / "x.pem") == 2
    said = capsys.readouterr().err
    assert "only one of an executor names hosts" in said
    assert "it names no host to serve" in said
    for days in ("0", "-1", "x", "36501"):
        with pytest.raises(SystemExit):
            run("renew", tmp_path, tmp_path / "x.pem", f"--days={days}")
