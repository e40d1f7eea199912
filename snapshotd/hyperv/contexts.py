"""The security contexts of sign-ins that take several tokens: NTLM, Kerberos and CredSSP, by pyspnego.

Connects to no host. Kerberos asks its KDC, here, before anything of the sign-in goes to the host.
"""

from __future__ import annotations

import spnego
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from spnego.channel_bindings import GssChannelBindings

from snapshotd.hyperv import kerberos
from snapshotd.hyperv.credentials import Credential
from snapshotd.hyperv.ways import Method, Way

_CREDSSP_VERSION = 5
"""The first in which the host proves that nobody is between (CVE-2018-0886)."""


def open_context(way: Way, credential: Credential, host: str, certificate: bytes | None) -> spnego.ContextProxy:
    """Return the context of a sign-in that is about to begin.

    Args:
        way: the way to sign in.
        credential: who signs in.
        host: the host's address, as in its service's name.
        certificate: the host's, over https; the sign-in is bound to it.

    Raises NoHostAnswer, for Kerberos.
    """
    bindings = _bindings(certificate) if certificate else None
    match way.method:
        case Method.KERBEROS:
            return kerberos.open_context(credential, host, bindings)
        case Method.CREDSSP:
            # CredSSP binds itself, to the key of a TLS connection within.
            return spnego.client(
                credential.username,
                credential.secret.reveal(),
                hostname=host,
                service="HTTP",
                protocol="credssp",
                credssp_min_protocol=_CREDSSP_VERSION,
            )
        case _:
            return spnego.client(
                credential.username,
                credential.secret.reveal(),
                hostname=host,
                service="http",
                protocol="ntlm",
                channel_bindings=bindings,
                options=spnego.NegotiateOptions.use_ntlm,
            )


def carries_proof(way: Way, context: spnego.ContextProxy) -> bool:
    """Return whether the token that was made last lets the host judge the password: a refusal of it counts."""
    match way.method:
        case Method.NTLM:
            return context.complete
        case Method.CREDSSP:
            return context.get_extra_info("auth_stage") in ("Public key exchange", "Credential exchange")
        case _:
            return True


def _bindings(certificate: bytes) -> GssChannelBindings:
    """Return what binds a sign-in to a TLS connection (RFC 5929, tls-server-end-point)."""
    algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    if algorithm is None or algorithm.name in ("md5", "sha1"):
        algorithm = hashes.SHA256()
    digest = hashes.Hash(algorithm)
    digest.update(certificate)
    return GssChannelBindings(application_data=b"tls-server-end-point:" + digest.finalize())
