"""Authorities, certificates and keys, as files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NOW = datetime.now(UTC)
"""What checks certificates reads the clock."""


class Authority:
    """Issues certificates below its own, which is in <name>.crt of a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = generate_private_key(SECP256R1())
        self.path = self._write(name, self._name, self._key, NOW + timedelta(days=3650), NOW, ca=True)

    def issue(
        self, name: str, *, days: float = 365, begins: datetime = NOW, uris: Sequence[str] = ()
    ) -> tuple[Path, Path]:
        """Issue a certificate, with alternative names if there are any; return its file and its key's."""
        key = generate_private_key(SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        path = self._write(name, subject, key, NOW + timedelta(days=days), begins, ca=False, uris=uris)
        of_key = self._directory / f"{name}.key"
        of_key.touch(mode=0o600)
        of_key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return path, of_key

    def _write(
        self,
        name: str,
        subject: x509.Name,
        key: EllipticCurvePrivateKey,
        until: datetime,
        begins: datetime,
        *,
        ca: bool,
        uris: Sequence[str] = (),
    ) -> Path:
        built = (
            x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(begins - timedelta(days=30))
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if uris:
            names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
            built = built.add_extension(names, critical=False)
        path = self._directory / f"{name}.crt"
        path.write_bytes(built.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return path
