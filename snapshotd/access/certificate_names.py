"""How certificates of ours name their bearers: by URIs among their alternative names.

snapshotd://user/alice        a user
snapshotd://executor/ex1      an executor
snapshotd://host/hv01         a host that the executor may serve; snapshotd://host/* for all
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

USER: Final = "snapshotd://user/"
EXECUTOR: Final = "snapshotd://executor/"
HOST: Final = "snapshotd://host/"
UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for a certificate that it cannot read: when it is loaded, or asked for a part of it."""
SCHEME: Final = "snapshotd:"
"""What begins so is one of the above, or nothing that can be relied on."""


def uris_of(certificate: x509.Certificate) -> Sequence[str]:
    """Return the URIs of our scheme among a certificate's alternative names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return [uri for uri in uris if uri.lower().startswith(SCHEME)]


def common_name_of(certificate: x509.Certificate) -> str:
    """Return a certificate's common name; empty if it has none, several, or one that is no text."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return found[0].value if len(found) == 1 and isinstance(found[0].value, str) else ""


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Return whether a CA has issued a certificate itself: by its name and its signature."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


def is_authority(certificate: x509.Certificate) -> bool:
    """Return whether a certificate is that of a CA."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
