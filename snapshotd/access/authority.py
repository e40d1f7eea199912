"""A small CA for those who have none: a directory with the CA's key and certificate, and what it issues.

    DIR/ca.key      its key; whoever has it can make anybody's certificate
    DIR/ca.pem      its certificate, for those who check

Keys are ECDSA on P-256. A certificate begins some minutes before it was issued, for clocks that differ.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from snapshotd.access.atomic_file import PUBLIC, SECRET, write_file
from snapshotd.access.bearers import LONGEST_COMMON_NAME, Bearer, Purpose
from snapshotd.access.certificate_names import UNREADABLE, is_authority, issued_by
from snapshotd.access.errors import AccessUnusable, time_text
from snapshotd.access.identity import is_foreign_name
from snapshotd.small_file import read_small

CA_DAYS: Final = 3650
LEAF_DAYS: Final = 365
_BACK: Final = timedelta(minutes=5)
"""How long before its issue a certificate begins."""
_LARGEST_FILE: Final = 64 * 1024
_CA_KEY: Final = "ca.key"

_Key: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was written."""

    certificate: Path
    key: Path
    expires: datetime


def create_authority(directory: Path, name: str, purpose: Purpose, days: int, now: datetime) -> Issued:
    """Make a CA in a directory, which is made too. Raises AccessUnusable, also if there is one already."""
    if not is_foreign_name(name) or len(name) > LONGEST_COMMON_NAME:
        raise AccessUnusable(
            f"Cannot make a CA named {name!r}: a name has 1 to {LONGEST_COMMON_NAME} visible characters."
        )
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, purpose.unit),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    key = ec.generate_private_key(ec.SECP256R1())
    extensions = [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (_key_usage(authority=True), True),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False),
    ]
    content = _Content(subject, key.public_key(), now, now + timedelta(days=days), extensions)
    certificate = _signed(content, subject, key)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise AccessUnusable(f"Cannot make {directory}: {error.strerror}.") from None
    return _write(directory / "ca.pem", certificate, key, replace=False)


class Authority:
    """A CA that issues certificates.

    Args:
        directory: that create_authority has made, or one with ca.key and ca.pem of another CA.
        now: the time.

    Raises AccessUnusable if it cannot be used.
    """

    def __init__(self, directory: Path, now: datetime) -> None:
        self._now = now
        path = directory / "ca.pem"
        self._certificate = _read_certificate(path)
        self._key = _read_key(directory / _CA_KEY)
        if not is_authority(self._certificate) or self._key.public_key() != self._certificate.public_key():
            raise AccessUnusable(f"Cannot use the CA in {directory}: ca.key is not the key of a CA in ca.pem.")
        if not self._certificate.not_valid_before_utc <= now < self._certificate.not_valid_after_utc:
            span = " to ".join(
                map(time_text, (self._certificate.not_valid_before_utc, self._certificate.not_valid_after_utc))
            )
            raise AccessUnusable(f"Cannot use the CA in {directory}: it is valid from {span}. Make a new one.")

    def issue(self, bearer: Bearer, file: Path, days: int, *, replace: bool) -> Issued:
        """Issue a certificate with a new key, beside it in a file that ends in `.key`.

        Args:
            bearer: whom it is for.
            file: of the certificate.
            days: how long it is valid; never longer than the CA.
            replace: write over a certificate and a key that are there.
        """
        units = self._certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
        own = next((p for p in Purpose if any(unit.value == p.unit for unit in units)), bearer.purpose)
        if own is not bearer.purpose:
            raise AccessUnusable(
                f"Cannot issue this certificate: the CA is one for {own.value}. Use one for {bearer.purpose.value} "
                f"(`snapshotd certificate authority DIR --name NAME --for {bearer.purpose.value}`)."
            )
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, bearer.common_name)])
        kept = [
            (x509.SubjectAlternativeName(bearer.names), False),
            (x509.ExtendedKeyUsage([bearer.purpose.usage]), False),
        ]
        return self._issue(subject, kept, file, timedelta(days=days), replace=replace)

    def renew(self, file: Path, days: int | None) -> Issued:
        """Issue a certificate anew, with a new key and the names and purpose that it has, in place of the old one.

        The key is replaced first. Who reads both files in between sees a pair that does not match, and keeps the old
        one for that moment.

        Args:
            file: of the certificate; its key is beside it in a file that ends in `.key`.
            days: how long it is valid; None: as long as the old one was.
        """
        old = _read_certificate(file)
        if is_authority(old) or not issued_by(old, self._certificate):
            raise AccessUnusable(
                f"Cannot renew {file}: this CA has not issued it; {old.issuer.rfc4514_string()!r} has. Name the "
                "directory of that CA."
            )
        if not _key_of(file).is_file():
            raise AccessUnusable(f"Cannot renew {file}: its key {_key_of(file)} is not beside it.")
        wanted = (x509.SubjectAlternativeName, x509.ExtendedKeyUsage)
        kept = [(e.value, e.critical) for e in old.extensions if isinstance(e.value, wanted)]
        span = old.not_valid_after_utc - old.not_valid_before_utc - _BACK
        return self._issue(old.subject, kept, file, span if days is None else timedelta(days=days), replace=True)

    def _issue(
        self,
        subject: x509.Name,
        kept: Sequence[tuple[x509.ExtensionType, bool]],
        file: Path,
        span: timedelta,
        *,
        replace: bool,
    ) -> Issued:
        _refuse_name(file)
        key = ec.generate_private_key(ec.SECP256R1())
        end = min(self._now + span, self._certificate.not_valid_after_utc)
        extensions = [
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_key_usage(authority=False), True),
            (_identifier_of(self._certificate), False),
            *kept,
        ]
        content = _Content(subject, key.public_key(), self._now, end, extensions)
        return _write(file, _signed(content, self._certificate.subject, self._key), key, replace=replace)


@dataclass(frozen=True, slots=True)
class _Content:
    """What a certificate says."""

    subject: x509.Name
    key: ec.EllipticCurvePublicKey
    now: datetime
    end: datetime
    extensions: Sequence[tuple[x509.ExtensionType, bool]]
    """Each with whether it is critical."""


def _signed(content: _Content, issuer: x509.Name, key: _Key) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(content.subject)
        .issuer_name(issuer)
        .public_key(content.key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(content.now - _BACK)
        .not_valid_after(content.end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(content.key), critical=False)
    )
    for extension, critical in content.extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, hashes.SHA256())


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _identifier_of(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Return how certificates name the key of their CA: as the CA's own certificate does."""
    try:
        own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        own = x509.SubjectKeyIdentifier.from_public_key(authority.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _key_of(certificate: Path) -> Path:
    """Return the file of a certificate's key."""
    return certificate.with_suffix(".key")


def _refuse_name(file: Path) -> None:
    """Raise AccessUnusable for a name that no certificate can have, or by which a CA's key would be written over."""
    if file.is_dir():
        raise AccessUnusable(f"Cannot write a certificate to {file}: it is a directory. Name a file in it: FILE.pem.")
    if _key_of(file).name == _CA_KEY:
        raise AccessUnusable(
            f"Cannot write a certificate to {file}: its key would be {_key_of(file)}, which is the name of a CA's key. "
            "Choose another name."
        )


def _write(file: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, *, replace: bool) -> Issued:
    key_file = _key_of(file)
    if key_file == file:
        raise AccessUnusable(f"Cannot write a certificate to {file}: that is the name of its key. Name it FILE.pem.")
    if not replace and (there := next((path for path in (key_file, file) if path.exists()), None)):
        raise AccessUnusable(f"Cannot write {there}: it is there already. Nothing was written; choose another name.")
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        write_file(key_file, private, SECRET, replace=replace)
        write_file(file, certificate.public_bytes(Encoding.PEM), PUBLIC, replace=replace)
    except OSError as error:
        raise AccessUnusable(f"Cannot write {file} and its key: {error.strerror}.") from None
    return Issued(file, key_file, certificate.not_valid_after_utc)


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        found = x509.load_pem_x509_certificate(read_small(path, _LARGEST_FILE).content)
        _ = found.extensions, found.public_key(), found.subject, found.issuer  # each is read when it is asked for
    except OSError as error:
        raise AccessUnusable(f"Cannot read {path}: {error.strerror}.") from None
    except UNREADABLE:
        raise AccessUnusable(f"Cannot use {path}: it is no certificate in PEM.") from None
    return found


def _read_key(path: Path) -> _Key:
    try:
        found = read_small(path, _LARGEST_FILE)
    except OSError as error:
        raise AccessUnusable(f"Cannot read {path}: {error.strerror}.") from None
    if found.mode & stat.S_IRWXO:
        raise AccessUnusable(f"Cannot use {path}: it is open to everybody on this machine. Set its mode to 600.")
    try:
        key = load_pem_private_key(found.content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise AccessUnusable(f"Cannot use {path}: it is no key in PEM without a password.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise AccessUnusable(f"Cannot use {path}: it must be a key of ECDSA or RSA.")
    return key
