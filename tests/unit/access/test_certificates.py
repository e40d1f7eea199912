"""What a client certificate names, by the CA that has issued it: nobody can pose as another kind of caller."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from snapshotd.access import bearers
from snapshotd.access.authority import Authority, create_authority
from snapshotd.access.bearers import Purpose
from snapshotd.access.certificates import ClientCertificates
from snapshotd.access.errors import (
    AccessUnusable,
    CertificateExpired,
    CertificateForeign,
    CertificateNameless,
    CertificateNotYetValid,
    CertificateUnfit,
    SignInRefused,
)
from snapshotd.access.identity import ExecutorIdentity, Identity

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])


class Clock:
    """The time, as a test sets it."""

    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> datetime:
        return self.time


class Ca:
    """A CA that signs whatever it is asked for."""

    def __init__(self, common_name: str, end: datetime = NOW + 99 * DAY, start: datetime = NOW - 99 * DAY) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.pem = self.own(end, start)

    def own(self, end: datetime, start: datetime = NOW - 99 * DAY) -> bytes:
        """Return a certificate of the CA itself."""
        return self.signed(self.name, self.key, start, end, [x509.BasicConstraints(ca=True, path_length=None)])

    def signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        start: datetime,
        end: datetime,
        extensions: Sequence[x509.ExtensionType],
    ) -> bytes:
        builder = x509.CertificateBuilder(self.name, subject, key.public_key(), 1, start, end)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def leaf(
        self,
        *uris: str,
        names: Sequence[str] = (),
        start: datetime = NOW - DAY,
        end: datetime = NOW + DAY,
        extensions: Sequence[x509.ExtensionType] = (CLIENT,),
    ) -> bytes:
        """Return a certificate with these URIs and common names."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name, _validate=False) for name in names])
        others = [x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])] if uris else []
        key = ec.generate_private_key(ec.SECP256R1())
        return self.signed(subject, key, start, end, [*extensions, *others])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def users() -> Ca:
    return Ca("Users")


@pytest.fixture(scope="module")
def executors() -> Ca:
    return Ca("Executors")


@pytest.fixture
def certificates(tmp_path: Path, users: Ca, executors: Ca, clock: Clock) -> ClientCertificates:
    (tmp_path / "users.pem").write_bytes(users.pem)
    (tmp_path / "executors.pem").write_bytes(executors.pem)
    return ClientCertificates(tmp_path / "users.pem", tmp_path / "executors.pem", clock)


def test_our_own_cas_certificates_name_whom_they_were_issued_for(tmp_path: Path, clock: Clock) -> None:
    for purpose in (Purpose.USERS, Purpose.EXECUTORS):
        create_authority(tmp_path / purpose.value, "Ops", purpose, 30, NOW)
    files = ClientCertificates(tmp_path / "users" / "ca.pem", tmp_path / "executors" / "ca.pem", clock)
    ann, ex1 = tmp_path / "ann.pem", tmp_path / "ex1.pem"
    Authority(tmp_path / "users", NOW).issue(bearers.user("ann@example.com"), ann, 1, replace=False)
    Authority(tmp_path / "executors", NOW).issue(bearers.executor("ex1", ["hv01", "*"]), ex1, 1, replace=False)
    assert files.user_of(ann.read_bytes()) == Identity("certificate:ann@example.com")
    assert files.executor_of(ex1.read_bytes()) == ExecutorIdentity("ex1", frozenset({"hv01", "*"}))


@pytest.mark.parametrize("hosts", [["hv01"], ["hv01", "hv02"], ["*"], []])
def test_an_executor_serves_the_hosts_that_its_certificate_names(
    certificates: ClientCertificates, executors: Ca, hosts: list[str]
) -> None:
    leaf = executors.leaf("snapshotd://executor/ex1", *(f"snapshotd://host/{host}" for host in hosts))
    found = certificates.executor_of(leaf)
    assert (found.subject, found.hosts) == ("executor:ex1", frozenset(hosts))


def test_a_user_without_a_uri_is_who_the_common_name_says(certificates: ClientCertificates, users: Ca) -> None:
    assert certificates.user_of(users.leaf(names=["Ann Smith"])) == Identity("certificate:Ann Smith")
    both = users.leaf("https://example.com/ann", "snapshotd://user/ann", names=["Ann Smith"])
    assert certificates.user_of(both) == Identity("certificate:ann")
    assert certificates.user_of(users.leaf("https://example.com/x", names=["bob"])) == Identity("certificate:bob")


@pytest.mark.parametrize(
    ("uris", "names"),
    [
        ([], []),
        ([], ["ann", "bob"]),
        ([], [" ann"]),
        ([], ["an\u200bn"]),
        ([], ["a\u0308nn"]),
        (["snapshotd://user/ann", "snapshotd://user/bob"], ["ann"]),
        (["snapshotd://user/"], ["ann"]),
        (["snapshotd://user/a/b"], ["ann"]),
        (["snapshotd://user/a%62"], ["ann"]),
        (["SNAPSHOTD://user/ann"], ["ann"]),
        (["snapshotd:user/ann"], ["ann"]),
        (["snapshotd://executor/ex1"], ["ann"]),
        (["snapshotd://user/ann", "snapshotd://host/*"], ["ann"]),
    ],
)
def test_a_user_certificate_that_names_nobody_clearly_is_refused(
    certificates: ClientCertificates, users: Ca, uris: list[str], names: list[str]
) -> None:
    with pytest.raises(CertificateNameless):
        certificates.user_of(users.leaf(*uris, names=names))


@pytest.mark.parametrize(
    "uris",
    [
        [],
        ["snapshotd://user/ex1"],
        ["snapshotd://host/hv01"],
        ["snapshotd://executor/ex1", "snapshotd://executor/ex2"],
        ["snapshotd://executor/"],
        ["snapshotd://executor/ex1", "snapshotd://user/ann"],
        ["snapshotd://executor/ex1", "snapshotd://host/HV01"],
        ["snapshotd://executor/ex1", "snapshotd://host/"],
        ["snapshotd://executor/ex1", "snapshotd://vm/web01"],
    ],
)
def test_an_executors_certificate_that_names_none_clearly_is_refused(
    certificates: ClientCertificates, executors: Ca, uris: list[str]
) -> None:
    with pytest.raises(CertificateNameless):
        certificates.executor_of(executors.leaf(*uris, names=["ex1"]))


def test_each_ca_speaks_for_its_own_kind_of_callers_only(
    certificates: ClientCertificates, users: Ca, executors: Ca
) -> None:
    with pytest.raises(CertificateForeign, match="not a CA of executors here, but one of users"):
        certificates.executor_of(users.leaf("snapshotd://executor/ex1", "snapshotd://host/*"))
    with pytest.raises(CertificateForeign, match="not a CA of users here, but one of executors"):
        certificates.user_of(executors.leaf("snapshotd://user/ann"))


def test_a_ca_of_the_same_name_is_foreign(certificates: ClientCertificates, users: Ca) -> None:
    with pytest.raises(CertificateForeign, match=r"'CN=Users', which is not a CA of users here\. Use"):
        certificates.user_of(Ca("Users").leaf("snapshotd://user/ann"))


def test_without_a_ca_no_certificate_is_anybodys(tmp_path: Path, users: Ca, clock: Clock) -> None:
    (tmp_path / "users.pem").write_bytes(users.pem)
    for certificates in (
        ClientCertificates(None, None, clock),
        ClientCertificates(None, tmp_path / "users.pem", clock),
    ):
        with pytest.raises(CertificateForeign):
            certificates.user_of(users.leaf("snapshotd://user/ann"))


def test_a_certificate_counts_between_its_two_times(certificates: ClientCertificates, users: Ca, clock: Clock) -> None:
    leaf = users.leaf("snapshotd://user/ann", start=NOW, end=NOW + DAY)
    for time in (NOW, NOW + DAY):
        clock.time = time
        assert certificates.user_of(leaf) == Identity("certificate:ann")
    clock.time = NOW + DAY + timedelta(seconds=1)
    with pytest.raises(CertificateExpired, match="it expired at 2026-03-02T12:00:00Z"):
        certificates.user_of(leaf)
    clock.time = NOW - timedelta(seconds=1)
    with pytest.raises(CertificateNotYetValid, match="valid from 2026-03-01T12:00:00Z on"):
        certificates.user_of(leaf)


def test_a_ca_counts_between_its_two_times_and_a_renewed_one_takes_its_place(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "users.pem"
    users = Ca("Users", end=NOW - timedelta(seconds=1))
    path.write_bytes(users.pem)
    certificates = ClientCertificates(path, None, clock)
    leaf = users.leaf("snapshotd://user/ann")
    with pytest.raises(CertificateExpired, match="its CA expired at 2026-03-01T11:59:59Z"):
        certificates.user_of(leaf)
    path.write_bytes(users.pem + users.own(NOW + 9 * DAY))
    assert certificates.user_of(leaf) == Identity("certificate:ann")
    path.write_bytes(users.own(NOW + 9 * DAY, start=NOW + DAY))
    with pytest.raises(CertificateNotYetValid, match="its CA is valid from"):
        certificates.user_of(leaf)


@pytest.mark.parametrize(
    "extension",
    [
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
        x509.BasicConstraints(ca=True, path_length=None),
        x509.KeyUsage(False, False, True, False, False, False, False, False, False),
    ],
    ids=["for servers", "a CA", "its key does not sign"],
)
def test_a_certificate_that_is_not_for_clients_signs_nobody_in(
    certificates: ClientCertificates, users: Ca, extension: x509.ExtensionType
) -> None:
    with pytest.raises(CertificateUnfit):
        certificates.user_of(users.leaf(names=["sd.example.com"], extensions=[extension]))
    assert certificates.user_of(users.leaf(names=["ann"], extensions=[])) == Identity("certificate:ann")


@pytest.mark.parametrize("pem", [b"", b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_signs_nobody_in(certificates: ClientCertificates, pem: bytes) -> None:
    for refuse in (certificates.user_of, certificates.executor_of):
        with pytest.raises(SignInRefused, match="it cannot be read"):
            refuse(pem)


def test_a_ca_in_both_files_is_refused_even_under_another_certificate(tmp_path: Path, users: Ca, clock: Clock) -> None:
    one, other = tmp_path / "users.pem", tmp_path / "executors.pem"
    one.write_bytes(users.pem)
    other.write_bytes(Ca("Executors").pem + users.own(NOW + 9 * DAY))
    with pytest.raises(AccessUnusable, match="one CA is in both"):
        ClientCertificates(one, other, clock)
    with pytest.raises(AccessUnusable, match="one CA is in both"):
        ClientCertificates(one, one, clock)


@pytest.mark.parametrize("content", [b"", b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_without_a_ca_is_refused_at_the_start(tmp_path: Path, content: bytes, clock: Clock) -> None:
    path = tmp_path / "users.pem"
    path.write_bytes(content)
    with pytest.raises(AccessUnusable, match=r"users\.pem"):
        ClientCertificates(path, None, clock)
    path.unlink()
    with pytest.raises(AccessUnusable, match=r"users\.pem: No such file"):
        ClientCertificates(path, None, clock)


def test_a_leaf_in_the_file_of_cas_is_refused(tmp_path: Path, users: Ca, clock: Clock) -> None:
    path = tmp_path / "users.pem"
    path.write_bytes(users.pem + users.leaf(names=["ann"]))
    with pytest.raises(AccessUnusable, match="'CN=ann' in it is not the certificate of a CA"):
        ClientCertificates(path, None, clock)


def test_a_ca_that_is_added_counts_at_once_and_one_that_is_taken_out_no_longer(
    tmp_path: Path, certificates: ClientCertificates, users: Ca
) -> None:
    new = Ca("New users")
    with pytest.raises(CertificateForeign):
        certificates.user_of(new.leaf(names=["ann"]))
    (tmp_path / "users.pem").write_bytes(users.pem + new.pem)
    for ca in (users, new):
        assert certificates.user_of(ca.leaf(names=["ann"])) == Identity("certificate:ann")
    (tmp_path / "users.pem").write_bytes(new.pem)
    with pytest.raises(CertificateForeign):
        certificates.user_of(users.leaf(names=["ann"]))


def test_files_that_cannot_be_used_leave_the_cas_of_before_in_force_and_are_logged_once(
    tmp_path: Path, certificates: ClientCertificates, users: Ca, executors: Ca, caplog: pytest.LogCaptureFixture
) -> None:
    ann, ex1, new = users.leaf(names=["ann"]), executors.leaf("snapshotd://executor/ex1"), Ca("New")
    caplog.set_level(logging.ERROR)
    (tmp_path / "users.pem").write_bytes(users.pem[:100])
    for _ in range(2):
        assert certificates.user_of(ann).subject == "certificate:ann"
    (tmp_path / "users.pem").unlink()
    for _ in range(2):
        assert certificates.user_of(ann).subject == "certificate:ann"
    assert len(caplog.records) == 2
    (tmp_path / "executors.pem").write_bytes(executors.pem + new.pem)
    assert certificates.executor_of(new.leaf("snapshotd://executor/ex2")).name == "ex2"
    (tmp_path / "users.pem").write_bytes(users.pem + new.pem)
    for _ in range(2):
        assert certificates.user_of(ann).subject == "certificate:ann"
        with pytest.raises(CertificateForeign):
            certificates.user_of(new.leaf(names=["bob"]))
    assert len(caplog.records) == 3
    (tmp_path / "executors.pem").write_bytes(executors.pem)
    assert certificates.user_of(new.leaf(names=["bob"])).subject == "certificate:bob", "read before, usable now"
    assert certificates.executor_of(ex1).name == "ex1"


@pytest.mark.parametrize(
    ("at", "other"),
    [
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03"),  # version 4, which there is not
        (b"\x0c\x03ann", b"\x03\x03ann"),  # a common name that is bits
        (b"\x0c\x03ann", b"\x0c\x03a\xffn"),
        (b"\x06\x08*\x86H\xce=\x03\x01\x07", b"\x06\x08*\x86H\xce=\x03\x01\x7f"),  # a curve that nobody knows
        (b"\x30\x0a\x06\x08+\x06\x01\x05\x05\x07\x03\x02", b"\x30\x0a\x06\x08+\x06\x01\x05\x05\x07\x03"),
    ],
)
def test_a_certificate_that_cannot_be_read_in_some_part_is_refused_and_is_no_ca(
    tmp_path: Path, certificates: ClientCertificates, users: Ca, clock: Clock, at: bytes, other: bytes
) -> None:
    der = ssl.PEM_cert_to_DER_cert(users.leaf(names=["ann"]).decode())
    assert at in der
    broken = ssl.DER_cert_to_PEM_cert(der.replace(at, other)).encode()
    for refuse in (certificates.user_of, certificates.executor_of):
        with pytest.raises(SignInRefused):
            refuse(broken)
    (tmp_path / "ca.pem").write_bytes(broken)
    with pytest.raises(AccessUnusable, match=r"ca\.pem"):
        ClientCertificates(tmp_path / "ca.pem", None, clock)
    with pytest.raises(AccessUnusable, match=r"ca\.pem"):
        Authority(tmp_path, NOW)
