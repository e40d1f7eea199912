"""Authorities and certificates for tests, as files: good ones, and those that nobody should take."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


def pem_of(key: ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> bytes:
    """Return a private key as a file holds it."""
    how: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """The certificate as a file holds it."""
        return self.certificate.public_bytes(Encoding.PEM)

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Write NAME.pem and NAME.key; return them."""
        certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
        key.touch(mode=0o600)
        key.write_bytes(pem_of(self.key))
        certificate.write_bytes(self.pem)
        return certificate, key


class Authority:
    """One who issues certificates."""

    def __init__(self, name: str, valid: timedelta = DAY, own: Issued | None = None) -> None:
        self.own = own or _self_signed(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), valid)

    @classmethod
    def at(cls, directory: Path) -> Self:
        """Return the one that `snapshotd certificate authority` has made in a directory."""
        key = load_pem_private_key((directory / "ca.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return cls("", own=Issued(x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes()), key))

    def write(self, directory: Path, name: str) -> Path:
        """Write its certificate; return the file."""
        file = directory / f"{name}.pem"
        file.write_bytes(self.own.pem)
        return file

    def issue(
        self,
        name: str,
        names: tuple[str, ...] = ("localhost", "127.0.0.1"),
        begins: timedelta = -DAY,
        ends: timedelta = DAY,
    ) -> Issued:
        """Issue a certificate for names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        sans = x509.SubjectAlternativeName([_general(one) for one in names])
        built = _builder(subject, self.own.certificate.subject, key, begins, ends).add_extension(sans, critical=False)
        return Issued(built.sign(self.own.key, SHA256()), key)


def _self_signed(name: x509.Name, valid: timedelta) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    built = _builder(name, name, key, -2 * DAY, valid)
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return Issued(built.sign(key, SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begins: timedelta, ends: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.UniformResourceIdentifier(name) if "://" in name else x509.DNSName(name)
