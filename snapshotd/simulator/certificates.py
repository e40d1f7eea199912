"""The certificate of the simulated host's https listener, and the little CA that issues it; or a given one.

    issue("valid")         what clients that trust the CA accept
    issue("expired")       ended yesterday
    issue("not_yet_valid") begins tomorrow
    issue("foreign")       issued by a CA that nobody knows
    issue("other_name")    for another host

Each takes effect for the connections that are made from then on. Keys are on disk only as far as they are given.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from snapshotd.small_file import read_small

_DAY: Final = timedelta(days=1)
_LARGEST_FILE: Final = 64 * 1024
KINDS: Final = ("valid", "expired", "not_yet_valid", "foreign", "other_name")
_OTHER: Final = "other.example.com"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its key, in PEM."""

    certificate: x509.Certificate
    pem: bytes
    """Both."""

    @property
    def certificate_pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


class LittleCa:
    """A CA that lives as long as its object.

    Args:
        name: its common name.
    """

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        builder = self._builder(self._name, self._key, now - 2 * _DAY, now + 365 * _DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate = builder.sign(self._key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, alternative: tuple[str, ...] = (), shift: timedelta = timedelta(0)) -> Issued:
        """Return a certificate for a name, and the names of a host; valid since yesterday, for a day, plus a shift."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key, now - _DAY + shift, now + _DAY + shift)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        if alternative:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general(one) for one in alternative]), critical=False
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return Issued(certificate, certificate.public_bytes(serialization.Encoding.PEM) + private)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, begins: datetime, ends: datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
        )


class HostCertificates:
    """What the https listener shows, now.

    Args:
        directory: where the CA's certificate is written for clients; made if missing.
        names: the host's names and addresses.
        given: a PEM file with a certificate and its key, instead of the CA's; or None.
        client_ca: a PEM file of the CA whose client certificates stand for the account; or None.

    Raises OSError, ValueError.
    """

    def __init__(
        self, directory: Path, names: tuple[str, ...], given: Path | None = None, client_ca: Path | None = None
    ) -> None:
        self._names = names
        self._given = given
        self._client_ca = client_ca.read_text(encoding="ascii") if client_ca is not None else ""
        self._ca = LittleCa("simulated host CA")
        self._lock = threading.Lock()
        directory.mkdir(parents=True, exist_ok=True)
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_bytes(self._ca.pem)
        self.issue("given" if given is not None else "valid")

    def issue(self, kind: str) -> dict[str, object]:
        """Show another certificate from now on; return its fingerprint. "given": read the given file anew."""
        makers: dict[str, Callable[[], Issued]] = {
            "valid": lambda: self._ca.issue(self._names[0], self._names),
            "expired": lambda: self._ca.issue(self._names[0], self._names, -2 * _DAY),
            "not_yet_valid": lambda: self._ca.issue(self._names[0], self._names, 2 * _DAY),
            "foreign": lambda: LittleCa("a CA that nobody knows").issue(self._names[0], self._names),
            "other_name": lambda: self._ca.issue(_OTHER, (_OTHER,)),
        }
        if self._given is not None:
            makers["given"] = self._read
        if kind not in makers:
            raise ValueError(f"no kind of certificate {kind!r}: use {', '.join(makers)}")
        issued = makers[kind]()
        context = _server_context(issued.pem, self._client_ca)
        with self._lock:
            self._context, self._certificate = context, issued.certificate
        return {"sha256": issued.certificate.fingerprint(hashes.SHA256()).hex()}

    def shown(self) -> tuple[ssl.SSLContext, bytes]:
        """Return what to serve TLS with, and the certificate in DER."""
        with self._lock:
            return self._context, self._certificate.public_bytes(serialization.Encoding.DER)

    def _read(self) -> Issued:
        assert self._given is not None
        pem = read_small(self._given, _LARGEST_FILE).content
        return Issued(x509.load_pem_x509_certificate(pem), pem)


def _server_context(pem: bytes, client_ca: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    file = os.memfd_create("certificate")
    try:
        os.write(file, pem)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
    if client_ca:
        context.load_verify_locations(cadata=client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
