"""What is told of a certificate in an error: subject, issuer, dates, names and fingerprint. Checks none of it.

All of it comes from the other side, so it is cut short, and what cannot be printed is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

_LONGEST: Final = 200
"""Characters of one name."""
_MOST: Final = 5
"""Names that are shown."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate."""

    subject: str
    issuer: str
    begins: datetime
    ends: datetime
    names: tuple[str, ...]
    """DNS names and IP addresses that it is for."""
    sha256: str

    def __str__(self) -> str:
        """Return all that helps to find it."""
        return (
            f"subject {self.subject}, issued by {self.issuer}, valid from {_day(self.begins)} to {_day(self.ends)}, "
            f"sha256:{self.sha256}"
        )


def shown(certificate: bytes | None) -> Shown | None:
    """Return what is told of a certificate in DER; None: there is none, or it cannot be read."""
    if not certificate:
        return None
    try:
        return _shown(x509.load_der_x509_certificate(certificate))
    except ValueError:
        return None


def shown_pem(text: str) -> Shown | None:
    """Return what is told of the first certificate in a PEM text."""
    try:
        return _shown(x509.load_pem_x509_certificate(text.encode()))
    except ValueError:
        return None


def _shown(certificate: x509.Certificate) -> Shown:
    return Shown(
        subject=_printable(certificate.subject.rfc4514_string()),
        issuer=_printable(certificate.issuer.rfc4514_string()),
        begins=certificate.not_valid_before_utc,
        ends=certificate.not_valid_after_utc,
        names=_names(certificate),
        sha256=certificate.fingerprint(SHA256()).hex(),
    )


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        return tuple(_printable(str(name.value)) for name in common[:1])
    names = [*alternative.get_values_for_type(x509.DNSName)]
    names += [str(ip) for ip in alternative.get_values_for_type(x509.IPAddress)]
    return tuple(_printable(name) for name in names[:_MOST])


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:_LONGEST] or "(none)"


def _day(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%MZ}"
