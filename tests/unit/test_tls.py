"""Files of TLS: what cannot be used is refused before gRPC sees it, with the setting, the file and what to do."""

from __future__ import annotations

import base64
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from snapshotd.tls import ClientFiles, Pair, ServerFiles, ServerTls, TlsFile, TlsFileInvalid
from tests.certificates import DAY, Authority, Issued, pem_of

AUTHORITY = Authority("servers")
GOOD = AUTHORITY.issue("server")


def files(directory: Path, issued: Issued = GOOD) -> ServerFiles:
    """Write the files of a server, with one authority for callers; return where they are."""
    certificate, key = issued.write(directory, "server")
    authority = TlsFile("server.user_ca", AUTHORITY.write(directory, "users"))
    pair = Pair(TlsFile("server.certificate", certificate), TlsFile("server.key", key))
    return ServerFiles(pair, (authority,))


def encrypted(at: Path) -> None:
    (at / "server.key").write_bytes(pem_of(GOOD.key, b"secret"))


def a_directory(at: Path) -> None:
    (at / "server.key").unlink()
    (at / "server.key").mkdir()


SPOILT: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no file": (lambda at: (at / "server.pem").unlink(), "server.certificate", "no such file or directory"),
    "a directory": (
        a_directory,
        "server.key",
        "it is a directory, and must be a regular file",
    ),
    "no PEM": (lambda at: (at / "server.pem").write_bytes(b"junk"), "server.certificate", "no certificate in PEM form"),
    "half": (
        lambda at: (at / "server.pem").write_bytes(GOOD.pem[:200]),
        "server.certificate",
        "no certificate in PEM form",
    ),
    "no key": (lambda at: (at / "server.key").write_bytes(GOOD.pem), "server.key", "no private key in PEM form"),
    "encrypted": (encrypted, "server.key", "it is encrypted. Write the key without a passphrase"),
    "open": (
        lambda at: (at / "server.key").chmod(0o644),
        "server.key",
        "open to everybody on this machine. Set its mode to 640 or 600",
    ),
    "another key": (
        lambda at: (at / "server.key").write_bytes(pem_of(AUTHORITY.own.key)),
        "server.key",
        "it is not the key of the certificate in ",
    ),
    "expired": (
        lambda at: AUTHORITY.issue("old", begins=-3 * DAY, ends=-DAY).write(at, "server"),
        "server.certificate",
        "the certificate of CN=old expired on 20",
    ),
    "not yet": (
        lambda at: AUTHORITY.issue("new", begins=DAY, ends=2 * DAY).write(at, "server"),
        "server.certificate",
        "it is not valid before 20",
    ),
    "no authority": (lambda at: (at / "users.pem").write_bytes(b""), "server.user_ca", "no certificate in PEM form"),
    "expired authority": (
        lambda at: Authority("old users", -DAY).write(at, "users"),
        "server.user_ca",
        "the certificate of CN=old users expired on 20",
    ),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_file_that_cannot_be_used_is_refused_with_its_setting_and_what_is_wrong(tmp_path: Path, what: str) -> None:
    spoil, setting, problem = SPOILT[what]
    of_server = files(tmp_path)
    ServerTls(of_server)
    spoil(tmp_path)
    with pytest.raises(TlsFileInvalid, match=rf"^Cannot use {re.escape(setting)} {tmp_path}/.*{re.escape(problem)}"):
        ServerTls(of_server)


def test_what_is_half_replaced_leaves_the_last_whole_pair_in_force_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    tls = ServerTls(files(tmp_path))
    before = tls._current()
    new = AUTHORITY.issue("renewed")
    (tmp_path / "server.pem").write_bytes(new.pem)
    assert [tls._current() for _ in range(3)] == [before] * 3
    (told,) = [line for line in caplog.messages if "stays in force" in line]
    assert told.startswith(f"Cannot use server.key {tmp_path / 'server.key'}: it is not the key of")
    (tmp_path / "server.key").write_bytes(pem_of(new.key))
    assert tls._current().pair.certificate == new.pem
    assert [line for line in caplog.messages if "have changed" in line] == [
        f"the files of TLS have changed: new connections get {tmp_path / 'server.pem'}"
    ]


def test_a_key_of_which_systemd_made_a_copy_is_changed_by_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_server = files(tmp_path)
    (tmp_path / "server.pem").write_bytes(AUTHORITY.issue("renewed").pem)
    with pytest.raises(TlsFileInvalid, match="Put files that belong together"):
        ServerTls(of_server)
    monkeypatch.setattr("snapshotd.tls._COPIES", tmp_path)
    with pytest.raises(TlsFileInvalid, match="Restart the unit, which gets a copy of the key then"):
        ServerTls(of_server)


def test_no_key_is_in_any_text_of_what_was_read(tmp_path: Path) -> None:
    of_server = files(tmp_path)
    of_client = ClientFiles(of_server.client_authorities[0], of_server.pair).read()
    told = f"{of_client!r}{ServerTls(of_server)._current()!r}"
    assert "BEGIN CERTIFICATE" in told
    assert "PRIVATE" not in told
    assert pem_of(GOOD.key).decode().splitlines()[1] not in told


def test_a_bundle_may_hold_authorities_that_have_expired(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(Authority("old", -DAY).own.pem + AUTHORITY.own.pem)
    assert ClientFiles(TlsFile("--ca", bundle)).read().pair is None


@pytest.mark.slow
def test_an_old_certificate_in_a_systems_bundle_warns_nobody(tmp_path: Path) -> None:
    certificate = AUTHORITY.own.certificate
    serial = certificate.serial_number.to_bytes((certificate.serial_number.bit_length() + 8) // 8)
    der = certificate.public_bytes(Encoding.DER).replace(serial, b"\x80" + serial[1:], 1)
    pem = f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n"
    (tmp_path / "bundle.pem").write_text(pem, encoding="utf-8")
    program = (
        "import sys, pathlib; from snapshotd.tls import TlsFile, certificates_in; path = pathlib.Path(sys.argv[1]); "
        "print(certificates_in(TlsFile('--ca', path), path.read_bytes())[0].serial_number < 0)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "bundle.pem")]
    read = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (read.stdout, read.stderr) == ("True\n", "")
